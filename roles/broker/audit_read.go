package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// auditStep is how many bytes of the audit log are read at a time, about; what goes to
// another broker is in JSON, a third larger.
const auditStep = 256 << 10

// AuditRecord is one of the audit log. A nil Value is the broker's own, and no record.
type AuditRecord struct {
	Offset int64  `json:"offset"`
	Value  []byte `json:"value"`
}

// AuditPage is a part of the audit log.
type AuditPage struct {
	Start   int64         `json:"start"` // first offset that there is
	End     int64         `json:"end"`   // behind the last that is committed
	Next    int64         `json:"next"`  // where the next page begins
	Records []AuditRecord `json:"records"`
}

// auditRead asks for a page.
type auditRead struct {
	From int64 `json:"from"`
}

// auditHead answers how far the chain of a broker has come; nil: it has written nothing.
type auditHead struct {
	Head *audit.Head `json:"head"`
}

// ReadAudit returns a page of the audit log from an offset on, or from its start if that is
// behind it. It waits for the broker that leads it, and for the bucket. Where nothing was
// ever recorded, the page is empty.
func (b *Broker) ReadAudit(ctx context.Context, from int64) (AuditPage, error) {
	image := b.images.image()
	if _, there := image.Topic(AuditTopic); !there {
		return AuditPage{}, nil
	}
	if at, elsewhere := ledElsewhere(image, b.opt.NodeID, AuditTopic, auditPartition); elsewhere {
		page, err := askOwn[AuditPage](ctx, b, at, peerAuditRead, auditRead{from})
		if err != nil {
			return page, fmt.Errorf("read the audit log, which broker %d leads: %w", at, err)
		}
		return page, nil
	}
	page, err := b.readAuditHere(ctx, from)
	if err != nil {
		return page, fmt.Errorf("read the audit log: %w", err)
	}
	return page, nil
}

// readAuditHere is ReadAudit by the leader.
func (b *Broker) readAuditHere(ctx context.Context, from int64) (AuditPage, error) {
	p, err := b.partitionOf(AuditTopic, auditPartition)
	if err != nil {
		return AuditPage{}, err
	}
	l, _, err := p.leading()
	if err != nil {
		return AuditPage{}, err
	}
	start, end := l.LogStart(), l.HighWatermark()
	at := max(storage.Offset(from), start)
	page := AuditPage{Start: int64(start), End: int64(end), Next: int64(at)}
	size := 0
	take := func(b batch.Batch) error {
		size += len(b)
		return page.take(b, at)
	}
	for size < auditStep && storage.Offset(page.Next) < end {
		next := storage.Offset(page.Next)
		if local := l.LocalStart(); next < local {
			err = b.readBucket(ctx, l, next, min(local, end), func(b batch.Batch) error {
				if err := take(b); err != nil || size < auditStep {
					return err
				}
				return errPageFull
			})
		} else {
			err = readLog(l, next, take)
		}
		switch {
		case errors.Is(err, errPageFull):
			return page, nil
		case err != nil:
			return page, err
		case storage.Offset(page.Next) == next:
			return page, fmt.Errorf("nothing at offset %d, below its end %d", next, end)
		}
	}
	return page, nil
}

var errPageFull = errors.New("the page is full")

// readLog hands what the WAL has from an offset on to yield, some of it.
func readLog(l *log.Log, at storage.Offset, yield func(batch.Batch) error) error {
	read, err := l.Read(log.ReadRequest{Offset: at, MaxBytes: auditStep, MinOne: true})
	if err != nil {
		return err
	}
	defer read.Release()
	for _, b := range read.Batches {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// take adds the records of a batch that are at an offset or behind it.
func (page *AuditPage) take(b batch.Batch, from storage.Offset) error {
	if !b.IsControl() {
		records := b.Records(batch.DefaultMaxDecompressed)
		for records.Next() {
			r := records.Record()
			if at := r.Offset; at >= from {
				value := slices.Clone(r.Value)
				if value == nil {
					value = []byte{} // nobody of ours writes it, and it is told
				}
				page.Records = append(page.Records, AuditRecord{int64(at), value})
			}
		}
		if err := records.Err(); err != nil {
			return fmt.Errorf("the batch at offset %d: %w", b.BaseOffset(), err)
		}
	} else {
		for at := max(b.BaseOffset(), from); at < b.NextOffset(); at++ {
			page.Records = append(page.Records, AuditRecord{Offset: int64(at)})
		}
	}
	page.Next = int64(b.NextOffset())
	return nil
}

// AuditHeads asks every broker that runs how far its chain has come. unasked are those that
// did not answer.
func (b *Broker) AuditHeads(ctx context.Context) (heads []audit.Head, unasked []int32) {
	var ids []int32
	for is := range b.images.image().Brokers() {
		if !is.Fenced {
			ids = append(ids, is.ID)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		is := auditHead{b.auditHead()}
		if id != b.opt.NodeID {
			var err error
			if is, err = askOwn[auditHead](ctx, b, id, peerAuditHead, struct{}{}); err != nil {
				unasked = append(unasked, id)
				continue
			}
		}
		if is.Head != nil {
			heads = append(heads, *is.Head)
		}
	}
	return heads, unasked
}

// auditHead is how far this broker's chain has come; nil: nothing was written.
func (b *Broker) auditHead() *audit.Head {
	if b.opt.AuditHead == nil {
		return nil
	}
	if h, written := b.opt.AuditHead(); written {
		return &h
	}
	return nil
}

// ownAuditRequest is [Broker.ownPeerRequest] for what concerns the audit log.
func (b *Broker) ownAuditRequest(key int16) func(context.Context, []byte) ([]byte, error) {
	switch key {
	case peerAuditAppend:
		return own(func(ctx context.Context, q auditAppend) (storage.Offset, error) {
			return b.appendAuditHere(ctx, q.Batch)
		})
	case peerAuditRead:
		return own(func(ctx context.Context, q auditRead) (AuditPage, error) { return b.readAuditHere(ctx, q.From) })
	case peerAuditHead:
		return own(func(context.Context, struct{}) (auditHead, error) { return auditHead{b.auditHead()}, nil })
	}
	return nil
}
