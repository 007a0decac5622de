package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

var anyEpoch = AppendOptions{Epoch: storage.NoEpoch}

func TestAppendIsAnsweredAndVisibleOnceItIsOnDisk(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"))
	let := fs.holdSyncs(t)
	a := send(t, l, values(t, "one", "two"), anyEpoch)
	if !a.pending() || l.HighWatermark() != 1 || l.End() != 3 {
		t.Fatalf("before the sync: answered %v, high watermark %d, end %d", !a.pending(), l.HighWatermark(), l.End())
	}
	if got := contents(t, l, 0, HighWatermark); len(got) != 1 {
		t.Fatalf("a consumer sees %q, which a power cut may take back", got)
	}
	if got := contents(t, l, 0, LogEnd); len(got) != 3 {
		t.Fatalf("a replica sees %q", got)
	}
	let()
	if r := a.wait(t); r.Err != nil || r.Base != 1 || r.Last != 2 || r.LogAppendTime != batch.NoTimestamp || r.LogStart != 0 {
		t.Fatalf("answered %+v", r)
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"zero", "one", "two"}) {
		t.Fatalf("a consumer sees %q", got)
	}
}

// TestDuplicateBeforeCommit: what is sent again while its first is not on disk
// is answered with it, not before.
func TestDuplicateBeforeCommit(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	let := fs.holdSyncs(t)
	first := send(t, l, from(t, 7, 0, 0, "a", "b"), anyEpoch)
	again := send(t, l, from(t, 7, 0, 0, "a", "b"), anyEpoch)
	if !first.pending() || !again.pending() {
		t.Fatalf("before the sync: first answered %v, duplicate answered %v", !first.pending(), !again.pending())
	}
	let()
	want := AppendResult{Last: 1, LogAppendTime: batch.NoTimestamp, Synced: l.store.o.Now()}
	wantAgain := want
	wantAgain.Duplicate, wantAgain.Synced = true, time.Time{} // it was there already
	if a, b := first.wait(t), again.wait(t); a != want || b != wantAgain {
		t.Fatalf("first answered %+v, duplicate %+v", a, b)
	}
	if l.End() != 2 {
		t.Fatalf("the end is %d after one batch of two records, twice", l.End())
	}
}

func TestDuplicateOfAFailedAppendFails(t *testing.T) {
	fs := hooked()
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	hook := func() error { <-gate; return syscall.EIO }
	fs.beforeSync.Store(&hook)
	first := send(t, l, from(t, 7, 0, 0, "a"), anyEpoch)
	again := send(t, l, from(t, 7, 0, 0, "a"), anyEpoch)
	close(gate)
	wantErr(t, first.wait(t).Err, ErrDead)
	wantErr(t, again.wait(t).Err, ErrDead)
	wantErr(t, s.Err(), ErrDead)
	wantErr(t, s.Err(), syscall.EIO)
	if got := l.HighWatermark(); got != 0 {
		t.Fatalf("the high watermark is %d, nothing is on disk", got)
	}
	if err := s.Admit(context.Background(), 1); !errors.Is(err, ErrDead) {
		t.Fatalf("admitted into a dead log: %v", err)
	}
	a := make(answer, 1)
	l.Append(time.Now(), from(t, 7, 0, 1, "b"), anyEpoch, a)
	wantErr(t, a.wait(t).Err, ErrDead)
}

// TestWhatWaitsForADeadAppendFails too, when it comes after all that waited was told:
// its connection, and the broker's end, wait for the answer.
func TestWhatWaitsForADeadAppendFails(t *testing.T) {
	fs := hooked()
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	held := func() answer { // room that was given while the WAL lived
		if err := s.Admit(context.Background(), 1000); err != nil {
			t.Fatal(err)
		}
		return make(answer, 1)
	}
	duplicate, expecting := held(), held()
	gate := make(chan struct{})
	fail := func() error { <-gate; return syscall.EIO }
	fs.beforeSync.Store(&fail)
	first := send(t, l, from(t, 7, 0, 0, "a"), anyEpoch)
	close(gate)
	wantErr(t, first.wait(t).Err, ErrDead)
	l.Append(time.Now(), from(t, 7, 0, 0, "a"), anyEpoch, duplicate)
	wantErr(t, duplicate.wait(t).Err, ErrDead)
	l.Append(time.Now(), values(t, "a"), AppendOptions{Epoch: storage.NoEpoch, Condition: Expect(0)}, expecting)
	wantErr(t, expecting.wait(t).Err, ErrDead)
}

