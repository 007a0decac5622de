package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// historied is a store with some partitions, and what each holds.
type historied struct {
	t     *testing.T
	rng   *rand.Rand
	store *Store
	ids   []storage.PartitionID
	holds map[storage.PartitionID][]string // by offset
	epoch storage.Epoch
}

func healing(fs disk.FS) Options {
	o := small(fs)
	o.Heal = true
	return o
}

// randomTopic is an id as the controller gives them.
func randomTopic(rng *rand.Rand) (id storage.TopicID) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	return id
}

// newHistoried follows leaders in partitions of three topics.
func newHistoried(t *testing.T, rng *rand.Rand) *historied {
	h := &historied{t: t, rng: rng, store: open(t, healing(disk.NewMem(disk.MemOptions{}))), holds: map[storage.PartitionID][]string{}, epoch: 1}
	for range 3 {
		topic := randomTopic(rng)
		for index := range int32(2) {
			id := partition(topic, index)
			h.ids = append(h.ids, id)
			h.follow(id)
		}
	}
	return h
}

func (h *historied) follow(id storage.PartitionID) *Log {
	h.t.Helper()
	l, err := h.store.Create(id, Config{})
	if err == nil {
		err = l.BecomeFollower(h.epoch)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

// take appends a batch of the leader's epoch to a partition.
func (h *historied) take(id storage.PartitionID) {
	h.t.Helper()
	l, _ := h.store.Log(id)
	texts := make([]string, 1+h.rng.IntN(3))
	for i := range texts {
		texts[i] = fmt.Sprintf("%s at %d under %d %s", id, l.End()+storage.Offset(i), h.epoch, strings.Repeat("x", h.rng.IntN(400)))
	}
	b := values(h.t, texts...)
	batch.Stamp(b, l.End(), h.epoch)
	if err := h.store.AdmitReplica(h.t.Context(), len(b)); err != nil {
		h.t.Fatal(err)
	}
	if err := l.AppendReplicated(b, h.epoch, nil); err != nil {
		h.t.Fatal(err)
	}
	h.holds[id] = append(h.holds[id], texts...)
}

// step does what comes to a follower.
func (h *historied) step() {
	h.t.Helper()
	id := h.ids[h.rng.IntN(len(h.ids))]
	l, _ := h.store.Log(id)
	switch h.rng.IntN(12) {
	case 0: // others lead, and know less of one partition
		h.epoch++
		for _, other := range h.ids {
			h.follow(other)
		}
		if l.End() > l.HighWatermark() {
			at := l.HighWatermark() + storage.Offset(h.rng.IntN(int(l.End()-l.HighWatermark())))
			if err := l.TruncateTo(at, h.epoch); err != nil {
				h.t.Fatal(err)
			}
			h.holds[id] = h.holds[id][:l.End()]
		}
	case 1:
		if err := l.SetHighWatermark(l.End(), h.epoch); err != nil {
			h.t.Fatal(err)
		}
	case 2:
		if err := h.store.Flush(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	case 3:
		if h.rng.IntN(4) == 0 {
			if err := h.store.DropPartition(id); err != nil {
				h.t.Fatal(err)
			}
			h.holds[id] = nil
			h.follow(id)
		}
	default:
		h.take(id)
	}
}

// reopenOn opens the store on another disk.
func (h *historied) reopenOn(fs disk.FS) *Store { return open(h.t, healing(fs)) }

// check finds every partition that is served to hold what it held, and returns which are not.
// One that is not there at all is condemned, as a broker does that knows of it from elsewhere.
func (h *historied) check(s *Store, what string) (corrupt []storage.PartitionID) {
	h.t.Helper()
	for _, id := range h.ids {
		l, ok := s.Log(id)
		if !ok {
			if !s.Losing() {
				h.t.Fatalf("%s: %s is gone, and nothing was lost", what, id)
			}
			if err := s.Condemn(id, "it is not there, and may have been lost"); err != nil {
				h.t.Fatal(err)
			}
			corrupt = append(corrupt, id)
			continue
		}
		if err := l.Err(); err != nil {
			wantCorrupt(h.t, err)
			corrupt = append(corrupt, id)
			continue
		}
		if got, want := contents(h.t, l, l.LocalStart(), LogEnd), h.holds[id][l.LocalStart():]; !slices.Equal(got, want) {
			h.t.Fatalf("%s: %s is served, and holds %d records: %.60q…, not %d", what, id, len(got), got, len(want))
		}
	}
	return corrupt
}

// RULES 1.1: wherever a bit flips, a partition that is served lacks nothing, and holds
// nothing that was taken back; what may lack something is refused, and stays so.
func TestWhatIsServedAfterABitFlippedIsWhole(t *testing.T) {
	rng := newRand(t)
	refused, rounds := 0, 0
	for range 5 {
		h := newHistoried(t, rng)
		for range 150 {
			h.step()
		}
		if err := h.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		fs := h.store.o.FS.(*disk.Mem)
		if rng.IntN(2) == 0 {
			if err := h.store.Close(); err != nil {
				t.Fatal(err)
			}
		}
		left := fs.Clone() // killed, or closed
		for range 12 {
			hit := left.Clone()
			what := flipUsed(t, rng, hit)
			s := h.reopenOn(hit)
			lost := s.Losing()
			if s.CutTail() {
				_ = s.Close()
				continue // it may lack what it had last, and says so
			}
			corrupt := h.check(s, what)
			if len(corrupt) > 0 && !lost {
				t.Fatalf("%s: %v are refused, and nothing was lost", what, corrupt)
			}
			if refused, rounds = refused+len(corrupt), rounds+1; lost {
				if err := s.SettleLosses(); err != nil {
					t.Fatal(err)
				}
			}
			again := reopen(t, s)
			if got := h.check(again, what+", started again"); !slices.Equal(got, corrupt) {
				t.Fatalf("%s: %v are refused, then %v", what, corrupt, got)
			}
			_ = again.Close()
		}
		_ = h.store.Close()
	}
	t.Logf("%d flips, %d partitions refused", rounds, refused)
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// flipUsed flips a bit of a WAL where something stands, and says where.
func flipUsed(t *testing.T, rng *rand.Rand, fs *disk.Mem) string {
	t.Helper()
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "segment-") })
	for {
		name := "wal/" + names[rng.IntN(len(names))]
		f, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		if size == 0 { // it was being made
			_ = f.Close()
			continue
		}
		at, b := rng.Int64N(size), make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		if b[0] == 0 && at%4096 > 200 {
			continue
		}
		bit := rng.IntN(8)
		if err := f.WriteSync([][]byte{{b[0] ^ 1<<bit}}, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
		return fmt.Sprintf("%s, byte %d, bit %d", name, at, bit)
	}
}

// A loss may have been anybody's, unless what is left of the frame names a topic; which of
// its partitions, only a batch says whose own CRC is wrong.
func TestLossIsAnyonesUnlessNamed(t *testing.T) {
	rng := newRand(t)
	mine, other := randomTopic(rng), randomTopic(rng)
	topics := map[storage.TopicID]bool{mine: true, other: true}
	b := values(t, "x")
	batch.Stamp(b, 7, 1)
	rotten := slices.Clone(b)
	rotten[len(rotten)-1] ^= 1
	bent := mine
	bent[3] ^= 4
	header := func(topic storage.TopicID, kind wal.Kind) *wal.Header {
		return &wal.Header{Kind: kind, Partition: partition(topic, 1), Offset: 7}
	}
	for what, c := range map[string]struct {
		loss                        wal.Loss
		same, sibling, ofAnotherToo bool
	}{
		"nothing is left":              {wal.Loss{}, true, true, true},
		"of a topic that is not known": {wal.Loss{Frame: header(randomTopic(rng), wal.KindData), Payload: rotten}, true, true, true},
		"its batch is damaged":         {wal.Loss{Frame: header(mine, wal.KindData), Payload: rotten}, true, false, false},
		"its batch is whole":           {wal.Loss{Frame: header(mine, wal.KindData), Payload: b}, true, true, false},
		"a bit of its topic is wrong":  {wal.Loss{Frame: header(bent, wal.KindData), Payload: b}, true, true, false},
		"it is a state":                {wal.Loss{Frame: header(mine, wal.KindState), Payload: rotten}, true, true, false},
	} {
		l := lossOf(c.loss)
		l.name(topics)
		if l.mayBeOf(partition(mine, 1)) != c.same || l.mayBeOf(partition(mine, 0)) != c.sibling || l.mayBeOf(partition(other, 1)) != c.ofAnotherToo {
			t.Errorf("%s: of the partition %v, of its sibling %v, of another topic's %v", what, l.mayBeOf(partition(mine, 1)), l.mayBeOf(partition(mine, 0)), l.mayBeOf(partition(other, 1)))
		}
	}
}

// What is appended behind a loss proves that nothing was lost before it only where it goes
// on from there, under the same epoch, and where the state that is left knows what is not here.
func TestLossIsProvedAwayByWhatFollows(t *testing.T) {
	id := partition(topicA, 0)
	data := func(rec *recovery, at storage.Offset, epoch storage.Epoch) {
		b := values(t, "x")
		batch.Stamp(b, at, epoch)
		rec.replay(wal.Header{Kind: wal.KindData, Partition: id, Epoch: epoch, Offset: at}, wal.Ref{}, b)
	}
	for what, c := range map[string]struct {
		behind  func(rec *recovery)
		refused bool
	}{
		"nothing":                          {func(*recovery) {}, true},
		"it goes on":                       {func(rec *recovery) { data(rec, 1, 1) }, false},
		"it goes on elsewhere":             {func(rec *recovery) { data(rec, 2, 1); data(rec, 3, 1) }, true},
		"it goes on under another":         {func(rec *recovery) { data(rec, 1, 2) }, true},
		"it goes on under another, and on": {func(rec *recovery) { data(rec, 1, 2); data(rec, 2, 2) }, true},
		"its state knows another of what is there": {func(rec *recovery) {
			s := state{highWatermark: 1, epochs: epochs{{2, 0}}}
			rec.replay(wal.Header{Kind: wal.KindState, Partition: id, Epoch: 2, Offset: 1}, wal.Ref{}, s.encode(maxStatePart)[0])
			data(rec, 1, 2)
		}, true},
		"it was dropped": {func(rec *recovery) {
			rec.replay(wal.Header{Kind: wal.KindDrop, Partition: id}, wal.Ref{}, nil)
			data(rec, 0, 1)
		}, false},
		"its state knows too little": {func(rec *recovery) {
			data(rec, 1, 1)
			rec.replay(wal.Header{Kind: wal.KindTrim, Partition: id, Offset: 1}, wal.Ref{}, nil)
		}, true},
	} {
		rec := newRecovery()
		s := state{}
		rec.replay(wal.Header{Kind: wal.KindState, Partition: id}, wal.Ref{}, s.encode(maxStatePart)[0])
		data(rec, 0, 1)
		rec.lose(wal.Loss{Why: &wal.CorruptionError{}})
		c.behind(rec)
		rec.suspect()
		if r := rec.partitions[id]; (r.damage != nil) != c.refused {
			t.Errorf("%s: %v", what, r.damage)
		}
	}
}

// A start that does not come to settle a loss may be tried as often as one likes: the WAL,
// of which nothing is recycled meanwhile, does not grow.
func TestStartsThatSettleNothingDoNotFillTheWAL(t *testing.T) {
	h := newHistoried(t, newRand(t))
	for range 2 { // the second group has the first below its mark
		h.take(h.ids[0])
		if err := h.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	spoil(t, h.store.o.FS, fmt.Sprintf("%s at 0 under", h.ids[0]))
	s := kill(t, h.store)
	if !s.Losing() || len(s.Corrupt()) == 0 {
		t.Fatalf("losing %v, corrupt %v", s.Losing(), s.Corrupt())
	}
	for range 3 { // until what the first start wrote is below the mark
		s = kill(t, s)
	}
	first, corrupt := s.wal.Stats(), len(s.Corrupt())
	for range 5 {
		s = kill(t, s)
	}
	if now := s.wal.Stats(); now.UsedBytes != first.UsedBytes || now.Sequence != first.Sequence || len(s.Corrupt()) != corrupt || !s.Losing() {
		t.Errorf("%d bytes in use to frame %d, %d corrupt; five starts before %d to %d, %d", now.UsedBytes, now.Sequence, len(s.Corrupt()), first.UsedBytes, first.Sequence, corrupt)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
