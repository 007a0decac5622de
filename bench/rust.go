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
	clear, err := startRustmq("rustmq in the clear")
	if err != nil {
		return err
	}
	defer clear.stop()
	secure, err := startRustmq("rustmq with TLS", "network.tls=on")
	if err != nil {
		return err
	}
	defer secure.stop()
	const records, topic = 400_000, "read"
	for p, transport := range map[*process]string{clear: "tcp", secure: "tls"} {
		if _, err := p.load("produce", append(args("records", records, "topic", topic, "transport", transport), "-keep")...); err != nil {
			return err
		}
	}
	for _, kind := range []string{"produce", "consume"} {
		shape := args("records", records)
		if kind == "consume" {
			shape = args("records", records, "topic", topic)
		}
		by := func(p *process, transport string) measurement {
			return func() (loadResult, error) {
				load := append([]string{kind, "-broker", p.addr, "-ca", p.ca, "-transport", transport}, shape...)
				return p.client(kind, exec.Command(rustProgram(), load...))
			}
		}
		if err := r.pair(row{Figure: "K15", Name: kind + " over TCP by the Rust SDK, against rdkafka", Unit: "×", Must: 0.8, Aim: 1},
			by(clear, "tcp"), by(clear, "rdkafka"), rateRatio, perMegabyte("SDK", "rdkafka")); err != nil {
			return err
		}
		if err := r.pair(row{Figure: "K15", Name: kind + " over QUIC by the Rust SDK, against TCP with TLS", Unit: "×", Must: 0.35, Aim: 0.5, Bound: quicBound},
			by(secure, "quic"), by(secure, "tls"), rateRatio, perMegabyte("QUIC", "TLS")); err != nil {
			return err
		}
	}
	return nil
}
