package log

import (
	"errors"
	"fmt"
	"sync"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Isolation says how far a reader sees.
type Isolation uint8

// Isolations.
const (
	HighWatermark Isolation = iota // what is committed: read_uncommitted
	LastStable                     // what is committed and in no open transaction: read_committed
	LogEnd                         // everything, what is not on disk yet too: replicas
	Uploadable                     // what may go to the bucket, which with Config.BucketAcks nobody else sees yet
)

// ReadRequest says what to read.
type ReadRequest struct {
	Offset    storage.Offset // the first batch is the one this lies in
	MaxBytes  int
	MinOne    bool // the first batch is read even if it is larger than MaxBytes
	Isolation Isolation
}

// ReadResult is whole batches, as they were appended, one after the other. Their
// bytes are the log's: they must not be changed, nor used after Release.
type ReadResult struct {
	Batches                             [][]byte
	Bytes                               int
	HighWatermark, LastStable, LogStart storage.Offset
	Epoch                               storage.Epoch // that is led; NoEpoch: none, and the result is not for followers
	Aborted                             []Aborted     // with isolation LastStable: transactions that have batches here, or before, and were aborted
	lease                               *lease
}

// Release gives the memory of the batches back. It may be called again.
func (r *ReadResult) Release() {
	if r.lease != nil {
		r.lease.release()
	}
	*r = ReadResult{}
}

// lease is the memory of a result: pins of the WAL's chunks, and a buffer for
// what was read from files.
type lease struct {
	wanted  []wanted
	synced  storage.Offset // from here on the files do not have it yet
	refs    []wal.Ref
	batches [][]byte
	pins    []wal.Pin
	buf     []byte
}

// wanted is a batch to read.
type wanted struct {
	base storage.Offset
	ref  wal.Ref
}

const (
	// maxPooledRead is the largest buffer that is kept for another read: what a consumer
	// with much to catch up on asks for of a partition, and what lies between. The kernel's
	// first touch of new memory costs as much as the read.
	maxPooledRead = 10 << 20
	// roomyRead is how many times as large as a read its buffer may be, if it is
	// larger than spareRead. Readers may keep what they read for long, and are
	// asked to account for no more than that.
	roomyRead = 4
	spareRead = 32 << 10
)

var leases = sync.Pool{New: func() any { return new(lease) }}

// clear lets go of what is read, to read anew.
func (r *lease) clear() {
	for _, p := range r.pins {
		p.Release()
	}
	clear(r.batches)
	clear(r.pins)
	r.wanted, r.batches, r.pins = r.wanted[:0], r.batches[:0], r.pins[:0]
}

func (r *lease) release() {
	r.clear()
	if cap(r.buf) > maxPooledRead {
		r.buf = nil
	}
	leases.Put(r)
}

// Read returns the batches from an offset on. An offset at the end gives none.
// Batches in memory are pinned, others are read from the WAL's files and
// checked; where one cannot be read that the bucket has, it is left to that, and the
// local start moves behind it. Errors: *OffsetOutOfRangeError, *NotLocalError, *CorruptionError,
// *wal.CorruptionError, ErrClosed, ErrDropped.
func (l *Log) Read(q ReadRequest) (ReadResult, error) {
	for {
		result, err := l.look(q)
		if err != nil || result.lease == nil {
			return result, err
		}
		err = l.load(result.lease)
		if err == nil {
			result.Batches = result.lease.batches
			for _, b := range result.Batches {
				result.Bytes += len(b)
			}
			return result, nil
		}
		moved := l.moved(result.lease.wanted)
		left := !moved && l.leaveDamaged(result.lease.wanted)
		result.Release()
		if left {
			continue // what it is told now is where it lies
		}
		// Not found where it was expected: it may have been copied elsewhere,
		// or trimmed, since we looked. Only the log start says what is gone.
		if !guard.Check("log.look-again", !moved) {
			continue
		}
		return ReadResult{}, fmt.Errorf("read %s at offset %d: %w", l.id, q.Offset, err)
	}
}

// look finds the batches to read.
func (l *Log) look(q ReadRequest) (ReadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return ReadResult{}, l.refused
	}
	hw := l.replica.highWatermark
	result := ReadResult{HighWatermark: hw, LastStable: l.lastStable(), LogStart: l.logStart, Epoch: l.epoch}
	if q.Offset > l.end && l.followed != storage.NoEpoch {
		return ReadResult{}, fmt.Errorf("read %s at %d, it is replicated to %d: %w", l.id, q.Offset, l.end, ErrOffsetNotAvailable)
	}
	if q.Offset < l.logStart || q.Offset > l.end {
		return ReadResult{}, &OffsetOutOfRangeError{Offset: q.Offset, LogStart: l.logStart, End: l.end}
	}
	if !guard.Check("log.read-local", q.Offset >= l.localStart) {
		return ReadResult{}, &NotLocalError{Offset: q.Offset, LocalStart: l.localStart}
	}
	limit := hw
	switch q.Isolation {
	case LastStable:
		limit = result.LastStable
	case LogEnd:
		limit = l.end
	case Uploadable:
		limit = l.uploadable()
	}
	if q.Isolation != LogEnd && q.Isolation != Uploadable {
		if err := l.readable(q.Offset); err != nil {
			return ReadResult{}, err
		}
	}
	var r *lease
	left, to := q.MaxBytes, q.Offset
	for p := l.index.find(q.Offset); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		size := int(e.ref.Length)
		if !guard.Check("log.read-committed", b.nextOf(p.entry) <= limit) || size > left && !(q.MinOne && r == nil) {
			break
		}
		if r == nil {
			r = leases.Get().(*lease)
			r.synced = l.replica.synced
		}
		r.wanted = append(r.wanted, wanted{b.baseOf(p.entry), e.ref})
		to = b.nextOf(p.entry)
		left -= size
	}
	if q.Isolation == LastStable && r != nil {
		result.Aborted = l.transactions.within(nil, q.Offset, to)
	}
	result.lease = r
	return result, nil
}

