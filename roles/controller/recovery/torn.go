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

	is *decision
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

// marked is what a partition has of one producer.
type marked struct {
	commits map[int16]int64 // when the last commit marker of each epoch was written
	open    storage.Offset  // first offset of what no marker ends; -1: nothing
}

// evidence is what the bucket tells of transactions.
type evidence struct {
	decisions []decision
	tapes     map[partOf]*tape
	keeps     map[partOf]bool // partitions of which the bucket holds all that was acknowledged
}

// torn are the transactions that are torn.
func (e *evidence) torn() []Torn {
	has := map[partOf]map[int64]*marked{}
	for p, t := range e.tapes {
		has[p] = t.marks()
	}
	return judge(e.decisions, has, e.keeps)
}

// readEvidence reads the transaction log in the bucket, and the partitions that it names, as far
// back as decisions need. Partitions whose replicas are awaited are not judged: what lies
// behind the bucket's end may be there.
func readEvidence(ctx context.Context, o Options, next *metadata.Image) (*evidence, error) {
	e := &evidence{tapes: map[partOf]*tape{}, keeps: map[partOf]bool{}}
	log, there := next.Topic(transactionLog)
	if !there || !anyForsaken(next) {
		return e, nil
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
	e.decisions = decisions
	for p, at := range since {
		t, known := next.Topic(p.topic)
		if !known || t.Partition(p.index) == nil || len(awaited(t.Partition(p.index))) > 0 {
			continue // nobody reads it, or what it comes to is not known yet
		}
		tape, err := r.tape(ctx, storage.PartitionID{Topic: t.ID, Index: p.index}, t.Partition(p.index), at)
		if err != nil {
			return nil, err
		}
		e.tapes[p], e.keeps[p] = tape, held(t.Partition(p.index))
	}
	return e, nil
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
// decision in its log still writes that: what they have is torn only where others lack something.
func judge(decisions []decision, has map[partOf]map[int64]*marked, keeps map[partOf]bool) (torn []Torn) {
	for i := range decisions {
		d := &decisions[i]
		t := Torn{TransactionalID: d.id, ProducerID: d.producer, Epoch: d.epoch, Decided: time.UnixMilli(d.at).UTC(), is: d}
		whole, lacking := 0, 0
		for _, p := range d.in {
			marks, judged := has[p]
			if !judged {
				continue
			}
			part := Part{Topic: p.topic, Partition: p.index, First: -1}
			if m := marks[d.producer]; m != nil {
				part.Whole = m.ended(d)
				part.First = m.open
			}
			decided := !d.under || d.more
			switch {
			case part.Whole:
				part.First = -1
				whole++
			case keeps[p] && decided:
			default:
				lacking++
			}
			t.Parts = append(t.Parts, part)
		}
		// One of which nothing is left anywhere is lost, not torn.
		left := whole > 0 || len(t.Parts) < len(d.in) || slices.ContainsFunc(t.Parts, func(p Part) bool { return p.First >= 0 })
		if committed := !d.under || whole > 0; committed && left && !guard.Check("recovery.torn-listed", lacking == 0) {
			torn = append(torn, t)
		}
	}
	return torn
}

// ended reports whether the commit marker of a decision, or of a later one of its producer,
// is there.
func (m *marked) ended(d *decision) bool {
	for epoch, at := range m.commits {
		if d.endedBy(epoch, at) {
			return true
		}
	}
	return false
}

// endedBy reports whether a commit marker of its producer is that of a decision, or of a later one: a
// producer's transactions come one after the other. Time is asked only where those
// may have the same epoch.
func (d *decision) endedBy(epoch int16, at int64) bool {
	return epoch > d.epoch || epoch == d.epoch && at >= d.at-d.slack
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
	key, x, err := r.index(ctx, of, in)
	if err != nil {
		return err
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

// index reads the index of a range, and says where its object lies.
func (r bucketReader) index(ctx context.Context, of storage.PartitionID, in metadata.Range) (key string, _ *object.Index, _ error) {
	key = object.Key(r.prefix, r.cluster, controller.FirstIncarnation, in.Object)
	raw := make([]byte, in.IndexLength)
	if err := r.b.ReadAt(ctx, key, raw, in.IndexPosition); err != nil {
		return key, nil, fmt.Errorf("read what the bucket has of %s: %w", of, err)
	}
	x, err := object.DecodeIndex(raw, in.Object, in.Entry(of))
	if err != nil {
		return key, nil, fmt.Errorf("read what the bucket has of %s: %s: %w", of, key, err)
	}
	return key, x, nil
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

// tape is the transactions of a partition that were under way at a time or later, and those that
// ended since, as the bucket has them.
type tape struct {
	spans []span
	end   storage.Offset // what lies behind is not there
	cut   bool           // something of the first ones is not on it
}

// span is a transaction.
type span struct {
	producer int64
	epoch    int16          // of its marker
	first    storage.Offset // of its records; -1: it has none
	marker   storage.Offset // -1: nothing ends it
	commit   bool
	at       int64 // when the marker was written, milliseconds
}

// open reports whether it is under way at the end of the tape.
func (t *tape) open(s *span) bool {
	return s.first >= 0 && s.first < t.end && (s.marker < 0 || s.marker >= t.end)
}

// ended reports whether it has its marker.
func (t *tape) ended(s *span) bool { return s.marker >= 0 && s.marker < t.end }

// marks is what the tape has of each producer.
func (t *tape) marks() map[int64]*marked {
	marks := map[int64]*marked{}
	for i := range t.spans {
		s := &t.spans[i]
		m := marks[s.producer]
		if m == nil {
			m = &marked{commits: map[int16]int64{}, open: -1}
			marks[s.producer] = m
		}
		switch {
		case t.open(s):
			m.open = s.first
		case t.ended(s) && s.commit:
			m.commits[s.epoch] = max(m.commits[s.epoch], s.at)
		}
	}
	return marks
}

// tape reads a partition as far back as what was under way at a time began.
func (r bucketReader) tape(ctx context.Context, of storage.PartitionID, p *metadata.Partition, since int64) (*tape, error) {
	ranges := slices.Collect(p.Ranges().All())
	from := slices.IndexFunc(ranges, func(is metadata.Range) bool { return is.MaxTimestamp >= since })
	if from < 0 {
		from = len(ranges)
	}
	for from > 0 && ranges[from-1].OpenTransactions {
		from--
	}
	t := &tape{end: p.CommittedEnd(), cut: from == 0 && len(p.Filed()) > 0}
	open := map[int64]storage.Offset{}
	for _, in := range ranges[from:] {
		err := r.batches(ctx, of, in, func(b batch.Batch) error {
			if !b.IsTransactional() {
				return nil
			}
			first, is := open[b.ProducerID()]
			if !b.IsControl() {
				if !is {
					open[b.ProducerID()] = b.BaseOffset()
				}
				return nil
			}
			marker, ok := batch.ReadMarker(b)
			if !ok {
				return errors.New("a control batch that is no marker")
			}
			if !is {
				first = -1
			}
			delete(open, b.ProducerID())
			t.spans = append(t.spans, span{b.ProducerID(), b.ProducerEpoch(), first, b.BaseOffset(), marker.Commit, b.MaxTimestamp()})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, producer := range slices.Sorted(maps.Keys(open)) {
		t.spans = append(t.spans, span{producer: producer, first: open[producer], marker: -1})
	}
	return t, nil
}
