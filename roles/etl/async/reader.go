package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// fetchBytes of batches are read at once while there is a backlog. Who waits for
	// records asks for one byte, and gets the first batch.
	fetchBytes = 1 << 20
	// usualExpanded is what is decompressed at once, of a batch or of several. One batch that is
	// more, up to batch.DefaultMaxDecompressed, waits until it is the only one of the broker.
	usualExpanded = 8 << 20
	// maxRecords and maxHeaders are taken apart at once: a few KiB expand to millions of them, each
	// of which takes a hundred bytes. What is left of a batch is read again.
	maxRecords = 64 << 10
	maxHeaders = 256 << 10
	// maxNames of headers are remembered, each of at most maxName bytes.
	maxNames = 256
	maxName  = 128
)

// reader reads committed records of one partition, over a connection of its own: a
// request that waits for records holds up nobody else.
type reader struct {
	cluster *cluster
	of      source
	line    *line
	names   map[string]string // of headers
	pool    *sync.Pool        // of *[]byte, that large answers are read into
	body    *body             // of the line; nil without one
	large   chan struct{}     // of the runner: holds one while somebody has a large batch
	holds   bool              // it is this one
}

// pooledBody is how large those are: what is asked for at once, and what surrounds it.
const pooledBody = fetchBytes + 64<<10

// body is where the answers of one line lie, one after the other. While an answer is
// waited for it is the line's.
type body struct {
	pool *sync.Pool
	held *[]byte // nil: nothing of the pool
}

func (b *body) room(n int) []byte {
	if n < pooledBody/4 || n > pooledBody {
		return make([]byte, n)
	}
	if b.held == nil {
		var ok bool
		if b.held, ok = b.pool.Get().(*[]byte); !ok {
			fresh := make([]byte, pooledBody)
			b.held = &fresh
		}
	}
	return (*b.held)[:n]
}

// done gives the memory of the last answer back, which nobody looks at any more.
func (r *reader) done(from *chunk) {
	if r.holds {
		clear(from.records)
		<-r.large
		r.holds = false
	}
	if r.body != nil && r.body.held != nil {
		r.pool.Put(r.body.held)
		r.body.held = nil
	}
}

// chunk is records that were read together. Their bytes are the caller's until it is done
// with the reader.
type chunk struct {
	records []abi.Record
	codec   batch.Codec // of the last batch
	next    int64       // offset behind what was read; records may be none though it moved
	end     int64       // of what is stable in the partition

	headers, expanded int         // of records: how many, and bytes
	unreadable        *unreadable // what lies at the position, before next; nil: records do
}

// unreadable is a batch, or what is left of one, that a producer made so that nobody can read
// it: what is compressed is not looked at when it comes.
type unreadable struct {
	from      int64 // offset
	timestamp int64
	err       error
}

// errGone says that this broker does not lead the partition any more.
var errGone = errors.New("this broker does not lead the partition")

// read returns what there is from an offset on, for decode, or nothing when there is none after
// wait. Its bytes are the caller's until it is done with the reader.
func (r *reader) read(ctx context.Context, from int64, most int32, wait time.Duration) (*kmsg.FetchResponseTopicPartition, error) {
	if r.line == nil || r.line.ended() {
		b := &body{pool: r.pool}
		l, err := r.cluster.open(ctx, r.cluster.self, b.room)
		if err != nil {
			return nil, err
		}
		r.line, r.body = l, b
	}
	q := kmsg.NewPtrFetchRequest()
	q.SetVersion(fetchVersion)
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes = int32(wait.Milliseconds()), 1, most
	q.IsolationLevel, q.SessionEpoch = 1, -1
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = r.of.partition, from, most
	q.Topics = []kmsg.FetchRequestTopic{{TopicID: r.of.id, Partitions: []kmsg.FetchRequestTopicPartition{part}}}
	ctx, cancel := context.WithTimeout(ctx, wait+askTime)
	defer cancel()
	answer, err := r.line.ask(ctx, q)
	if err != nil {
		r.close()
		return nil, err
	}
	p := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return nil, fmt.Errorf("read %s-%d: %w", r.of.topic, r.of.partition, err)
	}
	if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("read %s-%d: an answer about %d topics", r.of.topic, r.of.partition, len(p.Topics))
	}
	got := &p.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.FencedLeaderEpoch):
		return nil, fmt.Errorf("read %s-%d: %w: %w", r.of.topic, r.of.partition, errGone, err)
	case err != nil:
		return nil, fmt.Errorf("read %s-%d at %d: %w", r.of.topic, r.of.partition, from, err)
	}
	return got, nil
}

