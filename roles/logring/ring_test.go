package logring

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// What a log is told is kept as JSON with its attributes, whatever the log prints.
func TestKeepsWhatTheLogDoesNotPrint(t *testing.T) {
	r := New(1 << 20)
	var printed bytes.Buffer
	log := slog.New(r.Handler(slog.NewTextHandler(&printed, &slog.HandlerOptions{Level: slog.LevelWarn}), slog.Int("node", 7))).With("room", "x")
	log.Debug("no")
	log.Info("yes", "topic", "t")
	if printed.Len() != 0 {
		t.Errorf("printed %s", printed.String())
	}
	lines := r.Last(10)
	if len(lines) != 1 {
		t.Fatalf("%d lines are kept", len(lines))
	}
	var got map[string]any
	if err := json.Unmarshal(lines[0], &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"msg": "yes", "topic": "t", "room": "x", "node": 7.0, "level": "INFO"} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

// What the log prints of less is kept too, from when it does.
func TestFollowsTheLevelOfTheLog(t *testing.T) {
	r, level := New(1<<20), new(slog.LevelVar)
	log := slog.New(r.Handler(slog.NewTextHandler(new(bytes.Buffer), &slog.HandlerOptions{Level: level})))
	log.Debug("before")
	level.Set(slog.LevelDebug)
	log.Debug("after")
	if lines := r.Last(10); len(lines) != 1 || !strings.Contains(string(lines[0]), "after") {
		t.Errorf("kept %s", lines)
	}
}

// However much is written, the ring holds its bytes, and the newest lines.
func TestHoldsItsBytes(t *testing.T) {
	const most = 64 << 10
	r := New(most)
	log := slog.New(r.Handler(slog.DiscardHandler))
	log.Info("long", "value", strings.Repeat("x", 1<<20))
	if lines := r.Last(1); len(lines) != 1 || !strings.Contains(string(lines[0]), "is not kept here") || !json.Valid(lines[0]) {
		t.Errorf("a long line is kept as %.200s", lines)
	}
	for i := range 10_000 {
		log.Info("line", "i", i)
	}
	all, size := r.Last(1<<30), 0
	for _, line := range all {
		size += len(line)
	}
	if size > most || size < most/2 {
		t.Errorf("%d bytes are kept, of %d", size, most)
	}
	last := r.Last(2)
	if len(last) != 2 || !strings.Contains(string(last[0]), `"i":9998`) || !strings.Contains(string(last[1]), `"i":9999`) {
		t.Errorf("the last two are %s", last)
	}
	if n := len(r.Last(-1)); n != 0 {
		t.Errorf("%d lines of -1", n)
	}
}
