package clean

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// output is one object being made: what is left of some ranges.
type output struct {
	r       *round
	ranges  []metadata.Range
	indexes []*object.Index
	aborted []object.Aborted

	held pile // its batches, unless they are more than may be held
	over bool
	sieve
}

// rewrite makes one object of the ranges from first on, if any of them changes, and
// commits it. It returns the first range that is not done.
func (r *round) rewrite(first int) (to int, err error) {
	target := r.c.o.TargetObject
	to = r.window(first, min(int64(float64(target)/max(r.share, float64(target)/mostRead)), mostRead))
	for {
		o := &output{r: r, ranges: r.ranges[first:to]}
		if o.indexes, o.aborted, err = r.open(first, to); err != nil {
			return 0, err
		}
		if err := o.sift(r.ctx); err != nil {
			return 0, err
		}
		if o.over && len(o.ranges) > 1 {
			to = first + (len(o.ranges)+1)/2 // more stays than what was written before let expect
			continue
		}
		if in := bytesOf(o.ranges); in > 0 {
			r.share = float64(o.counts.bytes) / float64(in)
		}
		if o.counts.changed {
			if err := o.write(); err != nil {
				return 0, err
			}
			r.c.sifted(o)
		}
		r.kept = o.kept
		if o.due != 0 && (r.state.NextDue == 0 || o.due < r.state.NextDue) {
			r.state.NextDue = o.due
		}
		return to, nil
	}
}

func bytesOf(ranges []metadata.Range) (sum int64) {
	for i := range ranges {
		sum += ranges[i].Bytes
	}
	return sum
}

// sift goes through the ranges and holds what is left.
func (o *output) sift(ctx context.Context) error {
	return o.each(ctx, &o.sieve, func(b batch.Batch) error {
		if o.over {
			return nil
		}
		if o.held.bytes+int64(len(b)) > mostHeld {
			o.over, o.held = true, pile{}
			return nil
		}
		o.held.add(b)
		return nil
	})
}

// each calls yield with what a sieve leaves of the ranges.
func (o *output) each(ctx context.Context, s *sieve, yield func(batch.Batch) error) error {
	r := o.r
	last, _ := r.job.Ranges.Last()
	*s = sieve{
		keys: r.keys, end: r.end, last: last.End, now: r.now, retention: r.job.Policy.DeleteRetention.Milliseconds(), older: r.job.Older, aborts: abortsOf(o.aborted),
		kept: maps.Clone(r.kept), inside: r.inside,
		filter: batch.Filter{Limit: mostExpanded},
	}
	return r.reader.batches(ctx, o.indexes, 0, func(b batch.Batch) error {
		left, err := s.sift(b)
		if err != nil || left == nil {
			return err
		}
		return yield(left)
	})
}

// write puts the object and has it take the place of its ranges.
func (o *output) write() error {
	r := o.r
	c := r.c
	id, s, err := c.objects.Write(r.ctx, o.pack)
	if err != nil {
		return err
	}
	p := &s.Placements[0]
	// From here on the old copy is as good as gone.
	if !guard.Check("clean.all-packed", p.Bytes == o.counts.bytes && p.Batches == o.counts.batches && p.Records == o.counts.records) {
		return fmt.Errorf("object %s has %d bytes, %d batches and %d records; %d, %d and %d were to stay", id, p.Bytes, p.Batches, p.Records, o.counts.bytes, o.counts.batches, o.counts.records)
	}
	one := metadata.Replacement{PartitionRange: metadata.PartitionRange{Partition: r.job.ID, Range: metadata.NewRange(p, r.job.Epoch)}}
	one.Range.OpenTransactions = o.ranges[len(o.ranges)-1].OpenTransactions
	for _, is := range o.ranges {
		one.Removed = append(one.Removed, metadata.RemovedRange{Object: is.Object, Base: is.Base, End: is.End})
	}
	results, err := c.objects.Commit(r.ctx, id, 1, func() ([]error, error) {
		return c.o.Catalogue.Replace(r.ctx, id, s.Size, []metadata.Replacement{one})
	})
	if err != nil {
		return err
	}
	if results[0] != nil {
		return fmt.Errorf("commit object %s: %w", id, results[0])
	}
	c.written.Add(s.Size)
	return nil
}

// pack writes the object, as often as it is asked.
func (o *output) pack(w io.Writer, h object.Header) (*object.Summary, error) {
	is := object.Join(o.indexes)
	// Who finds an aborted transaction here skips its producer's records up to the
	// marker: without that, it would skip too many.
	is.Aborted = slices.DeleteFunc(is.Aborted, func(a object.Aborted) bool { return slices.Contains(o.gone, a.Last) })
	is.Batches = func(yield func(batch.Batch) error) error {
		if !o.over {
			return o.held.each(yield)
		}
		return o.each(o.r.ctx, new(sieve), yield)
	}
	return object.Write(w, h, []object.Range{is}, object.WriteOptions{})
}

// pileChunk is what a pile grows by.
const pileChunk = 1 << 20

// pile is batches, one behind the other, in memory that is never copied.
type pile struct {
	chunks [][]byte
	bytes  int64
}

func (p *pile) add(b batch.Batch) {
	n := len(p.chunks) - 1
	if n < 0 || cap(p.chunks[n])-len(p.chunks[n]) < len(b) {
		p.chunks = append(p.chunks, make([]byte, 0, max(pileChunk, len(b))))
		n++
	}
	p.chunks[n] = append(p.chunks[n], b...)
	p.bytes += int64(len(b))
}

func (p *pile) each(yield func(batch.Batch) error) error {
	for _, rest := range p.chunks {
		for len(rest) > 0 {
			b, after, err := batch.Next(rest)
			if err != nil {
				return err
			}
			if err := yield(b); err != nil {
				return err
			}
			rest = after
		}
	}
	return nil
}
