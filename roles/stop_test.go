package roles

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
)

// TestStopHasADeadline: what does not end is left, with what it stands on, and said.
func TestStopHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for bound, want := range map[time.Duration]time.Duration{10 * time.Second: 10 * time.Second, time.Millisecond: time.Second} {
			config := configs.Default()
			config.Operations.GracefulShutdownTimeout = configs.Duration(bound)
			n := &Node{config: config, live: newLive(config), log: slog.New(slog.DiscardHandler)}
			release := make(chan struct{})
			n.opened("disk", func(context.Context) error { t.Error("the disk is closed below what runs"); return nil })
			n.opened("broker", func(context.Context) error { <-release; return nil })
			n.opened("sockets", func(context.Context) error { return io.ErrClosedPipe })
			began := time.Now()
			err := n.Close()
			late, ok := errors.AsType[*UnclosedError](err)
			if !ok || late.What != "broker" || !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("closed with %v", err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("it took %v of %v", took, bound)
			}
			close(release)
		}
	})
}

// TestHTTPClientsLeaveKafkaItsTime: a fetch that waits is answered by a stop, though an
// HTTP client never ends its request.
func TestHTTPClientsLeaveKafkaItsTime(t *testing.T) {
	config, err := configs.Load(configs.Sources{Flags: []configs.Setting{
		{Key: "network.kafka_port", Value: "0"}, {Key: "network.http_port", Value: "0"}, {Key: "wal.capacity", Value: "1GiB"}, {Key: "broker.data_dir", Value: t.TempDir()},
		{Key: "operations.graceful_shutdown_timeout", Value: "4s"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), NodeOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(address string, hello []byte) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // the node has
		if _, err := c.Write(hello); err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial(n.HTTP(), []byte("POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"))
	topic := "t"
	create := kmsg.NewPtrMetadataRequest()
	create.Topics, create.AllowAutoTopicCreation = []kmsg.MetadataRequestTopic{{Topic: &topic}}, true
	client := dial(n.Kafka(), asked(create, 4))
	r := bufio.NewReader(client)
	answer := func() ([]byte, error) {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return nil, err
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err := io.ReadFull(r, body)
		return body[4:], err
	}
	if _, err := answer(); err != nil {
		t.Fatal(err)
	}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.MinBytes, fetch.MaxBytes = 1, 1<<20
	fetch.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{{PartitionMaxBytes: 1 << 20}}}}
	fetched := func() (code int16, err error) {
		body, err := answer()
		if err != nil {
			return 0, err
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.SetVersion(4)
		if err := resp.ReadFrom(body); err != nil {
			return 0, err
		}
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	}
	for led := false; !led; { // it was made just now
		if _, err := client.Write(asked(fetch, 4)); err != nil {
			t.Fatal(err)
		}
		code, err := fetched()
		if err != nil {
			t.Fatal(err)
		}
		led = code == 0
	}
	fetch.MaxWaitMillis = 60_000
	if _, err := client.Write(asked(fetch, 4)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	if code, err := fetched(); err != nil || code != 0 {
		t.Errorf("the fetch that waits is not answered: %d, %v", code, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// asked is the frame of a request of a version with the plain header.
func asked(req kmsg.Request, version int16) []byte {
	req.SetVersion(version)
	b := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1)      // correlation
	b = binary.BigEndian.AppendUint16(b, 0xffff) // no client id
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
