package wal_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestDamageIsNamedWhereItIs: by the error that refuses a log, and by Inspect, also
// where the frame that shows it lies in the next file.
func TestDamageIsNamedWhereItIs(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	w, _ := open(t, small(mem))
	var refs []wal.Ref
	for i := range int64(150) {
		d := newDone()
		refs = append(refs, add(t, w, header(0, i), make([]byte, 3000), d))
		if i%3 == 0 { // groups of one frame and of several
			if err := d.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	last := 0 // of the first segment
	for refs[last+1].Segment == 1 {
		last++
	}
	for name, frame := range map[string]int{"the first": 0, "one in the middle": last / 2, "the last of a file": last, "the first of a file": last + 1} {
		t.Run(name, func(t *testing.T) {
			fs := mem.Clone()
			ref := refs[frame]
			file := fmt.Sprintf("segment-%06d", ref.Segment)
			f, err := fs.Open("wal/" + file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("!"), int64(ref.Offset)+100); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			var problems []string
			whole := 0
			if err := wal.Inspect(fs, "wal", func(i wal.Inspected) error {
				if i.Problem == "" {
					whole++
				} else {
					problems = append(problems, fmt.Sprintf("%s %d", i.File, i.At))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%s %d", file, ref.Offset); len(problems) != 1 || problems[0] != want || whole == 0 {
				t.Errorf("damaged at %s; Inspect says %q, and finds %d frames", want, problems, whole)
			}
			o := small(fs)
			o.Owner = &owner{}
			_, err = wal.Open(t.Context(), o)
			damage, is := errors.AsType[*wal.CorruptionError](err)
			if !is || damage.File != "wal/"+file || damage.Offset != int64(ref.Offset) {
				t.Errorf("damaged at %s, byte %d; it says: %v", file, ref.Offset, err)
			}
		})
	}
}

// TestMissingFramesAreNamed: those of a segment that is not there, wherever it was in the
// log, and those behind a frame that cannot be read.
func TestMissingFramesAreNamed(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	w, _ := open(t, small(mem))
	var refs []wal.Ref
	for i := int64(0); len(refs) == 0 || refs[i-1].Segment < 4; i++ {
		d := newDone()
		refs = append(refs, add(t, w, header(0, i), make([]byte, 3000), d))
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	first := map[uint32]int{} // frame of each segment, counted from 1
	for i, ref := range refs {
		if first[ref.Segment] == 0 {
			first[ref.Segment] = i + 1
		}
	}
	missing := func(from, to uint32) string {
		return fmt.Sprintf("frames %d to %d are missing or damaged", first[from], first[to]-1)
	}
	first[5] = len(refs) + 1
	remove := func(numbers ...int) func(fs disk.FS) error {
		return func(fs disk.FS) (err error) {
			for _, n := range numbers {
				err = errors.Join(err, fs.Remove(fmt.Sprintf("wal/segment-%06d", n)))
			}
			return err
		}
	}
	flip := func(ref wal.Ref) func(fs disk.FS) error {
		return func(fs disk.FS) error {
			f, err := fs.Open(fmt.Sprintf("wal/segment-%06d", ref.Segment))
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("!"), int64(ref.Offset)+100)
			return errors.Join(err, f.Close())
		}
	}
	for name, c := range map[string]struct {
		damage func(fs disk.FS) error
		want   []string
	}{
		"none":            {remove(), nil},
		"the first":       {remove(1), []string{missing(1, 2)}},
		"in the middle":   {remove(2), []string{missing(2, 3)}},
		"two":             {remove(2, 3), []string{missing(2, 4)}},
		"the last":        {remove(4), []string{missing(4, 5)}},
		"all":             {remove(1, 2, 3, 4), []string{fmt.Sprintf("the frames up to %d are missing or damaged", len(refs))}},
		"an unread frame": {flip(refs[2]), []string{"frame: CRC mismatch: frames 3 to 3 are missing or damaged"}},
		"the last one":    {flip(refs[len(refs)-1]), []string{fmt.Sprintf("frame: CRC mismatch: frames %d to %[1]d are missing or damaged", len(refs))}},
	} {
		t.Run(name, func(t *testing.T) {
			fs := mem.Clone()
			if err := c.damage(fs); err != nil {
				t.Fatal(err)
			}
			var said []string
			if err := wal.Inspect(fs, "wal", func(i wal.Inspected) error {
				if i.Problem != "" {
					said = append(said, i.Problem)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(said, c.want) {
				t.Errorf("it says %q, want %q", said, c.want)
			}
		})
	}
	t.Run("recycled", func(t *testing.T) { // is not missing
		fs := mem.Clone()
		w, _ := open(t, small(fs))
		for _, ref := range refs {
			if ref.Segment < 3 {
				w.Release(ref)
			}
		}
		for w.Stats().Recycled < 2 {
			runtime.Gosched()
		}
		if err := errors.Join(w.Close(), fs.Remove("wal/segment-000001")); err != nil {
			t.Fatal(err)
		}
		if err := wal.Inspect(fs, "wal", func(i wal.Inspected) error {
			if i.Problem != "" {
				t.Errorf("%s at %d: %s", i.File, i.At, i.Problem)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamagedHeadersAreNamed: of a group, by the frames that are missing, and of a
// segment.
func TestDamagedHeadersAreNamed(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	w, _ := open(t, small(mem))
	for i := range int64(3) {
		d := newDone()
		add(t, w, header(0, i), []byte("in a group of its own"), d)
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64][]string{
		2*4096 + 20: {"segment-000001@8192 frames 2 to 2 are missing or damaged"},
		20:          {"segment-000001@0 segment header: CRC mismatch", "clean@0 the frames up to 3 are missing or damaged"},
	} {
		fs := mem.Clone()
		f, err := fs.Open("wal/segment-000001")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("!"), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		var problems []string
		if err := wal.Inspect(fs, "wal", func(i wal.Inspected) error {
			if i.Problem != "" {
				problems = append(problems, fmt.Sprintf("%s@%d %s", i.File, i.At, i.Problem))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(problems, want) {
			t.Errorf("%q, want %q", problems, want)
		}
	}
}
