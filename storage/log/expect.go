package log

import (
	"context"
	"fmt"
	"strconv"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// expectHeader is the header by which a record says which offset it is to get: in
// decimal digits. Only the first record of a batch can.
const expectHeader = "rustmq.expect.offset"

// Condition says where the partition must end for a batch to be appended. The zero
// value is none.
type Condition struct {
	end storage.Offset
	set bool
}

// Expect is the condition that the partition ends at an offset: that the batch is
// the first behind the records that its producer has seen.
func Expect(end storage.Offset) Condition { return Condition{end, true} }

// readCondition reads the condition of a batch as its producer sent it. Of a
// compressed batch only the first record is looked at, and what it takes in memory
// is accounted as an expansion's.
func (l *Log) readCondition(ctx context.Context, records []byte, c *Config, w *expansionWait) (found Condition, err error) {
	b, rest, err := batch.Next(records)
	if err != nil || len(rest) > 0 || b.IsControl() {
		return found, nil // Append says what is wrong with it
	}
	if err := batch.Validate(b, &batch.Limits{MaxBytes: c.MaxMessageBytes}); err != nil {
		return found, err
	}
	if b.Codec() == batch.None {
		return conditionOf(b)
	}
	err = l.expanded(ctx, expansionCost, w, func(limit int64) error {
		first, err := b.First(limit)
		if err != nil {
			return err
		}
		found, err = conditionIn(0, first)
		return err
	})
	return found, err
}

// conditionOf reads the condition of a batch that is not compressed, and refuses one
// that does not stand in the first record: it could not be kept.
func conditionOf(b batch.Batch) (Condition, error) {
	var found Condition
	it := b.Records(0)
	for n := 0; it.Next(); n++ {
		c, err := conditionIn(n, it.Record())
		if err != nil {
			return Condition{}, err
		}
		if n == 0 {
			found = c
		} else if !guard.Check("log.condition-first", !c.set) {
			return Condition{}, invalidCondition(n, "record %d has the header %s, which only the first of a batch may have", n, expectHeader)
		}
	}
	return found, it.Err()
}

func conditionIn(n int, r *batch.Record) (found Condition, err error) {
	r.Headers(func(h batch.Header) bool {
		if string(h.Key) != expectHeader {
			return true
		}
		if found.set {
			err = invalidCondition(n, "a record has the header %s twice", expectHeader)
			return false
		}
		end, bad := strconv.ParseUint(string(h.Value), 10, 63)
		if bad != nil {
			err = invalidCondition(n, "the header %s is %.20q, and not an offset in decimal digits", expectHeader, h.Value)
			return false
		}
		found = Expect(storage.Offset(end))
		return true
	})
	return found, err
}

// invalidCondition refuses a batch for its record n.
func invalidCondition(n int, format string, args ...any) error {
	refused := &batch.Error{Code: batch.InvalidRecord, Reason: fmt.Sprintf(format, args...)}
	refused.Blame(n, refused.Reason)
	return refused
}

// refuseCondition refuses a batch whose condition does not hold: not before what it
// was compared with is committed, for until then it may be taken back, and the
// condition hold. l.mu is held.
func (l *Log) refuseCondition(o AppendOptions, done Appended) error {
	refusal := &UnexpectedEndError{Expected: o.Condition.end, End: l.end}
	if guard.Check("log.refusal-committed", l.end <= l.replica.highWatermark) {
		return refusal
	}
	p := l.store.newPending(l, done)
	p.last, p.refusal, p.leaderOnly, p.deadline = l.end-1, refusal, o.LeaderOnly, o.Deadline
	return l.park(p)
}
