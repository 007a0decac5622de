// Command go writes or reads what each SDK and client writes and reads alike:
//
//	go write BROKER TOPIC
//	go read BROKER TOPIC
//
// The topic has one partition. write produces eight records with each codec: with and without
// keys, values and headers, and with empty ones. read prints a line a record,
//
//	offset timestamp key value headers
//
// with bytes in hex, - for what is null or not there, and . for what is empty, up to
// the end of the topic as it was at the start. What two clients print of a topic is
// the same where both read the same.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

const (
	records   = 8 // of a codec
	timestamp = 1_700_000_000_000
	timeout   = time.Minute
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: go write|read BROKER TOPIC")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var err error
	switch do, broker, topic := os.Args[1], os.Args[2], os.Args[3]; do {
	case "write":
		err = write(ctx, broker, topic)
	case "read":
		err = read(ctx, broker, topic)
	default:
		err = fmt.Errorf("%q is neither write nor read", do)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(ctx context.Context, broker, topic string) error {
	for _, codec := range []string{rustmq.Uncompressed, rustmq.Gzip, rustmq.Snappy, rustmq.LZ4, rustmq.Zstd} {
		client, err := rustmq.New(rustmq.WithBrokers(broker), rustmq.WithCompression(codec))
		if err != nil {
			return err
		}
		var batch []*rustmq.Record
		for i := range records {
			batch = append(batch, rustmq.Pin(record(topic, codec, i), 0))
		}
		if err := client.ProduceSync(ctx, batch...).Err(); err != nil {
			return fmt.Errorf("produce with %s: %w", codec, err)
		}
		if err := client.Close(); err != nil {
			return err
		}
	}
	return nil
}

// record is the i-th of a codec.
func record(topic, codec string, i int) *rustmq.Record {
	r := &rustmq.Record{
		Topic: topic, Key: fmt.Appendf(nil, "%s-%d", codec, i), Value: []byte(strings.Repeat(fmt.Sprintf("value %d of %s ", i, codec), 20)),
		Headers: []rustmq.Header{{Key: "n", Value: []byte(strconv.Itoa(i))}}, Timestamp: time.UnixMilli(timestamp + int64(i)),
	}
	switch i {
	case 2:
		r.Headers = append(r.Headers, rustmq.Header{Key: "n", Value: []byte("again")}, rustmq.Header{Key: "empty", Value: []byte{}}, rustmq.Header{Key: "none"})
	case 3:
		r.Key = nil
	case 4:
		r.Key = []byte{}
	case 5:
		r.Value = nil
	case 6:
		r.Value = []byte{}
	}
	return r
}

func read(ctx context.Context, broker, topic string) error {
	client, err := rustmq.New(rustmq.WithBrokers(broker))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := client.Admin().Kafka().ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask where %s ends: %w", topic, err)
	}
	end, _ := ends.Lookup(topic, 0)
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{topic}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	out := bufio.NewWriter(os.Stdout)
	for next := int64(0); next < end.Offset; {
		messages, err := consumer.Poll(ctx)
		if err != nil {
			return fmt.Errorf("read %s from offset %d of %d: %w", topic, next, end.Offset, err)
		}
		for _, m := range messages {
			r := m.Record
			if next = r.Offset + 1; next <= end.Offset {
				fmt.Fprintln(out, r.Offset, r.Timestamp.UnixMilli(), printed(r.Key), printed(r.Value), headers(r.Headers))
			}
		}
	}
	return out.Flush()
}

func printed(b []byte) string {
	switch {
	case b == nil:
		return "-"
	case len(b) == 0:
		return "."
	}
	return hex.EncodeToString(b)
}

func headers(hs []rustmq.Header) string {
	if len(hs) == 0 {
		return "-"
	}
	var all []string
	for _, h := range hs {
		all = append(all, h.Key+"="+printed(h.Value))
	}
	return strings.Join(all, ",")
}
