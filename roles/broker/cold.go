package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/pace"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// defaultMaintenance is how often the caches are swept.
const defaultMaintenance = time.Minute

// openCold prepares to read what only the bucket has.
func (b *Broker) openCold() error {
	t := b.opt.Tier
	if t == nil {
		return nil
	}
	cluster := b.opt.Controller.Image().ClusterID()
	o := t.Cold
	b.pacer = pace.New(pace.Options{Appends: func() int64 { return b.store.Stats().WAL.Appends }})
	o.Bucket, o.Log, o.Now, o.Pace = t.Bucket, b.log, b.opt.Now, b.pacer.Meter()
	o.Key = func(id storage.ObjectID) string { return b.objectKey(cluster, id) }
	var err error
	if b.cold, err = cold.New(o); err != nil {
		b.pacer.Close()
		return err
	}
	every := t.Maintenance
	if every == 0 {
		every = defaultMaintenance
	}
	b.done.Go(func() { b.maintain(b.ctx, every) })
	return nil
}

// maintain sweeps the caches until ctx ends.
func (b *Broker) maintain(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.cold.Maintain(b.opt.Now())
		}
	}
}

// inBucket returns where a partition lies in the bucket, by the newest image: one
// that is not carried out here yet names what an older one does, or what took its
// place.
func (b *Broker) inBucket(id storage.PartitionID) (cold.Partition, *metadata.Partition) {
	if t, ok := b.opt.Controller.Image().TopicByID(id.Topic); ok {
		if p := t.Partition(id.Index); p != nil {
			return cold.Partition{ID: id, Ranges: p.Ranges(), Filed: p.Filed()}, p
		}
	}
	return cold.Partition{ID: id}, nil
}

// readCold reads what lies before the log's local start, until, and adds it to the
// response. Who reads what is committed by transactions gets what lies before the
// last stable offset, if that comes first, and until is set to where that ends.
// Nothing waits: what is not in memory is on its way when it returns, and wakes the
// fetch. The caller accounts for the bytes.
func (part *fetchPart) readCold(f *fetchRequest, l *log.Log, until *storage.Offset, granted int) (got cold.Result, err error) {
	var aborted []log.Aborted
	markers := storage.Offset(0)
	if f.q.ReadCommitted {
		// The log's part first: what it gives up meanwhile is looked up twice, not
		// left out.
		stable := part.result.LastStable
		aborted, markers = l.Aborted(part.want.Offset, stable)
		*until = min(markers, stable)
	}
	place := damagedAt{in: inBucket, partition: l.ID(), offset: part.want.Offset}
	for range 2 { // an object may have made room for another since the image
		where, p := f.b.inBucket(l.ID())
		if p == nil {
			return cold.Result{}, errUnknownTopic
		}
		if part.want.Offset < p.LogStart {
			return cold.Result{}, &log.OffsetOutOfRangeError{Offset: part.want.Offset, LogStart: p.LogStart, End: l.End()}
		}
		if err := f.b.damages.find(place); err != nil {
			return cold.Result{}, err
		}
		got, err = f.b.cold.Read(where, cold.Request{
			Reader: f.conn, Offset: part.want.Offset, Until: *until, MaxBytes: granted, MinOne: f.bytes == 0, Markers: markers,
		}, f)
		if !errors.Is(err, cold.ErrLookAgain) {
			break
		}
	}
	if err != nil {
		return cold.Result{}, f.b.coldFailed(place, err)
	}
	if f.q.Version < zstdFetch && holdsZstd(got.Batches) {
		got.Release()
		return cold.Result{}, kerr.UnsupportedCompressionType
	}
	if got.Bytes > 0 {
		f.fromBucket = append(f.fromBucket, got)
	}
	f.limited = f.limited || got.Limited && got.Bytes == 0
	part.cold = got.Pending
	part.result.Batches, part.result.Bytes = got.Batches, got.Bytes
	if len(got.Batches) > 0 {
		f.b.damages.whole(place, got.Next)
		part.sent = got.Next
		for _, t := range got.Aborted {
			aborted = append(aborted, log.Aborted(t))
		}
		part.tellAborted(f, slices.DeleteFunc(aborted, func(t log.Aborted) bool { return t.First >= got.Next }))
	}
	if got.Pending && len(got.Batches) == 0 {
		got.Next = part.want.Offset // there is something, and it is not here yet
	}
	return got, nil
}

