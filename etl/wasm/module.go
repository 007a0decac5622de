package wasm

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/guard"
)

// A Module is a version of a module with its config, ready to be called. Make it by
// Load, end it by Close.
type Module struct {
	runtime *Runtime
	options ModuleOptions
	engine  *engine
	code    *code
	pool    *pool

	closing sync.Once

	mu    sync.Mutex          // guards names
	names map[string]struct{} // of counters
}

// Load verifies and compiles a module, and instantiates it once with its config. The
// same bytes are compiled once, whatever their names. wasm must not change afterwards.
//
// Errors: a [*RefusedError], when these bytes are no module for this runtime; an
// [*abi.Failure], when it did not take its config; ctx's, when it ended before the
// compilation, which goes on.
func (r *Runtime) Load(ctx context.Context, wasm []byte, o ModuleOptions) (*Module, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if !guard.Check("etl.module-bytes", len(wasm) <= r.options.MaxModuleBytes) {
		return nil, refused("it has %d bytes: %d at most are taken; build it without debug information", len(wasm), r.options.MaxModuleBytes)
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.work.Done()
	m := &Module{runtime: r, options: o, engine: r.engines[0], names: map[string]struct{}{}}
	if o.Fuel > 0 {
		m.engine = r.engines[1]
	}
	if m.code, err = r.compiled(ctx, wasm, m.engine); err != nil {
		return nil, err
	}
	if err := m.start(ctx); err != nil {
		r.release(m.code)
		return nil, err
	}
	return m, nil
}

// start makes the first instance, and the pool.
func (m *Module) start(ctx context.Context) error {
	if err := verify(m.code.Module); err != nil {
		return err
	}
	init := m.runtime.options.longestInit
	until := time.Now().Add(init)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	m.pool = &pool{bound: m.options.Instances, idle: idleFor, make: func() (*instance, *abi.Failure) {
		return m.instance(time.Now().Add(init))
	}}
	first, f := m.instance(until)
	if f != nil {
		return f
	}
	r := m.runtime
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		first.close()
		return ErrClosed
	}
	r.modules[m] = struct{}{}
	m.pool.total = 1
	m.pool.free = append(m.pool.free, first)
	return nil
}

// instance makes one, and hands on what it said meanwhile.
func (m *Module) instance(until time.Time) (*instance, *abi.Failure) {
	i, f := newInstance(m, until)
	i.deliver()
	if f != nil {
		i.close()
		return nil, f
	}
	return i, nil
}

// Transform has the module decide about b: one decision for each record, in their
// order, or nil when all are kept as they are. An error is an [*abi.Failure]. Decisions
// are copies; b is not kept.
//
// The guest has the module's deadline, and the call may wait as long for an instance before
// that, both until ctx's deadline if that is earlier. That ctx is cancelled is noticed while
// the call waits; then the guest runs on to its end.
func (m *Module) Transform(ctx context.Context, b *abi.Batch) ([]abi.Decision, error) {
	if len(b.Records) == 0 {
		return nil, nil
	}
	i, f := m.pool.take(ctx, m.until(ctx))
	if f != nil {
		return nil, f
	}
	broken := true // unless what follows returns
	defer func() { m.pool.put(i, broken) }()
	decisions, f := i.run(b, m.until(ctx))
	i.deliver()
	if f == nil {
		broken = false
		return decisions, nil
	}
	broken = i.entered
	if !broken && f.Kind == abi.Deadline { // the wait for it has taken all of ctx's time
		f.Kind = abi.Busy
	}
	return nil, f
}

// until is when the module's deadline is over that begins now, or ctx's if that is earlier.
func (m *Module) until(ctx context.Context) time.Time {
	until := time.Now().Add(m.options.Deadline)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		return d
	}
	return until
}

// Close ends the module: calls under way end first, which takes their deadline at most;
// later ones fail.
func (m *Module) Close() {
	m.closing.Do(func() {
		m.pool.close()
		r := m.runtime
		r.mu.Lock()
		delete(r.modules, m)
		r.mu.Unlock()
		r.release(m.code)
	})
}

// knows says whether a counter may be counted: one that was before, or one of the first.
func (m *Module) knows(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.names[name]; ok {
		return true
	}
	if !guard.Check("etl.counter-names", len(m.names) < maxCounters) {
		return false
	}
	m.names[name] = struct{}{}
	return true
}
