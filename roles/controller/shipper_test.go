package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// shipped is a bucket, and the log that a shipper should put there.
type shippedWorld struct {
	mu      *sync.Mutex // held by announce, which may come from the shipper's goroutine, and while it is asked who leads
	t       *testing.T
	bucket  bucket.Bucket
	state   []string // what the commands came to
	index   uint64
	term    uint64
	leads   bool
	barrier func() error // nil: nothing to wait for
	shipper *shipper

	// old: the feature level does not allow for announcements.
	old bool
	announcedHere
}

// announcedHere is what the log knows of its entries, as an image does.
type announcedHere struct {
	number  uint64
	writers []metadata.LogEntry // the last command they may have, each
}

func (a announcedHere) AnnouncedEntry() uint64 { return a.number }

func (a announcedHere) Announced(e *metadata.LogEntry) bool {
	return e.Number == a.number && slices.ContainsFunc(a.writers, func(w metadata.LogEntry) bool {
		return w.Term == e.Term && w.Writer == e.Writer && e.Last <= w.Last
	})
}

// announce applies the command that says which entry comes next.
func (w *shippedWorld) announce(number, term, writer uint64) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.barrier != nil {
		if err := w.barrier(); err != nil {
			return 0, err
		}
	}
	if !w.leads {
		return 0, errors.New("not the leader")
	}
	if number > w.number {
		w.announcedHere = announcedHere{number: number}
	}
	w.index += 2
	w.state = append(w.state, string(w.announcement(number, term, writer)))
	w.writers = append(slices.Clone(w.writers), metadata.LogEntry{Term: term, Writer: writer, Last: w.index})
	state := []byte(fmt.Sprint(w.state))
	w.shipper.Announced(w.index, []byte(w.state[len(w.state)-1]), func() []byte { return state })
	return w.index, nil
}

// announcement is the command.
func (w *shippedWorld) announcement(number, term, writer uint64) []byte {
	w.t.Helper()
	body := &pb.AnnounceEntry{Number: number, Term: term, Writer: writer}
	command, err := proto.Marshal(&pb.Command{Body: &pb.Command_AnnounceEntry{AnnounceEntry: body}})
	if err != nil {
		w.t.Fatal(err)
	}
	return command
}

// fork returns a copy of the log as it is now, beside the same bucket.
func (w *shippedWorld) fork(writer uint64) *shippedWorld {
	other := *w
	other.mu = new(sync.Mutex)
	other.state = slices.Clone(w.state)
	other.term++
	other.restart(writer)
	return &other
}

// wantFenced starts the world again and again, with as many commands before and
// after as it takes for its terms and indexes to be beyond all that the bucket has.
func (w *shippedWorld) wantFenced(writer uint64) {
	w.t.Helper()
	for range 5 {
		err := w.shipper.ship(w.t.Context())
		if fence := (*FencedError)(nil); !errors.As(err, &fence) || w.shipper.Fenced() == nil {
			w.t.Fatalf("in term %d, at index %d: not fenced: %v", w.term, w.index, err)
		}
		for range 20 {
			w.apply("more")
		}
		w.term += 2
		writer++
		w.restart(writer)
	}
}

