package clean

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// round is one under way. One goroutine runs it.
type round struct {
	c      *Cleaner
	ctx    context.Context
	job    Job
	ranges []metadata.Range // of the partition, from its first to the last that the round may look at
	reader reader

	keys  *keyTable
	end   storage.Offset     // of the round
	state metadata.Cleaning  // as the catalogue has it
	now   int64              // ms since 1970, one moment for all of it
	full  bool               // the table did not take all that is new
	held  bool               // an open transaction holds all that is new: nothing was done
	left  bool               // it was left for something more urgent, to be taken up again
	kept  map[int64]struct{} // of a sieve, where the next range begins
	// inside: the round was taken up in the middle.
	inside bool
	share  float64 // of the bytes of ranges that stay, by what was written last
}

// errFull ends the reading of what is new: the table is full.
var errFull = errors.New("the table of keys is full")

// run does the round.
func (r *round) run() error {
	for is := range r.job.Ranges.All() {
		if is.Base >= r.job.End {
			break
		}
		r.ranges = append(r.ranges, is)
	}
	if len(r.ranges) == 0 { // the log start has passed all that there was to do
		r.state = metadata.Cleaning{To: r.job.Dirty}
		return r.note()
	}
	if err := r.learn(); err != nil {
		return fmt.Errorf("read the keys of what is new: %w", err)
	}
	if due := r.state.Due != 0 && r.now >= r.state.Due; r.end == r.job.Dirty && r.state.Round == 0 && !due {
		r.held = true
		return nil
	}
	from := r.resume()
	r.inside = from > 0
	for from < len(r.ranges) && r.ranges[from].Base < r.end {
		to, err := r.rewrite(from)
		if err != nil {
			return fmt.Errorf("rewrite from %d: %w", r.ranges[from].Base, err)
		}
		from = to
		if from < len(r.ranges) && r.ranges[from].Base < r.end {
			r.state.Round, r.state.Next = r.end, r.ranges[from].Base
			if err := r.note(); err != nil {
				return err
			}
			if r.left = r.c.o.Hold != nil && r.c.o.Hold(); r.left {
				return nil
			}
		}
	}
	r.state = metadata.Cleaning{To: max(r.end, r.state.To), Due: r.state.NextDue}
	return r.note()
}

// resume returns the first range that the round has to look at: where an earlier one
// with the same end came to.
func (r *round) resume() int {
	if r.state.Round != r.end || r.state.Round == 0 {
		r.state.Round, r.state.Next, r.state.NextDue = 0, 0, 0
		return 0
	}
	return max(0, slices.IndexFunc(r.ranges, func(is metadata.Range) bool { return is.End > r.state.Next }))
}

func (r *round) note() error {
	if r.state == (metadata.Cleaning{}) {
		return nil
	}
	if err := r.c.o.Catalogue.RecordCleaning(r.ctx, r.job.ID, r.job.Epoch, r.state); err != nil {
		return fmt.Errorf("note how far compaction by key has come: %w", err)
	}
	return nil
}

// learn decides where the round ends, and fills the table with the keys of what is
// new up to there.
func (r *round) learn() error {
	r.end = r.job.Dirty
	last := len(r.ranges) - 1
	if r.job.End == r.job.Dirty {
		r.keys = r.c.table(0)
		return nil
	}
	x, err := r.reader.index(r.ctx, r.ranges[last])
	if err != nil {
		return err
	}
	r.end = min(r.job.End, x.End)
	// Above lies what may yet be aborted (RULES 5.7).
	if !guard.Check("clean.last-stable", r.end <= x.LastStable) {
		r.end = max(x.LastStable, r.job.Dirty)
	}
	if resumed := r.state.Round; resumed > r.job.Dirty && resumed < r.end {
		r.end = resumed // what is done of that round is not done again
	}
	first := slices.IndexFunc(r.ranges, func(is metadata.Range) bool { return is.End > r.job.Dirty })
	for first >= 0 && first <= last && r.ranges[first].Base < r.end {
		to := r.window(first, mostRead)
		indexes, aborted, err := r.open(first, to)
		if err != nil {
			return err
		}
		if r.keys == nil {
			r.keys = r.c.table(r.expected(first, to, indexes))
		}
		s := sieve{keys: r.keys, end: r.end, aborts: abortsOf(aborted)}
		err = r.reader.batches(r.ctx, indexes, r.job.Dirty, func(b batch.Batch) error {
			if b.BaseOffset() >= r.end {
				return nil
			}
			full, err := s.learn(b, r.job.Dirty)
			if full != storage.NoOffset {
				r.end, r.full = full, true
				return errFull
			}
			return err
		})
		if errors.Is(err, errFull) {
			break
		}
		if err != nil {
			return err
		}
		first = to
	}
	if r.keys == nil {
		r.keys = r.c.table(0)
	}
	return nil
}

// expected is how many keys there may be in what is new, by the records of a part of
// it.
func (r *round) expected(first, to int, indexes []*object.Index) int64 {
	var records, bytes, all int64
	for _, x := range indexes {
		records += x.Records
	}
	for i := first; i < len(r.ranges); i++ {
		if all += r.ranges[i].Bytes; i < to {
			bytes += r.ranges[i].Bytes
		}
	}
	if bytes == 0 {
		return records
	}
	return int64(float64(records) * float64(all) / float64(bytes))
}

// window returns the end of the ranges from first on that have about that many
// bytes, at least one.
func (r *round) window(first int, bytes int64) int {
	to := first
	for sum := int64(0); to < len(r.ranges) && to-first < mostRanges && r.ranges[to].Base < r.end; to++ {
		if sum += r.ranges[to].Bytes; to > first && sum > bytes {
			break
		}
	}
	return to
}

// open reads the indexes of some ranges, and which aborted transactions have records
// there: their markers may lie in later ranges.
func (r *round) open(first, to int) ([]*object.Index, []object.Aborted, error) {
	indexes, err := r.reader.indexes(r.ctx, r.ranges[first:to])
	if err != nil {
		return nil, nil, err
	}
	var aborted []object.Aborted
	for _, x := range indexes {
		aborted = append(aborted, x.Aborted...)
	}
	end := r.ranges[to-1].End
	// A transaction that is open where the ranges end may be aborted behind them. The
	// last range of the round knows of all that began before the round ends.
	for i := to; i < len(r.ranges) && r.ranges[i-1].OpenTransactions; i++ {
		if !r.ranges[i].HasAborts {
			continue
		}
		x, err := r.reader.index(r.ctx, r.ranges[i])
		if err != nil {
			return nil, nil, err
		}
		for _, a := range x.Aborted {
			if a.First < end {
				aborted = append(aborted, a)
			}
		}
	}
	if len(aborted) > mostAborted {
		return nil, nil, fmt.Errorf("%d aborted transactions with records before %d, at most %d are held", len(aborted), end, mostAborted)
	}
	return indexes, aborted, nil
}
