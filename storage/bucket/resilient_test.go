package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
)

var errDown = errors.New("503 slow down")

// half is randomness without chance.
func half() float64 { return 0.5 }

// resilient returns a bucket with faults behind one that copes.
func resilient(o bucket.ResilientOptions, rules ...bucket.Rule) (*bucket.Resilient, *bucket.Faulty, *bucket.Memory) {
	if o.Rand == nil {
		o.Rand = half
	}
	m := bucket.NewMemory()
	f := bucket.NewFaulty(m, rules...)
	return bucket.NewResilient(f, o), f, m
}

// warm earns the retries that the budget does not give in advance.
func warm(t testing.TB, r *bucket.Resilient) {
	t.Helper()
	for range 50 {
		if _, err := r.Stat(t.Context(), "none"); !errors.Is(err, bucket.ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// never keeps the circuit closed.
var never = bucket.ResilientOptions{OpenAfter: 1 << 30, OpenMin: 1 << 30}

// TestRetryStorm: whatever the load and for as long as everything fails, a store
// gets at most 1.2 times the requests that were asked for, with no help from the
// circuit breaker; with it, next to none.
func TestRetryStorm(t *testing.T) {
	for name, o := range map[string]bucket.ResilientOptions{"budget alone": never, "with breaker": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, f, _ := resilient(o, bucket.Rule{Err: errDown, Temporary: true})
				const workers, calls = 20, 200
				for range workers {
					go func() {
						for range calls {
							err := r.Put(t.Context(), "k", bucket.Bytes("x"))
							if !errors.Is(err, errDown) && !errors.Is(err, bucket.ErrUnavailable) {
								t.Error(err)
							}
							sleep(50 * time.Millisecond)
						}
					}()
				}
				sleep(time.Hour)
				synctest.Wait()
				made, _ := f.Calls(0)
				most := workers * calls * 12 / 10
				if name == "with breaker" {
					most = workers * calls / 10
				} else if made < workers*calls*119/100 {
					t.Fatalf("%d attempts of %d calls: the budget is not used", made, workers*calls)
				}
				h := r.State()
				t.Logf("%d attempts of %d calls, %+v", made, workers*calls, h)
				if made > most || h.Calls != workers*calls || h.LastError == nil {
					t.Fatalf("%d attempts of %d calls", made, workers*calls)
				}
			})
		})
	}
}

// sleep passes simulated time.
func sleep(d time.Duration) { <-time.After(d) }

func TestTransientFailuresAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for op, call := range map[bucket.Op]func(r bucket.Bucket) error{
			bucket.OpPut:         func(r bucket.Bucket) error { return r.Put(t.Context(), "k", bucket.Bytes("new")) },
			bucket.OpPutIfAbsent: func(r bucket.Bucket) error { return r.PutIfAbsent(t.Context(), "new", []byte("new")) },
			bucket.OpRead:        func(r bucket.Bucket) error { return r.ReadAt(t.Context(), "k", make([]byte, 3), 0) },
			bucket.OpStat:        func(r bucket.Bucket) error { _, err := r.Stat(t.Context(), "k"); return err },
			bucket.OpDelete:      func(r bucket.Bucket) error { return r.Delete(t.Context(), "k") },
			bucket.OpList: func(r bucket.Bucket) error {
				return r.List(t.Context(), "", "", func(bucket.Info) bool { return true })
			},
		} {
			r, f, m := resilient(bucket.ResilientOptions{})
			warm(t, r)
			must(t, m.Put(t.Context(), "k", bucket.Bytes("old")))
			f.Set(bucket.Rule{Op: op, Limit: 3, Err: errDown, Temporary: true})
			start := time.Now()
			must(t, call(r))
			if made, hit := f.Calls(0); made != 4 || hit != 3 {
				t.Fatalf("%v: %d attempts", op, made)
			}
			// Half of 200, 400 and 800 ms.
			if took := time.Since(start); took != 700*time.Millisecond {
				t.Fatalf("%v: waited %v", op, took)
			}
			if h := r.State(); h.Retries != 3 || h.Circuit != bucket.Closed || !errors.Is(h.LastError, errDown) {
				t.Fatalf("%+v", h)
			}
			f.Set(bucket.Rule{Op: op, Err: errDown, Temporary: true})
			wantErr(t, call(r), errDown)
			if made, _ := f.Calls(0); made != 4 {
				t.Fatalf("%v: %d attempts of a call that fails", op, made)
			}
			f.Set(bucket.Rule{Op: op, Err: errDown})
			wantErr(t, call(r), errDown)
			if made, _ := f.Calls(0); made != 1 {
				t.Fatalf("%v: %d attempts at what cannot help", op, made)
			}
		}
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := resilient(bucket.ResilientOptions{Attempts: 1})
		stat := func() error { _, err := r.Stat(t.Context(), "k"); return err }
		state := func(want bucket.Circuit) {
			t.Helper()
			if h := r.State(); h.Circuit != want {
				t.Fatalf("%+v, want %v", h, want)
			}
		}
		f.Set(bucket.Rule{Limit: 11, Err: errDown, Temporary: true})
		for range 9 {
			wantErr(t, stat(), errDown)
		}
		state(bucket.Closed)
		wantErr(t, stat(), errDown)
		state(bucket.Open)
		opened := time.Now()
		err := stat()
		wantErr(t, err, bucket.ErrUnavailable)
		if !bucket.IsTemporary(err) {
			t.Fatal("an open circuit is not for ever")
		}
		if made, _ := f.Calls(0); made != 10 {
			t.Fatalf("an open circuit let %d through", made-10)
		}
		sleep(time.Second) // 1 s, give or take nothing
		wantErr(t, stat(), errDown)
		state(bucket.Open)
		if h := r.State(); h.Since != opened {
			t.Errorf("away since %v, and a probe that failed made it %v", opened, h.Since)
		}
		sleep(time.Second)
		wantErr(t, stat(), bucket.ErrUnavailable)
		sleep(time.Second) // 2 s
		wantErr(t, stat(), bucket.ErrNotFound)
		state(bucket.Closed)
		if h := r.State(); h.Since != opened.Add(3*time.Second) || h.Refused != 2 || h.LastSuccessAt != h.Since {
			t.Fatalf("%+v", h)
		}
		for range 9 { // and counting begins anew
			f.Set(bucket.Rule{Err: errDown, Temporary: true})
			wantErr(t, stat(), errDown)
		}
		state(bucket.Closed)
	})
}

func TestCircuitOpensByShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := resilient(bucket.ResilientOptions{Attempts: 1}, bucket.Rule{Every: 2, Err: errDown, Temporary: true})
		for i := range 20 {
			if h := r.State(); h.Circuit != bucket.Closed {
				t.Fatalf("open after %d", i)
			}
			_, _ = r.Stat(t.Context(), "k")
		}
		if h := r.State(); h.Circuit != bucket.Open {
			t.Fatalf("%+v after half of 20 failed", h)
		}
		// The same share over a longer time is no outage.
		r, f, _ := resilient(bucket.ResilientOptions{Attempts: 1}, bucket.Rule{Every: 2, Err: errDown, Temporary: true})
		for range 100 {
			_, _ = r.Stat(t.Context(), "k")
			sleep(time.Second)
		}
		if made, _ := f.Calls(0); made != 100 {
			t.Fatalf("%d of 100", made)
		}
	})
}

// TestOneProbeAtATime: when the time of an open circuit is up, one call looks how
// things are, however many there are.
func TestOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := resilient(bucket.ResilientOptions{Attempts: 1}, bucket.Rule{Limit: 10, Err: errDown, Temporary: true})
		for range 10 {
			_, _ = r.Stat(t.Context(), "k")
		}
		sleep(time.Second)
		answer := make(chan error)
		f.Set(bucket.Rule{Hook: func(context.Context, bucket.Op, string) error { return <-answer }})
		results := make(chan error, 5)
		for range cap(results) {
			go func() { _, err := r.Stat(t.Context(), "k"); results <- err }()
		}
		synctest.Wait()
		if len(results) != 4 {
			t.Fatalf("%d refused while one looks", len(results))
		}
		for range 4 {
			wantErr(t, <-results, bucket.ErrUnavailable)
		}
		if h := r.State(); h.Circuit != bucket.HalfOpen {
			t.Fatalf("%+v", h)
		}
		answer <- nil
		wantErr(t, <-results, bucket.ErrNotFound)
		if h := r.State(); h.Circuit != bucket.Closed {
			t.Fatalf("%+v", h)
		}
	})
}

