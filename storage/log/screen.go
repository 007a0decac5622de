package log

import (
	"context"
	"time"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Screened is what [Log.Screen] found out about a batch that is to be transformed.
type Screened struct {
	// Condition is what its producer asked for, read before anything was changed; for
	// AppendOptions.
	Condition Condition
	// Answered says that done was told, or will be: the batch goes no further.
	Answered bool
}

// Config returns what the topic asks of the log now.
func (l *Log) Config() Config { return *l.config.Load() }

// Screen says of a producer's batch, before it is transformed, what Append would: what is
// wrong with it, or with its place in the producer's sequence, is an error; of a batch that
// is in the log already done is told as by Append, and it goes no further. What it lets
// pass, Append looks at again, with o.Transformed where it was changed. follows says that
// the caller will have appended, by then, the batch that comes before it in the producer's
// sequence, of which the log does not know yet. Of a batch of a transaction the sequence, and
// where the log is to end, is left to Append: those before it may wait for the coordinator's word.
//
// It may wait for memory to read a condition in, as long as ctx allows. Errors: those of
// Append and [Log.Transcode].
func (l *Log) Screen(ctx context.Context, now time.Time, records []byte, o AppendOptions, follows bool, done Appended) (s Screened, err error) {
	c := l.config.Load()
	b, err := validated(now, records, c, &o)
	if err != nil {
		return s, err
	}
	if c.ExpectOffset {
		var w expansionWait
		if s.Condition, err = l.readCondition(ctx, records, c, &w); err != nil {
			return s, err
		}
		o.Condition = s.Condition
	}
	result, answered, parked, err := l.screen(b, c, o, follows, done)
	if err != nil {
		l.Refused(records, err)
		return s, err
	}
	if answered {
		tell(done, result, true, nil)
	}
	s.Answered = answered || parked
	return s, nil
}

// screen is the part of Screen that needs the lock. answered: the result is known; parked:
// it will be.
func (l *Log) screen(b batch.Batch, c *Config, o AppendOptions, follows bool, done Appended) (result AppendResult, answered, parked bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.LeaderOnly = o.LeaderOnly && !l.replica.bucket
	if err := l.mayAppend(c, o); err != nil {
		return result, false, false, err
	}
	if b.ProducerID() != batch.NoProducerID && !follows {
		duplicate, err := l.producers.check(b)
		if !guard.Check("log.screen-duplicate", duplicate == nil) {
			result, answered, err = l.answerDuplicate(duplicate, b, o, done)
			return result, answered, !answered && err == nil, err
		}
		if err == nil {
			err = l.checkBehind(b)
		}
		if !guard.Check("log.screen-sequence", err == nil || b.IsTransactional()) {
			return result, false, false, err
		}
	}
	if o.Condition.set && !b.IsTransactional() && !guard.Check("log.screen-condition", o.Condition.end == l.end) {
		err := l.refuseCondition(o, done)
		return result, false, err == nil, err
	}
	return result, false, false, nil
}
