package rustmq

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// queued is how many batches of messages may wait for one worker.
const queued = 1

// Run hands messages to handle, one by one, until the context ends, and then nil is
// returned: handlers that are at work end first (DrainTimeout), and what they did is
// committed. handle's context ends with DrainTimeout, not with ctx. An error of handle is dealt
// with as ConsumerOptions.Failures says; Run returns errors that stop it, or that
// reading fails with for good. After it has returned the consumer may be run again.
func (c *Consumer[T]) Run(ctx context.Context, handle func(context.Context, *Message[T]) error) error {
	return c.run(ctx, func(m *Message[T], seed maphash.Seed) uint64 {
		if m.Record.Key != nil {
			return maphash.Bytes(seed, m.Record.Key)
		}
		return ofPartition(m, seed)
	}, func(ctx context.Context, messages []*Message[T], errs []error) {
		errs[0] = handle(ctx, messages[0])
	}, 1)
}

// RunBatch is [Consumer.Run] with as many messages at once as are there, of one partition,
// at most MaxPoll. An error fails each of them, a *[BatchError] those that it names.
func (c *Consumer[T]) RunBatch(ctx context.Context, handle func(context.Context, []*Message[T]) error) error {
	return c.run(ctx, ofPartition[T], func(ctx context.Context, messages []*Message[T], errs []error) {
		err := handle(ctx, slices.Clone(messages)) // the handler's own, whatever order it gives them
		var some *BatchError
		for i := range errs {
			if errors.As(err, &some) {
				errs[i] = some.Failed[i]
			} else {
				errs[i] = err
			}
		}
	}, c.o.MaxPoll)
}

func ofPartition[T any](m *Message[T], seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, topicPartition{m.Record.Topic, m.Record.Partition})
}

// runner is one run: a goroutine that polls, which is the caller's, and workers.
type runner[T any] struct {
	c      *Consumer[T]
	handle func(context.Context, []*Message[T], []error) // notes each message's error, nil where it has none
	most   int
	ending context.Context // ends when no more is to be begun
	end    context.CancelCauseFunc
	work   context.Context // of handlers
}

func (c *Consumer[T]) run(ctx context.Context, key func(*Message[T], maphash.Seed) uint64, handle func(context.Context, []*Message[T], []error), most int) error {
	if err := c.enter(true); err != nil {
		return err
	}
	defer c.leave()
	r := &runner[T]{c: c, handle: handle, most: most}
	r.ending, r.end = context.WithCancelCause(ctx)
	defer r.end(nil)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	r.work = work

	// A worker blocks on its queue, on handlers, and on pauses between attempts.
	queues := make([]chan []*Message[T], c.o.Workers)
	var workers sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan []*Message[T], queued)
		workers.Go(func() {
			var errs []error // of the batch that is at work
			for messages := range queues[i] {
				errs = slices.Grow(errs[:0], min(len(messages), r.most))
				r.process(messages, errs)
			}
		})
	}
	err := r.feed(queues, key)
	for _, q := range queues {
		close(q)
	}
	drained := make(chan struct{})
	go func() { workers.Wait(); close(drained) }()
	t := time.NewTimer(c.o.DrainTimeout)
	defer t.Stop()
	select {
	case <-drained:
	case <-t.C:
		stopWork()
		<-drained
	}
	if c.o.Group != "" && !c.o.Manual {
		committing, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		if commitErr := c.commitHandled(committing); commitErr != nil && err == nil {
			c.client.config.log.Warn("what was handled last could not be committed", "group", c.o.Group, "error", commitErr)
		}
	}
	// What was handed out and not handled is read again, by the next run too.
	c.resting(func() {
		if back := c.progress.rewound(); len(back) > 0 {
			c.kafka.SetOffsets(back)
		}
	})
	return err
}

