package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

const (
	transactionLog = "__transaction_state"
	// bumpedEpochs is the version of transactions (KIP-890) from which on each has an epoch of
	// its own.
	bumpedEpochs = 2
	// tornWindow is how long before the last decision on record another one may be that is
	// judged: uploads of one partition do not lag further behind those of another.
	tornWindow = 24 * time.Hour
	// clockSlack is how far the clock of who writes a marker may be behind that of who decided,
	// in milliseconds.
	clockSlack = 60_000
	// maxRecordBytes of a decompressed batch of the transaction log.
	maxRecordBytes = 64 << 20
)

// Torn is a transaction that is known to be committed, and of which the bucket does not have
// all: what it has is read as if it were the whole.
type Torn struct {
	TransactionalID string    `json:"transactional_id"`
	ProducerID      int64     `json:"producer_id"`
	Epoch           int16     `json:"producer_epoch"`
	Decided         time.Time `json:"decided" doc:"when it was, or began where only a marker tells that it was committed"`
	Parts           []Part    `json:"parts"`
}

// Part is what the bucket has of a transaction in one partition.
type Part struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	First     storage.Offset `json:"first_offset" doc:"of its records there; -1: the bucket has none of them, or does not tell them from those of another transaction"`
	Whole     bool           `json:"whole" doc:"its commit marker is there"`
}

// decision is a transaction that the log says to be committed, or to be under way.
type decision struct {
	id       string
	producer int64
	epoch    int16 // that of its markers; of one under way, the next one may be
	under    bool  // way
	more     bool  // its log may go on: a broker is awaited that has it
	at       int64 // when it was decided, or began; milliseconds
	slack    int64 // how long before that its markers may be, as they say: clocks differ
	in       []partOf
}

// partOf names a partition as transaction log does.
type partOf struct {
	topic string
	index int32
}

// marked is what a partition has of one producer, from its end backwards.
type marked struct {
	commits map[int16]int64 // when the last commit marker of each epoch was written
	open    storage.Offset  // first offset of what no marker ends; -1: nothing
}

// findTorn reads the transaction log in the bucket, and the partitions that it names, as far
// back as decisions need. Partitions whose replicas are awaited are not judged: what lies
// behind the bucket's end may be there.
func findTorn(ctx context.Context, o Options, next *metadata.Image) ([]Torn, error) {
	log, there := next.Topic(transactionLog)
	if !there || !anyForsaken(next) {
		return nil, nil
	}
	r := bucketReader{o.Bucket, o.Prefix, o.Cluster}
	var decisions []decision
	for p := range log.Partitions.All() {
		some, err := r.decisions(ctx, storage.PartitionID{Topic: log.ID, Index: p.Index}, p)
		if err != nil {
			return nil, err
		}
		for i := range some {
			some[i].more = len(awaited(p)) > 0
		}
		decisions = append(decisions, some...)
	}
	latest := int64(0)
	for _, d := range decisions {
		latest = max(latest, d.at)
	}
	decisions = slices.DeleteFunc(decisions, func(d decision) bool { return d.at < latest-tornWindow.Milliseconds() })
	since := map[partOf]int64{}
	for _, d := range decisions {
		for _, p := range d.in {
			if at, asked := since[p]; !asked || d.at-clockSlack < at {
				since[p] = d.at - clockSlack
			}
		}
	}
	has, keeps := map[partOf]map[int64]*marked{}, map[partOf]bool{}
	for p, at := range since {
		t, known := next.Topic(p.topic)
		if !known || t.Partition(p.index) == nil || len(awaited(t.Partition(p.index))) > 0 {
			continue // nobody reads it, or what it comes to is not known yet
		}
		marks, err := r.marks(ctx, storage.PartitionID{Topic: t.ID, Index: p.index}, t.Partition(p.index), at)
		if err != nil {
			return nil, err
		}
		has[p], keeps[p] = marks, held(t.Partition(p.index))
	}
	return judge(decisions, has, keeps), nil
}

// anyForsaken reports whether there is a partition that may have lost something: the bucket
// does not hold all of it, and no broker is awaited for it.
func anyForsaken(next *metadata.Image) bool {
	for t := range next.Topics() {
		for p := range t.Partitions.All() {
			if !held(p) && len(awaited(p)) == 0 {
				return true
			}
		}
	}
	return false
}

// judge says which of the decisions are torn, by what partitions have of their producers.
// Partitions that keep all that was acknowledged lack a marker at most, and who has the
// decision in its log still writes that.
func judge(decisions []decision, has map[partOf]map[int64]*marked, keeps map[partOf]bool) (torn []Torn) {
	for _, d := range decisions {
		t := Torn{TransactionalID: d.id, ProducerID: d.producer, Epoch: d.epoch, Decided: time.UnixMilli(d.at).UTC()}
		whole, lacking := 0, 0
		for _, p := range d.in {
			marks, judged := has[p]
			if !judged {
				continue
			}
			part := Part{Topic: p.topic, Partition: p.index, First: -1}
			if m := marks[d.producer]; m != nil {
				part.Whole = m.ended(&d)
				part.First = m.open
			}
			if decided := !d.under || d.more; keeps[p] && decided && !part.Whole {
				continue
			}
			if part.Whole {
				part.First = -1
				whole++
			} else {
				lacking++
			}
			t.Parts = append(t.Parts, part)
		}
		if committed := !d.under || whole > 0; committed && !guard.Check("recovery.torn-listed", lacking == 0) {
			torn = append(torn, t)
		}
	}
	return torn
}

