package wasm

import (
	"context"
	"math/rand/v2"
	"os"
	"regexp"
	"sync"
	"testing"

	"rustmq.dev/rustmq/test/seeded"
)

// A shelf is a CodeStore in memory that counts.
type shelf struct {
	mu   sync.Mutex
	code map[string][]byte
	gets int
	puts int
}

func (s *shelf) Get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	b, ok := s.code[key]
	return b, ok
}

func (s *shelf) Put(key string, code []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	s.code[key] = code
	return nil
}

func TestModulesAreCompiledOnce(t *testing.T) {
	store := &shelf{code: map[string][]byte{}}
	r := newRuntime(t, Options{Store: store})
	var loads sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		loads.Go(func() { load(t, r, decider(), ModuleOptions{Name: name, Config: []byte(name)}) })
	}
	loads.Wait()
	if store.gets != 1 || store.puts != 1 {
		t.Errorf("the same bytes six times at once: looked up %d times, compiled %d times", store.gets, store.puts)
	}
	load(t, r, decider(), ModuleOptions{Fuel: 1_000_000}) // other code: it counts
	load(t, r, guest{}, ModuleOptions{})
	if store.puts != 3 {
		t.Errorf("three codes, compiled %d times", store.puts)
	}
	again := newRuntime(t, Options{Store: store}) // as after a restart
	m := load(t, again, decider(), ModuleOptions{})
	if store.puts != 3 {
		t.Errorf("compiled again after a restart")
	}
	if got, err := m.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
		t.Errorf("stored code: %q, %v", summary(got), err)
	}
}

// TestDamagedCodeIsNotRun flips a bit, cuts, and exchanges what is stored.
func TestDamagedCodeIsNotRun(t *testing.T) {
	store := &shelf{code: map[string][]byte{}}
	r := newRuntime(t, Options{Store: store})
	load(t, r, guest{transform: "unreachable"}, ModuleOptions{}).Close()
	var other []byte
	for _, b := range store.code {
		other = b
	}
	clear(store.code)
	load(t, r, decider(), ModuleOptions{}).Close()
	var key string
	var whole []byte
	for k, b := range store.code {
		key, whole = k, b
	}
	rnd := rand.New(rand.NewPCG(seeded.Seed(t), 0))
	flipped := func(at int) []byte {
		b := append([]byte{}, whole...)
		b[at] ^= 1 << rnd.IntN(8)
		return b
	}
	for name, damaged := range map[string][]byte{
		"nothing": {}, "cut head": whole[:20], "cut": whole[:len(whole)-1], "longer": append(append([]byte{}, whole...), 0),
		"magic": flipped(0), "checksum": flipped(20), "code": flipped(40 + rnd.IntN(len(whole)-40)), "another's": other,
	} {
		store.code[key] = damaged
		before := store.puts
		m := load(t, r, decider(), ModuleOptions{})
		if store.puts != before+1 {
			t.Errorf("%s: not compiled anew", name)
		}
		if got, err := m.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
			t.Errorf("%s: %q, %v", name, summary(got), err)
		}
		m.Close()
	}
}

// TestCodeOfAnotherEngineIsNotRun: its checksum is right, and its settings are not.
func TestCodeOfAnotherEngineIsNotRun(t *testing.T) {
	store := &shelf{code: map[string][]byte{}}
	r := newRuntime(t, Options{Store: store})
	load(t, r, decider(), ModuleOptions{Fuel: 1_000_000}).Close()
	var fueled []byte
	for k, b := range store.code {
		text, ok := unseal(k, b)
		if !ok {
			t.Fatal("stored code is damaged")
		}
		fueled = text
	}
	clear(store.code)
	load(t, r, decider(), ModuleOptions{}).Close()
	for k := range store.code {
		store.code[k] = seal(k, fueled)
	}
	before := store.puts
	load(t, r, decider(), ModuleOptions{})
	if store.puts != before+1 {
		t.Error("not compiled anew")
	}
}

func TestCompilationGoesOnWithoutItsCaller(t *testing.T) {
	store := &shelf{code: map[string][]byte{}}
	r := newRuntime(t, Options{Store: store})
	r.compiling <- struct{}{} // something is being compiled
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Load(ctx, decider().wasm(t), ModuleOptions{}); err == nil {
		t.Fatal("loaded though its caller was gone")
	}
	<-r.compiling
	load(t, r, decider(), ModuleOptions{})
	if store.puts != 1 {
		t.Errorf("compiled %d times", store.puts)
	}
}

func TestEngineVersionIsThatOfGoMod(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`wasmtime-go/v\d+ (v\S+)`).FindSubmatch(mod)
	if found == nil || string(found[1]) != engineVersion {
		t.Errorf("go.mod has %s, and code is stored as that of %s", found, engineVersion)
	}
}
