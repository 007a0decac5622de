package wasm

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// ErrClosed says that a Runtime is closed.
var ErrClosed = errors.New("the runtime of transforms is closed")

// A Runtime compiles modules and runs them. Make it by New, end it by Close.
type Runtime struct {
	options Options
	ticker  *ticker
	// Engines by whether they count fuel: that is decided when code is compiled.
	engines [2]*engine
	// compiling is held by who compiles: one at a time, so that no module, however odd,
	// takes more than one processor.
	compiling chan struct{}
	work      sync.WaitGroup // calls of Load, and compilations

	mu      sync.Mutex // guards what follows
	closed  bool
	codes   map[string]*code
	modules map[*Module]struct{}
}

// An engine is wasmtime's, with the host's functions.
type engine struct {
	*wasmtime.Engine
	linker   *wasmtime.Linker
	settings string // all that decides what code is made
}

// New returns a Runtime.
func New(o Options) (*Runtime, error) {
	orElse(&o.MaxModuleBytes, 16<<20)
	if o.MaxModuleBytes < 0 {
		return nil, errors.New("the size of modules is bounded by a negative number")
	}
	orElse(&o.longestInit, longestInit)
	orElse(&o.Logger, slog.New(slog.DiscardHandler))
	r := &Runtime{
		options:   o,
		compiling: make(chan struct{}, 1),
		codes:     map[string]*code{},
		modules:   map[*Module]struct{}{},
	}
	for i := range r.engines {
		e, err := newEngine(i == 1)
		if err != nil {
			return nil, err
		}
		r.engines[i] = e
	}
	r.ticker = newTicker(func() {
		for _, e := range r.engines {
			e.IncrementEpoch()
		}
	})
	return r, nil
}

// Close closes all modules, waits for what is compiled, and frees everything. Calls that
// run are waited for; each ends by its deadline.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.work.Wait() // nothing is added to modules any more
	for _, m := range r.loaded() {
		m.Close()
	}
	r.ticker.close()
	for _, e := range r.engines {
		e.linker.Close()
		e.Close()
	}
	return nil
}

func (r *Runtime) loaded() []*Module {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.modules))
}

// begin counts a call that Close waits for; it ends by work.Done.
func (r *Runtime) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	r.work.Add(1)
	return nil
}

// newEngine pins every setting that decides what a module may be and what code it becomes.
func newEngine(fuel bool) (*engine, error) {
	c := wasmtime.NewConfig()
	c.SetEpochInterruption(true)
	c.SetConsumeFuel(fuel)
	c.SetMaxWasmStack(wasmStack)
	c.SetStrategy(wasmtime.StrategyCranelift)
	c.SetCraneliftOptLevel(wasmtime.OptLevelSpeed)
	c.SetParallelCompilation(false)
	c.SetMemoryInitCOWSet(true)
	c.SetCraneliftNanCanonicalization(true) // the same bytes from every machine
	c.SetWasmSIMD(true)
	c.SetWasmRelaxedSIMD(true)
	c.SetWasmRelaxedSIMDDeterministic(true)
	c.SetWasmBulkMemory(true)
	c.SetWasmMultiValue(true)
	c.SetWasmReferenceTypes(true)
	c.SetWasmTailCall(true)
	// What the ABI has no use for.
	c.SetWasmThreads(false)
	c.SetWasmMemory64(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetWasmWideArithmetic(false)
	e := &engine{settings: settings(fuel), Engine: wasmtime.NewEngineWithConfig(c)}
	e.linker = wasmtime.NewLinker(e.Engine)
	if err := link(e.linker); err != nil {
		return nil, err
	}
	return e, nil
}
