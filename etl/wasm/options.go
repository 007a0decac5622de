package wasm

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// What bounds every module, whatever its options say.
const (
	// tick is how often the epoch moves while guests run: a guest is stopped within its
	// deadline and two of them. 200 wake-ups a second are not to be seen in a profile.
	tick = 5 * time.Millisecond
	// wasmStack is what a guest's calls may take of its thread's stack: 8 MiB by default,
	// 2 MiB where it is unlimited.
	wasmStack = 512 << 10
	// maxTables bounds tables, and tableElements each of them.
	maxTables     = 4
	tableElements = 100_000
	// idleFor is how long an instance is kept that nobody needs. One is always kept.
	idleFor = time.Minute
	// leastBuffer is the smallest input buffer that a guest is asked for.
	leastBuffer = 4 << 10
	// longestInit is how long instantiation and rustmq_init may take, together. A Go guest
	// takes 2 ms, and parses its config besides.
	longestInit = 2 * time.Second
	// The bytes of decisions may come to four times the batch, within these.
	leastOutput   = 1 << 20
	largestOutput = 64 << 20
)

// A CodeStore keeps compiled code. It may lose or damage what it was given. Both methods
// may be called concurrently; a key has hexadecimal digits only.
type CodeStore interface {
	// Get returns what was put under key; false: it is not there, or cannot be read.
	Get(key string) ([]byte, bool)
	// Put keeps code under key. An error is logged, and costs a compilation after a restart.
	Put(key string, code []byte) error
}

// Options are what a Runtime is made of.
type Options struct {
	// Store keeps compiled code; nil: it is compiled anew by every process.
	Store CodeStore
	// Logger hears of what is wrong with Store; nil: nobody does.
	Logger *slog.Logger
	// MaxModuleBytes is how large a module may be; 0: 16 MiB.
	MaxModuleBytes int

	longestInit time.Duration // 0: the constant; shorter in tests
}

// ModuleOptions are what a version of a module may use, and whom it talks to.
type ModuleOptions struct {
	// Name and Version are for errors.
	Name    string
	Version int
	// Config is given to the module as it is.
	Config []byte
	// Deadline is how long a guest may take for a call, and as long the call may wait for an
	// instance before that: who waited has all its time; 0: 100 ms.
	Deadline time.Duration
	// MemoryBytes bounds the memory of an instance; 0: 64 MiB; at most 4 GiB.
	MemoryBytes int64
	// Fuel is how many instructions, roughly, a call may take; 0: no bound but Deadline.
	// Code that counts them takes half as long again where loops are tight.
	Fuel uint64
	// Instances is how many calls may run at once; 0: 2.
	Instances int
	// Log gets what the module logs, Metric what it counts (a finite delta ≥ 0), both bounded
	// a call. They are called between a guest's return and that of Load or Transform, and
	// while an instance is made; by several goroutines at once. nil: nobody listens.
	Log    func(level slog.Level, text string)
	Metric func(name string, delta float64)
}

// withDefaults returns o with its zeros replaced, or what is wrong with it.
func (o ModuleOptions) withDefaults() (ModuleOptions, error) {
	orElse(&o.Deadline, 100*time.Millisecond)
	orElse(&o.MemoryBytes, 64<<20)
	orElse(&o.Instances, 2)
	if o.Log == nil {
		o.Log = func(slog.Level, string) {}
	}
	if o.Metric == nil {
		o.Metric = func(string, float64) {}
	}
	switch {
	case o.Deadline < 0, o.Instances < 0:
		return o, errors.New("a limit of a module is negative")
	case o.MemoryBytes < pageSize || o.MemoryBytes > 4<<30:
		return o, fmt.Errorf("a module's memory is bounded by %d bytes: 64 KiB to 4 GiB are possible", o.MemoryBytes)
	}
	return o, nil
}

func orElse[T comparable](v *T, other T) {
	var zero T
	if *v == zero {
		*v = other
	}
}

// maxOutput is how much the decisions about a batch of size bytes may come to.
func maxOutput(size int) int { return min(max(4*size, leastOutput), largestOutput) }

// A RefusedError says why a module cannot be used at all.
type RefusedError struct {
	Reason string
}

// Error is the reason.
func (e *RefusedError) Error() string { return "the module is refused: " + e.Reason }

func refused(format string, args ...any) *RefusedError {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}
