package broker

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"

	"rustmq.dev/rustmq/consensus/metadata"
)

// node is a broker with its server, to be asked over pipes and sockets.
type node struct {
	*Broker
	t          testing.TB
	controller *testController
	fs         *disk.Mem
	store      *log.Store
	server     *kafka.Server
	options    Options
}

// startNode opens a broker over a store in memory. Change may adapt its options.
func startNode(t testing.TB, change ...func(*Options)) *node {
	t.Helper()
	n := &node{t: t, controller: newTestController(t)}
	n.fs = disk.NewMem(disk.MemOptions{})
	n.store = openStore(t, n.fs)
	n.options = Options{
		NodeID: 1, Store: n.store, Controller: n.controller, AutoCreate: true,
		Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: 9092, Protocol: "PLAINTEXT"}},
	}
	for _, c := range change {
		c(&n.options)
	}
	n.open()
	return n
}

func (n *node) open() {
	n.t.Helper()
	b, err := Open(n.t.Context(), n.options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Broker = b
	n.server = kafka.New(kafka.Options{
		Handler: b, EarlyOK: EarlyOK, Features: b.Features(),
		Identity: func() (string, int32) { return n.options.Controller.Image().ClusterID(), n.options.NodeID },
	})
	server := n.server
	n.t.Cleanup(func() {
		server.Close() // a second time where the test did
		b.Close()
	})
}

func (n *node) serve(l net.Listener) {
	done := make(chan struct{})
	server := n.server
	go func() {
		defer close(done)
		server.ServeListener(l, "kafka")
	}()
	n.t.Cleanup(func() { server.Close(); <-done })
}

// client speaks to a node request by request, in versions of the test's choice.
type client struct {
	t       testing.TB
	node    *Broker // that it is connected to
	conn    net.Conn
	format  *kmsg.RequestFormatter
	next    int32
	waiting []sent
}

type sent struct {
	id      int32
	request kmsg.Request
}

// connect returns a client on a pipe, through the listener of that name.
func (n *node) connect(listener ...string) *client {
	n.t.Helper()
	name := "kafka"
	if len(listener) > 0 {
		name = listener[0]
	}
	return n.connectBy(kafka.Info{Listener: name, Transport: "tcp"})
}

func (n *node) connectBy(info kafka.Info) *client {
	n.t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	server := n.server
	go func() {
		defer close(done)
		server.ServeConn(far, info)
	}()
	n.t.Cleanup(func() { near.Close(); <-done })
	return &client{t: n.t, node: n.Broker, conn: near, format: kmsg.NewRequestFormatter()}
}

// send sends a request and does not wait for the answer.
func (c *client) send(q kmsg.Request) {
	c.t.Helper()
	if _, err := c.conn.Write(c.append(nil, q)); err != nil {
		c.t.Fatalf("send %s: %v", kmsg.NameForKey(q.Key()), err)
	}
}

// append appends a request to frames that the test sends by itself.
func (c *client) append(frames []byte, q kmsg.Request) []byte {
	c.next++
	c.waiting = append(c.waiting, sent{c.next, q})
	return append(frames, c.format.AppendRequest(nil, q, c.next)...)
}

// receive returns the next answer, which is that of the oldest request.
func (c *client) receive() kmsg.Response {
	c.t.Helper()
	p, err := c.tryReceive()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return p
}

func (c *client) tryReceive() (kmsg.Response, error) {
	oldest := c.waiting[0]
	body, err := c.receiveBody()
	if err != nil {
		return nil, err
	}
	p := oldest.request.ResponseKind()
	return p, p.ReadFrom(body)
}

// receiveBody returns what follows the header of the next answer.
func (c *client) receiveBody() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.conn, length[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, err
	}
	oldest := c.waiting[0]
	c.waiting = c.waiting[1:]
	if id := int32(binary.BigEndian.Uint32(body)); id != oldest.id {
		return nil, fmt.Errorf("the answer to request %d came, %d was due", id, oldest.id)
	}
	body = body[4:]
	if oldest.request.IsFlexible() && oldest.request.Key() != int16(kmsg.ApiVersions) {
		body = body[1:]
	}
	return body, nil
}

// ask sends a request of that version and returns its answer.
func ask[P kmsg.Response](c *client, version int16, q kmsg.Request) P {
	c.t.Helper()
	q.SetVersion(version)
	c.send(q)
	return c.receive().(P)
}

// closed reports whether the node ends the connection instead of answering.
func (c *client) closed() bool {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err == io.ErrClosedPipe // a pipe says already here that its other end is closed
	}
	_, err := c.conn.Read(make([]byte, 1))
	return err == io.EOF || err == io.ErrClosedPipe
}

// batchOf returns a record batch with those values.
func batchOf(t testing.TB, values ...string) []byte {
	t.Helper()
	return batchWith(t, batch.BuilderOptions{}, values...)
}

func batchWith(t testing.TB, o batch.BuilderOptions, values ...string) []byte {
	t.Helper()
	b := batch.NewBuilder(o)
	for i, v := range values {
		b.Add(int64(1000+i), nil, []byte(v))
	}
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// values returns the records in a fetch response's batches.
func values(t testing.TB, records []byte) (out []string) {
	t.Helper()
	for len(records) > 0 {
		b, rest, err := batch.Next(records)
		if err != nil {
			t.Fatal(err)
		}
		it := b.Records(1 << 20)
		for it.Next() {
			out = append(out, string(it.Record().Value))
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		records = rest
	}
	return out
}

// produceTo returns a request with one batch for one partition.
func produceTo(topic string, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis = acks, 1000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

// fetchFrom returns a request for one partition.
func fetchFrom(topic string, partition int32, offset int64, wait time.Duration) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes = int32(wait.Milliseconds()), 1, 1<<20
	q.SessionEpoch = finalSessionEpoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

func listenLoopback(t testing.TB) net.Listener {
	t.Helper()
	return listenOn(t, 0)
}

func listenOn(t testing.TB, port int32) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func portOf(l net.Listener) int32 { return int32(l.Addr().(*net.TCPAddr).Port) }

// firstBatch returns the header of the first batch in a log.
func firstBatch(t testing.TB, l *log.Log) batch.Batch {
	t.Helper()
	read, err := l.Read(log.ReadRequest{MaxBytes: 1, MinOne: true})
	if err != nil || len(read.Batches) == 0 {
		t.Fatalf("%d batches, %v", len(read.Batches), err)
	}
	defer read.Release()
	return slices.Clone(read.Batches[0])
}
