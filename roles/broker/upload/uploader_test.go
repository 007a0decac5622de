package upload

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
)

// inWorld runs a test with an uploader over these many partitions.
func inWorld(t *testing.T, partitions int, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, partitions)
		w.open()
		defer w.close()
		test(t, w)
	})
}

// pass lets time go by, and what it brings be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestCommittedRecordsComeIntoTheBucket(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.append(0, 3, 100)
		w.append(2, 1, 20<<10) // enough for an object of its own
		pass(look)
		if w.partition(2).CommittedEnd() != 1 || w.partition(0).CommittedEnd() != 0 {
			t.Fatalf("committed up to %d and %d", w.partition(2).CommittedEnd(), w.partition(0).CommittedEnd())
		}
		w.append(1, 1, 100)
		pass(w.limits.Interval)
		w.wantUploaded()
		if s := w.up.Stats(); s.Objects != 2 || s.Failures != 0 || s.Waiting != 0 || s.Running != 0 || !s.WaitingSince.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestProducersThatKeepTheDiskBusyGoFirst: for an interval, or as long as they do.
func TestProducersThatKeepTheDiskBusyGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.fs = disk.NewFaulty(w.fs, disk.Rule{Op: disk.OpSync, Hook: func(disk.Op, string) { time.Sleep(100 * time.Millisecond) }})
		w.limits.Interval, w.limits.Outrun = 4*time.Second, 32<<10
		w.open()
		defer w.close()
		pass(look) // what the start has written
		began := time.Now()
		busyUntil := func(d time.Duration) {
			for time.Since(began) < d {
				w.append(0, 1, 20<<10)
			}
			synctest.Wait()
		}
		busyUntil(3 * time.Second)
		if s := w.up.Stats(); s.Objects != 0 || s.Waiting < w.limits.ObjectBytes {
			t.Errorf("uploads compete with the producers: %+v", s)
		}
		busyUntil(5 * time.Second)
		if w.up.Stats().Objects == 0 {
			t.Error("they wait for longer than the interval")
		}
		busyUntil(10 * time.Second)
		w.limits.Interval = time.Hour
		w.up.SetPace(w.limits.Interval, w.limits.ObjectBytes)
		for range 8 {
			pass(look)
		}
		if s := w.up.Stats(); s.Waiting >= w.limits.OwnBytes {
			t.Errorf("they wait though the producers pause: %+v", s)
		}
	})
}

// TestEverythingCommittedEndsInTheBucketOnceAndInOrder: whatever fails, whoever
// leads, and wherever logs begin meanwhile.
func TestEverythingCommittedEndsInTheBucketOnceAndInOrder(t *testing.T) {
	rng := newRand(t)
	for range 25 {
		run := rng.Uint64()
		inWorld(t, 4, func(t *testing.T, w *world) { w.live(rand.New(rand.NewPCG(run, 0))) })
		if t.Failed() {
			t.Fatalf("run %d", run)
		}
	}
}

// chances of a fault: errors, lost answers, and waits between a phase and the next.
func (w *world) faults(rng *rand.Rand) {
	w.bucket.Set(
		bucket.Rule{Op: bucket.OpPut, Err: errAway, Chance: rng.Float64() / 2, Seed: rng.Uint64()},
		bucket.Rule{Op: bucket.OpPut, Err: errAway, Done: true, Chance: rng.Float64() / 3, Seed: rng.Uint64()},
		bucket.Rule{Op: bucket.OpPut, Chance: 0.5, Seed: rng.Uint64(), Hook: func(context.Context, bucket.Op, string) error {
			time.Sleep(3 * time.Second)
			return nil
		}},
	)
	var mu sync.Mutex
	own := rand.New(rand.NewPCG(rng.Uint64(), 0))
	chance := rng.Float64() / 3
	fault := func(string) error {
		mu.Lock()
		wait, fails := own.IntN(4), own.Float64() < chance
		mu.Unlock()
		time.Sleep(time.Duration(wait) * time.Second)
		if fails {
			return errAway
		}
		return nil
	}
	w.hook(fault, fault)
}

