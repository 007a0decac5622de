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
// number, for what is damaged between them, and for the frames that are missing there,
// at the begin, or at the end, as far as the log says what it should have. It takes no
// lock, decides nothing and changes nothing: superseded frames and those of a torn tail
// are among them, and what tore the tail is damage.
func Inspect(fsys disk.FS, dir string, f func(Inspected) error) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	in := inspection{f: f}
	var files []inspectedFile
	var last uint64 // that should be there
	for _, name := range names {
		if name == cleanName {
			if b, err := disk.ReadFile(fsys, path.Join(dir, name)); err == nil {
				end, _ := decodeClean(b)
				last = max(last, end)
			}
		}
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
		mark, begin := marksOf(raw, h.stamp)
		last, in.begin = max(last, h.mark, mark), max(in.begin, h.begin, begin)
		files = append(files, inspectedFile{name, h})
	}
	slices.SortFunc(files, func(a, b inspectedFile) int { return cmp.Compare(a.header.log, b.header.log) })
	in.at, in.next = Inspected{File: cleanName}, in.begin // where there is no segment, the note has said what is missing
	if len(files) > 0 {
		in.at.File = files[0].name
	}
	for _, file := range files {
		raw, err := disk.ReadFile(fsys, path.Join(dir, file.name))
		if err != nil {
			return fmt.Errorf("read %s: %w", file.name, err)
		}
		if in.file(file, raw); in.err != nil {
			return in.err
		}
	}
	in.reach(last + 1)
	return in.err
}

// inspectedFile is a segment by its name.
type inspectedFile struct {
	name   string
	header segmentHeader
}

// inspection is an Inspect on its way through the segments.
type inspection struct {
	f     func(Inspected) error
	err   error     // of f
	begin uint64    // the first frame of the log; those before it were recycled
	next  uint64    // the frame that is to come
	at    Inspected // where it should lie; with a problem: why it cannot be read, not told yet
}

func (in *inspection) file(file inspectedFile, raw []byte) {
	in.reach(file.header.first)
	in.at = Inspected{File: file.name, At: blockSize}
	end := walk(&segment{stamp: file.header.stamp}, raw, func(fr found) bool {
		if in.at.Problem == "" {
			in.at.At = int64(fr.behind)
		}
		in.reach(fr.sequence)
		in.at, in.next = Inspected{File: file.name, At: int64(fr.at)}, fr.sequence+1
		if fr.unknown != nil {
			in.tell(Inspected{File: file.name, At: int64(fr.at), Problem: fr.unknown.Error()})
		} else {
			in.tell(Inspected{File: file.name, At: int64(fr.at), Sequence: fr.sequence, Header: fr.Header, Payload: fr.payload})
		}
		return in.err == nil
	}, func(at int, why error) {
		if in.at.Problem != "" {
			in.tell(in.at)
		}
		in.at = Inspected{File: file.name, At: int64(at), Problem: why.Error()}
	})
	if in.at.Problem == "" {
		in.at.At = int64(end)
	}
}

// reach tells what cannot be read, and which frames are missing, before the one with
// that sequence.
func (in *inspection) reach(sequence uint64) {
	if from := max(in.next, in.begin); from < sequence && sequence > 1 {
		if in.at.Problem != "" {
			in.at.Problem += ": "
		}
		which := fmt.Sprintf("frames %d to %d", from, sequence-1)
		if from == 0 { // nothing says with which one the log begins
			which = fmt.Sprintf("the frames up to %d", sequence-1)
		}
		in.at.Problem += which + " are missing or damaged"
		in.next = sequence
	}
	if in.at.Problem != "" {
		in.tell(in.at)
		in.at.Problem = ""
	}
}

func (in *inspection) tell(i Inspected) {
	if in.err == nil {
		in.err = in.f(i)
	}
}
