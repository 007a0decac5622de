package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rustmq.dev/rustmq/etl/abi"
)

func TestModuleDecides(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{})
	for _, c := range []struct {
		records []string
		want    string
	}{
		{[]string{"a=keep", "b=keep"}, ""},
		{[]string{"a=drop", "b=keep", "reason=x", "elsewhere=t", "new=v"}, "drop, keep, reject reason, route elsewhere, keep 2::new"},
		{nil, ""},
	} {
		got, err := m.Transform(context.Background(), batch(c.records...))
		if err != nil {
			t.Fatal(err)
		}
		if summary(got) != c.want || c.want == "" && got != nil {
			t.Errorf("%v: %q, want %q", c.records, summary(got), c.want)
		}
	}
}

func TestBatchesMayGrow(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{MemoryBytes: 8 << 20})
	b := batch("new=v")
	for _, size := range []int{1, 5 << 10, 300 << 10, 4 << 20, 10} {
		b.Records[0].Value = make([]byte, size)
		b.Records[0].Value[0] = 'v'
		got, err := m.Transform(context.Background(), b)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if summary(got) != "keep 2::new" {
			t.Errorf("%d bytes: %q", size, summary(got))
		}
	}
	b.Records[0].Value = make([]byte, 9<<20)
	wantFailure(t, m, b, abi.Memory, "rustmq_buffer refused")
	if got, err := m.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
		t.Errorf("after a batch that was too large: %q, %v", summary(got), err)
	}
}

// TestDecisionsOutliveTheGuest has the guest's memory written anew, and freed.
func TestDecisionsOutliveTheGuest(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{Instances: 1})
	got, err := m.Transform(context.Background(), batch("first=v", "elsewhere=t"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Transform(context.Background(), batch("other=v", "away=t")); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if summary(got) != "keep 2::first, route elsewhere" {
		t.Errorf("later: %q", summary(got))
	}
}

// TestFailureHurtsNobodyElse runs a module that hangs, and calls others, and the same
// one, meanwhile and afterwards.
func TestFailureHurtsNobodyElse(t *testing.T) {
	r := newRuntime(t, Options{})
	bad := load(t, r, decider(), ModuleOptions{Instances: 2, Deadline: time.Second})
	good := load(t, r, decider(), ModuleOptions{Deadline: time.Minute})
	var hung sync.WaitGroup
	hung.Go(func() { wantFailure(t, bad, batch("a=loop"), abi.Deadline, "still busy") })
	for range 100 {
		for _, m := range []*Module{good, bad} {
			if got, err := m.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
				t.Fatalf("%q, %v", summary(got), err)
			}
		}
	}
	hung.Wait()
	if got, err := bad.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
		t.Errorf("after the deadline: %q, %v", summary(got), err)
	}
}

// TestInstanceThatFailedIsThrownAway has a guest that counts its calls in its memory.
func TestInstanceThatFailedIsThrownAway(t *testing.T) {
	g := guest{transform: `
		(i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
		(if (i32.eq (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))
		(i64.const 0)`}
	m := load(t, newRuntime(t, Options{}), g, ModuleOptions{Instances: 1})
	for call := range 9 {
		_, err := m.Transform(context.Background(), batch("a=b"))
		if failed := call%3 == 2; failed != (err != nil) {
			t.Errorf("call %d: %v", call, err)
		}
	}
}

func TestCallsRunSideBySide(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{Instances: 3, Deadline: time.Minute})
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			for range 200 {
				got, err := m.Transform(context.Background(), batch("a=drop", "new=v"))
				if err != nil || summary(got) != "drop, keep 2::new" {
					t.Errorf("%q, %v", summary(got), err)
					return
				}
			}
		})
	}
	calls.Wait()
	if n := instances(m); n < 1 || n > 3 {
		t.Errorf("%d instances, and 3 are the bound", n)
	}
}

// instances is how many a module has, those that are being made included.
func instances(m *Module) int {
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	return m.pool.total
}

func TestConfigIsTakenOnce(t *testing.T) {
	r := newRuntime(t, Options{})
	g := guest{
		init: `(if (i32.ne (local.get $length) (i32.const 4)) (then (return (i64.const 0x40000000007))))
			(if (i32.ne (i32.load (i32.const 65536)) (i32.const 0x65757274)) (then unreachable))
			(i64.const 0)`,
		more: `(data (i32.const 1024) "no JSON")`,
	}
	load(t, r, g, ModuleOptions{Config: []byte("true")})
	_, err := r.Load(context.Background(), g.wasm(t), ModuleOptions{Name: "mask", Version: 7, Config: []byte("nil")})
	var f *abi.Failure
	if !errors.As(err, &f) || f.Kind != abi.Init || err.Error() != "init: it refuses its config: no JSON" {
		t.Errorf("error %v", err)
	}
}

func TestInitializeComesFirst(t *testing.T) {
	g := guest{
		version: "(i32.load (i32.const 0))", // 0 until _initialize
		more:    `(func (export "_initialize") (i32.store (i32.const 0) (i32.const 1)))`,
	}
	load(t, newRuntime(t, Options{}), g, ModuleOptions{})
}