func (w *world) live(rng *rand.Rand) {
	for range 60 {
		p := rng.IntN(4)
		switch rng.IntN(12) {
		case 0, 1, 2:
			for range 1 + rng.IntN(5) {
				w.append(p, 1+rng.IntN(4), rng.IntN(4000))
			}
		case 3:
			w.append(p, 1, 10_000)
		case 4, 5:
			pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
		case 6:
			w.faults(rng)
		case 7:
			if n := len(w.records[id(p)]); n > 0 {
				w.deleteRecords(p, storage.Offset(rng.IntN(n+1)))
			}
		case 8: // its leader epochs end, and others begin
			w.fence(true)
			pass(time.Duration(rng.IntN(2)) * time.Second)
			w.fence(false)
		case 9:
			w.setBehind(rng.IntN(2) == 0)
		case 10:
			if err := w.store.Evict(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		case 11:
			if rng.IntN(3) == 0 {
				w.setBehind(false)
				w.restart()
			}
		}
		w.wantNoneTooFar()
	}
	w.bucket.Set()
	w.hook(nil, nil)
	w.setBehind(false)
	pass(time.Minute)
	w.wantUploaded()
	if err := w.store.Evict(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.restart()
	pass(time.Minute)
	w.wantUploaded()
	if s := w.up.Stats(); s.Waiting != 0 || s.Objects != 0 {
		w.t.Fatalf("after a restart there is nothing to do: %+v", s)
	}
}

// TestCommitWhoseAnswerWasLost: the image says that the range is there, and it
// is not uploaded again; before the image comes, the catalogue refuses it.
func TestCommitWhoseAnswerWasLost(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		lose := 2
		w.hook(nil, func(command string) error {
			if command == "commit" && lose > 0 {
				lose--
				return errAway
			}
			return nil
		})
		w.setBehind(true)
		w.append(0, 5, 100)
		pass(w.limits.Interval + 20*time.Second)
		led, _ := w.Led(id(0))
		if n := w.state.Image().NumObjects(metadata.Committed); n != 1 || led.Log.Uploaded() != 0 {
			t.Fatalf("%d objects are committed, the log believes in %d", n, led.Log.Uploaded())
		}
		if s := w.up.Stats(); s.RefusedRanges == 0 || s.Objects != 0 {
			t.Fatalf("it was not tried again: the test shows nothing; %+v", s)
		}
		w.setBehind(false)
		w.wantUploaded()
		before := w.state.Image().NextObjectID()
		w.append(0, 5, 100)
		pass(time.Minute)
		w.wantUploaded()
		if n := w.state.Image().NumObjects(metadata.Committed); n != 2 || w.state.Image().NextObjectID() > before+idsAtOnce {
			t.Errorf("%d objects are committed", n)
		}
	})
}

// TestPauseBetweenPhases: an object whose leader epoch ended while it was on its
// way is refused, and its records come under the next one.
func TestPauseBetweenPhases(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		paused := true
		w.hook(func(command string) error {
			if command == "commit" && paused {
				paused = false
				w.fence(true)
				w.fence(false)
			}
			return nil
		}, nil)
		w.append(0, 5, 100)
		pass(w.limits.Interval)
		if n := w.partition(0).Ranges().Len(); n != 0 || paused {
			t.Fatalf("%d ranges of an epoch that has ended", n)
		}
		w.wantNoneTooFar()
		pass(time.Minute)
		w.wantUploaded()
		if s := w.up.Stats(); s.RefusedRanges != 1 || s.Objects != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCondemnedBetweenPhases: the id was given up while it was on its way, and
// what was issued beside it is not used any more.
func TestCondemnedBetweenPhases(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		condemned := false
		w.hook(func(command string) error {
			if command == "commit" && !condemned {
				condemned = true
				w.condemnAll()
			}
			return nil
		}, nil)
		w.append(0, 5, 100)
		pass(w.limits.Interval + time.Minute)
		w.wantUploaded()
		if s := w.up.Stats(); s.Failures != 1 || s.Objects != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOneMovedRangeOfAThousand is refused, and only it.
func TestOneMovedRangeOfAThousand(t *testing.T) {
	inWorld(t, 1000, func(t *testing.T, w *world) {
		w.limits.ObjectBytes = 1 << 20
		w.restart()
		moved := false
		w.hook(func(command string) error {
			if command == "commit" && !moved {
				moved = true
				w.deleteRecords(500, 3)
			}
			return nil
		}, nil)
		for p := range 1000 {
			w.append(p, 3, 30)
		}
		pass(w.limits.Interval)
		if s := w.up.Stats(); s.RefusedRanges != 1 || s.Objects != 1 {
			t.Fatalf("%+v", s)
		}
		w.wantUploaded()
		if n := w.state.Image().NumRanges(); n != 999 {
			t.Errorf("%d ranges", n)
		}
	})
}

// TestLogStartWithinABatch: the batch goes up whole, whether the log start moves
// into it before it is read or while it is on its way.
func TestLogStartWithinABatch(t *testing.T) {
	for name, whileUnderWay := range map[string]bool{"before": false, "under way": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				w.append(0, 10, 100)
				w.append(0, 10, 100)
				move := func(string) error { w.hook(nil, nil); w.deleteRecords(0, 13); return nil }
				if whileUnderWay {
					w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Limit: 1, Hook: func(context.Context, bucket.Op, string) error { return move("") }})
				} else if err := move(""); err != nil {
					t.Fatal(err)
				}
				pass(w.limits.Interval + time.Minute)
				w.wantUploaded()
				w.append(0, 1, 10)
				pass(w.limits.Interval)
				w.wantUploaded()
			})
		})
	}
}

