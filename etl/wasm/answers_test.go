package wasm

import (
	"bytes"
	"os"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// The module that tests of other rooms run is what its source says.
func TestTheModuleOfTestsIsOfItsSource(t *testing.T) {
	const at = "../../test/data/etl/answers"
	source, err := os.ReadFile(at + ".wat")
	if err != nil {
		t.Fatal(err)
	}
	want, err := wasmtime.Wat2Wasm(string(source))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("WRITE") != "" {
		if err := os.WriteFile(at+".wasm", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(at + ".wasm"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s.wasm is not made of %s.wat (%v): write it by WRITE=1", at, at, err)
	}
}
