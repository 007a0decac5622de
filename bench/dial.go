package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	rustmq "rustmq.dev/rustmq/sdk/go"
	sdktransport "rustmq.dev/rustmq/sdk/go/transport"
)

// sdkClient is the transport of loads by the SDK's own client, over TCP in the clear.
const sdkClient = "sdk"

// sdk makes one.
func (s shape) sdk(opts ...rustmq.Option) (*rustmq.Client, error) {
	return rustmq.New(append(opts, rustmq.WithBrokers(s.broker), rustmq.WithTransport(sdktransport.TCP))...)
}

// consumeBySDK reads the records of the named topic from the start, as they are.
func (s shape) consumeBySDK(ctx context.Context) (loadResult, error) {
	cl, err := s.sdk()
	if err != nil {
		return loadResult{}, err
	}
	defer cl.Close()
	consumer, err := rustmq.NewConsumer(cl, rustmq.Raw(), rustmq.ConsumerOptions{
		Topics: []string{s.topic}, MaxPoll: sdkPoll,
		Kafka: []kgo.Opt{kgo.FetchMaxBytes(50 << 20), kgo.FetchMaxPartitionBytes(8 << 20)}, // as those of franz-go here
	})
	if err != nil {
		return loadResult{}, err
	}
	defer consumer.Close()
	var result loadResult
	var began time.Time
	for result.Records < int64(s.records) {
		messages, err := consumer.Poll(ctx)
		if err != nil {
			return loadResult{}, err
		}
		if began.IsZero() {
			// The first poll pays for connecting and metadata; it is the warm-up.
			began = time.Now()
			s.records -= len(messages)
			continue
		}
		for _, m := range messages {
			result.Records++
			result.Bytes += int64(len(m.Value))
		}
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// sdkPoll is how many records the SDK is asked for at once: as many as a fetch may bring.
const sdkPoll = 50_000

type dialFunc func(context.Context) (net.Conn, error)

// sdkModes are the transports of the SDK by the names of loads.
func sdkMode(transport string) (mode sdktransport.Mode, clear bool, err error) {
	switch transport {
	case "sdk-tcp":
		return sdktransport.TCP, true, nil
	case "sdk-tls":
		return sdktransport.TCP, false, nil
	case "quic":
		return sdktransport.QUIC, false, nil
	case "auto":
		return sdktransport.Auto, false, nil
	}
	return 0, false, fmt.Errorf("transport %q is not known", transport)
}

// sdkDialer is the SDK's dialer for the transport of the shape.
func (s shape) sdkDialer() (*sdktransport.Dialer, error) {
	mode, clear, err := sdkMode(s.transport)
	if err != nil {
		return nil, err
	}
	o := sdktransport.Options{Mode: mode}
	if !clear {
		if o.TLS, err = s.tlsConfig(); err != nil {
			return nil, err
		}
		o.TLS.ClientSessionCache = nil // the dialer's own
	}
	return sdktransport.New(o), nil
}

// dialer is that of a client which has never seen the server.
func (s shape) dialer() (dialFunc, error) {
	switch s.transport {
	case "tcp":
		return func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.broker)
		}, nil
	case "tls":
		cfg, err := s.tlsConfig()
		if err != nil {
			return nil, err
		}
		cfg.ClientSessionCache = nil
		return s.overTLS(cfg), nil
	}
	d, err := s.sdkDialer()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := d.Dial(ctx, "tcp", s.broker)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return closing{conn, d}, nil
	}, nil
}

func (s shape) overTLS(cfg *tls.Config) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", s.broker)
	}
}

// again is how a client dials that has met the server, and has no connection to it. end is for when
// it is done.
func (s shape) again() (fresh func() (dialFunc, error), end func(), err error) {
	if s.transport == "tls" {
		cfg, err := s.tlsConfig()
		if err != nil {
			return nil, nil, err
		}
		return func() (dialFunc, error) { return s.overTLS(cfg), nil }, func() {}, nil
	}
	d, err := s.sdkDialer()
	if err != nil {
		return nil, nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, "tcp", s.broker) }
	return func() (dialFunc, error) {
		// The answer that comes last, a ticket, may be on its way still.
		time.Sleep(200 * time.Millisecond)
		d.CloseIdle()
		return dial, nil
	}, func() { _ = d.Close() }, nil
}

// closing closes the dialer, and with it the QUIC connection, with the stream.
type closing struct {
	net.Conn
	dialer *sdktransport.Dialer
}

func (c closing) Close() error { return errors.Join(c.Conn.Close(), c.dialer.Close()) }

// produceOne produces one record to partition 0 of a topic, acks=all, and reads the ack.
func produceOne(conn net.Conn, topic string) error {
	record := kmsg.Record{Value: value(100)}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: 1, Records: record.AppendTo(nil),
	}
	const beforeLength, beforeChecksum = 12, 21
	batch.Length = int32(len(batch.AppendTo(nil)) - beforeLength)
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[beforeChecksum:], crc32.MakeTable(crc32.Castagnoli)))
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = 9, -1, 10_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch.AppendTo(nil)
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, q, 1)); err != nil {
		return err
	}
	var head [4]byte
	if err := readFull(conn, head[:]); err != nil {
		return err
	}
	answer := make([]byte, int(head[0])<<24|int(head[1])<<16|int(head[2])<<8|int(head[3]))
	if err := readFull(conn, answer); err != nil {
		return err
	}
	a := kmsg.NewPtrProduceResponse()
	a.Version = 9
	if err := a.ReadFrom(answer[5:]); err != nil {
		return err
	}
	if len(a.Topics) != 1 || len(a.Topics[0].Partitions) != 1 {
		return fmt.Errorf("an answer to one partition has %d topics", len(a.Topics))
	}
	return kerr.ErrorForCode(a.Topics[0].Partitions[0].ErrorCode)
}
