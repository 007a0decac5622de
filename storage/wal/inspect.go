package wal

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"rustmq.dev/rustmq/storage/disk"
)

// Inspected is a frame as it lies in a file, or what is wrong there.
type Inspected struct {
	File     string
	At       int64
	Problem  string // a frame, or several, that cannot be read there; the rest is zero then
	Sequence uint64
	Header   Header
	Payload  []byte
}

// Inspect calls f for every whole frame of the segments in dir, in order of log
// number, and for what is damaged between them. It takes no lock, decides nothing and
// changes nothing: superseded frames and those of a torn tail are among them, and what
// tore the tail is damage.
func Inspect(fsys disk.FS, dir string, f func(Inspected) error) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	type file struct {
		name   string
		header segmentHeader
		bytes  []byte
	}
	var files []file
	for _, name := range names {
		if !strings.HasPrefix(name, "segment-") {
			continue
		}
		raw, err := disk.ReadFile(fsys, path.Join(dir, name))
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		h, err := decodeSegmentHeader(raw[:min(len(raw), blockSize)])
		if errors.Is(err, errBlank) {
			continue
		}
		if err != nil { // nothing in it can be told apart
			if err := f(Inspected{File: name, Problem: err.Error()}); err != nil {
				return err
			}
			continue
		}
		files = append(files, file{name, h, raw})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.header.log, b.header.log) })
	next := uint64(0) // the sequence that is to come
	named := false    // what is missing of it
	before := Inspected{}
	for _, file := range files {
		var failed error
		tell := func(at int, problem string) {
			if failed == nil {
				failed = f(Inspected{File: file.name, At: int64(at), Problem: problem})
			}
		}
		end := walk(&segment{stamp: file.header.stamp}, file.bytes, func(fr found) bool {
			if next > 0 && fr.sequence > next && !named {
				problem := fmt.Sprintf("frames %d to %d are missing or damaged", next, fr.sequence-1)
				if file.header.first <= next {
					tell(fr.behind, problem)
				} else if failed == nil {
					before.Problem = problem
					failed = f(before)
				}
			}
			named, next = false, fr.sequence+1
			switch {
			case fr.unknown != nil:
				tell(fr.at, fr.unknown.Error())
			case failed == nil:
				failed = f(Inspected{File: file.name, At: int64(fr.at), Sequence: fr.sequence, Header: fr.Header, Payload: fr.payload})
			}
			return failed == nil
		}, func(at int, why error) {
			named = true
			tell(at, why.Error())
		})
		if failed != nil {
			return failed
		}
		before = Inspected{File: file.name, At: int64(end)}
	}
	return nil
}
