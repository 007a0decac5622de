package wasm

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/etl/abi"
)

// newPool is a pool whose instances are made in made, and hold nothing.
func newPool(bound int, made time.Duration) *pool {
	return &pool{bound: bound, idle: time.Minute, make: func() (*instance, *abi.Failure) {
		time.Sleep(made)
		return &instance{}, nil
	}}
}

func mustTake(t *testing.T, p *pool) *instance {
	t.Helper()
	i, f := p.take(context.Background(), time.Now().Add(time.Minute))
	if f != nil {
		t.Fatal(f)
	}
	return i
}

func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, time.Millisecond)
		defer p.close()
		a, b := mustTake(t, p), mustTake(t, p)
		if a == b {
			t.Fatal("an instance was lent twice")
		}
		began := time.Now()
		_, f := p.take(context.Background(), time.Now().Add(100*time.Millisecond))
		if f == nil || f.Kind != abi.Busy || time.Since(began) != 100*time.Millisecond {
			t.Errorf("%v after %v", f, time.Since(began))
		}
		time.AfterFunc(time.Second/2, func() { p.put(a, false) })
		if got := mustTake(t, p); got != a {
			t.Error("what was given back is not lent")
		}
		p.put(a, false)
		p.put(b, false)
		if p.total != 2 {
			t.Errorf("%d instances", p.total)
		}
	})
}

func TestWaitersAreServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 0)
		defer p.close()
		i := mustTake(t, p)
		var served []int
		for n := range 5 {
			go func() {
				i := mustTake(t, p)
				served = append(served, n)
				p.put(i, false)
			}()
			synctest.Wait()
		}
		p.put(i, false)
		synctest.Wait()
		for n, who := range served {
			if n != who {
				t.Fatalf("served in the order %v", served)
			}
		}
		if len(served) != 5 {
			t.Errorf("%d of 5 were served", len(served))
		}
	})
}

// TestBrokenInstanceIsReplaced also while somebody waits for it.
func TestBrokenInstanceIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, time.Millisecond)
		defer p.close()
		i := mustTake(t, p)
		time.AfterFunc(time.Millisecond, func() { p.put(i, true) })
		other := mustTake(t, p)
		if other == i {
			t.Error("a broken instance was lent again")
		}
		p.put(other, true)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if len(p.free) != 1 || p.total != 1 {
			t.Errorf("%d instances of %d free: one was to be made ahead", len(p.free), p.total)
		}
	})
}

// TestInstancesThatCannotBeMade fails a waiter for each try, and ends.
func TestInstancesThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		p := &pool{bound: 2, idle: time.Minute, make: func() (*instance, *abi.Failure) {
			time.Sleep(time.Millisecond)
			tries.Add(1)
			return &instance{}, failure(abi.Trap, "no")
		}}
		defer p.close()
		failed := make(chan *abi.Failure)
		for range 5 {
			go func() {
				_, f := p.take(context.Background(), time.Now().Add(time.Hour))
				failed <- f
			}()
		}
		for range 5 {
			if f := <-failed; f == nil || f.Kind != abi.Trap {
				t.Errorf("failure %v", f)
			}
		}
		synctest.Wait()
		if p.total != 0 || tries.Load() > 6 {
			t.Errorf("%d tries for 5 calls, %d instances", tries.Load(), p.total)
		}
	})
}

func TestIdleInstancesAreFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(4, 0)
		defer p.close()
		var lent []*instance
		for range 4 {
			lent = append(lent, mustTake(t, p))
		}
		for _, i := range lent {
			p.put(i, false)
		}
		for range 5 { // one is used all the time
			time.Sleep(25 * time.Second)
			p.put(mustTake(t, p), false)
		}
		synctest.Wait()
		if p.total != 1 || len(p.free) != 1 {
			t.Errorf("%d instances, %d of them free: one is enough", p.total, len(p.free))
		}
		time.Sleep(time.Hour)
		if p.total != 1 {
			t.Errorf("%d instances after an hour: one stays", p.total)
		}
	})
}

// TestInstancesLeaveNothingBehind makes and frees thousands: each maps memory of its own.
func TestInstancesLeaveNothingBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts mappings in /proc")
	}
	m := load(t, newRuntime(t, Options{}), guest{transform: "unreachable"}, ModuleOptions{Instances: 1, Deadline: time.Minute})
	fail := func(times int) {
		for range times {
			wantFailure(t, m, batch("a=b"), abi.Trap, "aborted")
		}
	}
	fail(50)
	mappings, goroutines := countMappings(t), runtime.NumGoroutine()
	fail(2000)
	for range 50 {
		load(t, m.runtime, decider(), ModuleOptions{}).Close()
	}
	if n := countMappings(t); n > mappings+100 {
		t.Errorf("%d mappings, and %d before 2000 instances and 50 modules", n, mappings)
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines, and %d before", n, goroutines)
	}
}

func countMappings(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

func TestTickerSleepsWhileNobodyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		c := newTicker(func() { count.Add(1) })
		defer c.close()
		time.Sleep(time.Hour)
		if ticks := count.Swap(0); ticks > idleTicks {
			t.Errorf("%d ticks in an hour without a call", ticks)
		}
		c.enter()
		time.Sleep(10*time.Second + tick/2)
		if ticks, want := count.Load(), int64(10*time.Second/tick); ticks != want {
			t.Errorf("%d ticks in a call of 10 s, want %d", ticks, want)
		}
		c.leave()
		count.Store(0)
		time.Sleep(time.Hour)
		if ticks := count.Load(); ticks > idleTicks+1 {
			t.Errorf("%d ticks in an hour after the call", ticks)
		}
	})
}

// TestDeadlineInTicks: a call that begins just before a tick has its time all the same.
func TestDeadlineInTicks(t *testing.T) {
	for d, want := range map[time.Duration]uint64{1: 2, tick: 2, tick + 1: 3, 100 * time.Millisecond: 21} {
		if got := ticksFor(d); got != want {
			t.Errorf("%v: %d ticks, want %d", d, got, want)
		}
	}
}