// TestRecordsThatCannotBeReadHoldBackNoOthers: damage in the WAL costs its
// partitions, and two tries of the object whatever their number.
func TestRecordsThatCannotBeReadHoldBackNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		faulty := disk.NewFaulty(w.fs)
		w.fs = faulty
		w.limits.Interval, w.limits.ObjectBytes, w.limits.OwnBytes = 10*time.Second, 1<<20, 1<<20
		said := &lines{}
		w.said = slog.NewTextHandler(said, nil)
		w.open()
		defer w.close()
		bad := []int{1, 2, 4}
		for _, p := range bad {
			w.append(p, 1, 10)
		}
		for range 60 { // until those are on disk alone
			w.append(5, 1, 10<<10)
		}
		w.append(0, 1, 10)
		w.append(3, 1, 10)
		faulty.Set(disk.Rule{Op: disk.OpRead, Err: unix.EIO})
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut})
		pass(w.limits.Interval)
		for _, p := range []int{0, 3} {
			if w.partition(p).CommittedEnd() != 1 {
				t.Errorf("partition %d is held back: %+v", p, w.up.Stats())
			}
		}
		for _, p := range bad {
			if w.partition(p).CommittedEnd() != 0 {
				t.Errorf("partition %d: what cannot be read was committed", p)
			}
		}
		if tried, _ := w.bucket.Calls(0); tried > 2 {
			t.Errorf("%d tries", tried)
		}
		if s := w.up.Stats(); s.Objects != 1 || s.RefusedRanges != 4 {
			t.Errorf("%+v", s)
		}
		if !said.has("records cannot be uploaded") {
			t.Error("nobody was told")
		}
		pass(10 * time.Minute)
		if s := w.up.Stats(); s.Objects != 1 {
			t.Errorf("objects of nothing are counted: %+v", s)
		}
		faulty.Set()
		pass(time.Minute)
		w.wantUploaded()
	})
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// TestWhatIsRefusedAlwaysWaitsLonger: there is no failure that is tried without
// a pause.
func TestWhatIsRefusedAlwaysWaitsLonger(t *testing.T) {
	notFound := metadata.Errorf(metadata.ResourceNotFound, "condemned")
	for name, fault := range map[string]func(w *world, tries *int){
		"put": func(w *world, tries *int) {
			w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Hook: func(context.Context, bucket.Op, string) error { *tries++; return errAway }})
		},
		"prepare": func(w *world, tries *int) { w.hook(failing("prepare", tries, errAway), nil) },
		"commit":  func(w *world, tries *int) { w.hook(failing("commit", tries, errAway), nil) },
		"condemned": func(w *world, tries *int) {
			w.hook(failing("commit", tries, notFound), nil)
		},
		"refused": func(w *world, tries *int) {
			w.setBehind(true)
			w.fence(true)
			w.hook(failing("commit", tries, nil), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				tries := 0
				fault(w, &tries)
				w.append(0, 1, 20<<10)
				pass(100 * time.Second)
				if tries < 50 || tries > 120 {
					t.Errorf("%d tries in 100 s, of which each but the first few is to wait a second", tries)
				}
				if s := w.up.Stats(); s.Objects != 0 || s.Failures+s.RefusedRanges == 0 || name != "refused" && (s.FailingSince.IsZero() || s.LastError == "") {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func failing(at string, tries *int, err error) func(string) error {
	return func(command string) error {
		if command != at {
			return nil
		}
		*tries++
		return err
	}
}

// TestIDsAreNotUsedWhenOld: the controller may be about to condemn them.
func TestIDsAreNotUsedWhenOld(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		for i := range 20 {
			w.append(0, 1, 20<<10)
			pass(time.Duration(i) * 10 * time.Second)
		}
		w.wantUploaded()
		for o := range w.state.Image().ObjectsIn(metadata.Committed) {
			info, err := w.inner.Stat(t.Context(), w.up.o.Key(o.ID))
			if err != nil {
				t.Fatal(err)
			}
			if age := info.Modified.Sub(w.issued[o.ID]); age > worldIDAge {
				t.Errorf("object %s was written %v after its id was issued", o.ID, age)
			}
		}
	})
}

// TestSettleWaitsForWhatIsUnderWay and begins no more.
func TestSettleWaitsForWhatIsUnderWay(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Hook: func(context.Context, bucket.Op, string) error { time.Sleep(10 * time.Second); return nil }})
		w.append(0, 1, 20<<10)
		pass(look)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.up.Settle(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		w.append(0, 1, 20<<10)
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := w.up.Settle(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		pass(time.Hour)
		if w.partition(0).CommittedEnd() != 1 {
			t.Errorf("committed up to %d", w.partition(0).CommittedEnd())
		}
		w.bucket.Set()
		w.restart()
		pass(time.Minute)
		w.wantUploaded()
	})
}

