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
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

const (
	couriers = 3 // connections over which a pusher sends at a time
	// flying is how many batches are not acked at a time. A producer's last five are known, so
	// that of those each that comes twice is.
	flying = 4
	// pushTime is how long a courier waits for an answer before it asks who leads now.
	pushTime = 700 * time.Millisecond
)

// pusher is an idempotent producer that writes to one partition by hand. What it sends goes
// over several connections, so that it comes twice, late and out of order; and it soon looks
// for another leader. All the same each record is to be there once, and in order.
type pusher struct {
	w         *world
	number    uint32
	of        *history
	record    *record
	partition int32
	producer  batch.Producer
	sent      atomic.Int64 // records, as is acked
	acked     atomic.Int64
	twice     atomic.Int64 // batches that were sent again though they were acked
	stop      context.CancelFunc
	quit      context.CancelFunc
	wg        sync.WaitGroup

	mu   sync.Mutex
	told error // the last that a courier was told
}

// push is a batch on its way.
type push struct {
	ids      []id
	raw      batch.Batch
	sequence int32
	acked    chan struct{} // closed when it is
}

func (w *world) push(p *pusher) *pusher {
	making, stop := context.WithCancel(context.Background())
	ctx, quit := context.WithCancel(context.Background())
	p.w, p.stop, p.quit = w, stop, quit
	rng := w.dice()
	p.partition = rng.Int32N(partitions)
	work := make(chan push)
	p.wg.Go(func() { p.make(ctx, making, rng, work) })
	for range couriers {
		rng := w.dice()
		s := w.speak(false)
		p.wg.Go(func() {
			defer s.close()
			for b := range work {
				p.carry(ctx, s, b)
				for rng.IntN(4) == 0 && ctx.Err() == nil { // as one that was on its way for long
					w.sleep(ctx, time.Duration(rng.Int64N(int64(time.Second))))
					p.carryAgain(ctx, s, b)
				}
			}
		})
	}
	return p
}

// make makes batches until making ends, and gives the first of them to a courier alone: of a
// producer that is not known any sequence is taken.
func (p *pusher) make(ctx, making context.Context, rng *rand.Rand, work chan<- push) {
	defer close(work)
	s := p.w.speak(false)
	defer s.close()
	if !p.become(making, s) {
		return
	}
	seq := uint32(0)
	var sent []push
	for n := 0; making.Err() == nil; n++ {
		if n >= flying {
			select {
			case <-sent[n-flying].acked:
			case <-ctx.Done():
				return
			}
		}
		b := push{sequence: int32(seq), acked: make(chan struct{})}
		producer := p.producer
		producer.BaseSequence = b.sequence
		w := batch.NewBuilder(batch.BuilderOptions{Producer: &producer, LeaderEpoch: -1})
		for range 1 + rng.IntN(3) {
			seq++
			b.ids = append(b.ids, newID(p.number, seq))
			w.Add(time.Now().UnixMilli(), nil, newID(p.number, seq).value())
		}
		raw, err := w.Build()
		if err != nil {
			panic(err) // it does not depend on the seed
		}
		b.raw = raw
		sent = append(sent, b)
		p.sent.Add(int64(len(b.ids)))
		if n == 0 {
			p.carry(ctx, s, b)
		} else {
			select {
			case work <- b:
			case <-ctx.Done():
				return
			}
		}
		p.w.sleep(making, time.Duration(rng.Int64N(int64(300*time.Millisecond))))
	}
}

// become gets a producer id; false: ctx ended.
func (p *pusher) become(ctx context.Context, s *speaker) bool {
	for ctx.Err() == nil {
		r, err := ask[*kmsg.InitProducerIDResponse](ctx, s, s.any(), kmsg.NewPtrInitProducerIDRequest())
		if err == nil && r.ErrorCode == 0 {
			p.producer = batch.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}
			return true
		}
		p.w.sleep(ctx, 100*time.Millisecond)
	}
	return false
}

// carry sends a batch until it is acked, or ctx ends.
func (p *pusher) carry(ctx context.Context, s *speaker, b push) {
	called := time.Now()
	for ctx.Err() == nil {
		base, err := p.send(ctx, s, b)
		switch {
		case err == nil:
			for i, id := range b.ids {
				p.of.ack(id, p.partition, base+int64(i))
				p.record.note(p.partition, called, logCall{"append", base + int64(i)})
			}
			p.acked.Add(int64(len(b.ids)))
			close(b.acked)
			return
		case !again(err) && !errors.Is(err, kerr.OutOfOrderSequenceNumber): // the one before it is on its way
			p.of.problem("a batch of %v and %d records, of sequence %d, was refused: %v", b.ids[0], len(b.ids)-1, b.sequence, err)
			return
		}
		p.mu.Lock()
		p.told = fmt.Errorf("sequence %d: %w", b.sequence, err)
		p.mu.Unlock()
		p.w.sleep(ctx, 50*time.Millisecond)
	}
}

// carryAgain sends a batch that was acked once more: what it is answered is the same, if
// anything but an error.
func (p *pusher) carryAgain(ctx context.Context, s *speaker, b push) {
	p.twice.Add(1)
	if base, err := p.send(ctx, s, b); err == nil && base >= 0 {
		for i, id := range b.ids {
			p.of.read(id.value(), p.partition, base+int64(i))
		}
	}
}

func (p *pusher) send(ctx context.Context, s *speaker, b push) (base int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	return s.produce(ctx, p.of.topic, p.partition, nil, pushTime-100*time.Millisecond, b.raw)
}

// finish waits until all that was sent is acked.
func (p *pusher) finish(ctx context.Context) error {
	p.stop()
	defer p.quit()
	ended := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		p.quit()
		<-ended
		return fmt.Errorf("writer %d is stuck at partition %d: %d of %d records are acked: %w", p.number, p.partition, p.acked.Load(), p.sent.Load(), p.told)
	}
}
