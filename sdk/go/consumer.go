package rustmq

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Defaults of a consumer.
const (
	defaultCommitEvery  = time.Second
	defaultMaxPoll      = 500
	defaultDrainTimeout = 30 * time.Second
	commitTimeout       = 10 * time.Second
	fetchBytes          = 50 << 20 // as franz-go's default
)

// Position is where reading begins in a partition of which nothing is committed.
type Position int

// Positions to begin at.
const (
	FromStart Position = iota // at the oldest record that is kept
	FromEnd                   // at what is produced from now on
)

// ConsumerOptions say what is read, and how. Topics has to be given.
type ConsumerOptions struct {
	Topics []string
	// Group shares the partitions among its members and keeps positions; empty: this
	// consumer reads all partitions and keeps none.
	Group string
	// Instance names a member across restarts, so that a short one moves no partitions
	// (classic groups).
	Instance string
	// Classic keeps to classic groups where the broker has KIP-848, as all members of a
	// group do that began so.
	Classic bool
	// SessionTimeout is how long a member of a classic group may be silent before its
	// partitions go to others; default 45 s.
	SessionTimeout time.Duration
	From           Position
	// FromTime begins at the first record of that time or later, in place of From; zero: unset.
	FromTime time.Time
	// Uncommitted reads records of open and aborted transactions too.
	Uncommitted bool

	// Manual leaves commits to [Consumer.Commit]. Otherwise what is handled is committed
	// every CommitEvery (default 1 s), before partitions are given up, and at the end.
	Manual      bool
	CommitEvery time.Duration

	// Workers is how many handlers run at once; default 1. Records of a key are handled one
	// after the other, in order; so are those without a key of a partition, and batches
	// of a partition.
	Workers int
	// MaxPoll bounds the records of one Poll, and of a batch; default 500.
	MaxPoll int
	// Failures says what is done when a handler fails.
	Failures Failures
	// DrainTimeout is how long handlers may go on when the context of Run has ended, before
	// their own end, and how long they hold up that their partition is taken; default 30 s.
	DrainTimeout time.Duration

	// Kafka are options of franz-go, after those of this package.
	Kafka []kgo.Opt
}

func (o *ConsumerOptions) defaults() error {
	switch {
	case len(o.Topics) == 0:
		return errors.New("ConsumerOptions.Topics is empty: name what to read")
	case o.Workers < 0 || o.MaxPoll < 0 || o.CommitEvery < 0 || o.DrainTimeout < 0 || o.SessionTimeout < 0:
		return errors.New("ConsumerOptions: a number is negative")
	case o.From != FromStart && o.From != FromEnd:
		return fmt.Errorf("ConsumerOptions.From is %d: want FromStart or FromEnd", int(o.From))
	case o.Instance != "" && o.Group == "":
		return errors.New("ConsumerOptions.Instance is of a group: name the Group")
	}
	o.Workers, o.MaxPoll = max(o.Workers, 1), orDefault(o.MaxPoll, defaultMaxPoll)
	o.CommitEvery, o.DrainTimeout = orDefault(o.CommitEvery, defaultCommitEvery), orDefault(o.DrainTimeout, defaultDrainTimeout)
	return o.Failures.validate()
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// reading are the options of franz-go that readers of all kinds share.
func (o *ConsumerOptions) reading(recordBytes int32) []kgo.Opt {
	from := kgo.NewOffset().AtStart()
	if o.From == FromEnd {
		from = kgo.NewOffset().AtEnd()
	}
	reset := from
	if !o.FromTime.IsZero() {
		from, reset = kgo.NewOffset().AfterMilli(o.FromTime.UnixMilli()), kgo.NewOffset().AtStart()
	}
	opts := []kgo.Opt{
		kgo.ConsumeTopics(o.Topics...), kgo.ConsumeStartOffset(from), kgo.ConsumeResetOffset(reset),
		kgo.FetchMaxBytes(max(fetchBytes, recordBytes)), kgo.FetchMaxPartitionBytes(max(1<<20, recordBytes)),
	}
	if !o.Uncommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if o.Group != "" {
		opts = append(opts, kgo.ConsumerGroup(o.Group), kgo.DisableAutoCommit())
		if o.Classic {
			opts = append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))
		} else {
			opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
		}
		if o.Instance != "" {
			opts = append(opts, kgo.InstanceID(o.Instance))
		}
		if o.SessionTimeout > 0 {
			opts = append(opts, kgo.SessionTimeout(o.SessionTimeout), kgo.HeartbeatInterval(max(o.SessionTimeout/10, 100*time.Millisecond)))
		}
	}
	return opts
}

