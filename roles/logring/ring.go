package logring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// A line that is longer than this is told of, and not kept: it would take the place of
// hundreds of others.
const maxLine = 16 << 10

// lineOverhead is what a line takes beside its bytes.
const lineOverhead = 24

// Ring is the last lines of a log.
type Ring struct {
	most int

	mu    sync.Mutex
	lines [][]byte // from the oldest on; guarded by mu
	bytes int      // of lines, with their overhead; guarded by mu
}

// New returns a ring of at most so many bytes, which is empty.
func New(most int) *Ring { return &Ring{most: most} }

// Handler returns one that keeps what it is told, as JSON, and tells next as well. It keeps
// info and what is worse in any case, and of the rest what next takes too.
func (r *Ring) Handler(next slog.Handler, attrs ...slog.Attr) slog.Handler {
	kept := slog.NewJSONHandler(r, &slog.HandlerOptions{Level: follows{next}})
	return slog.NewMultiHandler(next, kept.WithAttrs(attrs))
}

// follows is debug while a handler takes that, and info else.
type follows struct{ of slog.Handler }

func (f follows) Level() slog.Level {
	if f.of.Enabled(context.Background(), slog.LevelDebug) {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Write takes one line, as handlers of slog write them. It never fails.
func (r *Ring) Write(line []byte) (int, error) {
	n := len(line)
	if n > maxLine {
		line = fmt.Appendf(nil, "{\"level\":\"WARN\",\"msg\":\"a line of %d bytes is not kept here\"}\n", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, slices.Clone(line))
	r.bytes += len(line) + lineOverhead
	gone := 0
	for ; r.bytes > r.most && gone < len(r.lines); gone++ {
		r.bytes -= len(r.lines[gone]) + lineOverhead
		r.lines[gone] = nil
	}
	r.lines = r.lines[gone:]
	return n, nil
}

// Last returns the last lines, n at most, the oldest first, each with its end. They are not
// to be changed.
func (r *Ring) Last(n int) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines[max(0, len(r.lines)-max(n, 0)):])
}