// TestCloseEndsWhatHangs: a bucket or a controller that does not answer holds up
// no stop.
func TestCloseEndsWhatHangs(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Hook: func(ctx context.Context, _ bucket.Op, _ string) error { <-ctx.Done(); return ctx.Err() }})
		w.append(0, 1, 20<<10)
		pass(look)
		began := time.Now()
		w.restart()
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		if s := w.up.Stats(); s.Failures != 0 {
			t.Errorf("%+v", s)
		}
		w.bucket.Set()
	})
}

// TestMemoryIsBounded: however much waits, an upload pins no more of the log than
// it reads at a time.
func TestMemoryIsBounded(t *testing.T) {
	inWorld(t, 8, func(t *testing.T, w *world) {
		w.limits.ObjectBytes, w.limits.OwnBytes, w.limits.Parallel = 8<<20, 4<<20, 2
		w.inner = &slowBucket{Bucket: w.inner, look: func() {
			if pinned := w.store.Stats().WAL.PinnedBytes; pinned > int64(w.limits.Parallel)*readStep {
				t.Errorf("%d bytes are pinned", pinned)
			}
		}}
		w.bucket = bucket.NewFaulty(w.inner)
		w.restart()
		for i := range 400 {
			w.append(i%8, 1, 10<<10)
		}
		pass(w.limits.Interval + time.Minute)
		w.wantUploaded()
	})
}

// slowBucket lets somebody look between the writes of an object.
type slowBucket struct {
	bucket.Bucket
	look func()
}

func (b *slowBucket) Put(ctx context.Context, key string, content io.WriterTo) error {
	return b.Bucket.Put(ctx, key, slowContent{content, b.look})
}

type slowContent struct {
	io.WriterTo
	look func()
}

func (c slowContent) WriteTo(w io.Writer) (int64, error) {
	return c.WriterTo.WriteTo(writerFunc(func(p []byte) (int, error) {
		time.Sleep(time.Millisecond)
		c.look()
		return w.Write(p)
	}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestCommitThatSaysNothingOfItsRanges is a failure, and the image decides.
func TestCommitThatSaysNothingOfItsRanges(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answersNothing = true
		w.append(0, 1, 20<<10)
		pass(time.Minute)
		w.wantUploaded()
		if s := w.up.Stats(); s.Failures != 1 || s.Objects != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPartitionThatIsNotLedIsLeftAlone(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.append(0, 1, 10)
		w.fence(true)
		pass(time.Hour)
		if s := w.up.Stats(); s.Waiting != 0 || s.Objects+s.Failures+s.RefusedRanges != 0 || w.state.Image().NextObjectID() != 1 {
			t.Errorf("%+v", s)
		}
		w.fence(false)
		pass(time.Minute)
		w.wantUploaded()
	})
}

// TestProducersAreWrittenWholeWhereTheyFit: in a range that ends at the high watermark.
// They are not encoded, while appends wait, for one that ends before it.
func TestProducersAreWrittenWholeWhereTheyFit(t *testing.T) {
	const producers = 2000
	w := newWorld(t, 1)
	w.limits.Interval, w.limits.OwnBytes, w.limits.ObjectBytes = time.Hour, 1<<30, 1<<30 // nothing by itself
	w.open()
	defer w.close()
	led, _ := w.Led(id(0))
	answer := make(appended, producers) // together: each sync begins a block
	for i := range int64(producers) {
		b := batch.NewBuilder(batch.BuilderOptions{Producer: &batch.Producer{ID: i}})
		b.Add(time.Now().UnixMilli(), nil, []byte("x"))
		raw, err := b.Build()
		if err == nil {
			err = w.store.Admit(t.Context(), len(raw))
		}
		if err != nil {
			t.Fatal(err)
		}
		led.Log.Append(time.Now(), raw, log.AppendOptions{Epoch: led.Epoch}, answer)
	}
	for range producers {
		if r := <-answer; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	least := uint64(math.MaxUint64) // of what the process allocates meanwhile, which others do too
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, err := w.up.source(Part{id(0), 0, 1000}, false)
		runtime.ReadMemStats(&after)
		if err != nil || s.r.End >= producers || s.r.Producers != nil {
			t.Fatalf("to %d, with %d bytes of producers: %v", s.r.End, len(s.r.Producers), err)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 30*producers {
		t.Errorf("%d bytes of memory for a range without producers", least)
	}
	s, err := w.up.source(Part{id(0), 0, 1 << 20}, false)
	if err != nil || s.r.End != producers || len(s.r.Producers) < 30*producers {
		t.Errorf("to %d, with %d bytes of producers: %v", s.r.End, len(s.r.Producers), err)
	}
}
