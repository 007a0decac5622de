package main

import (
	"os"
	"os/exec"
)

// rustProgram is sdk/rust/bench, whose loads are those of the Rust SDK and of rdkafka
// (scripts/bench.sh builds it).
func rustProgram() string {
	if program := os.Getenv("RUST_BENCH"); program != "" {
		return program
	}
	return "bin/rustmq-bench"
}

// rust is K15: the Rust SDK beside rdkafka, and QUIC a byte.
func (r *run) rust() error {
	by := func(p *process, kind, transport string, more ...string) measurement {
		return func() (loadResult, error) {
			load := append([]string{kind, "-broker", p.addr, "-ca", p.ca, "-transport", transport}, more...)
			return p.client(kind, exec.Command(rustProgram(), load...))
		}
	}
	return r.clients("K15", by,
		sides{name: "over TCP by the Rust SDK, against rdkafka", ours: "tcp", theirs: "rdkafka", said: perMegabyte("SDK", "rdkafka"), must: 0.8, aim: 1},
		sides{name: "over QUIC by the Rust SDK, against TCP with TLS", ours: "quic", theirs: "tls", said: perMegabyte("QUIC", "TLS"), must: 0.35, aim: 0.5, bound: quicBound})
}
