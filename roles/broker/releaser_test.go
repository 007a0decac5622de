package broker

import (
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// releaserWorld is a log whose records the bucket has, and a metadata log.
type releaserWorld struct {
	t              *testing.T
	store          *log.Store
	log            *log.Log
	now, shipped   uint64
	fullness       float64
	hurried        int
	shipsInAHurry  bool
	r              *releaser
	committedSoFar storage.Offset
}

func newReleaserWorld(t *testing.T) *releaserWorld {
	store, err := log.Open(t.Context(), log.Options{
		FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", Tiered: true, Hold: true, WAL: wal.Options{Capacity: 8 << 20, SegmentSize: 1 << 20, Memory: 2 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := store.Create(storage.PartitionID{Topic: storage.TopicID{1}}, log.Config{})
	if err == nil {
		err = l.BecomeLeader(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &releaserWorld{t: t, store: store, log: l, now: 1, shipped: 1}
	w.r = newReleaser(releaserOptions{
		Now: func() uint64 { return w.now }, Shipped: func() uint64 { return w.shipped }, Fullness: func() float64 { return w.fullness },
		Hurry: func() {
			w.hurried++
			if w.shipsInAHurry {
				w.shipped = w.now
			}
		},
	})
	return w
}

// commit is a record that goes into the bucket, and a command that names it.
func (w *releaserWorld) commit() {
	w.t.Helper()
	b := batch.NewBuilder(batch.BuilderOptions{})
	b.Add(time.Now().UnixMilli(), nil, []byte("value"))
	raw, err := b.Build()
	if err == nil {
		err = w.store.Admit(w.t.Context(), len(raw))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	answer := make(appendAnswer, 1)
	w.log.Append(time.Now(), raw, log.AppendOptions{Epoch: storage.NoEpoch}, answer)
	if r := <-answer; r.Err != nil {
		w.t.Fatal(r.Err)
	}
	w.committedSoFar++
	w.now++
	if err := w.log.SetUploaded(w.committedSoFar); err != nil {
		w.t.Fatal(err)
	}
	w.r.named(w.log, w.committedSoFar)
}

// local is where the log begins once all is given up that may be.
func (w *releaserWorld) local() storage.Offset {
	w.t.Helper()
	if err := w.store.Evict(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.log.LocalStart()
}

// TestLogKeepsWhatTheMetadataLogDoesNotName: whoever has only the bucket may still
// take the object for one that was never committed, and delete it.
func TestLogKeepsWhatTheMetadataLogDoesNotName(t *testing.T) {
	w := newReleaserWorld(t)
	defer w.store.Close()
	now := time.Unix(1_000_000, 0)
	pass := func(d time.Duration) {
		for range d / releaseLook {
			now = now.Add(releaseLook)
			w.r.look(now)
		}
	}
	w.commit()
	pass(time.Hour)
	if w.local() != 0 || w.hurried > 0 {
		t.Fatalf("the log begins at %d, and the bucket does not know of it; hurried %d times", w.local(), w.hurried)
	}
	w.commit() // not part of what is shipped next
	w.shipped = w.now - 1
	pass(releaseLook)
	if w.local() != 1 {
		t.Fatalf("the log begins at %d, the bucket knows of one", w.local())
	}
	w.shipped = w.now
	pass(releaseLook)
	if w.local() != 2 {
		t.Fatalf("the log begins at %d, the bucket knows of all", w.local())
	}
	// Commits share a put, unless room is short.
	w.fullness, w.shipsInAHurry = 0.3, true
	for range 400 {
		w.commit()
		pass(releaseLook)
	}
	if at := w.local(); w.hurried > 12 || at < 300 {
		t.Fatalf("hurried %d times in 100 s; the log begins at %d", w.hurried, at)
	}
	w.fullness = 0.6
	w.commit()
	pass(3 * releaseLook)
	if at := w.local(); at != w.committedSoFar {
		t.Fatalf("the log is short of room and begins at %d of %d", at, w.committedSoFar)
	}
}
