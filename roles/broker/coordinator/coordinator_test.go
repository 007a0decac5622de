package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers a request with itself, except "keep", which it never answers, and
// "block", over which it blocks.
type echo struct {
	*Shard[string]
	h      *house
	alarms []time.Time
}

func (e *echo) Load() error {
	e.h.note(fmt.Sprint("load ", e.Epoch))
	if e.h.unreadable.Load() {
		return errors.New("no log")
	}
	return nil
}

func (e *echo) Run() {
	for e.Wait(e.alarms...) {
		for i, at := range e.alarms {
			if !at.IsZero() && !time.Now().Before(at) {
				e.h.note(fmt.Sprint("alarm ", i))
				e.alarms[i] = time.Time{}
			}
		}
		e.Serve(func(call uint64, request string) {
			switch request {
			case "keep":
				return
			case "block":
				<-e.h.block
			}
			e.Answer(call, request)
		})
	}
}

func (e *echo) End() { e.h.note(fmt.Sprint("end ", e.Epoch)) }

// house has shards inside a synctest bubble.
type house struct {
	*Shards[string, *echo]
	unreadable atomic.Bool
	opening    func() // called while a shard is opened, unless nil
	block      chan struct{}

	mu    sync.Mutex // guards notes
	notes []string
}

func (h *house) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, what)
}

func open(t *testing.T) *house {
	h := &house{block: make(chan struct{})}
	h.Shards = New(Options{What: "echoes", Partitions: 2, MaxQueue: 2, Logger: slog.New(slog.DiscardHandler)},
		func(s *Shard[string]) *echo {
			if h.opening != nil {
				h.opening()
			}
			return &echo{Shard: s, h: h}
		})
	t.Cleanup(h.Close)
	return h
}

// ask returns where the answer, or the code of the refusal, comes; a second one would
// be there too.
func (h *house) ask(ctx context.Context, partition int32, request string) chan any {
	got := make(chan any, 2)
	h.Submit(ctx, partition, request, func(body any) { got <- body }, func(code int16) { got <- kerr.ErrorForCode(code) })
	return got
}

// askShard asks as one who found the shard while it was led here.
func askShard(ctx context.Context, e *echo, request string) chan any {
	got := make(chan any, 2)
	e.Submit(ctx, request, func(body any) { got <- body }, func(code int16) { got <- kerr.ErrorForCode(code) })
	return got
}

func want(t *testing.T, got chan any, body any) {
	t.Helper()
	synctest.Wait()
	if len(got) != 1 {
		t.Fatalf("%d answers, want %v", len(got), body)
	}
	if g := <-got; g != body {
		t.Fatalf("%v, want %v", g, body)
	}
}

func (h *house) wantNotes(t *testing.T, notes ...string) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.notes, notes) {
		t.Fatalf("%q, want %q", h.notes, notes)
	}
}

func TestRequestsAreAnsweredWhereTheyAreLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ctx := open(t), t.Context()
		for _, partition := range []int32{-1, 0, 2} {
			want(t, h.ask(ctx, partition, "a"), kerr.NotCoordinator)
		}
		h.unreadable.Store(true)
		h.Load(0, 1)
		want(t, h.ask(ctx, 0, "a"), kerr.CoordinatorLoadInProgress)
		h.unreadable.Store(false)
		time.Sleep(LoadRetry)
		synctest.Wait()
		want(t, h.ask(ctx, 0, "a"), "a")
		if loaded, loading := h.Loaded(); loaded != 1 || loading != 0 {
			t.Fatalf("%d loaded, %d loading", loaded, loading)
		}
		h.Load(0, 1) // again: nothing happens
		kept := h.ask(ctx, 0, "keep")
		h.wantNotes(t, "load 1", "load 1")
		h.Unload(0)
		want(t, kept, kerr.NotCoordinator)
		want(t, h.ask(ctx, 0, "a"), kerr.NotCoordinator)
		h.wantNotes(t, "load 1", "load 1", "end 1")
		h.unreadable.Store(true)
		h.Load(0, 2)
		want(t, h.ask(ctx, 0, "a"), kerr.CoordinatorLoadInProgress)
		loading := h.All()[0]
		h.Unload(0)
		want(t, askShard(ctx, loading, "a"), kerr.NotCoordinator)
	})
}