// TestProbeThatIsGivenUp leaves the next call to look.
func TestProbeThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := resilient(bucket.ResilientOptions{Attempts: 1}, bucket.Rule{Limit: 10, Err: errDown, Temporary: true})
		for range 10 {
			_, _ = r.Stat(t.Context(), "k")
		}
		sleep(time.Second)
		f.Set(bucket.Rule{Limit: 1, Hook: func(ctx context.Context, _ bucket.Op, _ string) error { <-ctx.Done(); return ctx.Err() }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Stat(ctx, "k")
		wantErr(t, err, context.DeadlineExceeded)
		_, err = r.Stat(t.Context(), "k")
		wantErr(t, err, bucket.ErrNotFound)
	})
}

// TestAttemptsTimeOutByWhatTheyMove: no longer than the bytes may take, and no
// sooner.
func TestAttemptsTimeOutByWhatTheyMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(d time.Duration) func(context.Context, bucket.Op, string) error {
			return func(ctx context.Context, _ bucket.Op, _ string) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(d):
					return nil
				}
			}
		}
		r, f, m := resilient(bucket.ResilientOptions{Attempts: 1})
		must(t, m.Put(t.Context(), "k", bucket.Bytes(make([]byte, 20<<20))))
		f.Set(bucket.Rule{Hook: hang(34 * time.Second)})
		must(t, r.ReadAt(t.Context(), "k", make([]byte, 20<<20), 0)) // 15 s and 20
		start := time.Now()
		f.Set(bucket.Rule{Hook: hang(time.Hour)})
		err := r.ReadAt(t.Context(), "k", make([]byte, 20<<20), 0)
		if took := time.Since(start); took != 35*time.Second || !bucket.IsTemporary(err) || !errors.Is(err, context.Canceled) {
			t.Fatalf("%v after %v", err, took)
		}
		// An upload lives as long as it moves.
		f.Set()
		start = time.Now()
		must(t, r.Put(t.Context(), "slow", writerFunc(func(w io.Writer) error {
			for range 10 {
				sleep(14 * time.Second)
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		})))
		if took := time.Since(start); took != 140*time.Second {
			t.Fatal(took)
		}
		// A list waits for its caller, but not for its store.
		must(t, r.List(t.Context(), "", "", func(bucket.Info) bool { sleep(time.Hour); return true }))
		f.Set(bucket.Rule{Hook: hang(time.Hour)})
		start = time.Now()
		err = r.List(t.Context(), "", "", func(bucket.Info) bool { return true })
		if took := time.Since(start); took != 15*time.Second || !bucket.IsTemporary(err) {
			t.Fatalf("%v after %v", err, took)
		}
	})
}

// TestPartsThatArrivedAreNotReadAgain: a retry goes on behind them, and each is told
// of once.
func TestPartsThatArrivedAreNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 1000)
		for i := range data {
			data[i] = byte(i / 4)
		}
		r, f, m := resilient(bucket.ResilientOptions{RetryShare: 3}, bucket.Rule{Nth: 1, Short: true}, bucket.Rule{Nth: 2, Short: true})
		must(t, m.Put(t.Context(), "k", bucket.Bytes(data)))
		read := func() (told []int, parts [][]byte, err error) {
			for range 8 {
				parts = append(parts, make([]byte, 100))
			}
			err = r.ReadParts(t.Context(), "k", parts, 150, func(part int) { told = append(told, part) })
			return told, parts, err
		}
		told, parts, err := read()
		must(t, err)
		if !slices.Equal(told, []int{0, 1, 2, 3, 4, 5, 6, 7}) || !bytes.Equal(bytes.Join(parts, nil), data[150:950]) {
			t.Fatalf("told of %v", told)
		}
		if calls, _ := f.Calls(0); calls != 3 { // 4 parts of 8, 2 of 4, the last 2
			t.Fatalf("%d attempts", calls)
		}
		// All of them were there, and the answer was lost.
		f.Set(bucket.Rule{Nth: 1, Err: errDown, Temporary: true, Done: true})
		told, _, err = read()
		if must(t, err); len(told) != 8 {
			t.Fatalf("told of %v", told)
		}
		if calls, _ := f.Calls(0); calls != 1 {
			t.Fatalf("%d attempts", calls)
		}
	})
}

