package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// loadNATS publishes to a JetStream file store, as deep in flight as its
// client goes, and waits for every answer.
func loadNATS(ctx context.Context, s shape) (loadResult, error) {
	nc, err := nats.Connect("nats://" + s.broker)
	if err != nil {
		return loadResult{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return loadResult{}, err
	}
	name := fmt.Sprintf("bench%d", time.Now().UnixNano())
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage}); err != nil {
		return loadResult{}, fmt.Errorf("create stream: %w", err)
	}
	defer func() { _ = js.DeleteStream(ctx, name) }()
	payload := value(s.size)
	send := func(records int) (time.Duration, error) {
		began := time.Now()
		for range records {
			if _, err := js.PublishAsync(name, payload, jetstream.WithStallWait(time.Minute)); err != nil {
				return 0, err
			}
		}
		select {
		case <-js.PublishAsyncComplete():
			return time.Since(began), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if _, err := send(max(s.records/20, 100)); err != nil {
		return loadResult{}, err
	}
	took, err := send(s.records)
	if err != nil {
		return loadResult{}, err
	}
	return loadResult{Records: int64(s.records), Bytes: int64(s.records) * int64(s.size), Seconds: took.Seconds()}, nil
}