// Who waits for a log to be read waits for the next epoch's, whenever it begins.
func TestAwaitLoadOutlivesAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.unreadable.Store(true)
		h.Load(0, 1)
		done := make(chan struct{})
		go func() {
			h.AwaitLoad(t.Context(), 0)
			close(done)
		}()
		isOver := func() bool {
			synctest.Wait()
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		h.opening = func() {
			if isOver() {
				t.Error("over while the next epoch begins")
			}
		}
		h.Load(0, 2)
		if isOver() {
			t.Fatal("over before the log is read")
		}
		h.unreadable.Store(false)
		time.Sleep(LoadRetry)
		if !isOver() {
			t.Fatal("waited for what is read")
		}
	})
}

func TestCloseWaitsAndLoadsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.Load(0, 1)
		synctest.Wait()
		blocked := h.ask(t.Context(), 0, "block")
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			h.Close()
			h.Load(0, 2)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("closed while a shard runs")
		default:
		}
		h.block <- struct{}{}
		<-closed
		want(t, blocked, "block")
		want(t, h.ask(t.Context(), 0, "a"), kerr.NotCoordinator)
		h.wantNotes(t, "load 1", "end 1")
		if len(h.All()) > 0 {
			t.Fatal("loaded after the end")
		}
	})
}

func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ctx := open(t), t.Context()
		h.Load(0, 1)
		synctest.Wait()
		blocked := h.ask(ctx, 0, "block")
		synctest.Wait()
		gone, leave := context.WithCancel(ctx)
		first, second := h.ask(gone, 0, "a"), h.ask(ctx, 0, "b")
		want(t, h.ask(ctx, 0, "c"), kerr.CoordinatorNotAvailable)
		ran := 0
		h.All()[0].Post(func() { ran++ }) // is no request, and not bounded
		leave()
		h.block <- struct{}{}
		want(t, blocked, "block")
		want(t, first, kerr.CoordinatorNotAvailable) // nobody heard it
		want(t, second, "b")
		want(t, h.ask(ctx, 0, "c"), "c")
		if ran != 1 {
			t.Fatalf("posted once, ran %d times", ran)
		}
	})
}

// What comes in is begun, or run, one after the other as it came.
func TestInboxIsServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.Load(0, 1)
		synctest.Wait()
		h.ask(t.Context(), 0, "block")
		synctest.Wait()
		var got, all []int
		tell := func(i int) func(any) { return func(any) { got = append(got, i) } }
		for i := range 4 {
			if all = append(all, i); i%2 == 0 {
				h.Submit(t.Context(), 0, "a", tell(i), func(int16) { t.Error("refused") })
			} else {
				h.All()[0].Post(func() { tell(i)(nil) })
			}
		}
		h.block <- struct{}{}
		synctest.Wait()
		if !slices.Equal(got, all) {
			t.Fatalf("%v", got)
		}
	})
}

// What waits in the inbox at the end is refused, and what was posted never runs: the end
// does not wait for it.
func TestInboxIsEmptiedByTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ctx := open(t), t.Context()
		h.Load(0, 1)
		synctest.Wait()
		kept, blocked := h.ask(ctx, 0, "keep"), h.ask(ctx, 0, "block")
		synctest.Wait()
		waits := h.ask(ctx, 0, "a")
		ran := false
		s := h.All()[0]
		s.Post(func() { ran = true })
		h.Unload(0)
		h.block <- struct{}{}
		want(t, kept, kerr.NotCoordinator)
		want(t, blocked, "block")
		want(t, waits, kerr.NotCoordinator)
		h.wantNotes(t, "load 1", "end 1")
		want(t, askShard(ctx, s, "a"), kerr.NotCoordinator)
		s.Post(func() { ran = true })
		if synctest.Wait(); ran || len(s.inbox) > 0 {
			t.Fatal("what was posted ran after the end, or waits for ever")
		}
	})
}

func TestFirstOfTheAlarmsRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.Load(0, 1)
		synctest.Wait()
		e := h.All()[0]
		time.Sleep(2 * time.Hour) // none is set, none rings
		begin := time.Now()
		e.Post(func() { e.alarms = []time.Time{{}, begin.Add(2 * time.Second), {}, begin.Add(time.Second)} })
		h.wantNotes(t, "load 1")
		time.Sleep(time.Second)
		h.wantNotes(t, "load 1", "alarm 3")
		time.Sleep(time.Second)
		h.wantNotes(t, "load 1", "alarm 3", "alarm 1")
		time.Sleep(2 * time.Hour)
		h.wantNotes(t, "load 1", "alarm 3", "alarm 1")
	})
}

