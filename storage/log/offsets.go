package log

import (
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// OffsetForTime returns the first committed record that is not older than
// millis, its offset and timestamp. ok is false when there is none.
func (l *Log) OffsetForTime(millis int64) (offset storage.Offset, timestamp int64, ok bool, err error) {
	from := l.LogStart()
	for {
		at, found, err := l.seekTime(millis, from)
		if err != nil || !found {
			return storage.NoOffset, batch.NoTimestamp, false, err
		}
		next, offset, timestamp, ok, err := l.scan(at, func(b batch.Batch, r *batch.Record) bool { return r.Timestamp >= millis })
		if err != nil || ok {
			return offset, timestamp, ok, err
		}
		// A producer may claim a time for its batch that no record has, and the
		// log start may lie behind the record that has it.
		from = next
	}
}

// MaxTimestampOffset returns the committed record with the largest timestamp,
// the first of them (KIP-734). ok is false when there is none.
func (l *Log) MaxTimestampOffset() (offset storage.Offset, timestamp int64, ok bool, err error) {
	l.mu.Lock()
	var largest *entry
	var at storage.Offset
	for p := l.index.find(l.logStart); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		if b.nextOf(p.entry) > l.replica.highWatermark {
			break
		}
		if largest != nil && b.maxTimestamp <= largest.maxTimestamp {
			p.entry = len(b.entries) - 1 // nothing in this block is larger
			continue
		}
		if largest == nil || e.maxTimestamp > largest.maxTimestamp {
			largest, at = e, b.baseOf(p.entry)
		}
	}
	if largest == nil || largest.maxTimestamp == batch.NoTimestamp {
		l.mu.Unlock()
		return storage.NoOffset, batch.NoTimestamp, false, nil
	}
	millis := largest.maxTimestamp
	l.mu.Unlock()
	_, offset, timestamp, ok, err = l.scan(at, func(b batch.Batch, r *batch.Record) bool { return r.Timestamp >= millis })
	return offset, timestamp, ok, err
}

// seekTime returns the base offset of the first committed batch from an offset
// on that has a record not older than millis, by what the batches say.
func (l *Log) seekTime(millis int64, from storage.Offset) (at storage.Offset, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return 0, false, l.refused
	}
	for p := l.index.find(max(from, l.logStart)); l.index.valid(p); p = l.index.following(p) {
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
// log start, that is what is looked for; next is the offset behind the batch.
func (l *Log) scan(at storage.Offset, is func(batch.Batch, *batch.Record) bool) (next, offset storage.Offset, timestamp int64, ok bool, err error) {
	read, err := l.Read(ReadRequest{Offset: max(at, l.LogStart()), MaxBytes: 0, MinOne: true})
	if err != nil {
		return 0, storage.NoOffset, batch.NoTimestamp, false, err
	}
	defer read.Release()
	if len(read.Batches) == 0 {
		return at + 1, storage.NoOffset, batch.NoTimestamp, false, nil
	}
	b := batch.Batch(read.Batches[0])
	it := b.Records(0)
	for it.Next() {
		if r := it.Record(); r.Offset >= read.LogStart && is(b, r) {
			return b.NextOffset(), r.Offset, r.Timestamp, true, nil
		}
	}
	if it.Err() != nil {
		// Its CRC is right: the producer made it so. That is no reason to find
		// nothing in the rest of the log, so it counts as one record.
		return b.NextOffset(), max(b.BaseOffset(), read.LogStart), b.MaxTimestamp(), true, nil
	}
	return b.NextOffset(), storage.NoOffset, batch.NoTimestamp, false, nil
}
