package cache

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// outcome is what Load returned, once it has.
type outcome struct {
	value string
	err   error
	done  bool
}

type answer struct{ atomic.Pointer[outcome] }

// now is the outcome so far; after synctest.Wait, nothing changes it but time.
func (a *answer) now() outcome {
	if o := a.Load(); o != nil {
		return *o
	}
	return outcome{}
}

// ask loads on a goroutine of its own.
func ask(c *Cache[string, string], ctx context.Context, key string, load func(context.Context) (string, error)) *answer {
	a := &answer{}
	go func() {
		value, err := c.Load(ctx, key, load)
		a.Store(&outcome{value, err, true})
	}()
	return a
}

// after is a load that takes a second, and counts its calls and its cancellations.
type after struct {
	calls, cancelled atomic.Int32
	value            string
	err              error
}

func (l *after) load(ctx context.Context) (string, error) {
	l.calls.Add(1)
	select {
	case <-time.After(time.Second):
		return l.value, l.err
	case <-ctx.Done():
		l.cancelled.Add(1)
		return "", ctx.Err()
	}
}

// inBubble runs a test once for each policy, in simulated time.
func inBubble(t *testing.T, o Options[string, string], f func(*testing.T, *Cache[string, string])) {
	t.Helper()
	perPolicy(t, func(t *testing.T, p Policy) {
		synctest.Test(t, func(t *testing.T) {
			o.Policy = p
			if o.Capacity == 0 {
				o.Capacity = 800
			}
			f(t, sized(t, o))
		})
	})
}

func TestLoadedOnceForAllWhoAsk(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{value: "x"}
		var answers []*answer
		for range 10 {
			answers = append(answers, ask(c, t.Context(), "a", l.load))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, a := range answers {
			if !a.now().done || a.now().value != "x" || a.now().err != nil {
				t.Fatalf("%+v", a.now())
			}
		}
		if v, err := c.Load(t.Context(), "a", l.load); v != "x" || err != nil || l.calls.Load() != 1 {
			t.Fatalf("%q %v after %d loads", v, err, l.calls.Load())
		}
		if s := c.Stats(); s.Loads != 1 || s.Shared != 9 || s.Hits != 1 || s.Misses != 10 || s.LoadTime != time.Second {
			t.Fatalf("%+v", s)
		}
	})
}

func TestErrorsReachAllAndAreNotKept(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{err: errors.New("no bucket")}
		a, b := ask(c, t.Context(), "a", l.load), ask(c, t.Context(), "a", l.load)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a.now().err != l.err || b.now().err != l.err || l.calls.Load() != 1 {
			t.Fatalf("%v, %v after %d loads", a.now().err, b.now().err, l.calls.Load())
		}
		l.err, l.value = nil, "x"
		if v, err := c.Load(t.Context(), "a", l.load); v != "x" || err != nil || l.calls.Load() != 2 {
			t.Fatalf("%q %v after %d loads", v, err, l.calls.Load())
		}
		if s := c.Stats(); s.LoadErrors != 1 || s.Loads != 2 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestWhoLeavesDoesNotCancelOthers(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{value: "x"}
		first, leave := context.WithCancel(t.Context())
		a := ask(c, first, "a", l.load) // who began the load
		synctest.Wait()
		b := ask(c, t.Context(), "a", l.load)
		synctest.Wait()
		leave()
		synctest.Wait()
		if !a.now().done || a.now().err != context.Canceled || b.now().done {
			t.Fatalf("%+v, %+v: want the first to be gone and the second to wait", a.now(), b.now())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if b.now().value != "x" || b.now().err != nil || l.cancelled.Load() != 0 || l.calls.Load() != 1 {
			t.Fatalf("%+v after %d loads, %d of them cancelled", b.now(), l.calls.Load(), l.cancelled.Load())
		}
	})
}

func TestLastWhoLeavesCancelsTheLoad(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		// A load that takes its time to end after it was cancelled.
		ended := make(chan struct{})
		var cancelled atomic.Bool
		stubborn := func(ctx context.Context) (string, error) {
			<-ctx.Done()
			cancelled.Store(true)
			<-ended
			return "old", nil
		}
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		a, b := ask(c, ctx, "a", stubborn), ask(c, ctx, "a", stubborn)
		synctest.Wait()
		if cancelled.Load() {
			t.Fatal("cancelled while two wait")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !cancelled.Load() || a.now().err != context.DeadlineExceeded || b.now().err != context.DeadlineExceeded {
			t.Fatalf("cancelled: %v; %+v, %+v", cancelled.Load(), a.now(), b.now())
		}
		// Who asks now does not join what was cancelled, nor gets what it reads.
		l := &after{value: "new"}
		d := ask(c, t.Context(), "a", l.load)
		synctest.Wait()
		close(ended)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if v, ok := c.Get("a"); d.now().value != "new" || d.now().err != nil || v != "new" || !ok {
			t.Fatalf("%+v, then %q %v", d.now(), v, ok)
		}
	})
}

func TestLoadBeginsNothingForWhoIsGone(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		ctx, leave := context.WithCancel(t.Context())
		leave()
		l := &after{value: "x"}
		if _, err := c.Load(ctx, "a", l.load); err != context.Canceled || l.calls.Load() != 0 {
			t.Fatalf("%v after %d loads", err, l.calls.Load())
		}
		c.Put("a", "y")
		if v, err := c.Load(ctx, "a", l.load); v != "y" || err != nil {
			t.Fatalf("what is here: %q %v", v, err)
		}
	})
}