// decode takes out of an answer the records that are committed, or the first of them.
func (r *reader) decode(ctx context.Context, got *kmsg.FetchResponseTopicPartition, from int64, into *chunk) error {
	into.records, into.next, into.end = into.records[:0], from, max(got.LastStableOffset, from)
	into.headers, into.expanded, into.unreadable = 0, 0, nil
	aborted := map[int64]bool{}
	left := got.AbortedTransactions // in order of their first offsets
	for bytes := got.RecordBatches; len(bytes) > 0; {
		b, rest, err := batch.Next(bytes)
		if err != nil {
			break // a batch that is cut off comes whole with the next read
		}
		bytes = rest
		for len(left) > 0 && left[0].FirstOffset <= int64(b.LastOffset()) {
			aborted[left[0].ProducerID] = true
			left = left[1:]
		}
		behind := max(into.next, int64(b.NextOffset()))
		switch {
		case b.IsControl():
			if m, ok := batch.ReadMarker(b); ok && !m.Commit {
				delete(aborted, b.ProducerID())
			}
			into.next = behind
			continue
		case b.IsTransactional() && !guard.Check("async.aborted", !aborted[b.ProducerID()]):
			into.next = behind
			continue
		}
		if into.expanded >= usualExpanded {
			return nil
		}
		before, begins := len(into.records), max(from, int64(b.BaseOffset()))
		whole, err := r.records(ctx, b, from, into)
		refused, is := errors.AsType[*batch.Error](err)
		switch {
		case is && before > 0: // what came before is decided about first
			into.records, into.next = into.records[:before], begins
			return nil
		case is:
			into.records, into.next = into.records[:0], behind
			into.unreadable = &unreadable{begins, b.MaxTimestamp(), fmt.Errorf("the records at %d to %d cannot be read: %w", begins, behind-1, refused)}
			return nil
		case err != nil:
			return fmt.Errorf("read %s-%d: the batch at %d: %w", r.of.topic, r.of.partition, b.BaseOffset(), err)
		case !whole:
			return nil
		}
		into.codec, into.next = b.Codec(), behind
	}
	return nil
}

// records takes the records out of a batch. Not whole: as many as are taken apart at once, and
// into.next is the offset of the next. Of an *[batch.Error] the batch is to blame.
func (r *reader) records(ctx context.Context, b batch.Batch, from int64, into *chunk) (whole bool, err error) {
	before := *into
	whole, err = r.expand(b, from, usualExpanded, into)
	if refused, is := errors.AsType[*batch.Error](err); !is || refused.Code != batch.DecompressedTooLarge {
		return whole, err
	}
	*into = before
	if !r.holds {
		select {
		case r.large <- struct{}{}:
			r.holds = true
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return r.expand(b, from, batch.DefaultMaxDecompressed, into)
}

func (r *reader) expand(b batch.Batch, from, limit int64, into *chunk) (whole bool, err error) {
	it := b.Records(limit)
	for it.Next() {
		is := it.Record()
		if is.Offset < storage.Offset(from) {
			continue
		}
		full := len(into.records) >= maxRecords || into.headers+is.NumHeaders > maxHeaders
		if !guard.Check("async.taken-apart", !full) {
			if len(into.records) == 0 {
				return false, &batch.Error{Code: batch.MessageTooLarge, Reason: fmt.Sprintf("%d headers of one record", is.NumHeaders)}
			}
			into.next, into.codec = int64(is.Offset), b.Codec()
			return false, nil
		}
		into.headers += is.NumHeaders
		record := abi.Record{Timestamp: is.Timestamp, Offset: int64(is.Offset), Key: is.Key, Value: is.Value}
		if is.NumHeaders > 0 {
			record.Headers = make([]abi.Header, 0, is.NumHeaders)
			for h := range is.Headers {
				record.Headers = append(record.Headers, abi.Header{Name: r.name(h.Key), Value: h.Value})
			}
		}
		into.records = append(into.records, record)
	}
	into.expanded += it.Expanded()
	return it.Err() == nil, it.Err()
}

// name returns the name of a header, which is often that of one before.
func (r *reader) name(b []byte) string {
	if s, ok := r.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(b) <= maxName {
		if len(r.names) >= maxNames || r.names == nil {
			r.names = map[string]string{}
		}
		r.names[s] = s
	}
	return s
}

// bounds returns log start and end of the partition, as far as it is stable.
func (r *reader) bounds(ctx context.Context) (start, end int64, err error) {
	for _, of := range []struct {
		at   int64
		into *int64
	}{{-2, &start}, {-1, &end}} {
		q := kmsg.NewPtrListOffsetsRequest()
		q.SetVersion(listOffsetsVersion)
		q.IsolationLevel = 1
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = r.of.partition, of.at
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: r.of.topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
		p, err := r.cluster.ask(ctx, r.cluster.self, q)
		if err != nil {
			return 0, 0, err
		}
		t := p.(*kmsg.ListOffsetsResponse).Topics
		if len(t) != 1 || len(t[0].Partitions) != 1 {
			return 0, 0, fmt.Errorf("ask for the bounds of %s-%d: an answer about %d topics", r.of.topic, r.of.partition, len(t))
		}
		if err := kerr.ErrorForCode(t[0].Partitions[0].ErrorCode); err != nil {
			return 0, 0, fmt.Errorf("ask for the bounds of %s-%d: %w", r.of.topic, r.of.partition, err)
		}
		*of.into = t[0].Partitions[0].Offset
	}
	return start, end, nil
}

// close ends the connection; a read after that opens another.
func (r *reader) close() {
	if r.line != nil {
		r.line.close()
		r.line, r.body = nil, nil // which the line may yet write to
	}
}
