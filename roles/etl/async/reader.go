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
	// usualExpanded is what a batch may expand to. One that is more, up to
	// batch.DefaultMaxDecompressed, waits until it is the only one of the broker.
	usualExpanded = 8 << 20
	// maxPiece records are taken apart at once, and given to a module: few enough to lie in a
	// processor's cache from the one to the other. Behind enoughExpanded bytes no other batch is
	// begun.
	maxPiece       = 1024
	enoughExpanded = 512 << 10
	// maxHeaders are taken apart at once: a few KiB expand to millions of them.
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
	pool    *sync.Pool        // of *[]byte, that large answers are read into, and expand into
	body    *body             // of the line; nil without one
	large   chan struct{}     // of the runner: holds one while somebody has a large batch
	holds   bool              // it is this one
	answer  answer            // the last one, until it is taken apart
	memory  *[]byte           // of the pool, that its batches expand into; nil: none is needed yet
	used    int               // bytes of memory that records lie in
}

// answer is what is left of one. What it consists of is whole, but for the last batch.
type answer struct {
	batches []byte
	stable  int64                                                // offset behind what is stable in the partition
	left    []kmsg.FetchResponseTopicPartitionAbortedTransaction // in order of their first offsets
	aborted map[int64]bool                                       // producers of those that have begun

	records *batch.Iterator // of the first of batches; nil: it is not begun
	read    bool            // records stands at one that is not taken yet
	part    int             // as many of them are taken at once
}

// skip goes on to the next batch.
func (a *answer) skip(first batch.Batch) {
	a.batches, a.records, a.read = a.batches[len(first):], nil, false
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
		b.held = pooled(b.pool)
	}
	return (*b.held)[:n]
}

// pooled is pooledBody bytes.
func pooled(pool *sync.Pool) *[]byte {
	if is, ok := pool.Get().(*[]byte); ok {
		return is
	}
	fresh := make([]byte, pooledBody)
	return &fresh
}

// done gives the memory of the last answer back, which nobody looks at any more.
func (r *reader) done(from *chunk) {
	r.answer = answer{}
	if r.memory != nil {
		r.pool.Put(r.memory)
		r.memory = nil
	}
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

// read reads what there is from an offset on, for decode, or nothing when there is none after
// wait. Its bytes are held until the caller is done with the reader.
func (r *reader) read(ctx context.Context, from int64, most int32, wait time.Duration) error {
	if r.line == nil || r.line.ended() {
		b := &body{pool: r.pool}
		l, err := r.cluster.open(ctx, r.cluster.self, b.room)
		if err != nil {
			return err
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
		return err
	}
	p := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return fmt.Errorf("read %s-%d: %w", r.of.topic, r.of.partition, err)
	}
	if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 1 {
		return fmt.Errorf("read %s-%d: an answer about %d topics", r.of.topic, r.of.partition, len(p.Topics))
	}
	got := &p.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.FencedLeaderEpoch):
		return fmt.Errorf("read %s-%d: %w: %w", r.of.topic, r.of.partition, errGone, err)
	case err != nil:
		return fmt.Errorf("read %s-%d at %d: %w", r.of.topic, r.of.partition, from, err)
	}
	r.take(got)
	return nil
}

// take begins with an answer.
func (r *reader) take(got *kmsg.FetchResponseTopicPartition) {
	r.answer = answer{batches: got.RecordBatches, stable: got.LastStableOffset, left: got.AbortedTransactions}
}

// more reports whether anything of the answer is left to be decoded.
func (r *reader) more() bool { return len(r.answer.batches) > 0 }