// settleCold tells the reader of the bucket that the fetch is answered: it waits for
// nothing any more, and does not ask again for what it got.
func (part *fetchPart) settleCold(f *fetchRequest) {
	if !part.cold && part.sent == 0 {
		return
	}
	id := storage.PartitionID{Topic: part.topic.id, Index: part.want.Index}
	if part.cold {
		f.b.cold.Unwatch(f.conn, id, f)
	}
	if part.sent > 0 {
		f.b.cold.Sent(f.conn, id, part.sent)
	}
}

// offsetForTime returns the first committed record that is not older than millis,
// from the bucket or the log.
func (b *Broker) offsetForTime(ctx context.Context, l *log.Log, millis int64) (storage.Offset, int64, bool, error) {
	offset, timestamp, ok, err := b.askLog(l, millis, func() (storage.Offset, int64, bool, error) { return l.OffsetForTime(millis) })
	if err != nil || b.cold == nil {
		return offset, timestamp, ok, err
	}
	// The local start is asked for after the log: what it gave up meanwhile is in
	// the bucket.
	found, at, inBucket, err := b.askBucket(l, millis, func(p cold.Partition, span cold.Span) (storage.Offset, int64, bool, error) {
		return b.cold.FindTime(ctx, p, span, millis)
	})
	if err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, err
	}
	if inBucket {
		return found, at, true, nil
	}
	return offset, timestamp, ok, nil
}

// maxTimestamp returns the committed record with the largest timestamp, the first
// of them, from the bucket or the log.
func (b *Broker) maxTimestamp(ctx context.Context, l *log.Log) (storage.Offset, int64, bool, error) {
	offset, timestamp, ok, err := b.askLog(l, maxTimestamp, l.MaxTimestampOffset)
	if err != nil || b.cold == nil {
		return offset, timestamp, ok, err
	}
	found, at, inBucket, err := b.askBucket(l, maxTimestamp, func(p cold.Partition, span cold.Span) (storage.Offset, int64, bool, error) {
		return b.cold.MaxTimestamp(ctx, p, span)
	})
	if err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, err
	}
	if inBucket && (!ok || at >= timestamp) {
		return found, at, true, nil
	}
	return offset, timestamp, ok, nil
}

// askLog asks a log by time, but not again at once where that found damage.
func (b *Broker) askLog(l *log.Log, millis int64, ask func() (storage.Offset, int64, bool, error)) (storage.Offset, int64, bool, error) {
	place := damagedAt{in: inLog, partition: l.ID(), offset: storage.NoOffset, timestamp: millis}
	if err := b.damages.find(place); err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, err
	}
	offset, timestamp, ok, err := ask()
	if err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, b.logFailed(place, err)
	}
	b.damages.whole(place, storage.NoOffset)
	return offset, timestamp, ok, nil
}

// askBucket asks by time for the part of a log that only the bucket has, but not
// again at once where that found damage.
func (b *Broker) askBucket(l *log.Log, millis int64, ask func(cold.Partition, cold.Span) (storage.Offset, int64, bool, error)) (offset storage.Offset, timestamp int64, ok bool, err error) {
	place := damagedAt{in: inBucket, partition: l.ID(), offset: storage.NoOffset, timestamp: millis}
	if err := b.damages.find(place); err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, err
	}
	for range 2 {
		span := cold.Span{From: l.LogStart(), Until: l.LocalStart()}
		if span.From >= span.Until {
			return storage.NoOffset, batch.NoTimestamp, false, nil
		}
		where, _ := b.inBucket(l.ID())
		offset, timestamp, ok, err = ask(where, span)
		if !errors.Is(err, cold.ErrLookAgain) {
			break
		}
	}
	if err != nil {
		return offset, timestamp, ok, b.coldFailed(place, err)
	}
	b.damages.whole(place, storage.NoOffset)
	return offset, timestamp, ok, nil
}
