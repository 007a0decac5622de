package etl

// Version is that of the ABI which this kit speaks.
const Version = 1

// A Transform decides what becomes of records.
type Transform interface {
	// Record decides about one record, which is kept as it is unless out is told otherwise.
	// Neither r nor out may be used once it has returned.
	Record(r Record, out *Output)
}

// A BatchObserver is a Transform that looks at a batch before its records.
type BatchObserver interface {
	Batch(b Batch)
}

// New makes a transform of its configuration, the bytes of config in the module's spec (JSON;
// null where there is none). An error refuses the module: it says what is wrong and what to do.
type New func(config []byte) (Transform, error)

// Registered is what Register returns, so that it can be called where a variable is declared.
type Registered struct{}

// Register names the module's transform. Call it once, where a package-level variable of
// main is declared: a module has no main that runs.
func Register(transform New) Registered {
	module.make = transform
	return Registered{}
}

// module is the state of this instance: WebAssembly's exports are functions without a receiver.
var module guest

// A Level says how much a line of the log matters.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes a line to the module's log, which the broker bounds per call.
func Log(level Level, line string) { hostLog(int32(level), line) }

// MetricAdd adds delta, finite and not negative, to a counter of the module. Its name has up
// to 64 of a-z, 0-9 and _, and begins with a letter.
func MetricAdd(name string, delta float64) { hostMetricAdd(name, delta) }