// Partitions come and go under those who ask: each gets one answer.
func TestEachRequestIsAnsweredOnce(t *testing.T) {
	seed := seeded.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		const askers, each = 4, 500
		answers := make([][]chan any, askers)
		var run sync.WaitGroup
		for i := range askers {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			run.Go(func() {
				for range each {
					request := "a"
					if rng.IntN(8) == 0 {
						request = "keep"
					}
					ctx, leave := context.WithCancel(t.Context())
					if rng.IntN(8) == 0 {
						leave()
					}
					answers[i] = append(answers[i], h.ask(ctx, rng.Int32N(3), request))
					if rng.IntN(4) == 0 {
						time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
					}
					leave()
				}
			})
		}
		rng := rand.New(rand.NewPCG(seed, askers))
		run.Go(func() {
			for epoch := range storage.Epoch(100) {
				partition := rng.Int32N(2)
				h.unreadable.Store(rng.IntN(4) == 0)
				switch rng.IntN(4) {
				case 0:
					h.Unload(partition)
				case 1: // loses what it leads while an append is under way
					for _, e := range h.All() {
						e.Post(func() {
							e.Appending()
							time.AfterFunc(time.Second, func() { e.Appended(func() {}) })
						})
					}
				default:
					h.Load(partition, epoch)
				}
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			}
		})
		run.Wait()
		h.Close()
		time.Sleep(time.Second) // the last append
		counts := map[any]int{}
		for _, all := range answers {
			for i, got := range all {
				if len(got) != 1 {
					t.Fatalf("%d answers to request %d", len(got), i)
				}
				counts[<-got]++
			}
		}
		for _, some := range []any{"a", kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable} {
			if counts[some] == 0 {
				t.Errorf("nobody was answered %v", some)
			}
		}
	})
}

// The log is not read before all appends of the shards before are over, also of one
// that never began because its own predecessor was not over.
func TestSuccessorWaitsForAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.Load(0, 1)
		synctest.Wait()
		first := h.All()[0]
		ran := 0
		first.Post(func() { first.Appending(); first.Appending() })
		synctest.Wait()
		first.Appended(func() { ran++ })
		h.wantNotes(t, "load 1")
		h.Load(0, 2)
		h.wantNotes(t, "load 1", "end 1")
		h.Load(0, 3)
		h.wantNotes(t, "load 1", "end 1", "end 2")
		h.Load(0, 2) // too late
		want(t, h.ask(t.Context(), 0, "a"), kerr.CoordinatorLoadInProgress)
		first.Appended(func() { ran++ })
		h.wantNotes(t, "load 1", "end 1", "end 2", "load 3")
		if ran != 1 {
			t.Fatalf("%d completions ran, one before the end", ran)
		}
		want(t, h.ask(t.Context(), 0, "a"), "a")
	})
}

func TestAnswersAreCollectedInOrder(t *testing.T) {
	var puts []func(string)
	var got [][]string
	answer := func(all []string) { got = append(got, all) }
	Collect(0, func(int, func(string)) { t.Error("asked") }, answer)
	Collect(3, func(i int, put func(string)) { puts = append(puts, put) }, answer)
	for _, i := range []int{2, 0, 1} {
		if len(got) != 1 {
			t.Fatalf("%q, before all is there", got)
		}
		Deliver(puts[i])(string(rune('a' + i)))
	}
	if len(got) != 2 || len(got[0]) != 0 || !slices.Equal(got[1], []string{"a", "b", "c"}) {
		t.Fatalf("%q", got)
	}
}

// Kafka's own sums: Utils.abs("…".hashCode) % partitions.
func TestPartitionIsKafkas(t *testing.T) {
	for id, want := range map[string]int32{
		"":                   0,
		"my-group":           12, // a negative hash; without its sign bit it would be 36
		"polygenelubricants": 0,  // the least int32, which has no absolute value
		"grüppe-😀":           14, // hashed over UTF-16
	} {
		if got := PartitionOf(id, 50); got != want {
			t.Errorf("%q in partition %d, want %d", id, got, want)
		}
	}
	if got := PartitionOf("a", 5); got != 2 {
		t.Errorf("partition %d of 5", got)
	}
}

// Of what was taken from the inbox together the rest is refused when the end comes.
func TestTheEndComesBetweenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ctx := open(t), t.Context()
		h.Load(0, 1)
		synctest.Wait()
		first := h.ask(ctx, 0, "block")
		synctest.Wait()
		// Both are taken together, then the end comes.
		second, third := h.ask(ctx, 0, "block"), h.ask(ctx, 0, "keep")
		h.block <- struct{}{}
		synctest.Wait()
		h.Unload(0)
		h.block <- struct{}{}
		want(t, first, "block")
		want(t, second, "block")
		want(t, third, kerr.NotCoordinator)
		h.wantNotes(t, "load 1", "end 1")
	})
}
