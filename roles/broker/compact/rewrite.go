package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// rewriting is one object being made.
type rewriting struct {
	c       *Compactor
	mixed   map[storage.ObjectID]*mixedObject
	runs    []*rewritten
	refused map[storage.PartitionID]bool
}

// rewritten is a run and what is known of its sources.
type rewritten struct {
	Run
	sources []*source
	r       object.Range // but for its batches
	bytes   int64        // of all sources, as the catalogue has them
	batches int64        // as their indexes have them
	records int64
}

// rewrite makes one object and commits it.
func (c *Compactor) rewrite(j Job) (w *rewriting, s *object.Summary, err error) {
	w = &rewriting{c: c, mixed: j.mixed, refused: map[storage.PartitionID]bool{}}
	for _, run := range j.Runs {
		of := &rewritten{Run: run}
		for i, r := range run.Ranges {
			// Between ranges that are no neighbours lies what would be lost.
			if !guard.Check("compact.neighbours", i == 0 || r.Base == run.Ranges[i-1].End) {
				return w, nil, fmt.Errorf("%s: [%d, %d) does not follow on %d", run.Partition, r.Base, r.End, run.Ranges[i-1].End)
			}
			of.sources = append(of.sources, &source{Range: r, partition: run.Partition})
		}
		w.runs = append(w.runs, of)
	}
	if err := w.readIndexes(); err != nil {
		return w, nil, fmt.Errorf("read indexes: %w", err)
	}
	for _, run := range w.runs {
		run.describe()
	}
	for len(w.runs) > 0 {
		id, s, err := w.put()
		// What cannot be read, or packed, must not hold back the other partitions.
		if bad, ok := errors.AsType[*object.RangeError](err); ok && (bad.Err == nil || damaged(bad.Err)) {
			w.refuse(bad.Partition, err)
			continue
		}
		if err != nil {
			return w, nil, err
		}
		return w, s, w.commit(id, s)
	}
	return w, nil, nil
}

// damaged reports whether err says something of what was read, and not of the
// bucket as a whole.
func damaged(err error) bool {
	return errors.Is(err, bucket.ErrNotFound) || errors.Is(err, io.ErrUnexpectedEOF) && !bucket.IsTemporary(err) ||
		errors.As(err, new(*object.CorruptionError)) || errors.As(err, new(*object.UnknownFormatError))
}

// refuse leaves a partition out.
func (w *rewriting) refuse(id storage.PartitionID, err error) {
	w.c.o.Log.Warn("ranges cannot be compacted", "partition", id, "error", err)
	w.refused[id] = true
	w.runs = slices.DeleteFunc(w.runs, func(r *rewritten) bool { return r.Partition == id })
}

func (w *rewriting) sources() (all []*source) {
	for _, run := range w.runs {
		all = append(all, run.sources...)
	}
	return all
}

// readIndexes reads the index of each source, but for those that earlier jobs read
// too. One of these that is damaged is read anew: it may have been on the way.
func (w *rewriting) readIndexes() error {
	shelf := w.c.shelf
	sources := slices.DeleteFunc(w.sources(), func(is *source) bool {
		b, at, ok := shelf.find(is)
		return ok && is.decode(b, at) == nil
	})
	reads := indexReads(sources)
	widen(reads, w.mixed, w.c.o.Indexes)
	s := newStream(w.c.ctx, reads, w.c.o.Memory, &w.c.bandwidth, w.c.fill)
	defer s.end()
	for _, is := range sources { // in the order of the reads
		r := &reads[is.indexIn]
		b, err := s.get(is.indexIn)
		at := is.IndexPosition - r.position
		switch {
		case !r.wider:
		case err == nil:
			shelf.keep(r, b)
			r.wider = false
		case damaged(err): // it may be what others have there that is missing
			b, err = w.readIndex(is)
			at = 0
		}
		if err == nil {
			err = is.decode(b, at)
		}
		s.release(is.indexIn)
		if err == nil || w.refused[is.partition] {
			continue
		}
		if !damaged(err) {
			return err
		}
		w.refuse(is.partition, err)
	}
	return nil
}

// readIndex reads the index of a source alone.
func (w *rewriting) readIndex(is *source) ([]byte, error) {
	if err := w.c.bandwidth.Take(int64(is.IndexLength)).Wait(w.c.ctx); err != nil {
		return nil, err
	}
	b := make([]byte, is.IndexLength)
	return b, w.c.fill(w.c.ctx, is.Object, b, is.IndexPosition)
}

