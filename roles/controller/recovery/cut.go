package recovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// Torn transactions can be cut away: each of their partitions is cut before what it has of them, and so
// that no transaction is under way where it ends, for nobody would end that. What is behind goes with it, and
// tears others, which are cut too, until none is torn that is known of.

// Cut is a partition that another life begins with less of than the bucket has.
type Cut struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	At        storage.Offset `json:"at" doc:"where it ends from now on: offsets from here on are given out anew"`
	End       storage.Offset `json:"end" doc:"where it ended: what lies between is given up"`
	For       []string       `json:"for" doc:"transactional ids of what was torn there, the first ten; a producer's id where its log has no more"`
}

// mostNamed bounds the transactions that a cut names.
const mostNamed = 10

// errCutOff is why a partition is not cut.
var errCutOff = errors.New("where its transactions began is listed in manifests already")

// cuts says where partitions are to be cut so that nothing is torn.
func (e *evidence) cuts(next *metadata.Image) (cuts []Cut, err error) {
	at := map[partOf]*Cut{}
	for more := true; more; {
		more = false
		for _, torn := range e.torn() {
			name := cmp.Or(torn.TransactionalID, fmt.Sprint("producer ", torn.ProducerID))
			for _, part := range torn.Parts {
				of := partOf{part.Topic, part.Partition}
				if first := e.tapes[of].firstOf(torn.is); first >= 0 {
					if err := e.cut(at, of, first, name); err != nil {
						return nil, err
					}
					more = true
				}
			}
		}
	}
	for of, c := range at {
		t, _ := next.Topic(of.topic)
		is := t.Partition(of.index)
		c.At = max(c.At, is.LogStart)
		if err := is.MayCut(c.At); err != nil {
			return nil, fmt.Errorf("cut %s-%d at %d: %w", of.topic, of.index, c.At, err)
		}
		cuts = append(cuts, *c)
	}
	slices.SortFunc(cuts, func(a, b Cut) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return cuts, nil
}

// cut cuts a tape before what it has of a transaction, and other tapes before what they have of those that
// this tears.
func (e *evidence) cut(cuts map[partOf]*Cut, of partOf, first storage.Offset, name string) error {
	t := e.tapes[of]
	if t.cut {
		return fmt.Errorf("cut torn transactions (%s) out of %s-%d: %w", name, of.topic, of.index, errCutOff)
	}
	c := cuts[of]
	if c == nil {
		c = &Cut{Topic: of.topic, Partition: of.index, End: t.end}
		cuts[of] = c
	}
	if len(c.For) < mostNamed && !slices.Contains(c.For, name) {
		c.For = append(c.For, name)
	}
	was, at := t.end, t.settled(first)
	t.end, c.At = at, at
	for i := range t.spans {
		s := &t.spans[i]
		if s.marker < at || s.marker >= was || !s.commit || s.first < 0 {
			continue
		}
		for other, is := range e.tapes {
			if o := is.same(s); other != of && o != nil && !guard.Check("recovery.cut-tears", o.first < 0) {
				if err := e.cut(cuts, other, o.first, fmt.Sprint("producer ", s.producer)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// same is what the tape has of a transaction that another tape has the commit marker of: of
// several by the same producer in the same epoch the one that was committed at about the same time.
func (t *tape) same(as *span) (found *span) {
	apart := int64(clockSlack)
	for i := range t.spans {
		s := &t.spans[i]
		if d := max(s.at-as.at, as.at-s.at); t.ended(s) && s.commit && s.producer == as.producer && s.epoch == as.epoch && d <= apart {
			found, apart = s, d
		}
	}
	return found
}

// firstOf is where the records of a decision begin, as far as the tape has them; -1: it has none.
func (t *tape) firstOf(d *decision) storage.Offset {
	for i := range t.spans {
		s := &t.spans[i]
		switch {
		case s.producer != d.producer || s.first >= t.end:
		case t.ended(s) && s.commit && d.endedBy(s.epoch, s.at):
			return s.first
		case t.open(s):
			return s.first
		}
	}
	return -1
}

// settled is the last offset up to another where nothing is under way.
func (t *tape) settled(at storage.Offset) storage.Offset {
	for moved := true; moved; {
		moved = false
		for i := range t.spans {
			if s := &t.spans[i]; s.first >= 0 && s.first < at && (s.marker < 0 || s.marker >= at) && !guard.Check("recovery.cut-settled", false) {
				at, moved = s.first, true
			}
		}
	}
	return at
}

// CutTorn writes what takes the place of ranges that are cut, so that Begin begins with what is
// left. Without Options.CutTorn, and where nothing is torn, it does nothing. What it
// has written is in nobody's catalogue until then; Begin removes it where it is refused.
func (p *Plan) CutTorn(ctx context.Context) error {
	if len(p.Cuts) == 0 {
		return nil
	}
	var cuts []metadata.Cut
	first, last := p.log.image.RecoverableIDs()
	id := last - storage.ObjectID(rand.Uint64N(uint64(last-first)/2))
	for _, c := range p.Cuts {
		t, _ := p.next.Topic(c.Topic)
		is := t.Partition(c.Partition)
		cut := metadata.Cut{Partition: storage.PartitionID{Topic: t.ID, Index: c.Partition}, At: c.At}
		if within, some := is.Ranges().Find(c.At); some && within.Base < c.At && c.At > is.LogStart {
			id--
			r, err := p.rewrite(ctx, id, cut.Partition, within, c.At)
			if err != nil {
				return errors.Join(fmt.Errorf("cut %s-%d at %d: %w", c.Topic, c.Partition, c.At, err), p.removeWritten(ctx))
			}
			cut.Rewritten = r
		}
		cuts = append(cuts, cut)
	}
	next, taken, err := metadata.Recover(p.log.image, metadata.RecoverOptions{Brokers: p.options.Brokers, Objects: p.found, Cuts: cuts})
	if err != nil {
		return errors.Join(err, p.removeWritten(ctx))
	}
	p.next, p.Taken = next, taken
	return nil
}

// rewrite makes an object of what a range has before an offset, and reads it back.
func (p *Plan) rewrite(ctx context.Context, id storage.ObjectID, of storage.PartitionID, in metadata.Range, at storage.Offset) (*metadata.Rewritten, error) {
	r := bucketReader{p.options.Bucket, p.options.Prefix, p.options.Cluster}
	_, x, err := r.index(ctx, of, in)
	if err != nil {
		return nil, err
	}
	left := object.Range{
		Partition: of, Topic: x.Topic, Base: in.Base, End: at, LastStable: at, Holes: true, Cut: true,
		Epochs:  slices.DeleteFunc(slices.Clone(x.Epochs), func(e object.EpochStart) bool { return e.Start >= at }),
		Aborted: slices.DeleteFunc(slices.Clone(x.Aborted), func(a object.Aborted) bool { return a.Last >= at }),
		Batches: func(yield func(batch.Batch) error) error {
			return r.batches(ctx, of, in, func(b batch.Batch) error {
				if !guard.Check("recovery.cut-before", b.NextOffset() <= at) {
					return nil
				}
				return yield(b)
			})
		},
	}
	if len(x.Producers) > 0 {
		asOf, err := new(log.Rebuild).Producers(x.Producers)
		if err != nil {
			return nil, err
		}
		if guard.Check("recovery.cut-producers", asOf <= at) {
			left.Producers = x.Producers
		}
	}
	var raw bytes.Buffer
	h := object.Header{Cluster: p.Cluster, Incarnation: controller.FirstIncarnation, ID: id}
	if _, err := object.Write(&raw, h, []object.Range{left}, object.WriteOptions{}); err != nil {
		return nil, err
	}
	key := object.Key(p.options.Prefix, p.Cluster, controller.FirstIncarnation, id)
	if err := p.options.Bucket.Put(ctx, key, bucket.Bytes(raw.Bytes())); err != nil {
		return nil, err
	}
	p.written = append(p.written, key)
	is, err := readUpload(ctx, p.options.Bucket, key, p.Cluster, id, int64(raw.Len()))
	if err != nil {
		return nil, fmt.Errorf("read back %s: %w", key, err)
	}
	made := is.Ranges[0].Range
	made.Object = id
	return &metadata.Rewritten{Size: is.Size, Range: made}, nil
}

// removeWritten removes what CutTorn has written.
func (p *Plan) removeWritten(ctx context.Context) error {
	var errs []error
	for _, key := range p.written {
		if err := p.options.Bucket.Delete(ctx, key); err != nil && !errors.Is(err, bucket.ErrNotFound) {
			errs = append(errs, fmt.Errorf("remove what was written for a cut: %w", err))
		}
	}
	p.written = nil
	return errors.Join(errs...)
}