func newShippedWorld(t *testing.T) *shippedWorld {
	dir, err := bucket.NewDir(disk.NewMem(disk.MemOptions{}), "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	w := &shippedWorld{mu: new(sync.Mutex), t: t, bucket: dir, term: 1, leads: true}
	w.restart(7)
	return w
}

// restart begins with a process that has everything applied and nothing pending.
func (w *shippedWorld) restart(writer uint64) {
	w.shipper = newShipper(shipperOptions{
		Bucket: w.bucket, Prefix: "c/1/meta/", Incarnation: 1, Writer: writer, Interval: time.Minute,
		Leads: func() (uint64, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.term, w.leads
		},
		Applied: func() uint64 { return w.index },
		Barrier: func(context.Context) error {
			if w.barrier == nil {
				return nil
			}
			return w.barrier()
		},
		Snapshot: func() (uint64, []byte) { return w.index, []byte(fmt.Sprint(w.state)) },
		Lineage:  func() (lineage, bool) { return w.announcedHere, !w.old },
		Announce: func(_ context.Context, number, term, writer uint64) (uint64, error) {
			return w.announce(number, term, writer)
		},
		Log: slog.New(slog.DiscardHandler),
	})
}

func (w *shippedWorld) apply(commands ...string) {
	for _, c := range commands {
		w.index += 2 // raft has entries of its own
		w.state = append(w.state, c)
		w.shipper.Applied(w.index, []byte(c))
	}
}

func (w *shippedWorld) ship() {
	w.t.Helper()
	if err := w.shipper.ship(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// recovered replays the log in the bucket as one who has nothing else would.
func (w *shippedWorld) recovered() (state string, entries int) {
	w.t.Helper()
	var replayed []string
	next, last := uint64(0), uint64(0)
	base := ""
	err := w.bucket.List(w.t.Context(), "c/1/meta/", "", func(i bucket.Info) bool {
		raw, err := bucket.ReadAll(w.t.Context(), w.bucket, i.Key, 1<<30)
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := metadata.DecodeLogEntry(raw)
		if err != nil {
			w.t.Fatal(err)
		}
		if next != 0 && e.Number != next {
			w.t.Fatalf("entry %d follows %d", e.Number, next-1)
		}
		next = e.Number + 1
		entries++
		if e.Snapshot != nil {
			base, replayed = string(e.Snapshot), nil
		} else if e.First != last+1 {
			w.t.Fatalf("entry %d begins at %d, the one before ended at %d", e.Number, e.First, last)
		}
		last = e.Last
		for _, c := range e.Commands {
			replayed = append(replayed, string(c.Command))
		}
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range replayed {
		if base == "[]" {
			base = "[" + c + "]"
		} else {
			base = base[:len(base)-1] + " " + c + "]"
		}
	}
	return base, entries
}

func (w *shippedWorld) expect() {
	w.t.Helper()
	if got, _ := w.recovered(); got != fmt.Sprint(w.state) {
		w.t.Fatalf("the bucket says %s, the state is %v", got, w.state)
	}
	if got := w.shipper.Shipped(); got != w.index {
		w.t.Fatalf("shipped up to %d of %d", got, w.index)
	}
}

func TestMetadataLogInTheBucketIsTheState(t *testing.T) {
	w := newShippedWorld(t)
	w.ship()
	w.expect()
	w.apply("a", "b")
	w.ship()
	w.apply("c")
	w.ship()
	w.expect()
	w.term++
	w.apply("d") // pending as the next leader, this process again, begins
	w.ship()
	w.expect()
	w.apply("e")
	w.term++
	w.restart(8)
	w.ship()
	w.apply("f")
	w.ship()
	w.expect()
	if _, entries := w.recovered(); entries > 6 {
		t.Fatalf("%d entries: what two snapshots outdate is kept", entries)
	}
}

func TestMetadataLogAfterALongOutage(t *testing.T) {
	w := newShippedWorld(t)
	w.ship()
	large := string(make([]byte, 1<<20))
	for range 10 {
		w.apply(large)
	}
	if len(w.shipper.pending) > 9 {
		t.Fatalf("%d MiB wait in memory", len(w.shipper.pending))
	}
	w.ship()
	w.expect()
}

func TestMetadataLogWhoseAnswerWasLost(t *testing.T) {
	w := newShippedWorld(t)
	w.ship()
	w.apply("a")
	w.shipper.o.Bucket = answerLost{w.bucket}
	if err := w.shipper.ship(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	w.shipper.o.Bucket = w.bucket
	w.apply("b")
	w.ship()
	w.expect()
}

// TestCommandThatASnapshotWasQuickerThan: it is in the state before the shipper is told
// of it, and is not shipped behind the snapshot that has it.
func TestCommandThatASnapshotWasQuickerThan(t *testing.T) {
	w := newShippedWorld(t)
	w.old = true // else a snapshot is taken where a command is applied
	w.ship()
	w.term++ // another snapshot is due
	w.index += 2
	w.state = append(w.state, "a")
	w.ship()
	w.shipper.Applied(w.index, []byte("a"))
	w.apply("b")
	w.ship()
	w.expect()
}

// answerLost does what it is asked and says that it failed.
type answerLost struct{ bucket.Bucket }

func (b answerLost) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return errors.Join(errors.New("connection reset"), b.Bucket.PutIfAbsent(ctx, key, data))
}

// TestTwoClustersOnOneBucket: a copy of a data directory, started beside the
// first, writes under the same id. One of the two is fenced at its next entry, and
// stays so whatever it does; the other one goes on.
func TestTwoClustersOnOneBucket(t *testing.T) {
	for _, old := range []bool{false, true} {
		w := newShippedWorld(t)
		w.old = old
		w.ship()
		other := w.fork(8)
		other.apply("b")
		other.ship()
		w.apply("a")
		err := w.shipper.ship(t.Context())
		if fence := (*FencedError)(nil); !errors.As(err, &fence) || w.shipper.Fenced() == nil {
			t.Fatalf("not fenced: %v", err)
		}
		if old {
			continue // terms and indexes are all that it has to go by
		}
		w.term += 5
		w.restart(20)
		w.wantFenced(20)
		other.apply("c")
		other.ship()
		w.wantFenced(40)
		other.term++
		other.restart(9)
		other.ship()
		if err := other.shipper.Fenced(); err != nil {
			t.Fatalf("the one that is right: %v", err)
		}
	}
}

// TestDeposedLeaderIsNotFenced: who finds the entry of its successor has lost its
// lead, and may get it back.
func TestDeposedLeaderIsNotFenced(t *testing.T) {
	w := newShippedWorld(t)
	w.ship()
	first := w.shipper
	w.apply("a")
	w.term++
	w.restart(8)
	w.ship()
	w.term-- // what the deposed one believes, until it asks
	w.shipper = first
	w.barrier = func() error { return errors.New("no majority answers") }
	for range 2 {
		if err := first.ship(t.Context()); err == nil || first.Fenced() != nil {
			t.Fatalf("%v; fenced: %v", err, first.Fenced())
		}
		w.barrier = func() error { w.leads = false; return nil }
	}
	w.barrier = nil
	w.term, w.leads = w.term+2, true
	w.apply("b")
	w.ship()
	w.expect()
}

// TestOlderCopyOfTheMetadataLogIsFenced: it would give out again what was given
// out before. Nor do terms and commands of its own, as each start has some, let it in.
func TestOlderCopyOfTheMetadataLogIsFenced(t *testing.T) {
	w := newShippedWorld(t)
	w.apply("a")
	w.ship()
	copied := w.fork(8)
	w.apply("b")
	w.ship()
	copied.wantFencedOf(func() {})
	copied.wantFenced(8)
	w.apply("c")
	w.ship()
	if entry, _ := w.recovered(); entry != fmt.Sprint(w.state) {
		t.Fatalf("the bucket says %s, the state is %v", entry, w.state)
	}
}

// TestOlderCopyOfBeforeAnnouncements: where nothing was announced, indexes have to do,
// and a copy of that time finds entries that were.
func TestOlderCopyOfBeforeAnnouncements(t *testing.T) {
	w := newShippedWorld(t)
	w.old = true
	w.apply("a")
	w.ship()
	copied := w.fork(8)
	copied.wantFencedOf(func() { w.apply("b"); w.ship() })
	w.term += 3
	w.restart(9)
	w.old = false
	w.ship()
	w.apply("c")
	w.ship()
	// It has applied more than the bucket has, and could announce.
	copied.old, copied.announcedHere, copied.index, copied.term = false, announcedHere{}, w.index+10, w.term+2
	copied.restart(30)
	copied.wantFencedOf(func() {})
	if w.number == 0 || w.shipper.Fenced() != nil {
		t.Fatalf("announced %d, %v", w.number, w.shipper.Fenced())
	}
}

// wantFencedOf is fenced once that has happened.
func (w *shippedWorld) wantFencedOf(happens func()) {
	w.t.Helper()
	happens()
	err := w.shipper.ship(w.t.Context())
	if fence := (*FencedError)(nil); !errors.As(err, &fence) || !fence.Older {
		w.t.Fatalf("not fenced: %v", err)
	}
}

// TestAnnouncedEntryThatWasNotPut, by a leader that is gone, or was put late.
func TestAnnouncedEntryThatWasNotPut(t *testing.T) {
	w := newShippedWorld(t)
	w.ship()
	w.apply("a")
	late := w.bucket
	w.shipper.o.Bucket = bucket.NewFaulty(w.bucket, bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errors.New("connection reset")})
	for range 3 {
		if err := w.shipper.ship(t.Context()); err == nil {
			t.Fatal("no error")
		}
		w.apply("meanwhile")
	}
	if n := len(w.writers); n != 1 {
		t.Fatalf("announced %d times: what is tried again is the same", n)
	}
	first := w.shipper
	e, err := first.entry(t.Context())
	if err != nil || e.Last != w.writers[0].Last {
		t.Fatalf("%+v, %v", e, err)
	}
	w.term++
	w.restart(8)
	if err := late.PutIfAbsent(t.Context(), first.key(e.Number), e.Encode()); err != nil {
		t.Fatal(err)
	}
	w.ship()
	w.expect()
	w.term++
	w.shipper.o.Bucket = bucket.NewFaulty(w.bucket, bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errors.New("connection reset")})
	w.apply("b")
	if err := w.shipper.ship(t.Context()); err == nil {
		t.Fatal("no error")
	}
	w.term++
	w.restart(9)
	w.ship()
	w.expect()
}

// TestEmptyListIsNotBelieved: a number that was used is not used again.
func TestEmptyListIsNotBelieved(t *testing.T) {
	w := newShippedWorld(t)
	for range 5 {
		w.apply("a")
		w.ship()
	}
	used := w.number
	w.term++
	w.restart(8)
	w.shipper.o.Bucket = hidden{w.bucket}
	w.ship()
	if w.number <= used {
		t.Fatalf("entry %d follows %d", w.number, used)
	}
	w.shipper.o.Bucket = w.bucket
	w.apply("b")
	w.ship()
	w.expect()
}

// hidden is a bucket that lists nothing.
type hidden struct{ bucket.Bucket }

func (hidden) List(context.Context, string, string, func(bucket.Info) bool) error { return nil }

// TestEntriesThatAreNone: what stands under the keys of the metadata log and is
// no entry of it stops shipping, and nothing else.
func TestEntriesThatAreNone(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty":               {},
		"noise":               []byte("noise"),
		"of another number":   (&metadata.LogEntry{Incarnation: 1, Number: 3, Term: 1, Writer: 7, Snapshot: []byte("[]")}).Encode(),
		"of a later version":  append([]byte("RMQMLOG\x09"), make([]byte, 80)...),
		"one that is cut off": (&metadata.LogEntry{Incarnation: 1, Number: 9, Snapshot: make([]byte, 100)}).Encode()[:90],
	} {
		w := newShippedWorld(t)
		w.ship()
		w.restart(8)
		w.term++
		if err := w.bucket.Put(t.Context(), "c/1/meta/0000000000000009", bucket.Bytes(data)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.shipper.ship(t.Context()); err == nil || w.shipper.Fenced() != nil || w.shipper.Shipped() != 0 {
				t.Errorf("%s: %v, %v", name, err, w.shipper.Fenced())
			}
		}
	}
	w := newShippedWorld(t)
	for _, key := range []string{"c/1/meta/000000000000000A", "c/1/meta/x", "c/1/meta/00000000000000001"} {
		if err := w.bucket.Put(t.Context(), key, bucket.Bytes("noise")); err != nil {
			t.Fatal(err)
		}
	}
	w.ship()
	if w.shipper.Shipped() != w.index || w.shipper.next != 2 {
		t.Errorf("shipped %d, next %d", w.shipper.Shipped(), w.shipper.next)
	}
}

// TestMetadataLogInAStoreWithoutConditionalWrites looks before it puts, says so
// once, and still notices one that wrote before.
func TestMetadataLogInAStoreWithoutConditionalWrites(t *testing.T) {
	w := newShippedWorld(t)
	plain := bucket.NewFaulty(w.bucket, bucket.Rule{Op: bucket.OpPutIfAbsent, Err: bucket.ErrUnsupported})
	said := &strings.Builder{}
	w.bucket = &lookingFirst{Bucket: plain, log: slog.New(slog.NewTextHandler(said, nil))}
	w.restart(7)
	w.ship()
	w.apply("a")
	w.ship()
	w.expect()
	if n := strings.Count(said.String(), "would not be noticed"); n != 1 {
		t.Errorf("said %d times: %s", n, said)
	}
	if tried, _ := plain.Calls(0); tried != 1 {
		t.Errorf("tried %d times what the store cannot do", tried)
	}
	plain.Set(bucket.Rule{Op: bucket.OpPut, Err: errors.New("connection reset"), Done: true, Limit: 1}, bucket.Rule{Op: bucket.OpStat, Err: errors.New("slow down"), Nth: 1})
	w.apply("b")
	for range 2 { // it does not know whether it is there; then the answer is lost
		if err := w.shipper.ship(t.Context()); err == nil {
			t.Fatal("no error")
		}
	}
	w.apply("c")
	w.ship()
	w.expect()
	w.fork(8).ship()
	w.apply("d")
	if err := w.shipper.ship(t.Context()); err == nil || w.shipper.Fenced() == nil {
		t.Fatalf("not fenced: %v", err)
	}
}

func TestShipperFollowsLeadership(t *testing.T) {
	w := newShippedWorld(t)
	w.leads = false
	w.apply("a")
	w.ship()
	if _, entries := w.recovered(); entries != 0 {
		t.Fatal("shipped without leading")
	}
	w.leads = true
	w.ship()
	w.expect()
}

func TestShipperRunsByIntervalAndHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.shipper.run(ctx)
		synctest.Wait()
		w.expect()
		w.apply("a")
		w.shipper.Hurry()
		synctest.Wait()
		w.expect()
		w.apply("b")
		synctest.Wait()
		w.mu.Lock()
		early := w.shipper.Shipped() == w.index
		w.mu.Unlock()
		if early {
			t.Fatal("shipped before the interval")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect()
	})
}