// Message is a record and its value.
type Message[T any] struct {
	Value  T
	Record *Record

	span  *span
	place int64
	err   *DecodeError // nil: the codec has read the value
}

// Consumer reads topics, and hands their records to a handler ([Consumer.Run],
// [Consumer.RunBatch]) or to the caller ([Consumer.Poll]).
type Consumer[T any] struct {
	client *Client
	codec  Codec[T]
	o      ConsumerOptions
	kafka  *kgo.Client

	progress *progress
	stop     chan struct{} // ends the loop of commits
	wait     sync.WaitGroup

	mu       sync.Mutex
	running  bool          // Poll, Run or RunBatch
	closed   bool          //
	polling  func()        // ends the poll that is under way; nil: none is
	atRest   []func()      // to be run between two polls
	last     []stretch     // of the messages that Poll has returned
	commits  chan struct{} // one commit at a time
	handling atomic.Bool   // Run or RunBatch: who revokes waits for handlers
}

// stretch is n places of a span.
type stretch struct {
	span     *span
	place, n int64
}

// slabBytes is how large an allocation is that messages of one partition share. Who keeps one keeps
// the others, and their records, which a record of franz-go keeps anyhow.
const slabBytes = 4096

// NewConsumer joins the group, if there is one, and begins to fetch. A consumer that is not
// polled or run keeps its partitions all the same: close it.
func NewConsumer[T any](client *Client, codec Codec[T], o ConsumerOptions) (*Consumer[T], error) {
	if err := o.defaults(); err != nil {
		return nil, fmt.Errorf("rustmq: %w", err)
	}
	c := &Consumer[T]{client: client, codec: codec, o: o, progress: newProgress(), stop: make(chan struct{}), commits: make(chan struct{}, 1)}
	opts := o.reading(client.config.recordBytes)
	if o.Group != "" {
		opts = append(opts, kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(c.revoked), kgo.OnPartitionsLost(c.lost))
	}
	var err error
	if c.kafka, err = client.newKafka(append(opts, o.Kafka...)...); err != nil {
		return nil, err
	}
	if err := client.adopt(c.kafka); err != nil {
		c.kafka.Close()
		return nil, err
	}
	if o.Group != "" && !o.Manual {
		c.wait.Go(c.commitLoop)
	}
	return c, nil
}

// Kafka is the franz-go client beneath.
func (c *Consumer[T]) Kafka() *kgo.Client { return c.kafka }

// Close commits what is handled, and leaves the group. Messages that Poll returned last
// and nothing says of are not handled.
func (c *Consumer[T]) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	if c.polling != nil {
		c.polling()
	}
	c.mu.Unlock()
	close(c.stop)
	c.wait.Wait()
	leave(c.kafka) // calls revoked
	c.commits <- struct{}{}
	c.progress.closeAll()
	c.client.disown(c.kafka)
	return nil
}

// leave ends a client of a group, which is told if it can be reached in time.
func leave(cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	cl.AllowRebalance()
	_ = cl.LeaveGroupContext(ctx) // otherwise the group finds out when the session ends
	cl.CloseAllowingRebalance()
}

// Poll waits for messages, at most MaxPoll. Unless commits are manual, those that it returned
// before count as handled from now on. It returns no messages and the context's error where
// that has ended, and a *[DecodeError] beside the messages before the one that cannot be decoded; the next
// Poll returns those behind it.
func (c *Consumer[T]) Poll(ctx context.Context) ([]*Message[T], error) {
	if err := c.enter(false); err != nil {
		return nil, err
	}
	defer c.leave()
	for _, l := range c.last {
		l.span.done(l.place, l.n)
	}
	c.last = c.last[:0]
	messages, err := c.poll(ctx)
	var failed *Message[T]
	good := messages[:0]
	for _, m := range messages {
		if n := len(c.last) - 1; n >= 0 && c.last[n].span == m.span && c.last[n].place+c.last[n].n == m.place {
			c.last[n].n++
		} else {
			c.last = append(c.last, stretch{m.span, m.place, 1})
		}
		if m.err == nil {
			good = append(good, m)
		} else if failed == nil {
			failed = m
		}
	}
	if err == nil && failed != nil {
		err = fmt.Errorf("%s/%d offset %d: %w", failed.Record.Topic, failed.Record.Partition, failed.Record.Offset, failed.err)
	}
	return good, err
}

func (c *Consumer[T]) enter(handling bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.running:
		return ErrBusy
	}
	c.running = true
	c.handling.Store(handling)
	return nil
}

func (c *Consumer[T]) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	c.handling.Store(false)
}

