package log

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// What it takes to give a batch another codec.
const (
	// expansionMemory is what batches that are being recompressed take, of all
	// logs. A few KiB expand to 64 MiB: without a bound, as many connections as
	// there are would each hold that.
	expansionMemory = 192 << 20
	// usualExpansion is tried first, so that ordinary batches, which expand to
	// less, are not held up by each other.
	usualExpansion = 4 << 20
	// expansionCost is what recompressing takes for each byte that the records
	// may expand to: them, what they grow from, and what they are packed into.
	expansionCost = 2
)

// Transcoded is what Transcode found out about a batch, and the memory of one that
// has another codec than it came with.
type Transcoded struct {
	Condition Condition     // for AppendOptions
	Waited    time.Duration // for the memory that others held; also beside an error
	e         *expansions
	n         int64
}

// Release gives the memory back, after the batch was appended or refused.
func (t Transcoded) Release() {
	if t.n > 0 {
		t.e.give(t.n)
	}
}

// Transcode returns a batch as the log stores it: with the codec of its topic,
// where that has one. Of a topic that is compacted it looks at the records, and of one
// that takes conditions it reads that, before anything is changed. It is called before
// [Store.Admit], with what it returns; it waits while other batches are recompressed.
// waits, if there is one, is called before that: who holds batches that Transcode
// returned, and waits for another, gives them up there, or all wait for each other.
// Errors: *batch.Error, that of ctx.
func (l *Log) Transcode(ctx context.Context, records []byte, waits func()) ([]byte, Transcoded, error) {
	c := l.config.Load()
	w := expansionWait{before: waits}
	if c.Keyed {
		if err := l.checkKeys(ctx, records, c, &w); err != nil {
			return nil, Transcoded{Waited: w.took}, err
		}
	}
	var condition Condition
	if c.ExpectOffset {
		var err error
		if condition, err = l.readCondition(ctx, records, c, &w); err != nil {
			return nil, Transcoded{Waited: w.took}, err
		}
	}
	out, transcoded, err := l.recompress(ctx, records, c, &w)
	transcoded.Condition, transcoded.Waited = condition, w.took
	return out, transcoded, err
}

// recompress gives a batch the codec of its topic.
func (l *Log) recompress(ctx context.Context, records []byte, c *Config, w *expansionWait) ([]byte, Transcoded, error) {
	if !c.Recompress {
		return records, Transcoded{}, nil
	}
	b, rest, err := batch.Next(records)
	if err != nil || len(rest) > 0 || b.IsControl() || b.Codec() == c.Codec {
		return records, Transcoded{}, nil // Append says what is wrong with it
	}
	// Nothing is expanded that would be refused as it came.
	if err := batch.Validate(b, &batch.Limits{MaxBytes: c.MaxMessageBytes}); err != nil {
		return nil, Transcoded{}, err
	}
	most := int64(math.MaxInt64)
	if c.MaxMessageBytes > 0 {
		most = int64(c.MaxMessageBytes)
	}
	bound := int64(batch.DefaultMaxDecompressed)
	if c.Codec == batch.None {
		bound = min(bound, most) // what is larger is refused below
	}
	e := &l.store.expansions
	for limit := min(usualExpansion, bound); ; limit = bound {
		held := limit * expansionCost
		if err := l.takeExpansion(ctx, held, w); err != nil {
			return nil, Transcoded{}, fmt.Errorf("recompress a batch of %s: %w", l.id, err)
		}
		out, err := batch.Recompress(b, c.Codec, c.Level, limit)
		var refused *batch.Error
		switch {
		case errors.As(err, &refused) && refused.Code == batch.DecompressedTooLarge && limit < bound:
			e.give(held)
			continue
		case err == nil && !guard.Check("log.recompressed-size", int64(len(out)) <= most):
			// Kafka looks again, too: the bound is for what is stored.
			err = &batch.Error{Code: batch.MessageTooLarge, Reason: fmt.Sprintf("%d bytes of %s are %d of %s, at most %d are stored", len(b), b.Codec(), len(out), c.Codec, most)}
		}
		if err != nil {
			e.give(held)
			return nil, Transcoded{}, err
		}
		e.give(held - int64(len(out)))
		return out, Transcoded{e: e, n: int64(len(out))}, nil
	}
}

