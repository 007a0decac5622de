package wasm

// What a module may ask of the compiler, which cannot be interrupted: a module that Go or
// Rust makes stays far below, and one that is made to be slow takes some seconds at most.
// Measured on the pinned engine: a function's loops cost 70 ns times their number squared,
// and its variables 110 bytes and 150 ns times the branches that they may be carried over (docs/design/0025).
const (
	maxFunctions = 100_000
	maxBody      = 1 << 20 // bytes of a function
	maxLocals    = 10_000  // of a function; a few bytes can declare them
	maxParams    = 128     // and results, of a type
	maxLoops     = 2_000   // of a function
	maxCarried   = 2 << 20 // variables × branches, of a function
	// For all functions of a module together.
	maxLoopsSquared = 50_000_000
	maxCarriedInAll = 64 << 20
)

// Ids of sections.
const (
	typeSection = 1
	codeSection = 10
)

// screen refuses a module, which is valid, for what it would cost to compile.
func screen(wasm []byte) error {
	r := reader{wasm[min(len(wasm), 8):]} // behind magic and version
	for len(r.left) > 0 {
		id := r.byte()
		section := reader{r.bytes(r.uint())}
		var err error
		switch id {
		case typeSection:
			err = screenTypes(&section)
		case codeSection:
			err = screenCode(&section)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func screenTypes(r *reader) error {
	for n := r.uint(); n > 0 && len(r.left) > 0; n-- {
		r.byte() // 0x60: the only kind of type that is enabled
		for range 2 {
			n := r.uint()
			if n > maxParams {
				return refused("a type of its functions has %d parameters or results: %d at most are compiled", n, maxParams)
			}
			r.bytes(n)
		}
	}
	return nil
}

func screenCode(r *reader) error {
	functions := r.uint()
	if functions > maxFunctions {
		return refused("it has %d functions: %d at most are compiled", functions, maxFunctions)
	}
	squared, carried := uint64(0), uint64(0)
	for i := range functions {
		body := reader{r.bytes(r.uint())}
		if len(body.left) > maxBody {
			return refused("function %d of its code has %d bytes: %d at most are compiled", i, len(body.left), maxBody)
		}
		locals := uint64(0)
		for n := body.uint(); n > 0 && len(body.left) > 0; n-- {
			locals += body.uint()
			body.byte()
		}
		if locals > maxLocals {
			return refused("function %d of its code has %d local variables: %d at most are compiled", i, locals, maxLocals)
		}
		c := body.control()
		if c.loops > maxLoops {
			return refused("function %d of its code has %d loops: %d at most are compiled; split it", i, c.loops, maxLoops)
		}
		carries := c.blocks*locals + c.typed*maxParams
		if carries > maxCarried {
			return refused("function %d of its code has %d local variables and %d blocks, which is too much to compile: split it", i, locals, c.blocks)
		}
		squared += c.loops * c.loops
		carried += carries
	}
	if squared > maxLoopsSquared || carried > maxCarriedInAll {
		return refused("its functions have more loops, or more local variables and blocks, than are compiled: make it smaller")
	}
	return nil
}

// A control is how often a function branches and joins.
type control struct {
	loops  uint64
	blocks uint64 // loops included, and branches
	typed  uint64 // of these, those that take and leave values
}

// control reads a function's instructions.
func (r *reader) control() control {
	var c control
	for len(r.left) > 0 {
		switch op := r.byte(); op {
		case 0x02, 0x03, 0x04: // block, loop, if: the type is empty, a value's, or an index
			if op == 0x03 {
				c.loops++
			}
			c.blocks++
			if r.byteAhead() < 0x40 || r.byteAhead() >= 0x80 {
				c.typed++
			}
			r.skip(1)
		case 0x0c, 0x0d: // br, br_if
			c.blocks++
			r.skip(1)
		case 0x0e: // br_table
			n := r.uint() + 1
			c.blocks += n
			r.skip(n)
		case 0xfc:
			r.bulk()
		case 0xfd:
			r.vector()
		default:
			r.operands(op)
		}
	}
	return c
}

// operands skips those of an instruction of one byte that does not branch.
func (r *reader) operands(op byte) {
	switch {
	case op == 0x10, op == 0x12, op >= 0x20 && op <= 0x26, op == 0x3f, op == 0x40, op == 0x41, op == 0x42, op == 0xd0, op == 0xd2:
		r.skip(1) // an index, or a number
	case op == 0x11, op == 0x13, op >= 0x28 && op <= 0x3e:
		r.skip(2) // an indirect call's type and table; alignment and offset
	case op == 0x1c: // select of a type
		r.bytes(r.uint())
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	}
}

// bulk skips the operands of an instruction with prefix 0xfc.
func (r *reader) bulk() {
	switch op := r.uint(); op {
	case 8, 10, 12, 14:
		r.skip(2)
	case 9, 11, 13, 15, 16, 17:
		r.skip(1)
	}
}

// vector skips the operands of an instruction with prefix 0xfd.
func (r *reader) vector() {
	switch op := r.uint(); {
	case op <= 11, op == 92, op == 93:
		r.skip(2)
	case op == 12, op == 13:
		r.bytes(16)
	case op >= 21 && op <= 34:
		r.bytes(1)
	case op >= 84 && op <= 91:
		r.skip(2)
		r.bytes(1)
	}
}

// A reader takes a module's bytes apart. Past the end it reads zeros: what it reads was
// found to be valid before, so that this is for safety alone.
type reader struct {
	left []byte
}

func (r *reader) byteAhead() byte {
	if len(r.left) == 0 {
		return 0
	}
	return r.left[0]
}

func (r *reader) byte() byte {
	b := r.byteAhead()
	r.left = r.left[min(1, len(r.left)):]
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

// skip skips n numbers in LEB128, of any size and sign.
func (r *reader) skip(n uint64) {
	for ; n > 0 && len(r.left) > 0; n-- {
		for r.byte() >= 0x80 {
		}
	}
}
