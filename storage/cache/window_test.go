package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func newBudget(t testing.TB, o BudgetOptions) *Budget[string] {
	t.Helper()
	b, err := NewBudget[string](o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// grants writes down who was served, in order.
type grants struct {
	mu    sync.Mutex
	order []string
}

func (g *grants) add(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.order = append(g.order, name)
}

func (g *grants) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.order, " ")
}

// read acquires on a goroutine of its own, holds for so long, and gives back.
func (g *grants) read(t *testing.T, b *Budget[string], reader string, bytes int64, hold time.Duration) {
	t.Helper()
	go func() {
		release, err := b.Acquire(t.Context(), reader, bytes)
		if err != nil {
			return // the test is over
		}
		g.add(reader)
		select {
		case <-time.After(hold):
		case <-t.Context().Done():
		}
		release()
	}()
	synctest.Wait() // it holds or stands in line
}

func TestBudgetOptionsAreChecked(t *testing.T) {
	for _, o := range []BudgetOptions{{}, {Total: -1}, {Total: 10, Share: -1}, {Total: 10, Share: 11}} {
		if _, err := NewBudget[string](o); !errors.As(err, new(*OptionError)) {
			t.Errorf("%+v: %v, want an *OptionError", o, err)
		}
	}
}

// TestBudgetIsNeverExceeded lets readers come, hold, tire of waiting and go at
// random, and looks at every grant.
func TestBudgetIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		total := r64(r, "total", 1, 100)
		share := r64(r, "share", 1, total)
		seed := rapid.Uint64().Draw(r, "seed")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(t, BudgetOptions{Total: total, Share: share})
			var mu sync.Mutex
			held, all := map[string]int64{}, int64(0)
			count := func(reader string, bytes int64) {
				mu.Lock()
				defer mu.Unlock()
				first := held[reader] == 0
				held[reader] += bytes
				all += bytes
				if all > total {
					failure = fmt.Sprintf("%d bytes are held of %d", all, total)
				}
				if bytes > 0 && !first && held[reader] > share {
					failure = fmt.Sprintf("%s holds %d bytes, its share is %d", reader, held[reader], share)
				}
			}
			var readers sync.WaitGroup
			for g := range 6 {
				rng := rand.New(rand.NewPCG(seed, uint64(g)))
				reader := fmt.Sprint("reader ", g%4) // some read with two hands
				readers.Go(func() {
					for range 15 {
						bytes := rng.Int64N(total + 10)
						ctx, tire := context.WithTimeout(t.Context(), time.Duration(rng.IntN(50))*time.Millisecond)
						release, err := b.Acquire(ctx, reader, bytes)
						if err == nil {
							charged := min(bytes, total)
							count(reader, charged)
							time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
							count(reader, -charged)
							release()
							release()
						}
						tire()
					}
				})
			}
			readers.Wait()
			if b.Held() != 0 || b.Waiting() != 0 || len(b.readers) != 0 || len(b.lines) != 0 {
				failure = fmt.Sprintf("at the end %d bytes are held, %d wait, %d readers are remembered", b.Held(), b.Waiting(), len(b.readers))
			}
		})
		if failure != "" {
			r.Fatal(failure)
		}
	})
}

func r64(r *rapid.T, name string, low, high int64) int64 {
	return rapid.Int64Range(low, high).Draw(r, name)
}

// TestDeepReadAheadDoesNotStarveOthers: one reader asks for a hundred blocks at
// once; those who ask for one at a time get every turn that they can use.
func TestDeepReadAheadDoesNotStarveOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 4, Share: 4})
		var g grants
		for range 100 {
			g.read(t, b, "deep", 1, time.Second)
		}
		for range 3 {
			for _, reader := range []string{"x", "y", "z"} {
				before := time.Now()
				release, err := b.Acquire(t.Context(), reader, 1)
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(before); waited > time.Second {
					t.Fatalf("%s waited %s behind the deep reader, want a block's second at most", reader, waited)
				}
				release()
			}
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := len(g.order); n != 100 || b.Held() != 0 {
			t.Fatalf("the deep reader got %d of 100, %d bytes are held", n, b.Held())
		}
	})
}

