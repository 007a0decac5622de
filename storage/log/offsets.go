package log

import (
	"errors"
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// OffsetForTime returns the first committed record of the WAL that is not older
// than millis, its offset and timestamp. ok is false when there is none. What
// lies below [Log.LocalStart], asked for afterwards, was not looked at, and comes
// first: that is for the caller to look up in the bucket.
func (l *Log) OffsetForTime(millis int64) (offset storage.Offset, timestamp int64, ok bool, err error) {
	from := l.LocalStart()
	for {
		at, found, err := l.seekTime(millis, from)
		if err != nil || !found {
			return storage.NoOffset, batch.NoTimestamp, false, err
		}
		next, offset, timestamp, ok, err := l.scan(at, func(r *batch.Record) bool { return r.Timestamp >= millis })
		if err != nil || ok {
			return offset, timestamp, ok, err
		}
		// A producer may claim a time for its batch that no record has, and the
		// log start may lie behind the record that has it.
		from = next
	}
}

// MaxTimestampOffset returns the committed record of the WAL with the largest
// timestamp, the first of them (KIP-734). ok is false when there is none. As with
// OffsetForTime, what lies below [Log.LocalStart] is for the caller to look up.
func (l *Log) MaxTimestampOffset() (offset storage.Offset, timestamp int64, ok bool, err error) {
	largest, first := l.largest()
	// The record that made a batch the largest may lie before the log start: of
	// the batch that this lies in, only a look inside tells.
	best := storage.NoOffset
	timestamp = batch.NoTimestamp
	for _, at := range []storage.Offset{first, largest} {
		if at == storage.NoOffset {
			continue
		}
		_, o, millis, found, err := l.scan(at, nil)
		if err != nil {
			return storage.NoOffset, batch.NoTimestamp, false, err
		}
		if found && millis > timestamp {
			best, timestamp = o, millis
		}
	}
	return best, timestamp, best != storage.NoOffset, nil
}

// TimestampAt returns the largest timestamp of the first committed batch of the WAL
// that ends behind offset, from the index alone: of a producer's clock, unless the
// topic stamps what is appended. ok is false when there is none, when it has none,
// or when offset lies below [Log.LocalStart].
func (l *Log) TimestampAt(offset storage.Offset) (millis int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < l.localStart {
		return batch.NoTimestamp, false
	}
	p := l.index.find(offset)
	if !l.index.valid(p) {
		return batch.NoTimestamp, false
	}
	b, e := l.index.at(p)
	if b.nextOf(p.entry) > l.replica.highWatermark || e.maxTimestamp < 0 {
		return batch.NoTimestamp, false
	}
	return e.maxTimestamp, true
}

// largest returns the base offset of the committed batch with the largest
// timestamp, by what batches say, among those that lie behind the log start
// as a whole; and that of the one which the log start lies in.
func (l *Log) largest() (largest, first storage.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	largest, first = storage.NoOffset, storage.NoOffset
	millis := batch.NoTimestamp
	for p := l.index.find(l.localStart); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		if b.nextOf(p.entry) > l.replica.highWatermark {
			break
		}
		switch {
		case b.baseOf(p.entry) < l.logStart:
			first = b.baseOf(p.entry)
		case b.maxTimestamp <= millis:
			p.entry = len(b.entries) - 1 // nothing in this block is larger
		case e.maxTimestamp > millis:
			largest, millis = b.baseOf(p.entry), e.maxTimestamp
		}
	}
	return largest, first
}

// seekTime returns the base offset of the first committed batch from an offset
// on that has a record not older than millis, by what the batches say.
func (l *Log) seekTime(millis int64, from storage.Offset) (at storage.Offset, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return 0, false, l.refused
	}
	for p := l.index.find(max(from, l.localStart)); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		if b.nextOf(p.entry) > l.replica.highWatermark {
			break
		}
		if b.maxTimestamp < millis {
			p.entry = len(b.entries) - 1 // on to the next block
			continue
		}
		if e.maxTimestamp >= millis {
			return b.baseOf(p.entry), true, nil
		}
	}
	return 0, false, nil
}

// scan reads the batch at an offset and returns its first record, not before the
// log start, that is what is looked for, or, with nil, the one with the largest
// timestamp; next is the offset behind the batch.
func (l *Log) scan(at storage.Offset, is func(*batch.Record) bool) (next, offset storage.Offset, timestamp int64, ok bool, err error) {
	offset, timestamp = storage.NoOffset, batch.NoTimestamp
	read, err := l.Read(ReadRequest{Offset: max(at, l.LocalStart()), MaxBytes: 0, MinOne: true})
	if gone, ok := errors.AsType[*NotLocalError](err); ok {
		return gone.LocalStart, offset, timestamp, false, nil // given up meanwhile
	}
	if err != nil {
		return 0, offset, timestamp, false, err
	}
	defer read.Release()
	if len(read.Batches) == 0 {
		if at < read.HighWatermark { // committed before it is on disk, and no memory to be pinned
			return 0, offset, timestamp, false, fmt.Errorf("look into %s at %d: %w", l.id, at, ErrOffsetNotAvailable)
		}
		return at + 1, offset, timestamp, false, nil
	}
	b := batch.Batch(read.Batches[0])
	it := b.Records(0)
	for it.Next() {
		r := it.Record()
		if r.Offset < read.LogStart {
			continue
		}
		if is != nil && is(r) {
			return b.NextOffset(), r.Offset, r.Timestamp, true, nil
		}
		if is == nil && r.Timestamp > timestamp {
			offset, timestamp = r.Offset, r.Timestamp
		}
	}
	if it.Err() != nil {
		// Its CRC is right: the producer made it so. That is no reason to find
		// nothing in the rest of the log, so it counts as one record.
		return b.NextOffset(), max(b.BaseOffset(), read.LogStart), b.MaxTimestamp(), true, nil
	}
	return b.NextOffset(), offset, timestamp, offset != storage.NoOffset, nil
}
