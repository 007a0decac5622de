// Package main is an example of the guest kit, and does what the example of the Rust kit
// does: earthquakes as lines of JSON; strong ones go to another topic, with a header that
// says so; what has no magnitude is rejected. A real module parses JSON (encoding/json adds
// a megabyte); this one shows the kit alone.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o strong.wasm ./examples/strong
//
// Config: {"at_least":5}, the magnitude from which an earthquake is strong (default 5).
package main
