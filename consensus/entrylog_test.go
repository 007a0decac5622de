package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

// tape is a WAL that only remembers: every frame is durable at once, or, as a
// test cuts the tape, was not when the power went.
type tape struct {
	frames   []frame
	released int
}

type frame struct {
	header  wal.Header
	payload []byte
}

func (w *tape) Append(h wal.Header, payload []byte, c wal.Completion) (wal.Ref, error) {
	w.frames = append(w.frames, frame{h, append([]byte(nil), payload...)})
	if c != nil {
		c.Committed(nil)
	}
	return wal.Ref{}, nil
}

func (w *tape) Release(wal.Ref) { w.released++ }

// replayed is the log that the first n frames leave behind snap.
func (w *tape) replayed(n int, snap *snapshot) (*replay, []record, error) {
	r := newReplay()
	for _, f := range w.frames[:n] {
		if err := r.frame(f.header, wal.Ref{}, f.payload); err != nil {
			return nil, nil, err
		}
	}
	records, err := r.finish(snap)
	return r, records, err
}

func entryOf(term, index uint64) *raftpb.Entry {
	return &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: new(term), Index: new(index), Data: fmt.Appendf(nil, "%d@%d", index, term)}
}

func describe(records []record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, " %d@%d=%s", r.entry.GetIndex(), r.entry.GetTerm(), r.entry.GetData())
	}
	return b.String()
}

func firstSnapshot() *snapshot {
	return &snapshot{index: 1, term: 1, conf: &raftpb.ConfState{Voters: []uint64{1}}, members: []Member{{ID: 1}}}
}

func newEntryLog(w durable) *entryLog {
	l := &entryLog{}
	l.start(w, firstSnapshot(), nil, newReplay())
	return l
}

// TestLogComesBackFromItsFrames does to a log what raft does, and then cuts the
// power at every frame: what comes back is the log as it stood between two
// operations, and never without a committed entry in between.
func TestLogComesBackFromItsFrames(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		w := &tape{}
		l := newEntryLog(w)
		type point struct {
			frames    int
			want      string
			hard      hardState
			committed uint64
			snap      *snapshot
		}
		snap := firstSnapshot()
		hard := l.hardState()
		points := []point{{0, "", hard, 1, snap}}
		for range rapid.IntRange(1, 25).Draw(t, "operations") {
			last := l.lastIndex()
			switch rapid.IntRange(0, 6).Draw(t, "operation") {
			case 0, 1, 2: // append, perhaps in place of what is not committed
				from := rapid.Uint64Range(hard.commit+1, last+1).Draw(t, "from")
				if from <= last {
					hard.term++
				}
				var entries []*raftpb.Entry
				for i := range rapid.Uint64Range(1, 4).Draw(t, "entries") {
					entries = append(entries, entryOf(hard.term, from+i))
				}
				mustAppend(t, l, nil, entries, hard)
			case 3: // a vote
				hard.term++
				hard.vote = rapid.Uint64Range(1, 3).Draw(t, "vote")
				mustAppend(t, l, nil, nil, hard)
			case 4: // a commit
				hard.commit = rapid.Uint64Range(hard.commit, last).Draw(t, "commit")
				mustAppend(t, l, nil, nil, hard)
			case 5: // a snapshot of our own
				index := rapid.Uint64Range(snap.index, hard.commit).Draw(t, "snapshot")
				if index == snap.index {
					continue
				}
				term, err := l.Term(index)
				if err != nil {
					t.Fatalf("term of %d: %v", index, err)
				}
				snap = &snapshot{index: index, term: term, conf: snap.conf, members: snap.members}
				// The file is durable before any frame says so.
				points[len(points)-1].snap = snap
				points[len(points)-1].want = describe(l.records[index+1-l.first:])
				if err := l.compact(snap, index); err != nil {
					t.Fatal(err)
				}
			case 6: // the cleaner takes the oldest segment
				if err := l.Relocate(context.Background(), 0); err != nil {
					t.Fatal(err)
				}
			}
			hard = l.hardState()
			points = append(points, point{len(w.frames), describe(l.records), hard, hard.commit, snap})
		}
		for i, p := range points {
			end := len(w.frames)
			if i+1 < len(points) {
				end = points[i+1].frames
			}
			for cut := p.frames; cut <= end; cut++ {
				r, records, err := w.replayed(cut, p.snap)
				if err != nil {
					t.Fatalf("cut at frame %d: %v", cut, err)
				}
				if cut == p.frames && i+1 < len(points) && points[i+1].frames == cut {
					continue // nothing was written by the next one; it may stand for both
				}
				if got := describe(records); cut == p.frames && got != p.want {
					t.Fatalf("cut at frame %d:\n got %s\nwant %s", cut, got, p.want)
				}
				if cut == p.frames && cut > 0 && (r.hard.term != p.hard.term || r.hard.vote != p.hard.vote) {
					t.Fatalf("cut at frame %d: hard state %+v, want %+v", cut, r.hard, p.hard)
				}
				if end := p.snap.index + uint64(len(records)); end < p.committed {
					t.Fatalf("cut at frame %d: the log ends at %d, %d was committed", cut, end, p.committed)
				}
			}
		}
	})
}

