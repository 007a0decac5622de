package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// Limits of a peek: a look for a person, which is not to become a way to consume.
const (
	MaxPeekRecords = 1000
	MaxPeekBytes   = 1 << 20  // of keys, values and headers together
	MaxPeekValue   = 64 << 10 // of one value, key or header; what is longer is cut

	peekExpanded = 16 << 20 // what the records of a batch may expand to
	peekScanned  = 32 << 20 // bytes of batches that are read for one
	peeksAtOnce  = 4
	tailsAtOnce  = 3               // of those, looks of tails, which follow each other: one place is for who looks once
	peekWait     = 8 * time.Second // for the bucket, and for a place among those
	peekHeaders  = 100             // of one record that are shown
	peekRecord   = 64              // what reading one takes beside its bytes, in bytes
)

// PeekRequest asks for some records of a partition. From the offset on, if From is
// "offset"; from the first that is not older than Value in milliseconds since 1970, if it is
// "time"; the last Limit offsets, if it is "end"; from the log start, if it is "start".
type PeekRequest struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      string `json:"from"`
	Value     int64  `json:"value"`
	Limit     int    `json:"limit"` // records, 1 to MaxPeekRecords
	Bytes     int    `json:"bytes"` // 1 to MaxPeekBytes

	// Match is which records are shown; those that are not are passed over, and count for
	// nothing in Limit and Bytes.
	Match PeekMatch `json:"match,omitzero"`
	// Committed shows what consumers get that read what is committed: nothing of transactions that
	// were aborted, and nothing at the last stable offset or behind it.
	Committed bool `json:"committed,omitempty"`
	// Skips passes over batches that cannot be shown, which else end the look with an error.
	Skips bool `json:"skips,omitempty"`
}

// PeekMatch is what records have that are looked for. The zero one takes all.
type PeekMatch struct {
	Key    []byte `json:"key,omitempty"`    // somewhere in the key; empty: whatever it has, null too
	Value  []byte `json:"value,omitempty"`  // as Key
	Header []byte `json:"header,omitempty"` // the name of a header; empty: none is asked for
	With   []byte `json:"with,omitempty"`   // somewhere in the value of that header; as Key
}

// takes reports whether a record is looked for.
func (m *PeekMatch) takes(r *batch.Record) bool {
	if !m.takesBody(r.Key, r.Value) {
		return false
	}
	found := len(m.Header) == 0
	if !found {
		r.Headers(func(h batch.Header) bool {
			found = m.takesHeader(h.Key, h.Value)
			return !found
		})
	}
	return found
}

func (m *PeekMatch) takesBody(key, value []byte) bool {
	return (len(m.Key) == 0 || bytes.Contains(key, m.Key)) && (len(m.Value) == 0 || bytes.Contains(value, m.Value))
}

func (m *PeekMatch) takesHeader(name, value []byte) bool {
	return bytes.Equal(name, m.Header) && bytes.Contains(value, m.With)
}

// sift takes out what is not looked for of the answer of a broker that knows no filter, and shows
// all there is: what it has cut is not looked at.
func (p *Peeked) sift(m *PeekMatch) {
	if p.Looked >= len(p.Records) {
		return
	}
	p.Looked = len(p.Records)
	p.Records = slices.DeleteFunc(p.Records, func(r PeekedRecord) bool {
		return !m.takesBody(r.Key, r.Value) || len(m.Header) > 0 && !slices.ContainsFunc(r.Headers, func(h PeekedHeader) bool { return m.takesHeader(h.Key, h.Value) })
	})
}

// Peeked is what a peek shows: records below the high watermark, those of transactions too,
// whatever became of them, unless it was asked for what is committed.
type Peeked struct {
	LogStart      int64          `json:"log_start"`
	HighWatermark int64          `json:"high_watermark"`
	LastStable    *int64         `json:"last_stable,omitempty"` // nil: it is of a broker that does not tell transactions apart
	Next          int64          `json:"next"`                  // where the next look begins; HighWatermark, or of what is committed LastStable: there is nothing more
	Records       []PeekedRecord `json:"records"`
	Looked        int            `json:"looked"` // records that were read for it, shown or not
	Skipped       []PeekSkip     `json:"skipped,omitempty"`
}

// PeekSkip is a batch that cannot be shown, [From, To).
type PeekSkip struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	Why  string `json:"why"`
}

// PeekedRecord is a record as a peek shows it. A nil Key or Value is null.
type PeekedRecord struct {
	Offset        int64          `json:"offset"`
	Timestamp     int64          `json:"timestamp"` // ms since 1970; -1: it has none
	Key           []byte         `json:"key"`
	Value         []byte         `json:"value"`
	KeyBytes      int            `json:"key_bytes"` // of all of it; as the next
	ValueBytes    int            `json:"value_bytes"`
	Headers       []PeekedHeader `json:"headers"`
	HeaderCount   int            `json:"header_count"` // of all of them
	Transactional bool           `json:"transactional"`
	Transaction   string         `json:"transaction,omitempty"` // what became of it, if Transactional: PeekCommitted, PeekAborted or PeekOpen; "": not known
}

