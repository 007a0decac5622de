package rebuild

import (
	"context"
	"fmt"
	"math"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// largestRead is that of one request, unless one block alone is larger.
const largestRead = 4 << 20

// Options say where to read.
type Options struct {
	Bucket bucket.Bucket
	Key    func(storage.ObjectID) string
	Millis int64 // since 1970: now
}

// State returns what a log that begins at the committed end of p knows, for
// [log.Log.RestartFromBucket].
func State(ctx context.Context, o Options, id storage.PartitionID, p *metadata.Partition) ([]byte, error) {
	r := reader{ctx, o, id}
	indexes, err := r.newest(p)
	if err != nil {
		return nil, fmt.Errorf("what the bucket knows of %s: %w", id, err)
	}
	var known log.Rebuild
	asOf := storage.Offset(0)
	if len(indexes) > 0 && len(indexes[0].Producers) > 0 {
		if asOf, err = known.Producers(indexes[0].Producers); err != nil {
			return nil, fmt.Errorf("what object %s knows of %s: %w", indexes[0].Object, id, err)
		}
	}
	for _, x := range indexes {
		for _, e := range x.Epochs {
			known.Epoch(log.EpochStart{Epoch: e.Epoch, Start: e.Start})
		}
		if err := r.batches(x, asOf, func(b batch.Batch) { known.Batch(b, o.Millis) }); err != nil {
			return nil, fmt.Errorf("batches of %s in object %s: %w", id, x.Object, err)
		}
	}
	return known.Encode(p.LogStart, p.CommittedEnd()), nil
}

// reader reads ranges of one partition.
type reader struct {
	ctx context.Context
	o   Options
	id  storage.PartitionID
}

func (r *reader) read(id storage.ObjectID, at, length int64) ([]byte, error) {
	b := make([]byte, length)
	return b, r.o.Bucket.ReadAt(r.ctx, r.o.Key(id), b, at)
}

// newest returns the indexes of the last ranges, in order, from the last one on that has
// producers; of all, if none has.
func (r *reader) newest(p *metadata.Partition) ([]*object.Index, error) {
	var found []*object.Index
	filed := p.Filed()
	ranges := slices.Collect(p.Ranges().All())
	for {
		for _, is := range slices.Backward(ranges) {
			b, err := r.read(is.Object, is.IndexPosition, int64(is.IndexLength))
			if err != nil {
				return nil, err
			}
			x, err := object.DecodeIndex(b, is.Object, is.Entry(r.id))
			if err != nil {
				return nil, err
			}
			if found = append(found, x); len(x.Producers) > 0 {
				filed = nil
				break
			}
		}
		if len(filed) == 0 {
			slices.Reverse(found)
			return found, nil
		}
		last := len(filed) - 1
		m := &filed[last]
		b, err := r.read(m.ID, 0, m.Size())
		if err != nil {
			return nil, err
		}
		manifest, err := object.DecodeManifest(b, m.ID, r.id, m.ManifestRef)
		if err != nil {
			return nil, err
		}
		filed, ranges = filed[:last], ranges[:0]
		for i := range manifest.Ranges {
			ranges = append(ranges, metadata.RangeOf(&manifest.Ranges[i]))
		}
	}
}

// batches calls yield with the batches of a range that end behind an offset.
func (r *reader) batches(x *object.Index, from storage.Offset, yield func(batch.Batch)) error {
	if from >= x.End {
		return nil
	}
	var opened []batch.Batch
	for _, f := range x.Plan(max(x.Base, from), object.PlanOptions{MaxBytes: math.MaxInt64, MaxFetch: largestRead}) {
		data, err := r.read(x.Object, f.Position, f.Length)
		if err != nil {
			return err
		}
		for i := f.First; i <= f.Last; i++ {
			k := &x.Blocks[i]
			at := k.Position - f.Position
			if opened, err = x.OpenBlock(i, data[at:at+int64(k.Length)], opened[:0]); err != nil {
				return err
			}
			for _, b := range opened {
				yield(b)
			}
		}
	}
	return nil
}
