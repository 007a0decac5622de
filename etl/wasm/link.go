package wasm

import (
	"fmt"
	"strings"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/guard"
)

// Import modules that link.
const (
	hostModule = "rustmq"
	wasiModule = "wasi_snapshot_preview1"
)

// A function of the host has a type, written as letters: i i32, I i64, F f64; those of
// the parameters, and behind a colon those of the results.
type function struct {
	kind string
	call func(*instance, *wasmtime.Caller, []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap)
}

// functions is all that a module may import.
func functions() map[string]map[string]function {
	return map[string]map[string]function{hostModule: hostFunctions(), wasiModule: wasiFunctions()}
}

// link defines them in l.
func link(l *wasmtime.Linker) error {
	for module, functions := range functions() {
		for name, f := range functions {
			params, results, _ := strings.Cut(f.kind, ":")
			kind := wasmtime.NewFuncType(types(params), types(results))
			err := l.FuncNew(module, name, kind, func(c *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
				i, ok := c.Data().(*instance)
				if !ok {
					panic("a store without its instance calls the host")
				}
				return f.call(i, c, args)
			})
			if err != nil {
				return fmt.Errorf("link %s.%s: %w", module, name, err)
			}
		}
	}
	return nil
}

func types(letters string) []*wasmtime.ValType {
	kinds := map[rune]wasmtime.ValKind{'i': wasmtime.KindI32, 'I': wasmtime.KindI64, 'F': wasmtime.KindF64}
	list := make([]*wasmtime.ValType, 0, len(letters))
	for _, letter := range letters {
		list = append(list, wasmtime.NewValType(kinds[letter]))
	}
	return list
}

// letters is the other way round; what the ABI does not know is an x.
func letters(kind *wasmtime.FuncType) string {
	if kind == nil {
		return ""
	}
	var b strings.Builder
	write := func(list []*wasmtime.ValType) {
		for _, t := range list {
			switch t.Kind() {
			case wasmtime.KindI32:
				b.WriteByte('i')
			case wasmtime.KindI64:
				b.WriteByte('I')
			case wasmtime.KindF64:
				b.WriteByte('F')
			default:
				b.WriteByte('x')
			}
		}
	}
	write(kind.Params())
	b.WriteByte(':')
	write(kind.Results())
	return b.String()
}

// describe writes a type for a person.
func describe(kind string) string {
	names := strings.NewReplacer("i", "i32 ", "I", "i64 ", "F", "f64 ", "x", "other ")
	params, results, _ := strings.Cut(kind, ":")
	text := "(" + strings.TrimSpace(names.Replace(params)) + ")"
	if results != "" {
		text += " -> " + strings.TrimSpace(names.Replace(results))
	}
	return text
}

// exports are the functions that a module has for the host, with their types.
func exports() map[string]string {
	return map[string]string{"rustmq_abi": ":i", "rustmq_buffer": "i:i", "rustmq_init": "i:I", "rustmq_transform": "i:I"}
}

// verify refuses a module that imports what it is not given, or does not export the ABI.
func verify(m *wasmtime.Module) error {
	known := functions()
	for _, i := range m.Imports() {
		name := i.Module()
		if i.Name() != nil {
			name += "." + *i.Name()
		}
		var f function
		if i.Name() != nil {
			f = known[i.Module()][*i.Name()]
		}
		if !guard.Check("etl.imports", f.kind != "") {
			return refused("it imports %s, which is no function of WASI preview 1 or of rustmq; a transform reaches nothing else: build it without, for wasm32-wasip1 or wasm32-unknown-unknown", short(name))
		}
		if kind := letters(i.Type().FuncType()); kind != f.kind {
			return refused("it imports %s as %s, but it is %s", short(name), describe(kind), describe(f.kind))
		}
	}
	wanted := exports()
	memory := false
	for _, e := range m.Exports() {
		kind := letters(e.Type().FuncType())
		switch want, found := wanted[e.Name()]; {
		case e.Name() == "memory":
			memory = e.Type().MemoryType() != nil
		case e.Name() == "_start":
			return refused("it exports _start: it is a program, and a transform is a library; build it with -buildmode=c-shared (Go), or as a cdylib (Rust)")
		case e.Name() == "_initialize" && kind != ":":
			return refused("its export _initialize is %s, and must be a function ()", describe(kind))
		case found && kind != want:
			return refused("its export %s is %s, and must be a function %s", e.Name(), describe(kind), describe(want))
		case found:
			delete(wanted, e.Name())
		}
	}
	if !memory {
		return refused("it does not export its memory under the name memory")
	}
	for _, name := range []string{"rustmq_abi", "rustmq_buffer", "rustmq_init", "rustmq_transform"} {
		if kind, missing := wanted[name]; missing {
			return refused("it does not export %s %s, which version %d of the ABI asks for", name, describe(kind), abi.Version)
		}
	}
	return nil
}

// short is a name that a module gave, fit to be read.
func short(name string) string {
	return clean([]byte(name), 100)
}

// clean makes a line of at most limit bytes of what a guest wrote.
func clean(b []byte, limit int) string {
	cut := len(b) > limit
	if cut {
		b = b[:limit]
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
	if text = strings.TrimSpace(text); cut {
		text += "…"
	}
	return text
}
