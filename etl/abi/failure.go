package abi

// A Kind says how a module failed.
type Kind string

// The kinds of failure.
const (
	// Deadline: the module was still busy when its time was up.
	Deadline Kind = "deadline"
	// Trap: it did what WebAssembly forbids, or aborted.
	Trap Kind = "trap"
	// Memory: it had no more memory to give or to use.
	Memory Kind = "memory"
	// Fuel: it used up its fuel.
	Fuel Kind = "fuel"
	// Output: what it returned does not hold to the layout, or is too large.
	Output Kind = "output"
	// Exit: it called proc_exit.
	Exit Kind = "exit"
	// Busy: none of its instances was free in time.
	Busy Kind = "busy"
	// Closed: it is being shut down.
	Closed Kind = "closed"
	// Init: it refused its config, or cannot be instantiated.
	Init Kind = "init"
	// Disabled: its error budget is spent, and it is not entered any more. Counts nowhere.
	Disabled Kind = "disabled"
)

// A Failure is a module's, never the host's: what it was given is as it was, and the
// next call finds another instance.
type Failure struct {
	Kind Kind
	// Text says what happened, for an operator; one line, some hundred bytes at most.
	Text string
}

// Error is the kind and the text.
func (f *Failure) Error() string { return string(f.Kind) + ": " + f.Text }