func TestContextBoundsTheCall(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{Deadline: time.Hour, Instances: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := m.Transform(ctx, batch("a=loop"))
	var f *abi.Failure
	if !errors.As(err, &f) || f.Kind != abi.Deadline {
		t.Errorf("error %v", err)
	}
	gone, leave := context.WithCancel(context.Background())
	leave()
	only := mustTake(t, m.pool)
	defer m.pool.put(only, false)
	if _, err := m.Transform(gone, batch("a=keep")); !errors.As(err, &f) || f.Kind != abi.Busy {
		t.Errorf("cancelled while it waits: %v", err)
	}
}

func TestClose(t *testing.T) {
	r := newRuntime(t, Options{})
	m := load(t, r, decider(), ModuleOptions{Instances: 1, Deadline: 100 * time.Millisecond})
	var calls sync.WaitGroup
	for range 4 { // one runs until its deadline, the others wait for it
		calls.Go(func() {
			_, err := m.Transform(context.Background(), batch("a=loop"))
			var f *abi.Failure
			if !errors.As(err, &f) {
				t.Errorf("error %v", err)
			}
		})
	}
	m.Close()
	m.Close()
	calls.Wait()
	wantFailure(t, m, batch("a=b"), abi.Closed, "shut down")
	if n := instances(m); n != 0 {
		t.Errorf("%d instances are left", n)
	}
	left := load(t, r, decider(), ModuleOptions{})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, left, batch("a=b"), abi.Closed, "shut down")
	if _, err := r.Load(context.Background(), decider().wasm(t), ModuleOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("load: %v", err)
	}
}

// TestFaultsOfGoStayThoseOfGo: wasmtime handles signals too.
func TestFaultsOfGoStayThoseOfGo(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), guest{transform: "(i64.load (i32.const -1))"}, ModuleOptions{})
	wantFailure(t, m, batch("a=b"), abi.Trap, "out of bounds memory access")
	defer func() {
		if recover() == nil {
			t.Error("a nil pointer was followed")
		}
	}()
	var none *ModuleOptions
	t.Log(none.Version)
}

func wantFailure(t *testing.T, m *Module, b *abi.Batch, kind abi.Kind, text string) {
	t.Helper()
	got, err := m.Transform(context.Background(), b)
	checkFailure(t, summary(got), err, kind, text)
}

// TestLateInstanceIsKept: a call whose time was taken by its wait fails as busy, and
// what it was handed is for the next.
func TestLateInstanceIsKept(t *testing.T) {
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{Instances: 1, Deadline: time.Nanosecond})
	m.pool.mu.Lock()
	only := m.pool.free[0]
	m.pool.mu.Unlock()
	for range 3 {
		wantFailure(t, m, batch("a=keep"), abi.Busy, "no time was left")
	}
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	if len(m.pool.free) != 1 || m.pool.free[0] != only {
		t.Error("an instance that was never entered was thrown away")
	}
}

// TestWhoWaitedHasAllItsTime: others' calls are no reason to say of a module that it was too
// slow. What a failure says is how long the guest had.
func TestWhoWaitedHasAllItsTime(t *testing.T) {
	const deadline = 400 * time.Millisecond
	m := load(t, newRuntime(t, Options{}), decider(), ModuleOptions{Instances: 1, Deadline: deadline})
	for {
		only := mustTake(t, m.pool)
		time.AfterFunc(deadline*3/4, func() { m.pool.put(only, false) })
		_, err := m.Transform(context.Background(), batch("a=loop"))
		var f *abi.Failure
		if errors.As(err, &f) && f.Kind == abi.Busy {
			continue // this machine was
		}
		checkFailure(t, "", err, abi.Deadline, "still busy after ")
		_, after, _ := strings.Cut(err.Error(), "still busy after ")
		if had, err := time.ParseDuration(after); err != nil || had < deadline/2 {
			t.Errorf("the guest had %v of %v (%v)", had, deadline, err)
		}
		return
	}
}

// TestVersionsAreExchangedWhileTheyAreCalled: a call is answered by a version, or told that
// it was closed; nothing is freed under it.
func TestVersionsAreExchangedWhileTheyAreCalled(t *testing.T) {
	r := newRuntime(t, Options{})
	var current atomic.Pointer[Module]
	current.Store(load(t, r, decider(), ModuleOptions{}))
	var calls sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		calls.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := current.Load().Transform(context.Background(), batch("new=v", "a=drop"))
				var f *abi.Failure
				if err == nil && summary(got) != "keep 2::new, drop" || err != nil && (!errors.As(err, &f) || f.Kind != abi.Closed) {
					t.Errorf("%q, %v", summary(got), err)
					return
				}
			}
		})
	}
	for version := range 30 {
		g := decider()
		g.more = fmt.Sprintf("(data (i32.const 0) %q)", fmt.Sprint(version%3))
		current.Swap(load(t, r, g, ModuleOptions{Version: version})).Close()
	}
	close(done)
	calls.Wait()
}
