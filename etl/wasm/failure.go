package wasm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"rustmq.dev/rustmq/etl/abi"
)

// Codes of traps, from wasmtime/trap.h; wasmtime-go's own constants lack some.
const (
	trapStack       = 0
	trapMemory      = 1
	trapTable       = 3
	trapNull        = 4
	trapSignature   = 5
	trapOverflow    = 6
	trapDivision    = 7
	trapConversion  = 8
	trapUnreachable = 9
	trapInterrupt   = 10
	trapFuel        = 12
)

// maxFailureText bounds what a failure says, as it goes into logs and headers.
const maxFailureText = 600

func failure(kind abi.Kind, format string, args ...any) *abi.Failure {
	return &abi.Failure{Kind: kind, Text: clean(fmt.Appendf(nil, format, args...), maxFailureText)}
}

// failed makes a failure of what a call of the guest returned as error, and frees that.
// what says what was called, d how long it had.
func (i *instance) failed(err error, what string, d time.Duration) *abi.Failure {
	said := ""
	if len(i.host.stderr) > 0 {
		said = ": " + clean(i.host.stderr, 300)
	}
	var trap *wasmtime.Trap
	if !errors.As(err, &trap) { // what the host's functions return as a trap comes as an error
		text := errorText(err)
		if i.host.exited {
			return failure(abi.Exit, "%s called proc_exit(%d)%s", what, i.host.exit, said)
		}
		return failure(abi.Trap, "%s: %s%s", what, text, said)
	}
	defer trap.Close()
	code := -1
	if c := trap.Code(); c != nil {
		code = int(*c)
	}
	switch code {
	case trapInterrupt:
		return failure(abi.Deadline, "%s was still busy after %v", what, d.Round(time.Millisecond/10))
	case trapFuel:
		return failure(abi.Fuel, "%s used up its fuel of %d", what, i.module.options.Fuel)
	case trapStack:
		return failure(abi.Trap, "%s: call stack exhausted%s", what, said)
	}
	size, limit := int64(len(i.data)), i.module.options.MemoryBytes
	if code == trapUnreachable && size > limit-pageSize {
		return failure(abi.Memory, "%s used up its memory of %d bytes, and aborted%s", what, limit, said)
	}
	return failure(abi.Trap, "%s: %s%s%s (memory: %d of %d bytes)", what, trapText(code, trap), where(trap), said, size, limit)
}

// trapText says what a trap was.
func trapText(code int, trap *wasmtime.Trap) string {
	switch code {
	case trapMemory:
		return "out of bounds memory access"
	case trapTable:
		return "out of bounds table access"
	case trapNull:
		return "call of an element that is not there"
	case trapSignature:
		return "indirect call of another type"
	case trapOverflow:
		return "integer overflow"
	case trapDivision:
		return "integer divide by zero"
	case trapConversion:
		return "invalid conversion to integer"
	case trapUnreachable:
		return "aborted (unreachable)"
	}
	return firstLine(trap.Message())
}

// where names the function that trapped, by the module's own names if it has them.
func where(trap *wasmtime.Trap) string {
	frames := trap.Frames()
	if len(frames) == 0 {
		return ""
	}
	if name := frames[0].FuncName(); name != nil {
		return " in " + short(*name)
	}
	return fmt.Sprintf(" in function %d", frames[0].FuncIndex())
}

// errorText is what an error of wasmtime says, without its backtraces, and frees it.
func errorText(err error) string {
	text := err.Error()
	var e *wasmtime.Error
	if errors.As(err, &e) {
		e.Close()
	}
	text, _, _ = strings.Cut(text, "Stack backtrace:")
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return clean([]byte(strings.ReplaceAll(strings.Join(lines, ": "), ": Caused by:", "")), maxFailureText)
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return short(text)
}
