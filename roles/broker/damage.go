package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/storage/wal"
)

const (
	// damagePause is how long it is believed that what was damaged or missing still
	// is. Clients ask again at once, each of them, for as long as it takes: without a
	// pause that is a storm on the disk or the store.
	damagePause = time.Second

	// damageSaid is how long after the log has named a place it is not named again.
	damageSaid = time.Hour

	// maxDamages bounds how many of them are remembered.
	maxDamages = 1000
)

// damages remembers what could not be read: for [damagePause] that it is so, and
// for [damageSaid] that it was said.
type damages struct {
	now func() time.Time

	// until is when the last of them is believed no more, in Unix nanoseconds, so
	// that nobody takes the lock who has met none.
	until atomic.Int64

	// open is how many of known were not read since, so that nobody takes the lock
	// to say of what was never damaged that it is whole.
	open atomic.Int64

	mu    sync.Mutex
	known map[damagedAt]damage // guarded by mu
	in    map[damagedPart]int  // how many of open are where; guarded by mu
}

// damagedPart is a partition in one of the stores.
type damagedPart struct {
	in        damagedStore
	partition storage.PartitionID
}

// damagedAt is what was asked for.
type damagedAt struct {
	in        damagedStore
	partition storage.PartitionID
	offset    storage.Offset // NoOffset: it was looked for by time
	timestamp int64
}

// named is the place in a line of the log.
func (at damagedAt) named() slog.Attr {
	if at.offset == storage.NoOffset {
		return slog.Group("", "partition", at.partition, "timestamp", at.timestamp)
	}
	return slog.Group("", "partition", at.partition, "offset", at.offset)
}

// damagedStore is where records are kept.
type damagedStore uint8

const (
	inBucket damagedStore = iota
	inLog
	damagedStores
)

// damagedStoreNames are those of the metric's label.
var damagedStoreNames = [damagedStores]string{inBucket: "bucket", inLog: "log"}

type damage struct {
	err       error // nil: it was read since, or is gone
	below     storage.Offset
	at, until time.Time
	said      time.Time
}

// find returns why a place could not be read a moment ago; nil: it is to be tried.
func (d *damages) find(place damagedAt) error {
	until := d.until.Load()
	if until == 0 {
		return nil
	}
	now := d.now()
	if now.UnixNano() >= until {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[place]; ok && now.Before(known.until) {
		return known.err
	}
	return nil
}

// whole forgets what was said of a place, and up to another offset of its partition, for
// it was read.
func (d *damages) whole(place damagedAt, next storage.Offset) {
	if d.open.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over(place)
	if d.in[damagedPart{place.in, place.partition}] == 0 {
		return
	}
	for other := range d.known {
		if other.in == place.in && other.partition == place.partition && other.offset > place.offset && other.offset < next && place.offset != storage.NoOffset {
			d.over(other)
		}
	}
}

// over says that nothing is damaged at a place any more. d.mu is held.
func (d *damages) over(place damagedAt) {
	if known, ok := d.known[place]; ok && known.err != nil {
		known.err = nil
		d.known[place] = known
		d.count(place, -1)
	}
}

// count counts what was not read since. d.mu is held.
func (d *damages) count(place damagedAt, n int) {
	part := damagedPart{place.in, place.partition}
	d.open.Add(int64(n))
	if d.in[part] += n; d.in[part] == 0 {
		delete(d.in, part)
	}
}

// forget forgets what was said of places that nobody can come to any more: gone reports
// that there is nothing below an offset.
func (d *damages) forget(gone func(in damagedStore, partition storage.PartitionID, below storage.Offset) bool) {
	open := map[damagedAt]storage.Offset{}
	d.mu.Lock()
	for place, known := range d.known {
		if known.err != nil {
			open[place] = known.below
		}
	}
	d.mu.Unlock()
	for place, below := range open {
		if gone(place.in, place.partition, below) {
			d.mu.Lock()
			d.over(place)
			d.mu.Unlock()
		}
	}
}

// note remembers why a place cannot be read, which lies below an offset, and reports
// whether that is to be said: it has not been for a while.
func (d *damages) note(place damagedAt, below storage.Offset, err error) (say bool) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[place]
	if say = !ok || now.Sub(known.said) >= damageSaid; say {
		known.said = now
	}
	if !ok && len(d.known) >= maxDamages || d.known == nil {
		d.known, d.in = map[damagedAt]damage{}, map[damagedPart]int{}
		d.open.Store(0)
	}
	if known.err == nil {
		d.count(place, 1)
	}
	known.err, known.below, known.at, known.until = err, below, now, now.Add(damagePause)
	d.known[place] = known
	d.until.Store(known.until.UnixNano())
	return say
}