// poll returns messages, at least one, or an error.
func (c *Consumer[T]) poll(ctx context.Context) ([]*Message[T], error) {
	for {
		polling, cancel := context.WithCancel(ctx)
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			cancel()
			return nil, ErrClosed
		}
		c.polling = cancel
		c.mu.Unlock()
		fetches := c.kafka.PollRecords(polling, c.o.MaxPoll)
		cancel()

		c.mu.Lock()
		messages := messagesOf[T](fetches)
		rest := messages
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			span, place := c.progress.add(p.Records...)
			for i := range p.Records {
				rest[i].span, rest[i].place = span, place+int64(i)
			}
			rest = rest[len(p.Records):]
		})
		sought := len(c.atRest) > 0
		for _, do := range c.atRest {
			do()
		}
		c.polling, c.atRest = nil, nil
		c.kafka.AllowRebalance() // what was handed out is noted: revoked may come
		c.mu.Unlock()
		if sought {
			kept := messages[:0]
			for _, m := range messages {
				if !m.span.isEnded() {
					kept = append(kept, m)
				}
			}
			messages = kept
		}
		decode(c.codec, messages)
		if err := c.fetchError(fetches); err != nil {
			return messages, err
		}
		if len(messages) > 0 {
			return messages, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// messagesOf makes messages of the records, in the order of EachPartition.
func messagesOf[T any](fetches kgo.Fetches) []*Message[T] {
	n := fetches.NumRecords()
	if n == 0 {
		return nil
	}
	messages := make([]*Message[T], 0, n)
	most := max(1, slabBytes/int(reflect.TypeFor[Message[T]]().Size()))
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		var made []Message[T]
		for i, r := range p.Records {
			if len(made) == 0 {
				made = make([]Message[T], min(most, len(p.Records)-i))
			}
			made[0].Record = r
			messages, made = append(messages, &made[0]), made[1:]
		}
	})
	return messages
}

// decode has the codec read the values, and notes with each what it does not read.
func decode[T any](codec Codec[T], messages []*Message[T]) {
	for _, m := range messages {
		var err error
		if m.Value, err = codec.Decode(m.Record.Value); err != nil {
			m.err = &DecodeError{err}
		}
	}
}

// fetchError is the first error that franz-go does not mend itself.
func (c *Consumer[T]) fetchError(fetches kgo.Fetches) (err error) {
	fetches.EachError(func(topic string, partition int32, e error) {
		var lost *kgo.ErrDataLoss
		switch {
		case errors.Is(e, context.Canceled), errors.Is(e, context.DeadlineExceeded):
		case errors.As(e, &lost):
			c.client.config.log.Warn("records are gone that were read before: reading goes on behind them", "topic", topic, "partition", partition, "error", e)
		case errors.Is(e, kgo.ErrClientClosed):
			err = ErrClosed
		case isFatal(e):
			if err == nil {
				err = fmt.Errorf("rustmq: read %s/%d: %w", topic, partition, e)
			}
		default:
			c.client.config.log.Warn("reading is tried again", "topic", topic, "partition", partition, "error", e)
		}
	})
	return err
}

// isFatal reports whether reading fails until somebody does something.
func isFatal(err error) bool {
	var protocol *kerr.Error
	if errors.As(err, &protocol) {
		return !protocol.Retriable && !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.IllegalGeneration) &&
			!errors.Is(err, kerr.RebalanceInProgress) && !errors.Is(err, kerr.StaleMemberEpoch) && !errors.Is(err, kerr.FencedMemberEpoch) && !errors.Is(err, kerr.OffsetOutOfRange) && !errors.Is(err, kerr.UnknownServerError)
	}
	var tooLarge *kgo.ErrDecompressTooLarge
	return errors.As(err, &tooLarge)
}

// resting runs do while no poll is under way.
func (c *Consumer[T]) resting(do func()) {
	c.mu.Lock()
	if c.polling == nil {
		defer c.mu.Unlock()
		do()
		return
	}
	done := make(chan struct{})
	c.atRest = append(c.atRest, func() { do(); close(done) })
	c.polling()
	c.mu.Unlock()
	<-done
}

// revoked commits what is handled of partitions that go to others. It waits for handlers
// that are at work, and what waits for them is not begun.
func (c *Consumer[T]) revoked(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
	spans := c.progress.close(partitions, false) // without c.mu: see poll
	if c.handling.Load() {
		t := time.NewTimer(c.o.DrainTimeout)
		defer t.Stop()
		for _, s := range spans {
			select {
			case <-s.idle:
				continue
			case <-t.C:
			case <-ctx.Done():
			}
			break
		}
	}
	if c.o.Manual {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := c.commit(ctx, c.progress.final(spans)); err != nil {
		c.client.config.log.Warn("what was handled could not be committed before partitions were given up: others handle it again", "group", c.o.Group, "error", err)
	}
}

// lost gives partitions up that others have already.
func (c *Consumer[T]) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	c.progress.close(partitions, false)
}