func TestLastFiveBatchesAreDeduplicated(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	for i := range int32(7) {
		appendAll(t, l, from(t, 7, 0, i*2, "a", "b"))
	}
	for i := range int32(7) {
		r := send(t, l, from(t, 7, 0, i*2, "a", "b"), anyEpoch).wait(t)
		if i < 2 {
			wantErr(t, r.Err, ErrOutOfOrderSequence)
		} else if r.Err != nil || r.Base != storage.Offset(i*2) || r.Last != storage.Offset(i*2+1) {
			t.Fatalf("duplicate of batch %d was answered %+v", i, r)
		}
	}
	if l.End() != 14 {
		t.Fatalf("the end is %d after 7 batches of 2", l.End())
	}
}

func TestSequenceRules(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	for i, tc := range []struct {
		name string
		then batch.Batch
		err  error
	}{
		{"the next", from(t, 7, 3, 101, "x"), nil},
		{"a hole", from(t, 7, 3, 102, "x"), ErrOutOfOrderSequence},
		{"back", from(t, 7, 3, 50, "x"), ErrOutOfOrderSequence},
		{"the same start, longer", from(t, 7, 3, 100, "x", "y"), ErrOutOfOrderSequence},
		{"an older epoch", from(t, 7, 2, 101, "x"), ErrInvalidProducerEpoch},
		{"a newer epoch from 0", from(t, 7, 4, 0, "x"), nil},
		{"a newer epoch from 1", from(t, 7, 4, 1, "x"), ErrOutOfOrderSequence},
		{"another producer from anywhere", from(t, 8, 0, 4711, "x"), nil},
		{"nobody", values(t, "x"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lead(t, s, partition(topicA, int32(i)), 1)
			// An unknown id begins anywhere: it may only have been forgotten.
			appendAll(t, l, from(t, 7, 3, 100, "first"))
			wantErr(t, send(t, l, tc.then, anyEpoch).wait(t).Err, tc.err)
		})
	}
}

func TestOldEpochsBatchIsNoDuplicate(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "a"), from(t, 7, 1, 0, "b"))
	if l.End() != 2 {
		t.Fatalf("the end is %d: a new epoch's first batch was taken for the old one's", l.End())
	}
	wantErr(t, send(t, l, from(t, 7, 0, 0, "a"), anyEpoch).wait(t).Err, ErrInvalidProducerEpoch)
}

func TestSequenceWraps(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 1<<31-2, "a", "b"), from(t, 7, 0, 0, "c"))
}

// TestForgottenProducerMayBeginAnywhere: expiry is by time alone, and never
// makes a producer out of order.
func TestForgottenProducerMayBeginAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.ProducerExpiry, o.Now = time.Hour, time.Now
		s := open(t, o)
		defer s.Close()
		l := lead(t, s, partition(topicA, 0), 1)
		at := func(b batch.Batch) AppendResult {
			a := make(answer, 1)
			if err := s.Admit(context.Background(), len(b)); err != nil {
				t.Fatal(err)
			}
			l.Append(time.Now(), b, anyEpoch, a)
			return <-a
		}
		if r := at(from(t, 7, 5, 0, "a")); r.Err != nil {
			t.Fatal(r.Err)
		}
		time.Sleep(59 * time.Minute)
		if r := at(from(t, 7, 5, 9, "b")); !errors.Is(r.Err, ErrOutOfOrderSequence) {
			t.Fatalf("before it expires: %+v", r)
		}
		time.Sleep(6 * time.Minute)
		if n := len(l.Producers()); n != 0 {
			t.Fatalf("%d producers are remembered after the expiry", n)
		}
		if s.Stats().Producers != 0 {
			t.Fatalf("%d producers are counted", s.Stats().Producers)
		}
		if r := at(from(t, 7, 4, 9, "b")); r.Err != nil {
			t.Fatalf("after it expired: %+v", r)
		}
	})
}

func TestProducersAreBounded(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers = 2
	s := open(t, o)
	l, other := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	appendAll(t, l, from(t, 1, 0, 0, "a"))
	appendAll(t, other, from(t, 2, 0, 0, "a"))
	wantErr(t, send(t, l, from(t, 3, 0, 0, "a"), anyEpoch).wait(t).Err, ErrTooManyProducers)
	appendAll(t, l, from(t, 1, 0, 1, "b"), values(t, "of nobody"))
	s.expire(time.Now().Add(time.Hour).UnixMilli())
	if got := s.Stats().Producers; got != 0 {
		t.Fatalf("%d producers are left", got)
	}
	appendAll(t, l, from(t, 3, 0, 0, "a"))
}