// PeekedHeader is a header of one. A nil Value is null.
type PeekedHeader struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// Peek shows some records of a partition, wherever it is led, from memory, the WAL or the
// bucket. Errors about the request or the partition are [*GroupError].
func (b *Broker) Peek(ctx context.Context, q PeekRequest) (*Peeked, error) {
	b.settle(ctx) // who asks may have made the topic
	image := b.images.image()
	at, elsewhere := ledElsewhere(image, b.opt.NodeID, q.Topic, q.Partition)
	if !elsewhere {
		at = b.opt.NodeID
	}
	return peekAt(image, q, at, func(at int32) (*Peeked, error) {
		if at == b.opt.NodeID {
			return b.peekHere(ctx, q)
		}
		return askOwn[*Peeked](ctx, b, at, peerPeek, q)
	})
}

// peekAt has who leads a partition asked, by ask, and says what is wrong where nobody can be.
func peekAt(image *metadata.Image, q PeekRequest, at int32, ask func(at int32) (*Peeked, error)) (*Peeked, error) {
	if _, err := ledBy(image, q.Topic, q.Partition); err != nil {
		return nil, err
	}
	is, err := ask(at)
	if err == nil {
		is.sift(&q.Match)
		if q.Committed && is.LastStable == nil {
			return nil, &GroupError{kerr.UnsupportedVersion, fmt.Sprintf("broker %d, which leads %s-%d, is of a version that does not tell what is committed: look at all records, or give it this version", at, q.Topic, q.Partition)}
		}
	}
	if errors.Is(err, rpc.ErrPeerUnreachable) || errors.Is(err, rpc.ErrPeerRefused) {
		err = &GroupError{kerr.BrokerNotAvailable, fmt.Sprintf("%s-%d, which broker %d leads, cannot be looked into now: %v", q.Topic, q.Partition, at, err)}
	}
	return is, err
}

// peekHere is Peek by the leader.
func (b *Broker) peekHere(ctx context.Context, q PeekRequest) (*Peeked, error) {
	if q.Limit < 1 || q.Limit > MaxPeekRecords || q.Bytes < 1 || q.Bytes > MaxPeekBytes {
		return nil, &GroupError{kerr.InvalidRequest, fmt.Sprintf("%d records of %d bytes: a look shows 1 to %d, of 1 to %d bytes", q.Limit, q.Bytes, MaxPeekRecords, MaxPeekBytes)}
	}
	ctx, cancel := context.WithTimeout(ctx, peekWait)
	defer cancel()
	places := []chan struct{}{b.peeks}
	if q.Skips { // as tails ask
		places = []chan struct{}{b.tails, b.peeks}
	}
	for _, place := range places {
		select {
		case place <- struct{}{}:
			defer func() { <-place }()
		case <-ctx.Done():
			return nil, &GroupError{kerr.BrokerNotAvailable, "others look into partitions of this broker: try again"}
		}
	}
	l, _, err := b.leaderOf(q.Topic, q.Partition, storage.NoEpoch)
	if err != nil {
		return nil, err
	}
	where := l.Offsets()
	end := where.HighWatermark
	if q.Committed {
		end = where.LastStable
	}
	at, err := b.peekFrom(ctx, l, q, where, end)
	if err != nil {
		return nil, fmt.Errorf("look for where to begin in %s-%d: %w", q.Topic, q.Partition, err)
	}
	stable := int64(where.LastStable)
	look := &peek{
		q: q, out: &Peeked{LogStart: int64(where.LogStart), HighWatermark: int64(where.HighWatermark), LastStable: &stable, Records: []PeekedRecord{}},
		at: at, end: end, decided: decisions{stable: where.LastStable},
	}
	// The log's part first: what it gives up meanwhile is looked up twice, not left out.
	aborted, markers := l.Aborted(at, where.HighWatermark)
	for _, t := range aborted {
		look.decided.note(t)
	}
	for look.at < end && !look.full {
		from := look.at
		if local := l.LocalStart(); from < local {
			until := min(local, end)
			if err = b.readBucketTold(ctx, l, from, until, markers, look.decided.note, look.take); err == nil {
				look.at = max(look.at, until) // of what is missing compaction by key has left nothing
			}
		} else {
			err = readLog(l, from, look.take)
		}
		if err != nil && !errors.Is(err, errPageFull) {
			return nil, fmt.Errorf("read %s-%d at offset %d: %w", q.Topic, q.Partition, from, err)
		}
		if look.at == from && !look.full {
			break // the log has less than it had
		}
	}
	look.out.Next = int64(max(at, min(look.at, end)))
	return look.out, nil
}

