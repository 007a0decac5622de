package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// survivor is an owner that goes on without what is lost.
type survivor struct {
	owner
	losses []wal.Loss
	events []string // in order: "offset", or "lost from-to"
}

func (s *survivor) Replay(h wal.Header, ref wal.Ref, payload []byte) error {
	s.events = append(s.events, fmt.Sprint(h.Offset))
	return s.owner.Replay(h, ref, payload)
}

func (s *survivor) lost(l wal.Loss) error {
	s.losses = append(s.losses, l)
	s.events = append(s.events, fmt.Sprintf("lost %d-%d", l.From, l.To))
	return nil
}

// survive opens a log whatever is lost of it.
func survive(fs disk.FS) (*wal.WAL, *survivor, error) {
	s := &survivor{}
	o := bits(fs)
	o.Owner, o.Lost = s, s.lost
	w, err := wal.Open(context.Background(), o)
	return w, s, err
}

// flip changes one bit of a file.
func flip(fs disk.FS, name string, at int64, bit int) error {
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.WriteSync([][]byte{{b[0] ^ 1<<bit}}, at), f.Close())
}

// RULES 1.1: wherever a bit flips, a log whose owner can do without loses one frame at
// most, says which in its place, and goes on telling so until that is settled.
func TestOneFlippedBitLosesOneFrameAtMost(t *testing.T) {
	mem, book := stored(t)
	unclean := mem.Clone()
	if err := unclean.Remove("wal/clean"); err != nil {
		t.Fatal(err)
	}
	rng := newRand(t)
	lost, cut := 0, 0
	for name, from := range map[string]*disk.Mem{"clean": mem, "unclean": unclean} {
		for _, file := range segmentFiles(t, from) {
			content, err := disk.ReadFile(from, "wal/"+file)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(content); at++ {
				inUse := content[at] != 0 || at%page < 64
				if rng.IntN(1000) != 0 && !(inUse && at%page < 130 && rng.IntN(50) == 0) {
					continue
				}
				bit := rng.IntN(8)
				what := fmt.Sprintf("%s end, %s, byte %d, bit %d", name, file, at, bit)
				fs := from.Clone()
				if err := flip(fs, "wal/"+file, int64(at), bit); err != nil {
					t.Fatal(err)
				}
				l, c := wantSurvived(t, fs, book, what)
				lost, cut = lost+l, cut+c
			}
		}
	}
	if lost == 0 {
		t.Error("nothing was lost")
	}
	t.Logf("%d flips lost a frame, %d cut the tail", lost, cut)
}

// wantSurvived opens a damaged log three times: it tells what it lost, again, and no more
// once that is settled.
func wantSurvived(t *testing.T, fs *disk.Mem, book *ledger, what string) (lost, cut int) {
	t.Helper()
	var before []string
	for life := range 3 {
		w, s, err := survive(fs)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		told := slices.DeleteFunc(slices.Clone(s.events), func(e string) bool { return !strings.HasPrefix(e, "lost") })
		if life == 0 {
			due := int64(0)
			for _, e := range s.events {
				var from, to int64
				if n, _ := fmt.Sscanf(e, "lost %d-%d", &from, &to); n == 2 {
					if from-1 != due || from != to {
						t.Fatalf("%s: %q", what, s.events)
					}
					lost, due = lost+1, to
					continue
				}
				if e != fmt.Sprint(due) {
					t.Fatalf("%s: frame %d was due: %q", what, due, s.events)
				}
				due++
			}
			if w.CutTail() {
				cut++
			}
			if missing := len(book.acked) - int(due); lost > 1 || missing > 0 && (missing > 3 || !w.CutTail()) {
				t.Fatalf("%s: of %d frames: %q", what, len(book.acked), s.events)
			}
		}
		if w.Losing() != (len(told) > 0) || life == 1 && !slices.Equal(s.events, before) || life == 2 && len(told) > 0 {
			t.Fatalf("%s, start %d: losing %v, %q, before that %q", what, life, w.Losing(), s.events, before)
		}
		for _, f := range s.frames {
			var l, at int64
			if _, err := fmt.Sscanf(f.payload, "%d/%d/", &l, &at); err != nil || at != int64(f.header.Offset) || string(payloadOf(l, at, len(f.payload))) != f.payload {
				t.Fatalf("%s: frame %d holds %.30q", what, f.header.Offset, f.payload)
			}
		}
		before = s.events
		if life == 1 {
			err = w.SettleLosses()
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return lost, cut
}

// What a lost frame seems to have been is told where its header still says so.
func TestALostFrameIsNamedByWhatIsLeftOfIt(t *testing.T) {
	mem, _ := stored(t)
	var place wal.Inspected
	if err := wal.Inspect(mem, "wal", func(i wal.Inspected) error {
		if i.Sequence == 5 {
			place = i
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := flip(mem, "wal/"+place.File, int64(place.At)+70, 3); err != nil {
		t.Fatal(err)
	}
	w, s, err := survive(mem)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if len(s.losses) != 1 {
		t.Fatalf("%+v", s.losses)
	}
	l := s.losses[0]
	if l.From != 5 || l.Why.File != "wal/"+place.File || l.Why.Offset != int64(place.At) || l.Frame == nil || l.Frame.Offset != 4 || l.Frame.Kind != wal.KindData {
		t.Errorf("%+v, of %+v", l, l.Frame)
	}
}

// A block, or more, that is gone is more than one frame; all that is whole is delivered.
func TestWhatIsWholeAroundADamagedBlockIsDelivered(t *testing.T) {
	mem, book := stored(t)
	rng := newRand(t)
	for range 20 {
		fs := mem.Clone()
		names := segmentFiles(t, fs)
		name := names[rng.IntN(len(names))]
		at := int64(page * (1 + rng.IntN(5)))
		f, err := fs.Open("wal/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.WriteSync([][]byte{junk(rng)}, at), f.Close()); err != nil {
			t.Fatal(err)
		}
		w, s, err := survive(fs)
		if err != nil {
			t.Fatalf("%s, block at %d: %v", name, at, err)
		}
		due := int64(0)
		for _, e := range s.events {
			var from, to, offset int64
			if n, _ := fmt.Sscanf(e, "lost %d-%d", &from, &to); n == 2 {
				if from-1 != due || to < from {
					t.Fatalf("%s, block at %d: %q", name, at, s.events)
				}
				due = to
				continue
			}
			if fmt.Sscan(e, &offset); offset != due {
				t.Fatalf("%s, block at %d: %q", name, at, s.events)
			}
			due++
		}
		if int(due) < len(book.acked) && !w.CutTail() {
			t.Errorf("%s, block at %d: %q", name, at, s.events)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func junk(rng *rand.Rand) []byte {
	b := make([]byte, page)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Until losses are settled no segment is recycled, for it may be what shows them.
func TestNothingIsRecycledBeforeALossIsSettled(t *testing.T) {
	mem, _ := stored(t)
	if err := flip(mem, "wal/segment-000001", page+56+66, 1); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, s, err := survive(mem)
		if err != nil {
			t.Fatal(err)
		}
		s.opened(w)
		if !w.Losing() {
			t.Fatal("nothing was lost")
		}
		s.mu.Lock()
		for _, f := range s.frames {
			w.Release(f.ref)
		}
		s.frames = nil
		s.mu.Unlock()
		synctest.Wait() // the preparer has looked
		if n := w.Stats().Recycled; n != 0 {
			t.Errorf("%d segments were recycled", n)
		}
		if err := w.SettleLosses(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.Stats().Recycled == 0 {
			t.Error("nothing is recycled once it is settled")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