func TestTurnsGoRoundAmongEquals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 1, Share: 1})
		var g grants
		for _, reader := range []string{"a", "a", "a", "b", "b", "c"} {
			g.read(t, b, reader, 1, time.Second)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := g.String(); got != "a a b c a b" {
			t.Fatalf("served %s, want a, then a, b and c by turns", got)
		}
	})
}

func TestWhoHoldsLeastIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 9, Share: 9})
		var g grants
		g.read(t, b, "much", 6, time.Hour)
		g.read(t, b, "little", 2, time.Hour)
		g.read(t, b, "other", 1, time.Second)
		g.read(t, b, "much", 1, time.Second) // first in line
		g.read(t, b, "little", 1, time.Second)
		g.read(t, b, "new", 1, time.Second)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := g.String(); got != "much little other new little much" {
			t.Fatalf("served %s", got)
		}
	})
}

func TestLargeRequestIsNotPassedBySmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 10})
		var g grants
		for i := range 10 {
			g.read(t, b, fmt.Sprint("small", i), 1, time.Duration(i+1)*time.Second)
		}
		g.read(t, b, "large", 8, time.Hour)
		for i := range 10 {
			g.read(t, b, fmt.Sprint("later", i), 1, time.Second)
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if len(g.order) != 11 || g.order[10] != "large" {
			t.Fatalf("served %s, want large as soon as there is room", &g)
		}
	})
}

func TestRequestAboveTheTotalIsServedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 10})
		var g grants
		g.read(t, b, "a", 1, time.Second)
		g.read(t, b, "huge", 1000, time.Second)
		if got := g.String(); got != "a" {
			t.Fatalf("served %s while another holds", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := g.String(); got != "a huge" || b.Held() != 10 {
			t.Fatalf("served %s, %d bytes held", got, b.Held())
		}
		g.read(t, b, "b", 1, time.Second)
		if got := g.String(); got != "a huge" {
			t.Fatalf("served %s beside what has all", got)
		}
	})
}

// TestReaderKeepsToItsShare: what one reader holds, it can hold for long; the rest
// is for others, also when they come later.
func TestReaderKeepsToItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 10}) // half each
		var g grants
		g.read(t, b, "large", 8, time.Hour) // a first read may be larger
		g.read(t, b, "large", 1, time.Hour)
		g.read(t, b, "stalled", 1, time.Hour)
		if got := g.String(); got != "large stalled" || b.Waiting() != 1 {
			t.Fatalf("served %s, %d wait", got, b.Waiting())
		}
		// Who waits for its own share holds up nobody.
		g.read(t, b, "other", 1, time.Second)
		if got := g.String(); got != "large stalled other" {
			t.Fatalf("served %s", got)
		}
	})
}

func TestWhoTiresHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, BudgetOptions{Total: 10})
		var g grants
		g.read(t, b, "a", 5, time.Hour)
		ctx, tire := context.WithTimeout(t.Context(), time.Second)
		defer tire()
		failed := make(chan error, 1)
		go func() {
			_, err := b.Acquire(ctx, "tired", 6)
			failed <- err
		}()
		synctest.Wait()
		g.read(t, b, "b", 5, time.Hour)
		if got := g.String(); got != "a" || b.Waiting() != 2 {
			t.Fatalf("served %s, %d wait", got, b.Waiting())
		}
		if err := <-failed; err != context.DeadlineExceeded {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := g.String(); got != "a b" || b.Held() != 10 || b.Waiting() != 0 {
			t.Fatalf("served %s, %d held, %d wait", got, b.Held(), b.Waiting())
		}
		if _, err := b.Acquire(ctx, "tired", 0); err != context.DeadlineExceeded {
			t.Fatalf("%v for who was gone before", err)
		}
	})
}

func TestReleaseCountsOnce(t *testing.T) {
	b := newBudget(t, BudgetOptions{Total: 10})
	a, err := b.Acquire(t.Context(), "a", 5)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Acquire(t.Context(), "c", 5)
	if err != nil {
		t.Fatal(err)
	}
	none, err := b.Acquire(t.Context(), "a", 0) // waits for nothing
	if err != nil {
		t.Fatal(err)
	}
	none()
	a()
	a()
	if b.Held() != 5 {
		t.Fatalf("%d bytes are held, want 5", b.Held())
	}
	c()
	defer func() {
		if recover() == nil {
			t.Error("fewer than no bytes were granted")
		}
	}()
	_, _ = b.Acquire(t.Context(), "a", -1)
}
