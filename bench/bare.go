package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

const (
	// bareBatch is about the bytes of a batch of the bare client: what a producer
	// sends that waits a moment.
	bareBatch = 64 << 10
	// bareInFlight is how many requests a connection has under way.
	bareInFlight = 5
)

// loadBare produces batches that are encoded once, one to a request, with acks=all: a
// client that costs next to nothing, so that what is measured is the broker.
func loadBare(ctx context.Context, s shape) (loadResult, error) {
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	if err := s.led(ctx); err != nil {
		return loadResult{}, err
	}
	each := max(1, bareBatch/s.size)
	requests := make([][]byte, s.partitions)
	for p := range requests {
		if requests[p], err = s.bareRequest(int32(p), each); err != nil {
			return loadResult{}, err
		}
	}
	wires := make([]*wire, s.connections)
	for i := range wires {
		if wires[i], err = dialWire(ctx, s.broker); err != nil {
			return loadResult{}, err
		}
		defer wires[i].close()
	}
	send := func(records int) (time.Duration, error) {
		var left atomic.Int64
		left.Store(int64(records / each))
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		for i, w := range wires {
			wg.Go(func() {
				if err := w.flood(requests, i, &left); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
		}
		wg.Wait()
		took := time.Since(began)
		if err := failed.Load(); err != nil {
			return 0, fmt.Errorf("produce: %w", *err)
		}
		return took, nil
	}
	if _, err := send(max(s.records/20, s.connections*each)); err != nil {
		return loadResult{}, err
	}
	took, err := send(s.records)
	if err != nil {
		return loadResult{}, err
	}
	n := int64(s.records / each * each)
	return loadResult{Records: n, Bytes: n * int64(s.size), Seconds: took.Seconds()}, nil
}

// led returns when every partition takes records.
func (s shape) led(ctx context.Context) error {
	cl, err := s.client(kgo.DefaultProduceTopic(s.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	first := make([]*kgo.Record, s.partitions)
	for p := range first {
		first[p] = &kgo.Record{Partition: int32(p)}
	}
	return cl.ProduceSync(ctx, first...).FirstErr()
}

// bareRequest encodes a produce request of one batch.
func (s shape) bareRequest(partition int32, records int) ([]byte, error) {
	builder := batch.NewBuilder(batch.BuilderOptions{})
	payload := value(s.size)
	for range records {
		builder.Add(time.Now().UnixMilli(), nil, payload)
	}
	b, err := builder.Build()
	if err != nil {
		return nil, err
	}
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(9)
	q.Acks, q.TimeoutMillis = -1, 60_000
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, b
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = s.topic, append(topic.Partitions, part)
	q.Topics = append(q.Topics, topic)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, q, 1), nil
}

// flood sends requests in turn, begun at some, until none is left, with several under
// way.
func (w *wire) flood(requests [][]byte, at int, left *atomic.Int64) error {
	window := make(chan struct{}, bareInFlight)
	sent := make(chan error, 1)
	go func() {
		defer close(window)
		for ; left.Add(-1) >= 0; at++ {
			window <- struct{}{}
			if _, err := w.conn.Write(requests[at%len(requests)]); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	var failed error
	for range window {
		if failed == nil {
			if failed = w.acked(); failed != nil {
				w.close() // ends the sender too
			}
		}
	}
	if err := <-sent; failed == nil {
		failed = err
	}
	return failed
}

// acked reads one response to a produce request of one partition.
func (w *wire) acked() error {
	var head [4]byte
	if _, err := io.ReadFull(w.conn, head[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return err
	}
	p := kmsg.NewPtrProduceResponse()
	p.SetVersion(9)
	if err := p.ReadFrom(body[5:]); err != nil { // behind the correlation id, and no tags
		return err
	}
	return kerr.ErrorForCode(p.Topics[0].Partitions[0].ErrorCode)
}
