//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 3

// way is how a client comes to its servers.
type way interface{ way() []kgo.Opt }

// clientOptions are those of every client: short pauses, for servers come back
// soon.
func clientOptions(to way) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.AlwaysRetryEOF(), // a server may end between its accept and its first answer
	}, to.way()...)
}

// producer writes records of one writer to a topic, idempotent, acks=all.
type producer struct {
	client  *kgo.Client
	writer  uint32
	history *history
	sent    atomic.Int64
	unsure  atomic.Int64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// newProducer starts to write at most perSecond records a second. Records that
// fail are a problem if the client is to outlive its servers.
func newProducer(to way, h *history, writer uint32, perSecond int, outlives bool) (*producer, error) {
	client, err := kgo.NewClient(append(clientOptions(to),
		kgo.DefaultProduceTopic(h.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.StopProducerOnDataLossDetected(),
		kgo.UnknownTopicRetries(-1),
		kgo.MaxBufferedRecords(500),
		kgo.ProducerBatchMaxBytes(32<<10),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)...)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &producer{client: client, writer: writer, history: h, stop: stop}
	p.wg.Go(func() { p.write(ctx, perSecond, outlives) })
	return p, nil
}

// write blocks on the buffer of the client while no server lives.
func (p *producer) write(ctx context.Context, perSecond int, outlives bool) {
	const burst = 20
	ticks := time.NewTicker(time.Second * burst / time.Duration(perSecond))
	defer ticks.Stop()
	rng := rand.New(rand.NewPCG(uint64(p.writer), 3))
	for seq := uint32(1); ; seq++ {
		if seq%burst == 0 {
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
		}
		i := newID(p.writer, seq)
		r := &kgo.Record{Partition: rng.Int32N(partitions), Value: i.value()}
		p.sent.Add(1)
		// The context bounds the wait for room only: once in the buffer a record of
		// a client that outlives its servers must be written.
		recordCtx := context.Background()
		if !outlives {
			recordCtx = ctx
		}
		p.client.Produce(recordCtx, r, func(r *kgo.Record, err error) {
			switch {
			case err == nil:
				p.history.ack(i, r.Partition, r.Offset)
			case outlives && !errors.Is(err, kgo.ErrClientClosed):
				p.history.problem("%v was refused: %v", i, err)
			default:
				p.unsure.Add(1)
			}
		})
		if ctx.Err() != nil {
			return
		}
	}
}

// drop ends a producer whose server ended; what it had not been told is unknown.
func (p *producer) drop() {
	p.stop()
	p.client.Close()
	p.wg.Wait()
}

// finish waits until all that was sent is acked.
func (p *producer) finish(ctx context.Context) error {
	p.stop()
	p.wg.Wait()
	err := p.client.Flush(ctx)
	p.client.Close()
	return err
}

// consumer follows a topic from its start, through all servers.
type consumer struct {
	client *kgo.Client
	seen   atomic.Int64 // records
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func fromStart(topic string) map[string]map[int32]kgo.Offset {
	all := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		all[p] = kgo.NewOffset().At(0)
	}
	return map[string]map[int32]kgo.Offset{topic: all}
}

func newConsumer(to way, h *history) (*consumer, error) {
	client, err := kgo.NewClient(append(clientOptions(to),
		kgo.ConsumePartitions(fromStart(h.topic)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(200*time.Millisecond),
	)...)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &consumer{client: client, stop: stop}
	c.wg.Go(func() {
		next := map[int32]int64{}
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			fetches.EachError(func(_ string, p int32, err error) {
				var lost *kgo.ErrDataLoss
				if errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) {
					h.problem("the consumer of partition %d was told: %v", p, err)
				}
			})
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next[r.Partition] {
					h.problem("the consumer of partition %d was given offset %d, expected %d", r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition] = r.Offset + 1
				h.read(r.Value, r.Partition, r.Offset)
				c.seen.Add(1)
			})
		}
	})
	return c, nil
}

func (c *consumer) close() {
	c.stop()
	c.wg.Wait()
	c.client.Close()
}

// endsOf asks where partitions end, again if their leaders have just moved.
func endsOf(ctx context.Context, client *kgo.Client, topics ...string) (kadm.ListedOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	for {
		ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		if err == nil {
			return ends, nil
		}
		client.ForceMetadataRefresh()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("ask for the ends of %v: %w", topics, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readLimit is far above what it takes until something more is read, however much that is in all.
const readLimit = 60 * time.Second

// readAll reads a topic from its start to the end it has now, and judges it; ctx is for asking
// where that is.
func readAll(ctx context.Context, to way, h *history) error {
	known := map[int32]int64{}
	for p := range int32(partitions) {
		known[p] = h.known(p)
	}
	client, err := kgo.NewClient(append(clientOptions(to), kgo.ConsumePartitions(fromStart(h.topic)), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := endsOf(ctx, client, h.topic)
	if err != nil {
		return err
	}
	left := 0
	end := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		end[o.Partition] = o.Offset
		if o.Offset > 0 {
			left++
		}
		if o.Offset < known[o.Partition] {
			left = 0 // judged below; there may be nothing to read
		}
	})
	next := map[int32]int64{}
	for left > 0 {
		more, done := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
		fetches := client.PollFetches(more)
		err := more.Err()
		if done(); err != nil {
			return fmt.Errorf("read %s: %w; read to %v of %v", h.topic, err, next, end)
		}
		var failed error
		fetches.EachError(func(_ string, p int32, err error) {
			failed = fmt.Errorf("read partition %d of %s: %w", p, h.topic, err)
		})
		if failed != nil {
			return failed
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next[r.Partition] {
				h.problem("partition %d was read at offset %d, expected %d", r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition] = r.Offset + 1
			h.read(r.Value, r.Partition, r.Offset)
			if r.Offset+1 == end[r.Partition] {
				left--
			}
		})
	}
	for p := range int32(partitions) {
		h.judge(p, known[p], end[p])
	}
	return nil
}
