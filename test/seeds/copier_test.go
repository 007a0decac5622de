//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

// copied is a topic that is filled from another one in transactions: partition by partition
// it must come to hold the same records in the same order, each once.
type copied struct {
	topic  string
	source *history

	committed, aborted, abandoned, late atomic.Int64 // transactions
}

// judge compares the nth record that a reader of what is committed is given.
func (c *copied) judge(reader string, n int64, partition int32, offset int64, value []byte) {
	got, err := idOf(value)
	if want := c.source.held(partition, n); err != nil || got != want {
		c.source.problem("%s of %s: record %d of partition %d, at offset %d, is %v, expected %v: %v",
			reader, c.topic, n, partition, offset, got, want, err)
	}
}

// copier copies by hand, whatever happens to the servers and to itself: an incarnation ends
// when it is refused, or leaves a transaction open, or somebody goes on with what it began as
// if there were no other. The next fences it, and asks the group where to go on.
type copier struct {
	w    *world
	to   *copied
	name string // its transactional id, and its group
	rng  *rand.Rand
	stop atomic.Bool // once all is copied
	ctx  context.Context
	quit context.CancelFunc
	wg   sync.WaitGroup

	mu   sync.Mutex
	told error           // the last error of an incarnation
	at   map[int32]int64 // what was committed last, as far as it was told
}

func (w *world) copy(to *copied) *copier {
	c := &copier{w: w, to: to, name: "copier", rng: w.dice(), at: map[int32]int64{}}
	c.ctx, c.quit = context.WithCancel(context.Background())
	c.wg.Go(func() {
		for c.ctx.Err() == nil && !c.done() {
			err := c.incarnation()
			c.mu.Lock()
			c.told = err
			c.mu.Unlock()
			if err != nil {
				w.sleep(c.ctx, 200*time.Millisecond)
			}
		}
	})
	return c
}

// done reports whether all of the source is copied, once nothing is added to it.
func (c *copier) done() bool {
	if !c.stop.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range int32(partitions) {
		if c.at[p] != c.to.source.known(p) {
			return false
		}
	}
	return true
}

// finish waits until all is copied. Nothing is added to the source any more.
func (c *copier) finish(ctx context.Context) error {
	c.stop.Store(true)
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	defer c.quit()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("the copier is stuck at %v: %w", c.at, c.told)
	}
}

// transactor is one incarnation of the copier.
type transactor struct {
	*speaker
	c     *copier
	old   bool // Kafka's transactions before KIP-890
	id    int64
	epoch int16
	next  map[int32]int32 // sequences
	at    map[int32]int64 // of the source
}

// retried are the answers that ask for another try.
var retried = []error{
	kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions,
	kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas,
	kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.UnstableOffsetCommit, kerr.KafkaStorageError,
	kerr.NetworkException, kerr.RebalanceInProgress, kerr.OffsetNotAvailable, kerr.UnknownLeaderEpoch, kerr.FencedLeaderEpoch,
}

func again(err error) bool {
	var answer *kerr.Error
	if !errors.As(err, &answer) {
		return err != nil // nobody has answered
	}
	for _, r := range retried {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// insist asks until the answer is one that another try would not change.
func (t *transactor) insist(ctx context.Context, what string, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil {
			return nil
		}
		if !again(err) || !t.w.sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%s: %w", what, err)
		}
		t.forget(0, t.c.name)
		t.forget(1, t.c.name)
	}
}