func mustAppend(t interface{ Fatalf(string, ...any) }, l *entryLog, snap *snapshot, entries []*raftpb.Entry, hard hardState) {
	if _, err := l.append(snap, entries, hard, func(error) {}); err != nil {
		t.Fatalf("append: %v", err)
	}
}

// TestReceivedSnapshotTakesTheLogsPlace cuts the power at every frame of it:
// until the log says that it begins behind the snapshot, none of its entries
// is believed to.
func TestReceivedSnapshotTakesTheLogsPlace(t *testing.T) {
	w := &tape{}
	l := newEntryLog(w)
	hard := l.hardState()
	mustAppend(t, l, nil, []*raftpb.Entry{entryOf(1, 2), entryOf(1, 3), entryOf(1, 4), entryOf(1, 5)}, hard)
	before := len(w.frames)
	received := &snapshot{index: 3, term: 2, conf: &raftpb.ConfState{Voters: []uint64{1, 2}}, received: true}
	hard.term, hard.commit = 2, 3
	mustAppend(t, l, received, []*raftpb.Entry{entryOf(2, 4)}, hard)
	for cut := before; cut <= len(w.frames); cut++ {
		_, records, err := w.replayed(cut, received)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := ""
		if cut == len(w.frames) {
			want = " 4@2=4@2"
		}
		if got := describe(records); got != want {
			t.Errorf("cut at frame %d of %d: got %q, want %q", cut, len(w.frames), got, want)
		}
	}
}

func TestDamagedLogIsRefused(t *testing.T) {
	data := func(index, term uint64) frame {
		return frame{header(wal.KindData, term, index), encodeEntry(entryOf(term, index))}
	}
	state := func(commit uint64) frame {
		return frame{header(wal.KindState, 1, 0), hardState{member: Member{ID: 1}, term: 1, commit: commit}.encode()}
	}
	other := data(2, 1)
	other.header.Partition.Index = 1
	for name, frames := range map[string][]frame{
		"entry missing":             {state(0), data(2, 1), data(4, 1)},
		"first entry missing":       {state(0), data(3, 1)},
		"entry twice":               {state(0), data(2, 1), data(2, 2)},
		"committed entry missing":   {state(3), data(2, 1)},
		"snapshot older than trim":  {state(0), {header(wal.KindTrim, 1, 6), nil}},
		"another partition":         {other},
		"hard state of other size":  {{header(wal.KindState, 1, 0), []byte{1, 2}}},
		"entry without a type":      {{header(wal.KindData, 1, 2), nil}},
		"kind that raft never used": {{header(wal.KindDrop, 1, 2), nil}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &tape{frames: frames}
			if _, records, err := w.replayed(len(frames), firstSnapshot()); err == nil {
				t.Fatalf("read as %s", describe(records))
			}
		})
	}
}