// peekFrom is the offset that a look begins at, which ends at end: it may lie behind that, where
// transactions are open.
func (b *Broker) peekFrom(ctx context.Context, l *log.Log, q PeekRequest, where log.Offsets, end storage.Offset) (storage.Offset, error) {
	start := where.LogStart
	switch q.From {
	case "start":
		return start, nil
	case "end":
		return max(start, end-storage.Offset(q.Limit)), nil
	case "offset":
		if at := storage.Offset(q.Value); at >= start && at <= where.HighWatermark {
			return at, nil
		}
		return 0, &GroupError{kerr.OffsetOutOfRange, fmt.Sprintf("offset %d: there are those from %d to %d", q.Value, start, where.HighWatermark)}
	case "time":
		at, _, found, err := b.offsetForTime(ctx, l, q.Value)
		if err != nil || !found {
			return end, err
		}
		return max(start, at), nil
	}
	return 0, &GroupError{kerr.InvalidRequest, fmt.Sprintf("from %q: want start, end, offset or time", q.From)}
}

// peek is a look under way.
type peek struct {
	q       PeekRequest
	out     *Peeked
	decided decisions
	at, end storage.Offset // what is next, and where it ends
	bytes   int            // shown
	scanned int            // of batches
	read    int            // of records, expanded, with their headers
	full    bool
}

// take shows the records of a batch, as far as there is room. errPageFull ends the reading.
func (k *peek) take(b batch.Batch) error {
	if b.NextOffset() <= k.at {
		return nil
	}
	if b.BaseOffset() >= k.end || k.full {
		k.full = true
		return errPageFull
	}
	k.scanned += len(b)
	outcome := k.decided.outcome(b)
	if !b.IsControl() && !(k.q.Committed && outcome == PeekAborted) {
		records := b.Records(peekExpanded)
		for records.Next() {
			r := records.Record()
			if r.Offset < k.at {
				continue
			}
			if r.Offset >= k.end || !k.look(r, len(records.Raw()), outcome) {
				k.full = true
				return errPageFull
			}
			k.at = r.Offset + 1
		}
		if err := records.Err(); err != nil {
			refused := &GroupError{kerr.InvalidRecord, fmt.Sprintf("the batch at offset %d cannot be shown, of which a look expands %d MiB at most; `rustmq consume` reads all: %v", b.BaseOffset(), peekExpanded>>20, err)}
			if !k.q.Skips {
				return refused
			}
			k.scanned += peekExpanded
			k.out.Skipped = append(k.out.Skipped, PeekSkip{From: int64(k.at), To: int64(b.NextOffset()), Why: refused.Error()})
		}
	}
	k.at = b.NextOffset()
	if len(k.out.Records) == k.q.Limit || k.scanned > peekScanned {
		k.full = true
		return errPageFull
	}
	return nil
}

// look shows a record of so many bytes, if it is looked for; false: there is no room for it, or
// enough was read.
func (k *peek) look(r *batch.Record, size int, outcome string) bool {
	if !guard.Check("broker.peek-read", k.read <= peekScanned) || k.q.Match.takes(r) && !k.show(r, outcome) {
		return false
	}
	k.out.Looked++
	k.read += size + peekRecord
	return true
}

// show adds a record; false: there is no room for it. The first there always is.
func (k *peek) show(r *batch.Record, outcome string) bool {
	if len(k.out.Records) == k.q.Limit {
		return false
	}
	shown := PeekedRecord{
		Offset: int64(r.Offset), Timestamp: r.Timestamp, Key: k.cut(r.Key), Value: k.cut(r.Value), KeyBytes: len(r.Key), ValueBytes: len(r.Value),
		Headers: []PeekedHeader{}, HeaderCount: r.NumHeaders, Transactional: outcome != "", Transaction: outcome,
	}
	size := len(shown.Key) + len(shown.Value)
	r.Headers(func(h batch.Header) bool {
		is := PeekedHeader{k.cut(h.Key), k.cut(h.Value)}
		size += len(is.Key) + len(is.Value)
		shown.Headers = append(shown.Headers, is)
		return len(shown.Headers) < peekHeaders && size < k.q.Bytes
	})
	if k.bytes+size > k.q.Bytes && len(k.out.Records) > 0 {
		return false
	}
	k.bytes += size
	k.out.Records = append(k.out.Records, shown)
	return true
}

// cut copies what is shown of bytes, which may be of memory that others use next.
func (k *peek) cut(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b[:min(len(b), MaxPeekValue, k.q.Bytes)]...)
}