// slowParts is a bucket whose parts take their time.
type slowParts struct {
	bucket.Bucket
	each []time.Duration
}

func (s slowParts) ReadParts(ctx context.Context, _ string, parts [][]byte, _ int64, arrived func(int)) error {
	for i := range parts {
		select {
		case <-ctx.Done():
			return &bucket.Error{Op: "read", Key: "k", Err: ctx.Err()}
		case <-time.After(s.each[i]):
			arrived(i)
		}
	}
	return nil
}

// TestReadLivesAsLongAsItsPartsArrive: and no longer.
func TestReadLivesAsLongAsItsPartsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			each []time.Duration
			took time.Duration
			ok   bool
		}{
			{[]time.Duration{14 * time.Second, 14 * time.Second, 14 * time.Second}, 42 * time.Second, true},
			{[]time.Duration{14 * time.Second, time.Hour, 0}, 29 * time.Second, false},
		} {
			r := bucket.NewResilient(slowParts{bucket.NewMemory(), tc.each}, bucket.ResilientOptions{Attempts: 1})
			start := time.Now()
			err := r.ReadParts(t.Context(), "k", [][]byte{make([]byte, 10), make([]byte, 10), make([]byte, 10)}, 0, func(int) {})
			if took := time.Since(start).Truncate(time.Millisecond); took != tc.took || (err == nil) != tc.ok || err != nil && !bucket.IsTemporary(err) {
				t.Errorf("%v: %v after %s", tc.each, err, took)
			}
		}
	})
}

// TestStoreThatHangsIsToldSoon: long before its requests are given up, once, and only
// for as long as one of them does not move.
func TestStoreThatHangsIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan string, 10)
		release := make(chan struct{})
		r, f, m := resilient(bucket.ResilientOptions{Attempts: 1, OnSlow: func(op, key string, waited time.Duration) {
			told <- fmt.Sprint(op, " ", key, " ", waited)
		}})
		must(t, m.Put(t.Context(), "k", bucket.Bytes("x")))
		f.Set(bucket.Rule{Op: bucket.OpStat | bucket.OpPutIfAbsent, Hook: func(ctx context.Context, _ bucket.Op, _ string) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		began := time.Now()
		done := make(chan error)
		go func() { _, err := r.Stat(t.Context(), "k"); done <- err }()
		sleep(4 * time.Second)
		go func() { done <- r.PutIfAbsent(t.Context(), "new", []byte("x")) }()
		if synctest.Wait(); r.State().Slow != 0 {
			t.Fatalf("%+v", r.State())
		}
		sleep(2 * time.Second)
		if h := r.State(); h.Slow != 1 || !h.SlowSince.Equal(began) {
			t.Fatalf("%+v", h)
		}
		// What moves is not slow, and what waits for its caller neither.
		must(t, r.Put(t.Context(), "moving", writerFunc(func(w io.Writer) error {
			for range 3 {
				sleep(time.Second)
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		})))
		must(t, r.List(t.Context(), "", "", func(bucket.Info) bool { sleep(3 * time.Second); return false }))
		if h := r.State(); h.Slow != 2 || len(told) != 1 || <-told != "stat k 5s" {
			t.Fatalf("%+v, told %d times", h, len(told))
		}
		close(release)
		must(t, errors.Join(<-done, <-done))
		if h := r.State(); h.Slow != 0 || !h.SlowSince.IsZero() {
			t.Fatalf("%+v", h)
		}
		release = make(chan struct{})
		for range 2 { // it is one spell until the store answers
			if _, err := r.Stat(t.Context(), "k"); err == nil || len(told) != 1 || r.State().Slow != 0 || r.State().SlowSince.IsZero() {
				t.Fatalf("given up: %v, told %d times, %+v", err, len(told), r.State())
			}
		}
		must(t, r.Delete(t.Context(), "k"))
		if h := r.State(); !h.SlowSince.IsZero() {
			t.Fatalf("%+v", h)
		}
	})
}

