//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partitions of the topics that are written and copied.
const partitions = 3

// patience is how long a client may take, of simulated time, once all is well again.
const patience = 4 * time.Minute

// options are those of every client of a name: short pauses, for servers come back soon.
func (w *world) options(opts ...kgo.Opt) []kgo.Opt {
	h := w.client()
	return append([]kgo.Opt{
		kgo.SeedBrokers("127.0.0.1:9092", "127.0.0.2:9092", "127.0.0.3:9092"),
		kgo.Dialer(func(ctx context.Context, _, address string) (net.Conn, error) { return h.dial(ctx, address) }),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.AlwaysRetryEOF(), // a server may end between its accept and its first answer
		kgo.DisableClientMetrics(),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // codecs keep goroutines for all worlds
	}, opts...)
}

// newClient is for options that do not depend on the seed.
func (w *world) newClient(opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(w.options(opts...)...)
	if err != nil {
		panic(err)
	}
	return c
}

// writer writes records to a topic; idempotent, acks=all, unless more is said.
type writer struct {
	client  *kgo.Client
	number  uint32
	history *history
	record  *record // nil: nobody asks for the order
	weak    bool    // what is acked may be lost
	sent    atomic.Int64
	acked   atomic.Int64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

func (w *world) write(p *writer, pause time.Duration, opts ...kgo.Opt) *writer {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.client = stop, w.newClient(append([]kgo.Opt{
		kgo.DefaultProduceTopic(p.history.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.StopProducerOnDataLossDetected(),
		kgo.UnknownTopicRetries(-1),
		kgo.MaxBufferedRecords(200),
		kgo.ProducerBatchMaxBytes(8 << 10),
	}, opts...)...)
	number, h := p.number, p.history
	rng := w.dice()
	p.wg.Go(func() {
		if !h.twice {
			w.becomeKnown(ctx, p.client)
		}
		for seq := uint32(1); ctx.Err() == nil; seq++ {
			for range rng.IntN(5) { // a burst
				p.send(ctx, newID(number, seq), rng.Int32N(partitions))
				seq++
			}
			p.send(ctx, newID(number, seq), rng.Int32N(partitions))
			w.sleep(ctx, time.Duration(rng.Int64N(int64(2*pause))))
		}
	})
	return p
}

// becomeKnown has a client get its producer id before it produces. It would ask for it under
// a lock that what it sends to other brokers waits for, and behind a lock simulated time
// stands still.
func (w *world) becomeKnown(ctx context.Context, client *kgo.Client) {
	for ctx.Err() == nil {
		if _, _, err := client.ProducerID(ctx); err == nil {
			return
		}
		w.sleep(ctx, 100*time.Millisecond)
	}
}

// send blocks on the buffer of the client while nobody leads.
func (p *writer) send(ctx context.Context, i id, partition int32) {
	if ctx.Err() != nil {
		return
	}
	p.sent.Add(1)
	called := time.Now()
	p.client.Produce(context.Background(), &kgo.Record{Partition: partition, Value: i.value()}, func(r *kgo.Record, err error) {
		switch {
		case errors.Is(err, kgo.ErrClientClosed): // finish has said so
			return
		case err != nil:
			p.history.problem("%v was refused: %v", i, err)
			return
		}
		if p.acked.Add(1); p.weak {
			return
		}
		p.history.ack(i, r.Partition, r.Offset)
		if p.record != nil {
			p.record.note(r.Partition, called, logCall{"append", r.Offset})
		}
	})
}

// finish waits until all that was sent is acked.
func (p *writer) finish(ctx context.Context) error {
	p.stop()
	err := p.client.Flush(ctx) // makes room for one that waits for it
	p.client.Close()
	p.wg.Wait()
	if err != nil {
		return fmt.Errorf("writer %d was not told of all that it has sent: %w", p.number, err)
	}
	return nil
}

// reader follows a topic from its start.
type reader struct {
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

func (w *world) read(h *history) *reader {
	ctx, stop := context.WithCancel(context.Background())
	c := &reader{stop: stop, client: w.newClient(
		kgo.ConsumePartitions(fromStart(h.topic)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond),
	)}
	c.wg.Go(func() {
		next := map[int32]int64{}
		for ctx.Err() == nil {
			fetches := c.client.PollFetches(ctx)
			fetches.EachError(func(_ string, p int32, err error) {
				if errors.As(err, new(*kgo.ErrDataLoss)) || errors.Is(err, kerr.OffsetOutOfRange) {
					h.problem("the reader of %s-%d was told: %v", h.topic, p, err)
				}
			})
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next[r.Partition] {
					h.problem("the reader of %s-%d was given offset %d, expected %d", h.topic, r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition] = r.Offset + 1
				h.read(r.Value, r.Partition, r.Offset)
				c.seen.Add(1)
			})
		}
	})
	return c
}

// finish waits until the reader has been given so many records.
func (c *reader) finish(ctx context.Context, w *world, records int) error {
	defer c.client.Close()
	defer c.wg.Wait()
	defer c.stop()
	for c.seen.Load() < int64(records) {
		if !w.sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("the reader is stuck: it was given %d records of %d", c.seen.Load(), records)
		}
	}
	return nil
}

// ends are those of a topic.
func (w *world) ends(ctx context.Context, topic string) (kadm.ListedOffsets, error) {
	client := w.newClient()
	defer client.Close()
	for {
		ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil || !w.sleep(ctx, 200*time.Millisecond) {
			return ends, err
		}
	}
}

// readAll reads a topic from its start to the end it has now, and judges it.
func (w *world) readAll(ctx context.Context, h *history) error {
	known := map[int32]int64{}
	for p := range int32(partitions) {
		known[p] = h.known(p)
	}
	ends, err := w.ends(ctx, h.topic)
	if err != nil {
		return fmt.Errorf("ask for the ends of %s: %w", h.topic, err)
	}
	client := w.newClient(kgo.ConsumePartitions(fromStart(h.topic)), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer client.Close()
	end, next, left := map[int32]int64{}, map[int32]int64{}, 0
	short := false
	ends.Each(func(o kadm.ListedOffset) {
		end[o.Partition] = o.Offset
		short = short || o.Offset < known[o.Partition]
		if o.Offset > 0 {
			left++
		}
	})
	for left > 0 && !short { // what is short is judged, and may have nothing to read
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w; read to %v of %v", h.topic, err, next, end)
		}
		var failed error
		fetches.EachError(func(_ string, p int32, err error) { failed = fmt.Errorf("read %s-%d: %w", h.topic, p, err) })
		if failed != nil {
			return failed
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next[r.Partition] {
				h.problem("%s-%d was read at offset %d, expected %d", h.topic, r.Partition, r.Offset, next[r.Partition])
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

// dice are of one client, so that what others do does not change what they fall to.
func (w *world) dice() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients++
	return rand.New(rand.NewPCG(w.seed, 1000+w.clients))
}
