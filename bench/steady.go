package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// loadSteady produces so many records a second, each at its time whatever became of
// those before it, and consumes them at the tail. Both latencies count from when a
// record was due: a load that waits for a slow server would not see how slow it is.
func loadSteady(ctx context.Context, s shape) (loadResult, error) {
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	producer, err := s.client(kgo.DefaultProduceTopic(s.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return loadResult{}, err
	}
	defer producer.Close()
	// One record to each partition, so that the tail is known to be consumed before
	// the clock runs.
	first := make([]*kgo.Record, s.partitions)
	for i := range first {
		first[i] = &kgo.Record{Value: value(max(s.size, 8)), Partition: int32(i)}
	}
	if err := producer.ProduceSync(ctx, first...).FirstErr(); err != nil {
		return loadResult{}, err
	}
	consumer, err := s.client(kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return loadResult{}, err
	}
	defer consumer.Close()
	warm := s.records // a second's
	total := s.records*s.seconds + warm
	tail := &latencies{began: time.Now(), warm: warm, left: len(first) + total, done: make(chan error, 1), hist: hdr.New(1, 120_000_000, 3)}
	ready := make(chan struct{})
	go tail.consume(ctx, consumer, len(first), ready)
	select {
	case <-ready:
	case err := <-tail.done:
		return loadResult{}, err
	}
	acks := &latencies{warm: warm, left: total, done: make(chan error, 1), hist: hdr.New(1, 120_000_000, 3)}
	payload := value(max(s.size, 8))
	began := time.Now()
	acks.began = began
	tail.start(began)
	for i := range total {
		due := time.Duration(i) * time.Second / time.Duration(s.records)
		time.Sleep(due - time.Since(began))
		record := &kgo.Record{Value: append([]byte(nil), payload...), Partition: int32(i % s.partitions)}
		binary.BigEndian.PutUint64(record.Value, uint64(due)+1)
		producer.Produce(ctx, record, func(_ *kgo.Record, err error) { acks.took(due, err) })
	}
	if err := <-acks.done; err != nil {
		return loadResult{}, fmt.Errorf("produce: %w", err)
	}
	if err := <-tail.done; err != nil {
		return loadResult{}, fmt.Errorf("consume: %w", err)
	}
	n := int64(s.records * s.seconds)
	return loadResult{
		Records: n, Bytes: n * int64(s.size), Seconds: time.Since(began).Seconds(),
		P50: acks.at(50), P99: acks.at(99), TailP50: tail.at(50), TailP99: tail.at(99),
	}, nil
}

// latencies are of records that were due at known times.
type latencies struct {
	warm int // records that are not counted
	done chan error

	mu    sync.Mutex // guards what follows
	began time.Time
	left  int
	seen  int
	ended bool
	hist  *hdr.Histogram
}

func (l *latencies) start(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = at
}

// took notes that a record is there, or that it failed.
func (l *latencies) took(due time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if l.seen++; l.seen > l.warm && err == nil {
		_ = l.hist.RecordValue((time.Since(l.began) - due).Microseconds())
	}
	if l.left--; l.left == 0 || err != nil {
		l.ended = true
		l.done <- err
	}
}

// consume reads until all are there; ready is closed once the first are.
func (l *latencies) consume(ctx context.Context, cl *kgo.Client, first int, ready chan<- struct{}) {
	for n := 0; ; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			l.fail(err)
			return
		}
		over := false
		fetches.EachRecord(func(r *kgo.Record) {
			if n++; n <= first {
				l.mu.Lock()
				l.left--
				l.mu.Unlock()
				if n == first {
					close(ready)
				}
				return
			}
			l.took(time.Duration(binary.BigEndian.Uint64(r.Value)-1), nil)
		})
		l.mu.Lock()
		over = l.ended
		l.mu.Unlock()
		if over {
			return
		}
	}
}

func (l *latencies) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		l.done <- err
	}
}

func (l *latencies) at(quantile float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(l.hist.ValueAtQuantile(quantile))
}

// loadCatchUp consumes the named topic from its start, again and again, until its
// standard input ends.
func loadCatchUp(ctx context.Context, s shape) (loadResult, error) {
	ctx = untilInputEnds(ctx)
	var result loadResult
	began := time.Now()
	for ctx.Err() == nil {
		cl, err := s.client(kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(8<<20))
		if err != nil {
			return loadResult{}, err
		}
		for read := 0; read < s.records && ctx.Err() == nil; {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err0(); err != nil && !errors.Is(err, context.Canceled) {
				cl.Close()
				return loadResult{}, err
			}
			read += fetches.NumRecords()
			fetches.EachRecord(func(r *kgo.Record) { result.Records++; result.Bytes += int64(len(r.Value)) })
		}
		cl.Close()
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// untilInputEnds returns a context that ends with standard input.
func untilInputEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	return ctx
}