func TestTruncateNeverReachesACommittedEntry(t *testing.T) {
	l := newEntryLog(&tape{})
	hard := l.hardState()
	mustAppend(t, l, nil, []*raftpb.Entry{entryOf(1, 2), entryOf(1, 3)}, hard)
	hard.commit, hard.term = 3, 2
	mustAppend(t, l, nil, nil, hard)
	defer func() {
		if recover() == nil {
			t.Fatal("a committed entry was overwritten")
		}
	}()
	mustAppend(t, l, nil, []*raftpb.Entry{entryOf(2, 3)}, hard)
}

func TestSnapshotBytes(t *testing.T) {
	s := &snapshot{index: 7, term: 3, conf: &raftpb.ConfState{Voters: []uint64{1, 2}}, members: []Member{{1, [16]byte{1}}, {2, [16]byte{2}}}, state: []byte("state"), received: true}
	encoded := s.encode()
	got, err := decodeSnapshot(encoded)
	if err != nil || got.index != 7 || got.term != 3 || !got.received || string(got.state) != "state" || fmt.Sprint(got.members) != fmt.Sprint(s.members) || len(got.conf.GetVoters()) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for bit := range len(encoded) * 8 {
		damaged := append([]byte(nil), encoded...)
		damaged[bit/8] ^= 1 << (bit % 8)
		_, err := decodeSnapshot(damaged)
		if _, newer := errors.AsType[errUnknown](err); err == nil || newer {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for cut := range encoded {
		if _, err := decodeSnapshot(encoded[:cut]); err == nil {
			t.Fatalf("cut at %d: no error", cut)
		}
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(len(encoded) * 8)})
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(firstSnapshot().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSnapshot(b)
		if err != nil {
			return
		}
		if again, err := decodeSnapshot(s.encode()); err != nil || again.index != s.index || string(again.state) != string(s.state) {
			t.Fatalf("second round: %v", err)
		}
	})
}

func FuzzReplay(f *testing.F) {
	f.Add(uint8(wal.KindData), int32(1), int64(2), encodeEntry(entryOf(1, 2)))
	f.Add(uint8(wal.KindState), int32(1), int64(0), hardState{term: 1}.encode())
	f.Add(uint8(wal.KindTruncate), int32(1), int64(-5), []byte{})
	f.Fuzz(func(t *testing.T, kind uint8, epoch int32, offset int64, payload []byte) {
		r := newReplay()
		h := header(wal.KindData, 0, 0)
		if r.frame(frameHeader(h, 1, 2), wal.Ref{}, encodeEntry(entryOf(1, 2))) != nil {
			t.Fatal("a good entry was refused")
		}
		h.Kind = wal.Kind(kind)
		if r.frame(frameHeader(h, epoch, offset), wal.Ref{}, payload) == nil {
			_, _ = r.finish(firstSnapshot())
		}
	})
}

func frameHeader(h wal.Header, epoch int32, offset int64) wal.Header {
	h.Epoch, h.Offset = storage.Epoch(epoch), storage.Offset(offset)
	return h
}

var errDisk = errors.New("the disk is gone")

// failing is a WAL that takes frames and then says that they are lost.
type failing struct{ tape }

func (w *failing) Append(wal.Header, []byte, wal.Completion) (wal.Ref, error) {
	return wal.Ref{}, errDisk
}

func TestFailedAppendIsReported(t *testing.T) {
	l := newEntryLog(&failing{})
	if _, err := l.append(nil, []*raftpb.Entry{entryOf(1, 2)}, l.hardState(), func(error) {}); !errors.Is(err, errDisk) {
		t.Fatalf("append: %v", err)
	}
}