// TestLostAnswerOfPutIfAbsent: who finds its own bytes was not fenced.
func TestLostAnswerOfPutIfAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, m := resilient(bucket.ResilientOptions{})
		warm(t, r)
		lost := bucket.Rule{Op: bucket.OpPutIfAbsent, Nth: 1, Err: errDown, Temporary: true, Done: true}
		f.Set(lost)
		must(t, r.PutIfAbsent(t.Context(), "meta/1", []byte("mine")))
		if got, _ := object(t, m, "meta/1"); string(got) != "mine" {
			t.Fatalf("%q", got)
		}
		// Without an attempt that may have been done, bytes that are the same are another's.
		wantErr(t, r.PutIfAbsent(t.Context(), "meta/1", []byte("mine")), bucket.ErrExists)
		// Between two attempts another writer was faster.
		lost.Done = false
		lost.Hook = func(ctx context.Context, _ bucket.Op, key string) error {
			return m.PutIfAbsent(ctx, key, []byte("hers"))
		}
		f.Set(lost)
		wantErr(t, r.PutIfAbsent(t.Context(), "meta/2", []byte("mine")), bucket.ErrExists)
		if got, _ := object(t, m, "meta/2"); string(got) != "hers" {
			t.Fatalf("%q", got)
		}
	})
}

func TestListGoesOnWhereItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, m := resilient(bucket.ResilientOptions{})
		warm(t, r)
		var want, got []string
		for i := range 16 {
			want = append(want, fmt.Sprintf("k%02d", i))
			must(t, m.Put(t.Context(), want[i], bucket.Bytes("x")))
		}
		f.Set(bucket.Rule{Op: bucket.OpList, Limit: 3, Err: errDown, Temporary: true, Done: true})
		must(t, r.List(t.Context(), "", "", func(i bucket.Info) bool { got = append(got, i.Key); return true }))
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("%q", got)
		}
	})
}

// TestWhatTheStoreAnswersIsNoFailure: neither missing keys, nor callers that give
// up, nor content that fails open the circuit; a store that refuses does.
func TestWhatTheStoreAnswersIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, m := resilient(bucket.ResilientOptions{})
		must(t, m.Put(t.Context(), "k", bucket.Bytes("x")))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		boom := errors.New("boom")
		for range 50 {
			_, err := r.Stat(t.Context(), "none")
			wantErr(t, err, bucket.ErrNotFound)
			wantErr(t, r.PutIfAbsent(t.Context(), "k", nil), bucket.ErrExists)
			wantErr(t, r.ReadAt(t.Context(), "k", make([]byte, 2), 0), io.ErrUnexpectedEOF)
			wantErr(t, r.ReadAt(gone, "k", make([]byte, 1), 0), context.Canceled)
			wantErr(t, r.Put(t.Context(), "new", writerFunc(func(io.Writer) error { return boom })), boom)
			if err := r.Delete(t.Context(), "../k"); err == nil {
				t.Fatal("took a key that is none")
			}
		}
		if h := r.State(); h.Circuit != bucket.Closed || h.LastError != nil || h.Retries != 0 {
			t.Fatalf("%+v", h)
		}
		f.Set(bucket.Rule{Err: errors.New("403 forbidden")})
		for range 10 {
			_, _ = r.Stat(t.Context(), "k")
		}
		if h := r.State(); h.Circuit != bucket.Open || h.Retries != 0 {
			t.Fatalf("%+v", h)
		}
	})
}