func TestWhatIsNotKeptStillReachesAll(t *testing.T) {
	heavy := strings.Repeat("x", 101) // of 800
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{value: heavy}
		a, b := ask(c, t.Context(), "a", l.load), ask(c, t.Context(), "a", l.load)
		time.Sleep(time.Second)
		synctest.Wait()
		if a.now().value != heavy || b.now().value != heavy || l.calls.Load() != 1 || c.Len() != 0 {
			t.Fatalf("%+v, %+v after %d loads, %d kept", a.now(), b.now(), l.calls.Load(), c.Len())
		}
	})
}

func TestLoadOlderThanAPutIsNotKept(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{value: "old"}
		a := ask(c, t.Context(), "put", l.load)
		b := ask(c, t.Context(), "deleted", l.load)
		synctest.Wait()
		c.Put("put", "new")
		c.Delete("deleted")
		time.Sleep(time.Second)
		synctest.Wait()
		if a.now().value != "old" || b.now().value != "old" {
			t.Fatalf("who asked before: %+v, %+v", a.now(), b.now())
		}
		if v, ok := c.Get("put"); v != "new" || !ok {
			t.Fatalf("the value put last is %q %v", v, ok)
		}
		if v, ok := c.Get("deleted"); ok {
			t.Fatalf("deleted, and loaded back from before: %q", v)
		}
	})
}

func TestExpiredIsLoadedAnew(t *testing.T) {
	inBubble(t, Options[string, string]{TTL: time.Minute}, func(t *testing.T, c *Cache[string, string]) {
		l := &after{value: "x"}
		for range 3 {
			if v, err := c.Load(t.Context(), "a", l.load); v != "x" || err != nil {
				t.Fatalf("%q %v", v, err)
			}
			time.Sleep(time.Minute)
		}
		if l.calls.Load() != 3 {
			t.Fatalf("%d loads in three times the TTL", l.calls.Load())
		}
	})
}

func TestLoadEndsAtItsTimeout(t *testing.T) {
	inBubble(t, Options[string, string]{LoadTimeout: 100 * time.Millisecond}, func(t *testing.T, c *Cache[string, string]) {
		start := time.Now()
		_, err := c.Load(t.Context(), "a", (&after{}).load)
		if err != context.DeadlineExceeded || time.Since(start) != 100*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestLoadCarriesTheAskersValues(t *testing.T) {
	type name struct{}
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		v, err := c.Load(context.WithValue(t.Context(), name{}, "x"), "a", func(ctx context.Context) (string, error) {
			return ctx.Value(name{}).(string), nil
		})
		if v != "x" || err != nil {
			t.Fatalf("%q %v", v, err)
		}
	})
}

func TestLoadThatEndsItsGoroutineIsAnError(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		_, err := c.Load(t.Context(), "a", func(context.Context) (string, error) {
			runtime.Goexit()
			return "", nil
		})
		if err != errNoResult || c.Len() != 0 {
			t.Fatalf("%v, %d kept", err, c.Len())
		}
	})
}

func TestCloseEndsLoads(t *testing.T) {
	inBubble(t, Options[string, string]{}, func(t *testing.T, c *Cache[string, string]) {
		c.Put("kept", "y")
		l := &after{value: "x"}
		a, detached := ask(c, t.Context(), "a", l.load), ask(c, t.Context(), "b", l.load)
		synctest.Wait()
		c.Put("b", "z") // nobody joins that load any more, yet it is under way
		if err := c.Close(); err != nil || l.cancelled.Load() != 2 {
			t.Fatalf("%v, %d loads cancelled", err, l.cancelled.Load())
		}
		synctest.Wait()
		if a.now().err != context.Canceled || detached.now().err != context.Canceled {
			t.Fatalf("%+v, %+v", a.now(), detached.now())
		}
		if _, err := c.Load(t.Context(), "a", l.load); err != ErrClosed {
			t.Fatalf("after Close: %v", err)
		}
		if v, err := c.Load(t.Context(), "kept", l.load); v != "y" || err != nil {
			t.Fatalf("what is kept: %q %v", v, err)
		}
	})
}

// TestConcurrentLoads shows the race detector loads, puts and deletes together.
func TestConcurrentLoads(t *testing.T) {
	inBubble(t, Options[string, string]{Capacity: 80}, func(t *testing.T, c *Cache[string, string]) {
		keys := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 200 {
					key := keys[(i*g)%len(keys)]
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%3)*time.Millisecond)
					v, err := c.Load(ctx, key, func(ctx context.Context) (string, error) {
						select {
						case <-time.After(time.Millisecond):
							return key + "23456789", nil
						case <-ctx.Done():
							return "", ctx.Err()
						}
					})
					cancel()
					if err == nil && v[:1] != key {
						t.Errorf("key %s has %q", key, v)
					}
					switch i % 7 {
					case 0:
						c.Put(key, key)
					case 1:
						c.Delete(key)
					}
				}
			})
		}
		all.Wait()
		_ = c.Close()
		checkBooks(t, c)
	})
}