// feed polls and shares messages out until it is to end; it returns why, nil for the
// caller's context.
func (r *runner[T]) feed(queues []chan []*Message[T], key func(*Message[T], maphash.Seed) uint64) error {
	seed := maphash.MakeSeed()
	for {
		messages, err := r.c.poll(r.ending)
		shares := make([][]*Message[T], len(queues))
		for _, m := range messages {
			i := key(m, seed) % uint64(len(queues))
			shares[i] = append(shares[i], m)
		}
		// Workers take their shares as they have room: one that is slow holds up the poll
		// only once its queue is full.
		for i, share := range shares {
			if len(share) == 0 {
				continue
			}
			select {
			case queues[i] <- share:
			case <-r.ending.Done():
			}
		}
		if r.ending.Err() != nil {
			var stopped *ProcessingError
			if cause := context.Cause(r.ending); errors.As(cause, &stopped) {
				return cause
			}
			if errors.Is(err, ErrClosed) {
				return ErrClosed
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// process handles messages of one poll, in their order. errs has room for those of a batch.
func (r *runner[T]) process(messages []*Message[T], errs []error) {
	for len(messages) > 0 {
		n := 1
		for n < len(messages) && n < r.most && messages[n].span == messages[0].span {
			n++
		}
		batch := messages[:n]
		messages = messages[n:]
		if r.ending.Err() != nil {
			return
		}
		if !batch[0].span.begin() {
			continue
		}
		r.attempts(batch, errs)
		batch[0].span.end()
	}
}

// attempts tries messages of one span until each is handled, given up, or left for later.
func (r *runner[T]) attempts(batch []*Message[T], errs []error) {
	f := r.c.o.Failures
	span := batch[0].span
	for attempt := 1; ; attempt++ {
		errs = errs[:len(batch)]
		r.once(batch, errs, attempt)
		var again []*Message[T]
		var retried error
		for i, m := range batch {
			switch err := errs[i]; {
			case err == nil:
				m.span.done(m.place, 1)
			case f.more(attempt, err):
				again, retried = append(again, m), err
			case !r.giveUp(m, attempt, err):
				return
			default:
				m.span.done(m.place, 1)
			}
		}
		if len(again) == 0 {
			return
		}
		r.c.client.config.log.Debug("messages are tried again", "topic", span.of.topic, "partition", span.of.partition, "messages", len(again), "attempt", attempt, "error", retried)
		if !wait(r.ending, f.pause(attempt), span.gone) {
			return
		}
		batch = again
	}
}

// once calls the handler with what can be decoded, and notes an error for each message.
func (r *runner[T]) once(batch []*Message[T], errs []error, attempt int) {
	good, results := batch, errs
	if slices.ContainsFunc(batch, isUndecoded) {
		good = make([]*Message[T], 0, len(batch))
		for i, m := range batch {
			if m.err == nil {
				good = append(good, m)
			} else {
				errs[i] = m.err
			}
		}
		results = make([]error, len(good))
	}
	if len(good) == 0 {
		return
	}
	ctx := r.work
	hooks := r.c.client.config.hooks
	if hooks.Extract != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(hooks.Extract(ctx, good[0].Record))
		defer cancel()
	}
	var began time.Time
	if hooks.Processed != nil {
		began = time.Now()
	}
	r.handle(ctx, good, results)
	if hooks.Processed != nil {
		took := time.Since(began)
		for i, m := range good {
			hooks.Processed(ctx, m.Record, attempt, took, results[i])
		}
	}
	if len(good) == len(batch) {
		return
	}
	next := 0
	for i, m := range batch {
		if m.err == nil {
			errs[i] = results[next]
			next++
		}
	}
}

func isUndecoded[T any](m *Message[T]) bool { return m.err != nil }

// giveUp does what follows when a message's attempts are used up, and reports whether it is
// done with.
func (r *runner[T]) giveUp(m *Message[T], attempts int, err error) bool {
	c, rec := r.c, m.Record
	switch c.o.Failures.Then {
	case Skip:
		c.client.config.log.Warn("a record is skipped", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "attempts", attempts, "error", err)
		return true
	case DeadLetter:
		dead := c.o.Failures.deadLetter(rec, c.o.Group, attempts, err)
		produceErr := c.client.ProduceSync(r.work, dead).Err()
		if produceErr == nil {
			c.client.config.log.Warn("a record is a dead letter", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "to", dead.Topic, "attempts", attempts, "error", err)
			return true
		}
		err = errors.Join(err, produceErr)
	}
	r.end(&ProcessingError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Attempts: attempts, Err: err})
	return false
}
