package wasm

// What a module may ask of the compiler, which cannot be interrupted. Go's and Rust's
// largest stay far below.
const (
	maxFunctions = 100_000
	maxBody      = 1 << 20
	// maxLocals bounds those of one function: a few bytes can declare tens of thousands, and
	// the compiler's memory grows with locals times blocks.
	maxLocals = 10_000
)

// codeSection is the id of the section that has the bodies of functions.
const codeSection = 10

// screen refuses a module, which is valid, for what it would cost to compile.
func screen(wasm []byte) error {
	r := reader{wasm[min(len(wasm), 8):]} // behind magic and version
	for len(r.left) > 0 {
		id := r.byte()
		section := reader{r.bytes(r.uint())}
		if id != codeSection {
			continue
		}
		functions := section.uint()
		if functions > maxFunctions {
			return refused("it has %d functions: %d at most are compiled", functions, maxFunctions)
		}
		for i := range functions {
			body := reader{section.bytes(section.uint())}
			if len(body.left) > maxBody {
				return refused("function %d of its code has %d bytes: %d at most are compiled", i, len(body.left), maxBody)
			}
			locals := uint64(0)
			for range body.uint() {
				locals += body.uint()
				body.byte()
			}
			if locals > maxLocals {
				return refused("function %d of its code has %d local variables: %d at most are compiled", i, locals, maxLocals)
			}
		}
	}
	return nil
}

// A reader takes a module's bytes apart. Past the end it reads zeros: what it reads was
// found to be valid before, so that this is for safety alone.
type reader struct {
	left []byte
}

func (r *reader) byte() byte {
	if len(r.left) == 0 {
		return 0
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b
}

func (r *reader) bytes(n uint64) []byte {
	n = min(n, uint64(len(r.left)))
	b := r.left[:n]
	r.left = r.left[n:]
	return b
}

// uint reads an unsigned number of 32 bits in LEB128.
func (r *reader) uint() uint64 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	return v
}
