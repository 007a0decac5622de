package rustmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Then is what becomes of a record whose attempts are used up.
type Then int

// What becomes of records that cannot be handled.
const (
	Stop       Then = iota // Run ends with a *ProcessingError; the record is read again
	Skip                   // it is passed over, and logged
	DeadLetter             // it goes to Failures.DeadLetterTopic, and is passed over
)

// Defaults of retries.
const (
	defaultPause    = 100 * time.Millisecond
	defaultMaxPause = 10 * time.Second
	largestReason   = 1024 // bytes of an error in a header
)

// Failures says what is done when a handler fails. The zero value stops at once.
type Failures struct {
	// Retries is how often a record is tried again; negative: without end. What waits for
	// it waits: records of its key, or of its partition where there is one worker.
	Retries int
	// Pause before the first retry, doubled for each further one; default 100 ms, up to
	// MaxPause, default 10 s.
	Pause, MaxPause time.Duration
	// Then is what follows.
	Then Then
	// DeadLetterTopic is for DeadLetter. Records arrive there with key, value, headers and
	// timestamp as they were, and with headers rustmq.dlt.topic, .partition, .offset, .timestamp
	// (milliseconds), .group, .attempts and .reason. It is acked there before the record
	// counts as handled: a crash between leaves two, and never none.
	DeadLetterTopic string
}

func (f Failures) validate() error {
	switch {
	case f.Then < Stop || f.Then > DeadLetter:
		return fmt.Errorf("Failures.Then is %d: want Stop, Skip or DeadLetter", int(f.Then))
	case f.Then == DeadLetter && f.DeadLetterTopic == "":
		return errors.New("Failures.Then is DeadLetter: name the DeadLetterTopic")
	case f.Pause < 0 || f.MaxPause < 0:
		return errors.New("Failures.Pause and MaxPause: want 0 or more")
	}
	return nil
}

// pause is how long to wait before the attempt after attempt, counted from 1.
func (f Failures) pause(attempt int) time.Duration {
	d, most := f.Pause, f.MaxPause
	if d == 0 {
		d = defaultPause
	}
	if most == 0 {
		most = defaultMaxPause
	}
	for range attempt - 1 {
		if d *= 2; d >= most {
			break
		}
	}
	return min(d, most)
}

// more reports whether there is another attempt after attempt ones.
func (f Failures) more(attempt int, err error) bool {
	return !isPermanent(err) && (f.Retries < 0 || attempt <= f.Retries)
}

// deadLetter makes the record that goes to the dead-letter topic.
func (f Failures) deadLetter(r *Record, group string, attempts int, err error) *Record {
	reason := err.Error()
	if len(reason) > largestReason {
		reason = reason[:largestReason]
	}
	headers := append([]Header(nil), r.Headers...)
	for _, h := range [][2]string{
		{"topic", r.Topic}, {"partition", strconv.Itoa(int(r.Partition))}, {"offset", strconv.FormatInt(r.Offset, 10)},
		{"timestamp", strconv.FormatInt(r.Timestamp.UnixMilli(), 10)}, {"group", group}, {"attempts", strconv.Itoa(attempts)}, {"reason", reason},
	} {
		headers = append(headers, Header{Key: "rustmq.dlt." + h[0], Value: []byte(h[1])})
	}
	return &Record{Topic: f.DeadLetterTopic, Key: r.Key, Value: r.Value, Headers: headers, Timestamp: r.Timestamp}
}

// wait sleeps, and reports whether it was not interrupted.
func wait(ctx context.Context, d time.Duration, interrupted <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-interrupted:
	}
	return false
}

// BatchError, returned by a handler of batches, says which messages failed, by their place in
// the batch; the others are handled. Any other error fails all.
type BatchError struct{ Failed map[int]error }

func (e *BatchError) Error() string {
	for _, err := range e.Failed {
		return fmt.Sprintf("%d messages of the batch failed, one of them: %v", len(e.Failed), err)
	}
	return "no message of the batch failed"
}