func TestIndexIsBounded(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.IndexMemory = 1000
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	for i := 0; ; i++ {
		if err := s.Admit(context.Background(), 100); err != nil {
			wantErr(t, err, ErrFull)
			break
		}
		s.Unadmit(100)
		if i > 100 {
			t.Fatal("a hundred batches were taken with an index of 1000 bytes")
		}
		appendAll(t, l, values(t, "x"))
	}
	for i := 0; ; i++ { // the coordinators have an eighth more, and no more
		b := values(t, "x")
		if err := s.AdmitCoordinator(context.Background(), len(b)); err != nil {
			wantErr(t, err, ErrFull)
			if i == 0 {
				t.Error("a coordinator is refused where produce is")
			}
			break
		}
		if i > 100 {
			t.Fatal("a hundred batches of coordinators were taken with an index of 1000 bytes")
		}
		done := make(answer, 1)
		l.Append(time.UnixMilli(1000), b, anyEpoch, done)
		if r := done.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := l.SetLogStart(l.End()); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, values(t, "after the trim"))
	if got := s.Stats().IndexBytes; got != blockSize+entrySize {
		t.Fatalf("%d bytes are counted for one batch", got)
	}
}

func TestRefusedBatches(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 3)
	l.SetConfig(Config{MaxMessageBytes: 1000, TimestampAfterMax: batch.Within(time.Hour)})
	refused := func(b []byte, o AppendOptions) error {
		t.Helper()
		end := l.End()
		err := send(t, l, b, o).wait(t).Err
		if l.End() != end {
			t.Fatalf("%v, and yet it was appended", err)
		}
		return err
	}
	wantCode(t, refused(append(values(t, "a"), values(t, "b")...), anyEpoch), batch.InvalidRecord)
	wantCode(t, refused(nil, anyEpoch), batch.CorruptMessage)
	wantCode(t, refused(values(t, strings.Repeat("x", 1000)), anyEpoch), batch.MessageTooLarge)
	broken := values(t, "a")
	broken[len(broken)-2] ^= 1
	wantCode(t, refused(broken, anyEpoch), batch.CorruptMessage)
	w := batch.NewBuilder(batch.BuilderOptions{})
	w.Add(1_800_000_000_000, nil, nil)
	ahead, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, refused(ahead, anyEpoch), batch.InvalidTimestamp)
	control := build(t, batch.BuilderOptions{Control: true, Transactional: true, Producer: &batch.Producer{ID: 1, BaseSequence: -1}}, "marker")
	wantCode(t, refused(bytes.Clone(control), anyEpoch), batch.InvalidRecord)
	wantErr(t, refused(values(t, "a"), AppendOptions{Epoch: 2}), ErrNotLeader)
	wantErr(t, refused(values(t, "a"), AppendOptions{Epoch: 4}), ErrNotLeader)
	l.SetConfig(Config{})
	wantCode(t, refused(values(t, strings.Repeat("x", 64<<10)), anyEpoch), batch.MessageTooLarge) // more than the WAL takes
	appendAll(t, l, values(t, "a"))
	if r := send(t, l, control, AppendOptions{Epoch: 3, Internal: true}).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func TestNobodyLeadsUnasked(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l, err := s.Create(partition(topicA, 0), Config{})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, send(t, l, values(t, "a"), anyEpoch).wait(t).Err, ErrNotLeader)
}

