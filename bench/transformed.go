package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// What profiles of the broker show, for [row.Bound].
const (
	keptBound  = "Of the broker's processor time the module takes a fifth: reading each record, writing it into the guest's memory, and the call; and the batch, which another core takes over, comes to that one's cache again. The client takes more than half of the two cores on both sides."
	otherBound = "Nothing of modules shows in the broker's profile: a comparison for each batch. Which of the two servers is ahead differs from pair to pair."
)

// transformed is K9: what producers notice of inline modules that do nothing, and of those
// that are for other topics.
func (r *run) transformed() error {
	dir, err := os.MkdirTemp("", "rustmq-bench-module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	module := filepath.Join(dir, "keeps.wasm")
	if err := os.WriteFile(module, keepingModule(), 0o600); err != nil {
		return err
	}
	for _, side := range []struct {
		name, topics string
		must         float64
		bound        string
	}{
		{"through a module that keeps every record, against none", "*", 0.8, keptBound},
		{"to a topic that no module is for, against none", "other,prefix:one.,regex:^a+$", 0.97, otherBound},
	} {
		if err := r.producedWith(module, side.topics, row{Figure: "K9", Name: side.name, Unit: "×", Must: side.must, Bound: side.bound}); err != nil {
			return err
		}
	}
	return nil
}

// producedWith compares produce to a server with the module to one without, which is as new:
// a log that has been in use has segments to use again.
func (r *run) producedWith(module, topics string, of row) error {
	with, err := startRustmq("rustmq with a module")
	if err != nil {
		return err
	}
	defer with.stop()
	none, err := startRustmq("rustmq without modules")
	if err != nil {
		return err
	}
	defer none.stop()
	deploy := exec.Command(rustmqBinary(), "admin", "etl", "deploy", "keeps", module, "--url", "http://"+with.http, "--topics", topics)
	if said, err := deploy.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy a module for %s: %w: %s", topics, err, said)
	}
	for _, c := range []struct {
		name  string
		shape []string
	}{
		{"produce 1 KiB to 1 partition, 1 connection, ", args("records", 1_600_000)},
		{"produce 1 KiB to 100 partitions, 8 connections, ", args("records", 1_600_000, "connections", 8, "partitions", 100)},
	} {
		x := of
		x.Name = c.name + of.Name
		err := r.pair(x,
			on(with, "produce", c.shape...), on(none, "produce", c.shape...), rateRatio, rates("with", "without"))
		if err != nil {
			return err
		}
	}
	return nil
}

// keepingModule is a module of the ABI (docs/etl-abi.md) that keeps every record, in
// WebAssembly's binary format: 4 MiB of memory, of which all but the first eight bytes are
// the buffer.
func keepingModule() []byte {
	const i32, i64 = 0x7f, 0x7e
	section := func(id byte, items ...[]byte) []byte {
		body := slices.Concat(append([][]byte{{byte(len(items))}}, items...)...)
		return append([]byte{id, byte(len(body))}, body...)
	}
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	code := func(instructions ...byte) []byte {
		return slices.Concat([]byte{byte(len(instructions) + 2), 0}, instructions, []byte{0x0b})
	}
	return bytes.Join([][]byte{
		{0, 'a', 's', 'm', 1, 0, 0, 0},
		section(1, []byte{0x60, 0, 1, i32}, []byte{0x60, 1, i32, 1, i32}, []byte{0x60, 1, i32, 1, i64}), // types
		section(3, []byte{0}, []byte{1}, []byte{2}, []byte{2}),                                          // functions
		section(5, []byte{0, 64}), // pages of memory
		section(7, export("memory", 2, 0), export("rustmq_abi", 0, 0), export("rustmq_buffer", 0, 1), export("rustmq_init", 0, 2), export("rustmq_transform", 0, 3)),
		section(10,
			code(0x41, 1), // rustmq_abi: 1
			// rustmq_buffer: size <= 4 MiB - 8 ? 8 : 0
			code(0x41, 8, 0x41, 0, 0x20, 0, 0x41, 0xf8, 0xff, 0xff, 0x01, 0x4d, 0x1b),
			code(0x42, 0), // rustmq_init: 0
			code(0x42, 0), // rustmq_transform: 0
		),
	}, nil)
}