// TestSnapshotOfANewerVersionIsNotCorrupt: whoever takes it for damage would throw it
// away.
func TestSnapshotOfANewerVersionIsNotCorrupt(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"version": func(b []byte) { b[8]++ },
		"flag":    func(b []byte) { b[37]++ },
	} {
		t.Run(name, func(t *testing.T) {
			fs := disk.NewMem(disk.MemOptions{})
			s := snapshots{fs: fs, dir: "raft"}
			if err := fs.MkdirAll("raft"); err != nil {
				t.Fatal(err)
			}
			snap := &snapshot{index: 3, term: 2, conf: new(raftpb.ConfState)}
			encoded := snap.encode()
			change(encoded)
			sum := crc32.Checksum(encoded[16:], castagnoli)
			if encoded[8] != snapshotVersion { // of which all bytes are summed
				sum = crc32.Update(crc32.Checksum(encoded[:12], castagnoli), castagnoli, encoded[16:])
			}
			binary.LittleEndian.PutUint32(encoded[12:], sum)
			if err := disk.WriteFileAtomic(fs, "raft/"+snapshotName(3, 2), encoded); err != nil {
				t.Fatal(err)
			}
			_, err := s.newest()
			unknown, is := errors.AsType[*UnknownFormatError](err)
			if !is || !strings.HasSuffix(unknown.File, snapshotName(3, 2)) {
				t.Fatalf("a newer %s: %v", name, err)
			}
		})
	}
}

// TestARottenSnapshotIsPassedOver: a member that lacks entries is sent the one before, if the log
// goes on right behind that; what is damaged is told.
func TestARottenSnapshotIsPassedOver(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	if err := fs.MkdirAll("snapshots"); err != nil {
		t.Fatal(err)
	}
	l := newEntryLog(&tape{})
	l.snapshots = snapshots{fs: fs, dir: "snapshots"}
	told := ""
	l.rotten = func(why *CorruptionError) { told = why.File }
	mustAppend(t, l, nil, []*raftpb.Entry{entryOf(1, 2), entryOf(1, 3), entryOf(1, 4), entryOf(1, 5), entryOf(1, 6)}, l.hardState())
	for _, index := range []uint64{3, 5} {
		if err := l.snapshots.write(&snapshot{index: index, term: 1, conf: new(raftpb.ConfState)}); err != nil {
			t.Fatal(err)
		}
	}
	sent := func(want uint64) {
		t.Helper()
		m, err := l.Snapshot()
		switch got := m.GetMetadata().GetIndex(); {
		case want == 0 && !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable):
			t.Errorf("%v, index %d", err, got)
		case want > 0 && (err != nil || got != want):
			t.Errorf("%v, index %d, want %d", err, got, want)
		}
	}
	if sent(5); told != "" {
		t.Errorf("%s is told to be damaged", told)
	}
	file := "snapshots/" + snapshotName(5, 1)
	raw, err := disk.ReadFile(fs, file)
	if err == nil {
		raw[9] ^= 1
		err = disk.WriteFileAtomic(fs, file, raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	if sent(3); told != file {
		t.Errorf("%q is told to be damaged", told)
	}
	if err := l.compact(&snapshot{index: 5, term: 1}, 3); err != nil {
		t.Fatal(err)
	}
	sent(3)
	if err := l.compact(&snapshot{index: 5, term: 1}, 4); err != nil {
		t.Fatal(err)
	}
	sent(0)
}

// The state is written as it is: a copy of it would be hundreds of megabytes more.
func TestASnapshotIsWrittenWithoutACopy(t *testing.T) {
	fs, err := disk.OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("snapshots"); err != nil {
		t.Fatal(err)
	}
	s, snap := snapshots{fs, "snapshots"}, firstSnapshot()
	snap.state = make([]byte, 16<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.write(snap); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; made > uint64(len(snap.state))/2 {
		t.Errorf("%d bytes were allocated to write %d", made, len(snap.state))
	}
	if got, err := s.newest(); err != nil || !bytes.Equal(got.state, snap.state) || got.index != snap.index {
		t.Errorf("it is read back as %d bytes, %v", len(got.state), err)
	}
}