func TestBrokersTimeIsStamped(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	l.SetConfig(Config{TimestampType: batch.LogAppendTime, TimestampAfterMax: batch.Within(time.Millisecond)})
	w := batch.NewBuilder(batch.BuilderOptions{Producer: &batch.Producer{ID: 1}})
	w.Add(9_999_999_999_999, nil, nil) // the producer's clock does not matter
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []batch.Batch{bytes.Clone(b), bytes.Clone(b)} { // the second is a duplicate
		if r := send(t, l, b, anyEpoch).wait(t); r.Err != nil || r.Base != 0 || r.LogAppendTime != 1_700_000_000_000 {
			t.Fatalf("answered %+v", r)
		}
	}
	r, err := l.Read(ReadRequest{MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if got := batch.Batch(r.Batches[0]); got.TimestampType() != batch.LogAppendTime || got.MaxTimestamp() != 1_700_000_000_000 || got.CRC() != got.ComputeCRC() {
		t.Fatalf("stored with %v %d", got.TimestampType(), got.MaxTimestamp())
	}
}

func TestTopicsCodecIsStored(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	l.SetConfig(Config{Recompress: true, Codec: batch.Zstd})
	for c := batch.None; c <= batch.Zstd; c++ {
		appendAll(t, l, build(t, batch.BuilderOptions{Codec: c, Producer: &batch.Producer{ID: int64(c)}}, c.String()))
	}
	r, err := l.Read(ReadRequest{MaxBytes: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for _, raw := range r.Batches {
		b := batch.Batch(raw)
		if b.Codec() != batch.Zstd || b.CRC() != b.ComputeCRC() {
			t.Errorf("batch at %d is stored as %v", b.BaseOffset(), b.Codec())
		}
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"none", "gzip", "snappy", "lz4", "zstd"}) {
		t.Fatalf("read %q", got)
	}
}

// TestTooFewInSync: below the minimum nothing becomes visible, whatever the
// acks, and acks=all is refused.
func TestTooFewInSync(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "zero"))
	l.SetConfig(Config{MinInSync: 2})
	wantErr(t, send(t, l, values(t, "all"), anyEpoch).wait(t).Err, ErrNotEnoughReplicas)
	if r := send(t, l, from(t, 7, 0, 1, "one"), AppendOptions{Epoch: 1, LeaderOnly: true}).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	if got := contents(t, l, 0, HighWatermark); len(got) != 1 {
		t.Fatalf("a consumer sees %q", got)
	}
	// A duplicate waits for the high watermark: the first may yet be lost.
	again := send(t, l, from(t, 7, 0, 1, "one"), AppendOptions{Epoch: 1, LeaderOnly: true})
	if !again.pending() {
		t.Fatalf("a duplicate of what is not committed was answered %+v", again.wait(t))
	}
	w := newSignal()
	l.Watch(1, w)
	l.SetConfig(Config{MinInSync: 1})
	if r := again.wait(t); r.Err != nil || r.Base != 1 {
		t.Fatalf("the duplicate was answered %+v", r)
	}
	<-w.woken
	if got := contents(t, l, 0, HighWatermark); len(got) != 2 {
		t.Fatalf("a consumer sees %q", got)
	}
}

// TestConcurrentAppendsKeepTheirOrder has many producers write to a few logs,
// readers follow, segments relocate and logs trim at the same time.
func TestConcurrentAppendsKeepTheirOrder(t *testing.T) {
	onEveryDisk(t, concurrentAppendsKeepTheirOrder)
}

func concurrentAppendsKeepTheirOrder(t *testing.T, fs disk.FS) {
	s := open(t, small(fs))
	rng := newRand(t)
	const producersEach, batchesEach = 8, 60
	var all sync.WaitGroup
	for i := range int32(3) {
		l := lead(t, s, partition(topicA, i), 1)
		for p := range int64(producersEach) {
			r := rand.New(rand.NewPCG(rng.Uint64(), 4))
			all.Go(func() {
				var answers []answer
				for n := range int32(batchesEach) {
					b := from(t, p, 0, n, fmt.Sprintf("%d/%d/%d %s", i, p, n, make([]byte, r.IntN(2000))))
					for {
						err := s.Admit(context.Background(), len(b))
						if err == nil {
							break
						}
						t.Error(err)
						return
					}
					a := make(answer, 1)
					l.Append(time.Now(), b, anyEpoch, a)
					answers = append(answers, a)
				}
				last := storage.NoOffset
				for n, a := range answers {
					got := <-a
					if got.Err != nil || got.Base <= last {
						t.Errorf("producer %d batch %d was answered %+v, the one before got %d", p, n, got, last)
						return
					}
					last = got.Base
				}
			})
		}
		all.Go(func() { follow(t, l, producersEach*batchesEach) })
	}
	stop := make(chan struct{})
	var relocating sync.WaitGroup
	relocating.Go(func() {
		for segment := uint32(1); ; segment = segment%64 + 1 {
			select {
			case <-stop:
				return
			default:
			}
			if err := (owner{s}).Relocate(context.Background(), segment); err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("relocate: %v", err)
				return
			}
		}
	})
	all.Wait()
	close(stop)
	relocating.Wait()
}

// follow reads a log as a consumer that waits, trims it now and then, and sees
// each producer's batches in order, each once.
func follow(t *testing.T, l *Log, batches int) {
	next := map[int64]int32{}
	w := newSignal()
	for at, seen := storage.Offset(0), 0; seen < batches; {
		r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 20_000, MinOne: true})
		if err != nil {
			t.Errorf("read at %d: %v", at, err)
			return
		}
		if len(r.Batches) == 0 {
			l.Watch(at, w)
			<-w.woken
			continue
		}
		for _, raw := range r.Batches {
			b := batch.Batch(raw)
			if b.BaseOffset() != at || b.BaseSequence() != next[b.ProducerID()] || b.CRC() != b.ComputeCRC() {
				t.Errorf("at %d: batch %d of producer %d with base offset %d, batch %d was due", at, b.BaseSequence(), b.ProducerID(), b.BaseOffset(), next[b.ProducerID()])
			}
			next[b.ProducerID()]++
			at = b.NextOffset()
			seen++
		}
		r.Release()
		if seen%50 == 0 {
			if err := l.SetLogStart(at - 20); err != nil {
				t.Error(err)
			}
		}
	}
}

// signal is a waiter with a channel.
type signal struct{ woken chan struct{} }

func newSignal() *signal { return &signal{make(chan struct{}, 1)} }

func (s *signal) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}
