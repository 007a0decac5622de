package log

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// TestSmallerBatchDoesNotGoBeforeARefusedOne: nothing is known of its producer, so that
// it would be taken for the first, and the first be out of order when it comes again.
func TestSmallerBatchDoesNotGoBeforeARefusedOne(t *testing.T) {
	now := sentAt
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.MaxUnuploadedShare, o.MaxProducers = 0.125, 3
	o.Now = func() time.Time { return now }
	s := open(t, o)
	l, other := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	filler := strings.Repeat("x", 15<<10)
	try := func(l *Log, id int64, epoch int16, sequence int32, value string) error {
		t.Helper()
		return send(t, l, from(t, id, epoch, sequence, value), anyEpoch).wait(t).Err
	}
	appendAll(t, l, from(t, 1, 0, 0, "of who is known"))
	for send(t, l, values(t, filler), anyEpoch).wait(t).Err == nil {
	}
	wantErr(t, try(l, 7, 0, 0, filler), ErrUploadLag)
	wantErr(t, try(l, 7, 0, 1, "fits"), ErrBehindRefused)
	wantErr(t, try(l, 7, 0, 2, "fits"), ErrFull) // as which clients send it again
	appendAll(t, l, from(t, 1, 0, 1, "of who is known"), values(t, "of nobody"))
	appendAll(t, other, from(t, 7, 0, 5, "elsewhere"))
	setUploaded(t, l, l.HighWatermark())
	wantErr(t, try(l, 7, 0, 1, "fits"), ErrBehindRefused)
	appendAll(t, l, from(t, 7, 0, 0, filler), from(t, 7, 0, 1, "fits"), from(t, 7, 0, 2, "fits"))

	// No place for one more, and no room before Append.
	wantErr(t, try(l, 8, 0, 4, "a"), ErrTooManyProducers)
	first := from(t, 9, 0, 4, "a")
	l.Refused(first, fmt.Errorf("admit: %w", ErrFull))
	l.Refused(from(t, 10, 0, 4, "a"), errors.New("of another reason"))
	s.expire(sentAt.Add(time.Hour).UnixMilli())
	wantErr(t, try(l, 8, 0, 5, "b"), ErrBehindRefused)
	wantErr(t, try(l, 9, 0, 5, "b"), ErrBehindRefused)
	appendAll(t, l, from(t, 10, 0, 5, "b"))
	appendAll(t, l, first, from(t, 9, 0, 5, "b"))

	// Who has given it up goes on in time.
	now = now.Add(refusalExpiry - time.Millisecond)
	wantErr(t, try(l, 8, 0, 5, "b"), ErrBehindRefused)
	now = now.Add(time.Millisecond)
	appendAll(t, l, from(t, 8, 0, 5, "b"))
	if n := len(s.refusals.of); n != 0 {
		t.Fatalf("%d refusals are noted still", n)
	}
}

// TestRefusalsAreBounded, and those that are old make room.
func TestRefusalsAreBounded(t *testing.T) {
	now := sentAt
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Now = func() time.Time { return now }
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	for id := range int64(maxRefusals + 10) {
		l.Refused(from(t, id, 0, 0, "a"), ErrFull)
	}
	if n := len(s.refusals.of); n != maxRefusals {
		t.Fatalf("%d are noted", n)
	}
	now = now.Add(refusalExpiry)
	l.Refused(from(t, 1<<40, 0, 0, "a"), ErrFull)
	if n := len(s.refusals.of); n != 1 {
		t.Fatalf("%d are noted", n)
	}
	wantErr(t, send(t, l, from(t, 1<<40, 0, 1, "b"), AppendOptions{Epoch: storage.NoEpoch}).wait(t).Err, ErrBehindRefused)
}