// checkKeys says which record of a batch has no key, or cannot be read: compaction
// could do nothing with it.
func (l *Log) checkKeys(ctx context.Context, records []byte, c *Config, w *expansionWait) error {
	b, rest, err := batch.Next(records)
	if err != nil || len(rest) > 0 || b.IsControl() {
		return nil // Append says what is wrong with it
	}
	if err := batch.Validate(b, &batch.Limits{MaxBytes: c.MaxMessageBytes}); err != nil {
		return err
	}
	if b.Codec() == batch.None {
		return keyed(b, 0)
	}
	return l.expanded(ctx, 1, w, func(limit int64) error { return keyed(b, limit) })
}

// expanded calls look with a bound on what it may expand, and once more with a higher
// one if that is too low. cost is what it takes for each byte of the bound.
func (l *Log) expanded(ctx context.Context, cost int64, w *expansionWait, look func(limit int64) error) error {
	e := &l.store.expansions
	for limit := int64(usualExpansion); ; limit = batch.DefaultMaxDecompressed {
		if err := l.takeExpansion(ctx, limit*cost, w); err != nil {
			return fmt.Errorf("look at the records of a batch of %s: %w", l.id, err)
		}
		err := look(limit)
		e.give(limit * cost)
		if refused, ok := errors.AsType[*batch.Error](err); ok && refused.Code == batch.DecompressedTooLarge && limit < batch.DefaultMaxDecompressed {
			continue
		}
		return err
	}
}

// expansionWait is how one batch waits for memory to be expanded in.
type expansionWait struct {
	before func() // called before it waits; may be nil
	took   time.Duration
}

// takeExpansion takes the memory of a batch that is expanded, and adds up how long
// that took.
func (l *Log) takeExpansion(ctx context.Context, n int64, w *expansionWait) error {
	if l.store.expansions.tryTake(n) {
		return nil
	}
	if w.before != nil {
		w.before()
	}
	begun := l.store.o.Now()
	err := l.store.expansions.take(ctx, n)
	w.took += l.store.o.Now().Sub(begun)
	return err
}

func keyed(b batch.Batch, limit int64) error {
	var refused *batch.Error
	it := b.Records(limit)
	for n := 0; it.Next(); n++ {
		if guard.Check("log.keyed", it.Record().Key != nil) {
			continue
		}
		if refused == nil {
			refused = &batch.Error{Code: batch.InvalidRecord, Reason: fmt.Sprintf("record %d has no key, and the topic is compacted", n)}
		}
		refused.Blame(n, "no key, and the topic is compacted")
	}
	if err := it.Err(); err != nil || refused == nil {
		return err
	}
	return refused
}

// expansions is the memory of batches that are recompressed. First come, first
// served. What is larger than all of it passes when it is alone.
type expansions struct {
	mu      sync.Mutex
	used    int64       // guarded by mu
	waiting []expansion // guarded by mu
}

type expansion struct {
	n     int64
	ready chan struct{}
}

// tryTake takes n bytes if nobody has to wait for that.
func (e *expansions) tryTake(n int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) > 0 || !e.fits(n) {
		return false
	}
	e.used += n
	return true
}

func (e *expansions) take(ctx context.Context, n int64) error {
	e.mu.Lock()
	if len(e.waiting) == 0 && e.fits(n) {
		e.used += n
		e.mu.Unlock()
		return nil
	}
	w := expansion{n, make(chan struct{})}
	e.waiting = append(e.waiting, w)
	e.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.IndexFunc(e.waiting, func(o expansion) bool { return o.ready == w.ready }); i >= 0 {
		e.waiting = slices.Delete(e.waiting, i, i+1)
	} else {
		e.used -= n // it was given in the same moment
	}
	e.admit()
	return ctx.Err()
}

func (e *expansions) give(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used -= n
	e.admit()
}

func (e *expansions) fits(n int64) bool {
	return guard.Check("log.expansion-memory", e.used == 0 || e.used+n <= expansionMemory)
}

// admit lets those in who wait, in order. e.mu is held.
func (e *expansions) admit() {
	for len(e.waiting) > 0 && e.fits(e.waiting[0].n) {
		e.used += e.waiting[0].n
		close(e.waiting[0].ready)
		e.waiting = e.waiting[1:]
	}
}