// TestMetadataLogIsWholeAfterEachLostAnswer: whichever calls were done and said that
// they failed, and however much came before they are made again, the bucket has every
// command, in order.
func TestMetadataLogIsWholeAfterEachLostAnswer(t *testing.T) {
	const room = 1 << 10 // for commands that are pending
	large := strings.Repeat("l", room/2)
	// What is applied before each try to ship. After three large commands memory has
	// let go of what was pending, and a snapshot is due.
	for name, steps := range map[string][][]string{
		"few commands":     {{"a"}, {"b"}, {"c"}, {"d"}},
		"let go of once":   {{"a"}, {large, large, large}, {"b"}, {"c"}},
		"let go of twice":  {{"a"}, {large, large, large}, {"b", large, large, large}, {"c"}},
		"due by its bytes": {{large}, {"a", large}, {"b"}, {large}, {"c"}},
	} {
		for _, old := range []bool{false, true} {
			for lost := 1; lost <= 3; lost++ {
				for first, calls := 1, 1; first <= calls; first++ {
					w := newShippedWorld(t)
					w.old = old
					whole := w.bucket
					faulty := bucket.NewFaulty(whole, bucket.Rule{From: first, Limit: lost, Err: errAway, Done: true})
					w.bucket = faulty
					w.restart(7)
					w.shipper.limits = shipperLimits{unshipped: room, snapshot: room / 4}
					for _, commands := range steps {
						_ = w.shipper.ship(t.Context())
						w.apply(commands...)
					}
					calls, _ = faulty.Calls(0)
					faulty.Set()
					for range 2 { // what memory let go of takes two
						w.ship()
					}
					w.apply("the last")
					w.ship()
					w.bucket = whole
					if got, _ := w.recovered(); got != fmt.Sprint(w.state) || w.shipper.Shipped() != w.index {
						t.Errorf("%s, %d answers from the %d. on lost, before announcements: %v: the bucket has %d bytes, the state %d; shipped %d of %d",
							name, lost, first, old, len(got), len(fmt.Sprint(w.state)), w.shipper.Shipped(), w.index)
					}
				}
			}
		}
	}
}
