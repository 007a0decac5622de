package pki

import (
	"context"
	"slices"
	"time"
)

// fileSet is files that are looked at together, such as a certificate and its key.
type fileSet struct {
	names  []string
	seen   []fileMark // as they were when they were last told of
	coming []fileMark // as the last look has found them
}

// look reports whether the files have changed since the last time that it did, and two looks
// in a row have found them the same: who writes them may not be done.
func (s *fileSet) look() bool {
	now := s.marks()
	switch {
	case same(now, s.seen):
	case !same(now, s.coming):
	default:
		s.seen, s.coming = now, now
		return true
	}
	s.coming = now
	return false
}

func (s *fileSet) marks() []fileMark {
	marks := make([]fileMark, len(s.names))
	for i, name := range s.names {
		marks[i], _ = markOf(name) // one that is not there has none
	}
	return marks
}

func same(a, b []fileMark) bool { return slices.EqualFunc(a, b, fileMark.same) }

// WatchFiles calls changed each time that some of the files were replaced, written to or
// removed, once none is any more, until ctx ends. It looks at them once in every.
func WatchFiles(ctx context.Context, files []string, every time.Duration, changed func()) {
	set := &fileSet{names: files}
	set.seen = set.marks()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if set.look() {
			changed()
		}
	}
}
