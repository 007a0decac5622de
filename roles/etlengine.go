package roles

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/wasm"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/storage/disk"
)

// mostCode is how many compiled modules are kept in the data directory: all that can be active.
// Each that is not costs a start seconds in which records of its topics are refused.
const mostCode = metadata.MaxTransforms

// wasmEngine is etl/wasm, made when a module is first loaded: most processes never do.
type wasmEngine struct {
	store wasm.CodeStore
	log   *slog.Logger

	mu      sync.Mutex
	runtime *wasm.Runtime // guarded by mu, as is
	closed  bool
}

func newWASMEngine(store wasm.CodeStore, log *slog.Logger) *wasmEngine {
	return &wasmEngine{store: store, log: log}
}

func (e *wasmEngine) open() (*wasm.Runtime, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, wasm.ErrClosed
	}
	if e.runtime == nil {
		made, err := wasm.New(wasm.Options{Store: e.store, Logger: e.log, MaxModuleBytes: metadata.MaxModuleBytes})
		if err != nil {
			return nil, err
		}
		e.runtime = made
	}
	return e.runtime, nil
}

// Load implements etl.Engine.
func (e *wasmEngine) Load(ctx context.Context, bytes []byte, o etl.ModuleOptions) (etl.Module, error) {
	runtime, err := e.open()
	if err != nil {
		return nil, err
	}
	m, err := runtime.Load(ctx, bytes, wasm.ModuleOptions{
		Name: o.Name, Version: o.Version, Config: o.Spec.Config, Deadline: o.Spec.Deadline(), MemoryBytes: o.Spec.MemoryBytes,
		Fuel: o.Spec.Fuel, Instances: o.Spec.Instances, Log: o.Log, Metric: o.Metric,
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Close closes what was loaded.
func (e *wasmEngine) Close() error {
	e.mu.Lock()
	runtime := e.runtime
	e.closed = true
	e.mu.Unlock()
	if runtime == nil {
		return nil
	}
	return runtime.Close()
}

// codeFiles keeps compiled code in files.
type codeFiles struct {
	fs  disk.FS
	dir string
}

// Get implements wasm.CodeStore.
func (c codeFiles) Get(key string) ([]byte, bool) {
	code, err := disk.ReadFile(c.fs, path.Join(c.dir, key))
	return code, err == nil
}

// Put implements wasm.CodeStore.
func (c codeFiles) Put(key string, code []byte) error {
	if err := c.fs.MkdirAll(c.dir); err != nil {
		return err
	}
	return errors.Join(disk.WriteFileAtomic(c.fs, path.Join(c.dir, key), code), c.prune())
}

// prune removes the oldest where there are too many.
func (c codeFiles) prune() error {
	names, err := c.fs.List(c.dir)
	if err != nil || len(names) <= mostCode {
		return err
	}
	type file struct {
		name string
		at   time.Time
	}
	var files []file
	for _, name := range names {
		if info, err := c.fs.Stat(path.Join(c.dir, name)); err == nil {
			files = append(files, file{name, info.Modified})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.name, b.name)) })
	for _, f := range files[:max(len(files)-mostCode, 0)] {
		if err := c.fs.Remove(path.Join(c.dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
