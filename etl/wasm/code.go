package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"golang.org/x/sys/cpu"

	"rustmq.dev/rustmq/storage/guard"
)

// engineVersion is that of wasmtime-go, of which one in go.mod is a test.
const engineVersion = "v39.0.1"

// codeMagic begins stored code: its layout has version 1.
//
//	0   8   magic "rmqcode1"
//	8   32  SHA-256 of key and code
//	40  …   code, as wasmtime serialises it
const codeMagic = "rmqcode1"

// settings is all of an engine that decides what code it makes, beside the module. What
// newEngine sets changes with the number at its head.
func settings(fuel bool) string {
	return fmt.Sprintf("1 wasmtime-go %s %s/%s fuel=%t %v %v", engineVersion, runtime.GOOS, runtime.GOARCH, fuel, cpu.X86, cpu.ARM64)
}

// A code is a module that is compiled, or being so, once for all who load it.
type code struct {
	key  string
	hash [sha256.Size]byte // of the module's bytes
	refs int               // guarded by Runtime.mu; 0: to be freed
	done chan struct{}     // closed when what follows is set
	*wasmtime.Module
	err error
}

// compiled returns the code of a module, which the caller releases, between begin and Done. It is compiled by
// a goroutine of its own: who has no time left goes, and the next finds it done.
func (r *Runtime) compiled(ctx context.Context, wasm []byte, e *engine) (*code, error) {
	hash := sha256.Sum256(wasm)
	sum := sha256.New()
	sum.Write(hash[:])
	sum.Write([]byte(e.settings))
	key := hex.EncodeToString(sum.Sum(nil))
	r.mu.Lock()
	c := r.codes[key]
	if c == nil {
		c = &code{key: key, hash: hash, done: make(chan struct{}), refs: 1} // the compilation's
		r.codes[key] = c
		r.work.Go(func() { r.compile(c, wasm, e) })
	}
	c.refs++
	r.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		r.release(c)
		return nil, fmt.Errorf("compile the module: %w", context.Cause(ctx))
	}
	if c.err != nil {
		r.release(c)
		return nil, c.err
	}
	return c, nil
}

// release gives up what compiled has returned.
func (r *Runtime) release(c *code) {
	r.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last && r.codes[c.key] == c {
		delete(r.codes, c.key)
	}
	r.mu.Unlock()
	if last && c.Module != nil {
		c.Module.Close()
	}
}

// compile makes c from the store, or by the compiler. It blocks on other compilations.
func (r *Runtime) compile(c *code, wasm []byte, e *engine) {
	r.compiling <- struct{}{}
	c.Module, c.err = r.make(c.key, wasm, e)
	<-r.compiling
	if c.err != nil {
		r.mu.Lock()
		delete(r.codes, c.key) // the next tries again
		r.mu.Unlock()
	}
	r.release(c) // before anybody goes on: who frees it then frees it at once
	close(c.done)
}

func (r *Runtime) make(key string, wasm []byte, e *engine) (*wasmtime.Module, error) {
	if m := r.stored(key, e); m != nil {
		return m, nil
	}
	if err := wasmtime.ModuleValidate(e.Engine, wasm); err != nil {
		return nil, refused("it is no valid WebAssembly: %s", errorText(err))
	}
	if err := screen(wasm); !guard.Check("etl.compile-cost", err == nil) {
		return nil, err
	}
	m, err := wasmtime.NewModule(e.Engine, wasm)
	if err != nil {
		return nil, refused("it cannot be compiled: %s", errorText(err))
	}
	if r.options.Store == nil {
		return m, nil
	}
	text, err := m.Serialize()
	if err == nil {
		err = r.options.Store.Put(key, seal(key, text))
	}
	if err != nil {
		r.options.Logger.Warn("compiled transform was not kept: it is compiled anew after a restart", "key", key, "error", err)
	}
	return m, nil
}

// stored returns the module that was put under key; nil: there is none, or it is damaged.
func (r *Runtime) stored(key string, e *engine) *wasmtime.Module {
	if r.options.Store == nil {
		return nil
	}
	sealed, found := r.options.Store.Get(key)
	if !found {
		return nil
	}
	text, ok := unseal(key, sealed)
	if !ok {
		r.options.Logger.Warn("compiled transform is damaged: it is compiled anew", "key", key)
		return nil
	}
	m, err := wasmtime.NewModuleDeserialize(e.Engine, text)
	if err != nil {
		r.options.Logger.Warn("compiled transform is of another engine: it is compiled anew", "key", key, "error", errorText(err))
		return nil
	}
	return m
}

func seal(key string, text []byte) []byte {
	sum := checksum(key, text)
	return append(append([]byte(codeMagic), sum[:]...), text...)
}

func unseal(key string, sealed []byte) ([]byte, bool) {
	const head = len(codeMagic) + sha256.Size
	if len(sealed) < head || string(sealed[:len(codeMagic)]) != codeMagic {
		return nil, false
	}
	sum := checksum(key, sealed[head:])
	if !guard.Check("etl.code-checksum", string(sum[:]) == string(sealed[len(codeMagic):head])) {
		return nil, false
	}
	return sealed[head:], true
}

func checksum(key string, text []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write(text)
	return [sha256.Size]byte(h.Sum(nil))
}