// decode reads the index, which lies at byte at of b.
func (is *source) decode(b []byte, at int64) (err error) {
	is.index, err = object.DecodeIndex(b[at:at+int64(is.IndexLength)], is.Object, is.Entry(is.partition))
	if err == nil {
		is.index.Producers = slices.Clone(is.index.Producers) // so that b can go
	}
	return err
}

// describe puts together what the indexes say.
func (run *rewritten) describe() {
	indexes := make([]*object.Index, len(run.sources))
	for i, s := range run.sources {
		indexes[i] = s.index
		run.bytes += s.Bytes
		run.batches += s.index.Batches
		run.records += s.index.Records
	}
	run.r = object.Join(indexes) // that no batch is lost is checked by their number
}

// put writes the object under an id of its own, from what is read anew as often as
// the bucket asks.
func (w *rewriting) put() (storage.ObjectID, *object.Summary, error) {
	c := w.c
	reads := layOut(w.sources(), c.o.Memory)
	return c.objects.Write(c.ctx, func(to io.Writer, h object.Header) (*object.Summary, error) {
		s := newStream(c.ctx, reads, c.o.Memory, &c.bandwidth, c.fill)
		defer s.end()
		ranges := make([]object.Range, len(w.runs))
		for i, run := range w.runs {
			ranges[i] = run.r
			ranges[i].Batches = func(yield func(batch.Batch) error) error { return copyBatches(s, reads, run.sources, yield) }
		}
		return object.Write(to, h, ranges, object.WriteOptions{})
	})
}

// copyBatches yields the batches of sources, from blocks that fit their CRC.
func copyBatches(s *stream, reads []read, sources []*source, yield func(batch.Batch) error) error {
	var opened []batch.Batch
	for _, is := range sources {
		for _, p := range is.pieces {
			b, err := s.get(p.read)
			if err != nil {
				return err
			}
			for i := p.first; i <= p.last; i++ {
				k := &is.index.Blocks[i]
				at := k.Position - reads[p.read].position
				if opened, err = is.index.OpenBlock(i, b[at:at+int64(k.Length)], opened[:0]); err != nil {
					return err
				}
				for _, one := range opened {
					if err := yield(one); err != nil {
						return err
					}
				}
			}
			s.release(p.read)
		}
	}
	return nil
}

// commit has the object's ranges take the place of their sources.
func (w *rewriting) commit(id storage.ObjectID, s *object.Summary) error {
	replacements := make([]metadata.Replacement, len(s.Placements))
	for i := range s.Placements {
		p, run := &s.Placements[i], w.runs[i]
		// From here on the old copy is as good as gone.
		if !guard.Check("compact.all-packed", p.Bytes == run.bytes && p.Batches == run.batches && p.Records == run.records) {
			return fmt.Errorf("object %s has %d bytes, %d batches and %d records of %s, its sources %d, %d and %d",
				id, p.Bytes, p.Batches, p.Records, p.Partition, run.bytes, run.batches, run.records)
		}
		r := &replacements[i]
		r.PartitionRange = metadata.PartitionRange{Partition: p.Partition, Range: metadata.NewRange(p, run.Epoch)}
		r.Range.OpenTransactions = run.sources[len(run.sources)-1].OpenTransactions
		for _, is := range run.sources {
			r.Removed = append(r.Removed, metadata.RemovedRange{Object: is.Object, Base: is.Base, End: is.End})
		}
	}
	results, err := w.c.objects.Commit(w.c.ctx, id, len(replacements), func() ([]error, error) {
		return w.c.o.Catalogue.Replace(w.c.ctx, id, s.Size, replacements)
	})
	if err != nil {
		return err
	}
	for i, result := range results {
		if result != nil { // the old ranges stay
			w.refused[w.runs[i].Partition] = true
			w.c.o.Log.Info("the catalogue refused a compacted range", "object", id, "partition", w.runs[i].Partition, "base", w.runs[i].r.Base, "error", result)
		}
	}
	return nil
}

// fill reads part of an object.
func (c *Compactor) fill(ctx context.Context, id storage.ObjectID, p []byte, at int64) error {
	if err := c.o.Bucket.ReadAt(ctx, c.o.Key(id), p, at); err != nil {
		return err
	}
	c.read.Add(int64(len(p)))
	c.gets.Add(1)
	return nil
}