// decode takes out of the answer the next records that are committed: some batches, or an
// even part of a large one. What came out before is not looked at any more.
func (r *reader) decode(ctx context.Context, from int64, into *chunk) error {
	a := &r.answer
	into.records, into.next, into.end = into.records[:0], from, max(a.stable, from)
	into.headers, into.expanded, into.unreadable = 0, 0, nil
	continues := a.records != nil
	if !continues {
		r.used = 0
	}
	for len(a.batches) > 0 {
		b, _, err := batch.Next(a.batches)
		if err != nil {
			a.batches = nil // one that is cut off comes whole with the next read
			break
		}
		behind := max(into.next, int64(b.NextOffset()))
		if a.records == nil {
			if a.drops(b) {
				a.skip(b)
				into.next = behind
				continue
			}
			n := int(b.NumRecords())
			if before := len(into.records); before > 0 && (before+n > maxPiece || into.expanded >= enoughExpanded) {
				return nil
			}
			a.part = evenPart(n)
		}
		before, begins := len(into.records), max(into.next, int64(b.BaseOffset()))
		whole, err := r.records(ctx, b, from, into)
		refused, is := errors.AsType[*batch.Error](err)
		switch {
		case is && before > 0: // what came before is decided about first
			into.records, into.next = into.records[:before], begins
			a.records, a.read = nil, false
			return nil
		case is:
			into.records, into.next = into.records[:0], behind
			into.unreadable = &unreadable{begins, b.MaxTimestamp(), fmt.Errorf("the records at %d to %d cannot be read: %w", begins, behind-1, refused)}
			a.skip(b)
			return nil
		case err != nil:
			return fmt.Errorf("read %s-%d: the batch at %d: %w", r.of.topic, r.of.partition, b.BaseOffset(), err)
		}
		into.codec = b.Codec()
		if !whole {
			return nil
		}
		a.skip(b)
		into.next = behind
		if continues {
			return nil // so that the memory is free for the next
		}
	}
	return nil
}

// drops reports whether nothing of a batch is to be seen, and notes what it says of the
// transactions around it.
func (a *answer) drops(b batch.Batch) bool {
	for len(a.left) > 0 && a.left[0].FirstOffset <= int64(b.LastOffset()) {
		if a.aborted == nil {
			a.aborted = map[int64]bool{}
		}
		a.aborted[a.left[0].ProducerID] = true
		a.left = a.left[1:]
	}
	if b.IsControl() {
		if m, ok := batch.ReadMarker(b); ok && !m.Commit {
			delete(a.aborted, b.ProducerID())
		}
		return true
	}
	return b.IsTransactional() && !guard.Check("async.aborted", !a.aborted[b.ProducerID()])
}

// evenPart is how many of n records are taken apart at once, so that no part is much smaller
// than the others.
func evenPart(n int) int {
	parts := max(1, (n+maxPiece-1)/maxPiece)
	return max(1, (n+parts-1)/parts)
}

// records takes records out of a batch. Not whole: as many as are taken apart at once, and
// into.next is the offset of the next. Of an *[batch.Error] the batch is to blame.
func (r *reader) records(ctx context.Context, b batch.Batch, from int64, into *chunk) (whole bool, err error) {
	a := &r.answer
	if a.records == nil {
		if err := r.begin(ctx, b); err != nil {
			return false, err
		}
		into.expanded += a.records.Expanded()
	}
	it := a.records
	for taken := 0; a.read || it.Next(); {
		a.read = false
		is := it.Record()
		if is.Offset < storage.Offset(from) {
			continue
		}
		full := taken >= a.part || into.headers+is.NumHeaders > maxHeaders
		if !guard.Check("async.taken-apart", !full) {
			if len(into.records) == 0 {
				return false, &batch.Error{Code: batch.MessageTooLarge, Reason: fmt.Sprintf("%d headers of one record", is.NumHeaders)}
			}
			into.next, a.read = int64(is.Offset), true
			return false, nil
		}
		taken++
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
	return it.Err() == nil, it.Err()
}

// begin expands a batch, and reads its first record: into the reader's memory, while that is
// enough. One that is large waits for its place.
func (r *reader) begin(ctx context.Context, b batch.Batch) error {
	var memory []byte
	if b.Codec() != batch.None && len(b) >= smallBatch {
		if r.memory == nil {
			r.memory = pooled(r.pool)
		}
		memory = (*r.memory)[r.used:]
	}
	a := &r.answer
	a.records = b.RecordsIn(memory, usualExpanded)
	a.read = a.records.Next()
	refused, is := errors.AsType[*batch.Error](a.records.Err())
	if is && refused.Code == batch.DecompressedTooLarge {
		if !r.holds {
			select {
			case r.large <- struct{}{}:
				r.holds = true
			case <-ctx.Done():
				a.records = nil
				return ctx.Err()
			}
		}
		a.records = b.RecordsIn(nil, batch.DefaultMaxDecompressed)
		a.read = a.records.Next()
	}
	if memory != nil {
		r.used += min(a.records.Expanded(), len(memory))
	}
	return nil
}

// smallBatch bytes of a batch are expanded into memory of their own.
const smallBatch = 16 << 10

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