// commitLoop commits what was handled, now and then.
func (c *Consumer[T]) commitLoop() {
	t := time.NewTicker(c.o.CommitEvery)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		if err := c.commitHandled(ctx); err != nil {
			c.client.config.log.Debug("a commit is tried again", "group", c.o.Group, "error", err)
		}
		cancel()
	}
}

// commitHandled commits what is handled by now.
func (c *Consumer[T]) commitHandled(ctx context.Context) error {
	taken := c.progress.take()
	err := c.commit(ctx, taken)
	if err != nil {
		c.progress.restore(taken)
	}
	return err
}

func (c *Consumer[T]) commit(ctx context.Context, o offsets) error {
	if len(o) == 0 {
		return nil
	}
	select {
	case c.commits <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	committed := make(chan error, 1)
	go func() { // franz-go may go on for a while when ctx has ended; Close waits for it
		var failed error
		c.kafka.CommitOffsetsSync(ctx, o, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if failed = err; err != nil {
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil && failed == nil {
						failed = fmt.Errorf("commit %s/%d: %w", t.Topic, p.Partition, err)
					}
				}
			}
		})
		<-c.commits
		committed <- failed
	}()
	select {
	case err := <-committed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Commit commits the messages, and all before them of their partitions, and waits for it.
func (c *Consumer[T]) Commit(ctx context.Context, messages ...*Message[T]) error {
	if c.o.Group == "" {
		return errors.New("rustmq: commit: the consumer has no group")
	}
	o := offsets{}
	for _, m := range messages {
		if !m.span.mayCommit() {
			return fmt.Errorf("rustmq: commit %s/%d: the partition was taken, or another position sought: the message is read again", m.Record.Topic, m.Record.Partition)
		}
		of := topicPartition{m.Record.Topic, m.Record.Partition}
		if at, ok := o[of.topic][of.partition]; !ok || at.Offset <= m.Record.Offset {
			o.set(of, kgo.EpochOffset{Epoch: m.Record.LeaderEpoch, Offset: m.Record.Offset + 1})
		}
	}
	if err := c.commit(ctx, o); err != nil {
		return fmt.Errorf("rustmq: %w", err)
	}
	return nil
}

// Seek has reading go on at an offset of a partition that this consumer has read of. What
// was read before and is not handled is dropped.
func (c *Consumer[T]) Seek(topic string, partition int32, offset int64) {
	c.resting(func() { c.seek(offsets{topic: {partition: {Epoch: -1, Offset: offset}}}) })
}

func (c *Consumer[T]) seek(o offsets) {
	partitions := map[string][]int32{}
	for topic, of := range o {
		for partition := range of {
			partitions[topic] = append(partitions[topic], partition)
		}
	}
	c.progress.close(partitions, true)
	c.kafka.SetOffsets(o)
}

// SeekTime is [Consumer.Seek] to the first record of a time or later, in all partitions of the
// topics; where there is none, to the end.
func (c *Consumer[T]) SeekTime(ctx context.Context, at time.Time) error {
	listed, err := kadm.NewClient(c.client.kafka).ListOffsetsAfterMilli(ctx, at.UnixMilli(), c.o.Topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("rustmq: seek %v: %w", at, err)
	}
	o := offsets{}
	listed.Each(func(l kadm.ListedOffset) {
		o.set(topicPartition{l.Topic, l.Partition}, kgo.EpochOffset{Epoch: -1, Offset: l.Offset})
	})
	c.resting(func() { c.seek(o) })
	return nil
}

// Pause stops fetching topics, in all partitions of them that this consumer has, until [Consumer.Resume].
// What is fetched already is still handed out.
func (c *Consumer[T]) Pause(topics ...string) { c.kafka.PauseFetchTopics(topics...) }

// Resume undoes [Consumer.Pause].
func (c *Consumer[T]) Resume(topics ...string) { c.kafka.ResumeFetchTopics(topics...) }

// PausePartitions is [Consumer.Pause] for some partitions of a topic.
func (c *Consumer[T]) PausePartitions(topic string, partitions ...int32) {
	c.kafka.PauseFetchPartitions(map[string][]int32{topic: partitions})
}

// ResumePartitions undoes [Consumer.PausePartitions].
func (c *Consumer[T]) ResumePartitions(topic string, partitions ...int32) {
	c.kafka.ResumeFetchPartitions(map[string][]int32{topic: partitions})
}
