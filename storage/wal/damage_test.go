package wal_test

import (
	"errors"
	"fmt"
	"strings"
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
	for at, want := range map[int64]string{2*4096 + 20: "segment-000001@8192 frames 2 to 2 are missing", 20: "segment-000001@0 segment header"} {
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
		if len(problems) != 1 || !strings.HasPrefix(problems[0], want) {
			t.Errorf("%q, want one %s", problems, want)
		}
	}
}