// incarnation copies until there is nothing more, or it ends in one of the ways that it may.
func (c *copier) incarnation() error {
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	old := c.rng.IntN(2) == 0
	t := &transactor{speaker: c.w.speak(old), c: c, old: old, next: map[int32]int32{}, at: map[int32]int64{}}
	keep := false
	defer func() {
		if !keep {
			t.close()
		}
	}()
	if err := t.begin(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil && !c.done() {
		copies, err := t.read(ctx)
		if err != nil {
			return err
		}
		if len(copies) == 0 {
			c.w.sleep(ctx, 100*time.Millisecond)
			continue
		}
		how := c.rng.IntN(12)
		if err := t.produce(ctx, copies); err != nil {
			return err
		}
		switch how {
		case 0: // open for ever, unless somebody ends it
			c.to.abandoned.Add(1)
			return nil
		case 1:
			if err := t.end(ctx, false); err != nil {
				return err
			}
			c.to.aborted.Add(1)
			continue // what was read is read again
		case 2, 3: // another incarnation does the same meanwhile
			keep = true
			later := time.Duration(c.rng.Int64N(int64(time.Duration(1+9*c.rng.IntN(2)) * 200 * time.Millisecond)))
			c.wg.Go(func() {
				defer t.close()
				ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
				defer cancel()
				c.w.sleep(ctx, later)
				if t.commit(ctx, copies) == nil {
					c.to.late.Add(1)
				}
			})
			return nil
		}
		if err := t.commit(ctx, copies); err != nil {
			return err
		}
		c.to.committed.Add(1)
		c.mu.Lock()
		for p, records := range copies {
			t.at[p] = records[len(records)-1].offset + 1
			c.at[p] = t.at[p]
		}
		c.mu.Unlock()
		c.w.sleep(ctx, time.Duration(c.rng.Int64N(int64(300*time.Millisecond))))
	}
	return nil
}

// begin fences who was before, and learns how far the source is copied.
func (t *transactor) begin(ctx context.Context) error {
	err := t.insist(ctx, "become "+t.c.name, func() error {
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionalID, q.TransactionTimeoutMillis, q.ProducerID, q.ProducerEpoch = &t.c.name, 60_000, -1, -1
		r, err := toCoordinator[*kmsg.InitProducerIDResponse](ctx, t.speaker, 1, t.c.name, q)
		if err != nil {
			return err
		}
		t.id, t.epoch = r.ProducerID, r.ProducerEpoch
		return kerr.ErrorForCode(r.ErrorCode)
	})
	if err != nil {
		return err
	}
	return t.insist(ctx, "ask where to go on", func() error {
		offsets, err := t.committedOffsets(ctx, t.c.name, t.c.to.source.topic)
		if err != nil {
			return err
		}
		t.c.mu.Lock()
		defer t.c.mu.Unlock()
		for p, o := range offsets {
			t.at[p], t.c.at[p] = max(o, 0), max(o, 0)
		}
		return nil
	})
}

// committedOffsets are those of a group, -1 where there is none.
func (s *speaker) committedOffsets(ctx context.Context, group, topic string) (map[int32]int64, error) {
	q := kmsg.NewPtrOffsetFetchRequest()
	q.Group, q.RequireStable = group, true
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic = topic
	for p := range int32(partitions) {
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = append(q.Topics, t)
	r, err := toCoordinator[*kmsg.OffsetFetchResponse](ctx, s, 0, group, q)
	if err == nil {
		err = kerr.ErrorForCode(r.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, err
			}
			offsets[p.Partition] = p.Offset
		}
	}
	if len(offsets) != partitions {
		return nil, fmt.Errorf("%d offsets of %d partitions", len(offsets), partitions)
	}
	return offsets, nil
}

// read fetches what is next of some partitions.
func (t *transactor) read(ctx context.Context) (map[int32][]spoken, error) {
	copies := map[int32][]spoken{}
	for p := range int32(partitions) {
		if t.c.rng.IntN(3) == 0 && !t.c.stop.Load() {
			continue
		}
		records, _, err := t.fetch(ctx, t.c.to.source.topic, p, t.at[p], false)
		if again(err) {
			continue
		}
		if err != nil {
			t.w.problem("the copier was told of %s-%d at %d: %v", t.c.to.source.topic, p, t.at[p], err)
			return nil, err
		}
		for i, r := range records {
			if r.offset != t.at[p]+int64(i) {
				t.w.problem("the copier was given offset %d of %s-%d, expected %d", r.offset, t.c.to.source.topic, p, t.at[p]+int64(i))
			}
			t.c.to.source.read(r.value, p, r.offset)
		}
		if records = records[:min(len(records), 1+t.c.rng.IntN(60))]; len(records) > 0 {
			copies[p] = records
		}
	}
	return copies, nil
}

// produce writes copies of records in a transaction, a batch for each partition.
func (t *transactor) produce(ctx context.Context, copies map[int32][]spoken) error {
	for p := range int32(partitions) {
		if len(copies[p]) == 0 {
			continue
		}
		if t.old {
			if err := t.insist(ctx, "add a partition", func() error { return t.add(ctx, p) }); err != nil {
				return err
			}
		}
		b := batch.NewBuilder(batch.BuilderOptions{
			Producer: &batch.Producer{ID: t.id, Epoch: t.epoch, BaseSequence: t.next[p]}, Transactional: true, LeaderEpoch: -1,
		})
		for _, r := range copies[p] {
			b.Add(time.Now().UnixMilli(), nil, r.value)
		}
		data, err := b.Build()
		if err != nil {
			return err
		}
		if err := t.insist(ctx, "write a copy", func() error { return t.write(ctx, p, data) }); err != nil {
			return err
		}
		t.next[p] += int32(len(copies[p]))
	}
	return nil
}

func (t *transactor) add(ctx context.Context, partition int32) error {
	q := kmsg.NewPtrAddPartitionsToTxnRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch = t.c.name, t.id, t.epoch
	topic := kmsg.NewAddPartitionsToTxnRequestTopic()
	topic.Topic, topic.Partitions = t.c.to.topic, []int32{partition}
	q.Topics = append(q.Topics, topic)
	r, err := toCoordinator[*kmsg.AddPartitionsToTxnResponse](ctx, t.speaker, 1, t.c.name, q)
	if err != nil {
		return err
	}
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transactor) write(ctx context.Context, partition int32, data []byte) error {
	_, err := t.speaker.produce(ctx, t.c.to.topic, partition, &t.c.name, 2500*time.Millisecond, data)
	return err
}

// commit has the group's offsets and the copies come to be at once.
func (t *transactor) commit(ctx context.Context, copies map[int32][]spoken) error {
	if t.old {
		err := t.insist(ctx, "add the offsets", func() error {
			q := kmsg.NewPtrAddOffsetsToTxnRequest()
			q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = t.c.name, t.id, t.epoch, t.c.name
			r, err := toCoordinator[*kmsg.AddOffsetsToTxnResponse](ctx, t.speaker, 1, t.c.name, q)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(r.ErrorCode)
		})
		if err != nil {
			return err
		}
	}
	err := t.insist(ctx, "commit offsets", func() error {
		q := kmsg.NewPtrTxnOffsetCommitRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = t.c.name, t.id, t.epoch, t.c.name
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = t.c.to.source.topic
		for n, records := range copies {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = n, records[len(records)-1].offset+1
			topic.Partitions = append(topic.Partitions, p)
		}
		q.Topics = append(q.Topics, topic)
		r, err := toCoordinator[*kmsg.TxnOffsetCommitResponse](ctx, t.speaker, 0, t.c.name, q)
		if err != nil {
			return err
		}
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.end(ctx, true)
}

func (t *transactor) end(ctx context.Context, commit bool) error {
	return t.insist(ctx, "end a transaction", func() error {
		q := kmsg.NewPtrEndTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = t.c.name, t.id, t.epoch, commit
		r, err := toCoordinator[*kmsg.EndTxnResponse](ctx, t.speaker, 1, t.c.name, q)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return err
		}
		if r.Version >= 5 && r.ProducerID >= 0 {
			t.id, t.epoch, t.next = r.ProducerID, r.ProducerEpoch, map[int32]int32{}
		}
		return nil
	})
}

// copyReader reads what is committed of a copy, and its end.
type copyReader struct {
	client *kgo.Client
	name   string
	of     *copied
	at     [partitions]int64 // the next offset is not below; the reading goroutine's
	seen   [partitions]atomic.Int64
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func (w *world) readCopy(name string, of *copied) *copyReader {
	return &copyReader{name: name, of: of, client: w.newClient(
		kgo.ConsumePartitions(fromStart(of.topic)), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(500*time.Millisecond),
	)}
}

// follow reads until it is stopped.
func (r *copyReader) follow() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.wg.Go(func() {
		for ctx.Err() == nil {
			r.poll(ctx)
		}
	})
}

// poll judges what there is.
func (r *copyReader) poll(ctx context.Context) {
	fetches := r.client.PollFetches(ctx)
	fetches.EachError(func(_ string, p int32, err error) {
		// kgo compares where an epoch ended with an offset behind aborted records of the
		// next one, as it forgets their epoch: what it was given is not lost by that.
		lost := &kgo.ErrDataLoss{}
		if errors.As(err, &lost) && lost.ResetTo >= r.at[p] {
			return
		}
		if errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) {
			r.of.source.problem("%s was told of %s-%d: %v", r.name, r.of.topic, p, err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) {
		p := record.Partition
		if record.Offset < r.at[p] {
			r.of.source.problem("%s was given offset %d of %s-%d again", r.name, record.Offset, r.of.topic, p)
		}
		r.at[p] = record.Offset + 1
		if !record.Attrs.IsControl() {
			r.of.judge(r.name, r.seen[p].Load(), p, record.Offset, record.Value)
			r.seen[p].Add(1)
		}
	})
}

// finish waits until as much was read as the source holds; nothing is added any more.
func (r *copyReader) finish(ctx context.Context, w *world) error {
	defer r.client.Close()
	defer r.wg.Wait()
	defer r.stop()
	for p := range int32(partitions) {
		for r.seen[p].Load() < r.of.source.known(p) {
			if !w.sleep(ctx, 100*time.Millisecond) {
				return fmt.Errorf("%s of %s is stuck: it was given %d records of partition %d of %d", r.name, r.of.topic, r.seen[p].Load(), p, r.of.source.known(p))
			}
		}
	}
	return nil
}

// readAllCopied reads a copy anew, to its end, and judges it.
func (w *world) readAllCopied(ctx context.Context, c *copied) error {
	ends, err := w.ends(ctx, c.topic)
	if err != nil {
		return fmt.Errorf("ask for the ends of %s: %w", c.topic, err)
	}
	r := w.readCopy("who reads it in the end", c)
	defer r.client.Close()
	for p := range int32(partitions) {
		end, _ := ends.Lookup(c.topic, p)
		for r.at[p] < end.Offset {
			if r.poll(ctx); ctx.Err() != nil {
				return fmt.Errorf("read %s: stuck at %v of partition %d, which ends at %d", c.topic, r.at, p, end.Offset)
			}
		}
		if n, want := r.seen[p].Load(), c.source.known(p); n != want {
			w.problem("%s-%d holds %d records, its source %d", c.topic, p, n, want)
		}
	}
	return nil
}