// ended reports whether the commit marker of a decision, or of a later one of its producer,
// is there: a producer's transactions come one after the other. Time is asked only where those
// may have the same epoch.
func (m *marked) ended(d *decision) bool {
	for epoch, at := range m.commits {
		if epoch > d.epoch || epoch == d.epoch && at >= d.at-d.slack {
			return true
		}
	}
	return false
}

// bucketReader reads what a catalogue names.
type bucketReader struct {
	b interface {
		ReadAt(ctx context.Context, key string, p []byte, off int64) error
	}
	prefix, cluster string
}

// batches calls yield with the batches of a range, from its first to its last.
func (r bucketReader) batches(ctx context.Context, of storage.PartitionID, in metadata.Range, yield func(batch.Batch) error) error {
	key := object.Key(r.prefix, r.cluster, controller.FirstIncarnation, in.Object)
	raw := make([]byte, in.IndexLength)
	if err := r.b.ReadAt(ctx, key, raw, in.IndexPosition); err != nil {
		return fmt.Errorf("read what the bucket has of %s: %w", of, err)
	}
	x, err := object.DecodeIndex(raw, in.Object, in.Entry(of))
	if err != nil {
		return fmt.Errorf("read what the bucket has of %s: %s: %w", of, key, err)
	}
	var all []batch.Batch
	for i, block := range x.Blocks {
		b := make([]byte, block.Length)
		err := r.b.ReadAt(ctx, key, b, block.Position)
		if err == nil {
			all, err = x.OpenBlock(i, b, all[:0])
		}
		for at := 0; err == nil && at < len(all); at++ {
			err = yield(all[at])
		}
		if err != nil {
			return fmt.Errorf("read what the bucket has of %s: %s: %w", of, key, err)
		}
	}
	return nil
}

// decisions are the transactions that a partition of the log says to be committed, and those
// that it says to be under way last; in the log's order.
func (r bucketReader) decisions(ctx context.Context, of storage.PartitionID, p *metadata.Partition) (found []decision, err error) {
	under := map[string]decision{}
	for in := range p.Ranges().All() {
		err := r.batches(ctx, of, in, func(b batch.Batch) error {
			if b.IsControl() {
				return nil
			}
			it := b.Records(maxRecordBytes)
			for it.Next() {
				d, state, ok := readDecision(it.Record().Key, it.Record().Value)
				if !ok {
					continue
				}
				delete(under, d.id)
				switch state {
				case kmsg.TransactionStateOngoing:
					d.under = true
					under[d.id] = d
				case kmsg.TransactionStatePrepareCommit:
					found = append(found, d)
				}
			}
			return it.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.AppendSeq(found, maps.Values(under)), nil
}

// readDecision reads a record of the transaction log; false: it is of another kind, or a
// tombstone.
func readDecision(key, value []byte) (d decision, state kmsg.TransactionState, ok bool) {
	var k kmsg.TxnMetadataKey
	var v kmsg.TxnMetadataValue
	if len(value) == 0 || k.ReadFrom(key) != nil || k.Version != 0 || v.ReadFrom(value) != nil {
		return d, 0, false
	}
	d = decision{id: k.TransactionalID, producer: v.ProducerID, epoch: v.ProducerEpoch, at: v.LastUpdateTimestamp}
	switch {
	case v.State == kmsg.TransactionStateOngoing:
		d.at = v.StartTimestamp
	case v.ClientTransactionVersion >= bumpedEpochs:
		d.slack = clockSlack // the epoch tells it from the one before
	}
	for _, t := range v.Topics {
		for _, index := range t.Partitions {
			d.in = append(d.in, partOf{t.Topic, index})
		}
	}
	slices.SortFunc(d.in, func(a, b partOf) int { return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.index, b.index)) })
	return d, v.State, true
}

// marks is what the bucket has of each producer's transactions in a partition that were under
// way at a time or later.
func (r bucketReader) marks(ctx context.Context, of storage.PartitionID, p *metadata.Partition, since int64) (map[int64]*marked, error) {
	ranges := slices.Collect(p.Ranges().All())
	// Where a range says that nothing is open behind it, what follows is of transactions
	// that are seen from their beginning.
	tail := len(ranges)
	for tail > 0 && ranges[tail-1].OpenTransactions {
		tail--
	}
	marks := map[int64]*marked{}
	for i, in := range ranges {
		if i < tail && in.MaxTimestamp < since {
			continue // a marker carries the time at which it was written, and a range the latest of its own
		}
		err := r.batches(ctx, of, in, func(b batch.Batch) error {
			if !b.IsTransactional() {
				return nil
			}
			m := marks[b.ProducerID()]
			if m == nil {
				m = &marked{commits: map[int16]int64{}, open: -1}
				marks[b.ProducerID()] = m
			}
			if !b.IsControl() {
				if m.open < 0 && i >= tail {
					m.open = b.BaseOffset()
				}
				return nil
			}
			marker, ok := batch.ReadMarker(b)
			if !ok {
				return errors.New("a control batch that is no marker")
			}
			m.open = -1
			if marker.Commit {
				m.commits[b.ProducerEpoch()] = max(m.commits[b.ProducerEpoch()], b.MaxTimestamp())
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return marks, nil
}