// met returns when damage was met last, of what was not read since, and which; nil:
// none was.
func (d *damages) met() (at time.Time, what error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.known {
		if known.err != nil && !known.at.Before(at) {
			at, what = known.at, known.err
		}
	}
	return at, what
}

// Errors by which a client is told that records are there and cannot be read: it
// tries again. That nothing was found is no reason to say that an offset does not
// exist (RULES 6).
var (
	errBucket = errors.New("the bucket cannot be read")
	errLog    = errors.New("the log cannot be read")
)

// coldFailed returns what a client is told when the bucket could not be read. What
// does not pass by itself is an error in the log, and not looked for again at once.
func (b *Broker) coldFailed(place damagedAt, cause error) error {
	err := fmt.Errorf("%w: %w", errBucket, cause)
	if errors.As(err, new(*cold.MissingError)) || errors.As(err, new(*object.CorruptionError)) || errors.As(err, new(*object.UnknownFormatError)) {
		b.damaged(place, err, "records in the bucket cannot be read: they are damaged, missing, or a newer version's")
	} else {
		b.log.Debug("records in the bucket cannot be read now", place.named(), "error", err)
	}
	return err
}

// logFailed returns what a client is told when a log could not be read.
func (b *Broker) logFailed(place damagedAt, err error) error {
	if !unreadable(err) {
		return err
	}
	err = fmt.Errorf("%w: %w", errLog, err)
	b.damaged(place, err, "records in the log cannot be read: they are damaged, or the disk fails")
	return err
}

// unreadable reports whether a log could not be read for what is neither the asker's
// doing nor the end of the log, or of the broker: a file is damaged, or what was
// recovered of it, or the disk fails.
func unreadable(err error) bool {
	return isLogDamage(err) || kafkaError(err) == kerr.UnknownServerError && !errors.As(err, new(*log.NotLocalError))
}

// isLogDamage reports whether a log says that it, or its part of the WAL, is corrupt.
func isLogDamage(err error) bool {
	return errors.As(err, new(*wal.CorruptionError)) || errors.As(err, new(*log.CorruptionError))
}

func (b *Broker) damaged(place damagedAt, err error, text string) {
	b.metrics.damage[place.in].Inc()
	below := place.offset + 1
	if place.offset == storage.NoOffset {
		below = math.MaxInt64 // of a log that is not here any more
		if l := b.logOf(place.partition); l != nil {
			below = l.End()
		}
	}
	if b.damages.note(place, below, err) {
		b.log.Error(text, place.named(), "error", err)
	}
}

// readLog reads from a log: not again at once where that found damage, but what
// lies before it. cut: what lies behind the batches could not be read.
func (b *Broker) readLog(l *log.Log, q log.ReadRequest) (read log.ReadResult, cut bool, err error) {
	place := damagedAt{in: inLog, partition: l.ID(), offset: q.Offset}
	if err := b.damages.find(place); err != nil {
		return log.ReadResult{}, false, err
	}
	read, err = l.Read(q)
	if err != nil && q.MaxBytes > 0 && unreadable(err) {
		// The first batch alone, for the damage may be in those behind it. It was to be
		// read, so there is room for it.
		q.MaxBytes, q.MinOne = 0, true
		read, err = l.Read(q)
		cut = err == nil
	}
	if err != nil {
		return log.ReadResult{}, false, b.logFailed(place, err)
	}
	if n := len(read.Batches); n > 0 {
		b.damages.whole(place, batch.Batch(read.Batches[n-1]).NextOffset())
	}
	return read, cut, nil
}

// Damage is what this broker was given, or asked for, and cannot serve.
type Damage struct {
	Corrupt      int   // partitions that it is to lead, and whose log is corrupt
	CorruptError error // of one of them
	Last         error // by which records could not be read last, and were not since; nil: there are none
	LastAt       time.Time
}

// Damage returns what is damaged, as far as it was met.
func (b *Broker) Damage() Damage {
	b.damages.forget(b.isGone)
	var d Damage
	d.LastAt, d.Last = b.damages.met()
	d.Corrupt, d.CorruptError = b.table.corrupt()
	return d
}

// logOf returns the log of a partition that is led here; nil: there is none.
func (b *Broker) logOf(id storage.PartitionID) *log.Log {
	if t := b.table.byID(id.Topic); t != nil {
		if p := t.partition(id.Index); p != nil {
			return p.role.Load().log
		}
	}
	return nil
}

// isGone reports whether nobody is given anything below an offset from there any more:
// the partition is not here, or begins behind it, or the bucket has it as well.
func (b *Broker) isGone(in damagedStore, partition storage.PartitionID, below storage.Offset) bool {
	l := b.logOf(partition)
	switch {
	case l == nil:
		return true
	case in == inLog:
		return l.LocalStart() >= below
	}
	return l.LogStart() >= below
}
