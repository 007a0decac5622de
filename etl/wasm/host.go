package wasm

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"rustmq.dev/rustmq/storage/guard"
)

// What a module may say by one call.
const (
	maxLines     = 32
	maxLineBytes = 1 << 10
	maxCounters  = 64 // names of counters, also in all of a module's life
	maxCounter   = 64 // bytes of a name
	maxStderr    = 400
	maxWritten   = 64 << 10 // bytes to standard output and error
)

// hostState is what a call has said to the host so far. It is reused by the next.
type hostState struct {
	lines    []line
	dropped  int       // lines, for there were too many
	partial  [2][]byte // written to 1 and 2, and not ended yet
	written  int       // bytes of both
	stderr   []byte    // the start of what was written to 2: what a panic says
	counters []counter
	exited   bool
	exit     int32
	// Clocks and random numbers are those of the batch.
	now    int64         // ns; moved on by who waits
	steady int64         // the same, but it never goes back, in all of the instance's life, and is never 0
	random *rand.ChaCha8 // nil: nobody has asked yet
}

type line struct {
	level slog.Level
	text  string
}

type counter struct {
	name  string
	delta float64
}

// begin makes h ready for a call at the time now, in ms.
func (h *hostState) begin(now int64) {
	clear(h.lines)
	clear(h.counters)
	now = min(max(now, 0), math.MaxInt64/2_000_000) * 1_000_000
	*h = hostState{
		lines: h.lines[:0], counters: h.counters[:0],
		partial: [2][]byte{h.partial[0][:0], h.partial[1][:0]},
		now:     now,
		steady:  max(h.steady, now, 1),
	}
}

func hostFunctions() map[string]function {
	return map[string]function{
		"log": {"iii:", func(i *instance, c *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
			if b := place(i.seen(c), args[1].I32(), uint64(uint32(args[2].I32()))); b != nil {
				level := slog.Level(4 * (min(max(args[0].I32(), 0), 3) - 1)) // debug is -4, error 8
				i.host.log(level, b)
			}
			return nil, nil
		}},
		"metric_add": {"iiF:", func(i *instance, c *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
			if b := place(i.seen(c), args[0].I32(), uint64(uint32(args[1].I32()))); b != nil {
				i.host.count(b, args[2].F64())
			}
			return nil, nil
		}},
	}
}

// clock is what the clock of this number shows, in ns.
func (h *hostState) clock(id uint32) int64 {
	if id == 0 { // realtime
		return h.now
	}
	return h.steady
}

// wait moves the clocks on, as if the guest had slept.
func (h *hostState) wait(ns uint64) {
	h.now += int64(min(ns, uint64(math.MaxInt64-h.now)))
	h.steady += int64(min(ns, uint64(math.MaxInt64-h.steady)))
}

func (h *hostState) log(level slog.Level, b []byte) {
	if !guard.Check("etl.log-lines", len(h.lines) < maxLines) {
		h.dropped++
		return
	}
	if len(b) > maxLineBytes {
		b = append(append(make([]byte, 0, maxLineBytes+3), b[:maxLineBytes]...), "…"...)
	}
	h.lines = append(h.lines, line{level, strings.ToValidUTF8(string(b), "\uFFFD")})
}

// write takes what is written to standard output (0) and standard error (1), and logs
// it by lines. What makes a line too long, or a call say too much, is dropped.
func (h *hostState) write(stream int, b []byte) {
	if room := maxWritten - h.written; len(b) > room {
		b = b[:room]
	}
	h.written += len(b)
	if stream == 1 && len(h.stderr) < maxStderr {
		h.stderr = append(h.stderr, b[:min(len(b), maxStderr-len(h.stderr))]...)
	}
	partial := &h.partial[stream]
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		piece := b
		if end >= 0 {
			piece = b[:end]
		}
		*partial = append(*partial, piece[:min(len(piece), maxLineBytes+1-len(*partial))]...)
		if end < 0 {
			return
		}
		h.end(stream)
		b = b[end+1:]
	}
}

// end ends a line.
func (h *hostState) end(stream int) {
	level := slog.LevelInfo
	if stream == 1 {
		level = slog.LevelWarn
	}
	if len(h.partial[stream]) > 0 {
		h.log(level, h.partial[stream])
	}
	h.partial[stream] = h.partial[stream][:0]
}

func (h *hostState) count(name []byte, delta float64) {
	if !(delta >= 0) || math.IsInf(delta, 0) || !isCounter(name) {
		return
	}
	for i := range h.counters {
		if string(name) == h.counters[i].name {
			h.counters[i].delta += delta
			return
		}
	}
	if len(h.counters) < maxCounters {
		h.counters = append(h.counters, counter{string(name), delta})
	}
}

// isCounter says whether a name is one that metrics can have.
func isCounter(name []byte) bool {
	if len(name) == 0 || len(name) > maxCounter || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// deliver hands what the last call has said to who listens.
func (i *instance) deliver() {
	h, o := &i.host, &i.module.options
	for stream := range h.partial {
		h.end(stream)
	}
	for _, l := range h.lines {
		o.Log(l.level, l.text)
	}
	if h.dropped > 0 {
		o.Log(slog.LevelWarn, fmt.Sprintf("%d lines more were logged by one call and dropped: a call may log %d", h.dropped, maxLines))
	}
	for _, c := range h.counters {
		if i.module.knows(c.name) {
			o.Metric(c.name, c.delta)
		}
	}
}
