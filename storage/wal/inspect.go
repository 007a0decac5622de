package wal

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"rustmq.dev/rustmq/storage/disk"
)

// Inspected is a frame as it lies in a file.
type Inspected struct {
	File     string
	At       int64
	Sequence uint64
	Header   Header
	Payload  []byte
}

// Inspect calls f for every whole frame of the segments in dir, in order of log
// number. It takes no lock, decides nothing and changes nothing: superseded
// frames and those of a torn tail are among them, damaged ones are not.
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
		if err != nil {
			continue // a spare, or damaged: nothing in it can be told apart
		}
		files = append(files, file{name, h, raw})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.header.log, b.header.log) })
	for _, file := range files {
		var failed error
		walk(&segment{stamp: file.header.stamp}, file.bytes, func(at int, fr frame, payload []byte, err error) bool {
			if err == nil {
				failed = f(Inspected{file.name, int64(at), fr.sequence, fr.Header, payload})
			}
			return failed == nil
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}