// moved reports whether a batch is no longer where it was expected.
func (l *Log) moved(of []wanted) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range of {
		if !l.liesAt(w) {
			return true
		}
	}
	return false
}

// load fills in r.batches: from memory, and in runs from the files. A batch that
// is only in memory, while readers hold their share of that, ends them.
func (l *Log) load(r *lease) error {
	buf := r.buf  // for the first run; another needs one of its own
	fromFile := 0 // batches at the end of r.batches that are not read yet
	for _, want := range r.wanted {
		payload, pin, ok := l.store.wal.Pin(want.ref)
		if ok {
			r.pins = append(r.pins, pin)
			if fromFile > 0 {
				if err := l.loadRun(r, len(r.batches)-fromFile, buf); err != nil {
					return err
				}
				fromFile, buf = 0, nil
			}
		} else if guard.Check("log.read-synced", want.base < r.synced || l.starve(want.base)) {
			fromFile++
		} else {
			break
		}
		r.batches = append(r.batches, payload)
	}
	if fromFile > 0 {
		return l.loadRun(r, len(r.batches)-fromFile, buf)
	}
	return nil
}

// loadRun reads r.batches from one on from the files.
func (l *Log) loadRun(r *lease, from int, buf []byte) error {
	r.refs = r.refs[:0]
	need := 0
	for _, want := range r.wanted[from:len(r.batches)] {
		r.refs = append(r.refs, want.ref)
		need += int(want.ref.Length)
	}
	if cap(buf) > max(spareRead, roomyRead*need) {
		buf, r.buf = nil, nil
	}
	payloads, memory, err := l.store.wal.Read(l.id, wal.KindData, r.refs, buf)
	if err != nil {
		l.damaged(r.wanted[from:len(r.batches)], err)
		return err
	}
	if cap(memory) > cap(r.buf) {
		r.buf = memory
	}
	copy(r.batches[from:], payloads)
	err = l.identify(r.wanted[from:len(r.batches)], payloads)
	if err != nil {
		l.damaged(r.wanted[from:len(r.batches)], err)
	}
	return err
}

// identify checks that what was read from files are the batches wanted.
func (l *Log) identify(of []wanted, read [][]byte) error {
	for i, want := range of {
		b, rest, err := batch.Next(read[i])
		if err != nil || len(rest) > 0 || !guard.Check("log.read-identity", b.BaseOffset() == want.base) {
			return errors.Join(corrupt(l.id, want.base, "another batch lies where it should"), err)
		}
	}
	return nil
}
