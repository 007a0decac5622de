//go:build chaos

package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

const mib = 1 << 20

// Budgets of the flooded server, and what it needs besides them.
const (
	requestMemory  = 32 * mib
	responseMemory = 32 * mib
	walMemory      = 32 * mib
	// recompression is what batches of topics with a codec of their own may
	// expand to at once: see storage/log.
	recompression = 192 * mib
	// blockCache, indexCache and readAhead are for what comes back from the bucket.
	blockCache = 16 * mib
	indexCache = 4 * mib
	readAhead  = 16 * mib
	// uploads is what objects under way hold, and the clouds' SDKs.
	uploads = 32 * mib
	// overhead is the program, 500 connections, and what the collector has not
	// collected yet.
	overhead = 160 * mib
	mostRSS  = requestMemory + responseMemory + walMemory + recompression + blockCache + indexCache + readAhead + uploads + overhead
)

// TestMemoryStaysInItsBudgets floods a server that the kernel ends if it uses
// more than its budgets come to. An ordinary client goes on meanwhile, and finds
// all that it was acked.
func TestMemoryStaysInItsBudgets(t *testing.T) {
	group, why := newCgroup(t, mostRSS)
	if group == nil {
		t.Logf("no control group can be made (%v): the process is measured instead", why)
	}
	d := newDrill(t, t.TempDir()+"/data", (*server).kill)
	d.set = []string{
		"network.request_memory=32MiB", "network.response_memory=32MiB", "network.connection_memory=16MiB",
		"network.max_frame=16MiB", "network.max_connections=500", "wal.memory=32MiB", "wal.segment_size=16MiB", "wal.capacity=2GiB",
		"cache.capacity=16MiB", "cache.indexes=4MiB", "cache.read_ahead=16MiB",
	}
	s := startIn(t, group, d.bin, d.dir, d.set...)
	t.Cleanup(s.kill)
	addr := s.address(t)
	d.board.connect(addr)
	must(t, d.create(d.lasting.topic))
	writer, err := newProducer(d.board, d.lasting, 1, 500, true)
	must(t, err)
	t.Cleanup(writer.drop)

	f := newFlood(t, addr)
	f.ballast(64)
	for range 60 {
		f.keep(f.stall)
		f.keep(f.deafFetch)
		f.keep(f.pipeline)
	}
	var bombs sync.WaitGroup
	for range 60 {
		bombs.Go(func() { f.bomb("lz4", 3) })
		bombs.Go(func() { f.bomb("uncompressed", 3) })
		bombs.Go(f.garbage)
	}
	bombs.Wait()
	f.end()

	select {
	case <-s.ended:
		killed := int64(0)
		if group != nil {
			killed, _ = group.killed()
		}
		t.Fatalf("the server ended under the flood (%d processes ended for want of memory):\n%s", killed, s.log.String())
	default:
	}
	rss, err := field(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid), "VmHWM")
	must(t, err)
	rss *= 1024
	if group != nil {
		killed, err := group.killed()
		must(t, err)
		peak, err := group.highest()
		must(t, err)
		t.Logf("control group: peak %d MiB of %d, %d processes ended", peak/mib, mostRSS/mib, killed)
		if killed > 0 {
			t.Error("the kernel ended a process for want of memory")
		}
	}
	t.Logf("RSS at its highest %d MiB of %d; %d bombs were answered, %d bytes taken of clients that read nothing", rss/mib, int64(mostRSS)/mib, f.answered.Load(), f.written.Load())
	if rss > mostRSS {
		t.Errorf("RSS was %d MiB, the budgets come to %d", rss/mib, int64(mostRSS)/mib)
	}
	if f.answered.Load() == 0 {
		t.Error("no bomb was answered: the flood has not reached what it aims at")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := writer.finish(ctx); err != nil {
		t.Fatalf("what the ordinary client sent was not acked within a minute: %v\n%s", err, s.log.String())
	}
	must(t, readAll(ctx, d.board, d.lasting))
	if found := d.lasting.found(); len(found) > 0 {
		t.Error(strings.Join(found, "\n"))
	}
	acked, _ := d.lasting.counts()
	t.Logf("%d records of the ordinary client were acked, and are there", acked)
}

// flood is clients that mean no good.
type flood struct {
	t        *testing.T
	addr     string
	ctx      context.Context
	stop     context.CancelFunc
	clients  sync.WaitGroup
	bombs    map[string][]byte // produce requests, by topic
	plain    []byte            // a produce request of incompressible records
	answered atomic.Int64
	written  atomic.Int64
}

func newFlood(t *testing.T, addr string) *flood {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &flood{t: t, addr: addr, ctx: ctx, stop: stop, bombs: map[string][]byte{}}
	t.Cleanup(f.end)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	must(t, err)
	defer cl.Close()
	for _, codec := range []string{"producer", "lz4", "uncompressed"} {
		_, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{"compression.type": &codec}, codec)
		must(t, err)
		// As much as a batch may expand to, in some 6 KiB.
		f.bombs[codec] = produceFrame(t, codec, batch.Zstd, make([]byte, 60*mib))
	}
	noise := make([]byte, 900<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	f.plain = produceFrame(t, "producer", batch.None, noise)
	return f
}

// produceFrame is a request that brings one record.
func produceFrame(t *testing.T, topic string, codec batch.Codec, value []byte) []byte {
	t.Helper()
	b := batch.NewBuilder(batch.BuilderOptions{Codec: codec})
	b.Add(time.Now().UnixMilli(), nil, value)
	built, err := b.Build()
	must(t, err)
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = 9, 1, 60_000
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = built
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, part)
	q.Topics = append(q.Topics, rt)
	return kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)
}

// keep runs a client again and again until the flood ends.
func (f *flood) keep(client func()) {
	f.clients.Go(func() {
		for f.ctx.Err() == nil {
			client()
		}
	})
}

func (f *flood) end() {
	f.stop()
	f.clients.Wait()
}

// dial connects until the flood ends; nil: it was refused.
func (f *flood) dial() net.Conn {
	conn, err := (&net.Dialer{}).DialContext(f.ctx, "tcp", f.addr)
	if err != nil {
		return nil
	}
	context.AfterFunc(f.ctx, func() { _ = conn.Close() })
	return conn
}

// send writes until the server takes no more for a while.
func (f *flood) send(conn net.Conn, b []byte) bool {
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	n, err := conn.Write(b)
	f.written.Add(int64(n))
	return err == nil
}

// ballast produces n batches of 900 KiB for others to fetch.
func (f *flood) ballast(n int) {
	conn := f.dial()
	defer conn.Close()
	for range n {
		if !f.send(conn, f.plain) || !receive(conn) {
			f.t.Fatal("ballast was not taken")
		}
	}
}

// receive takes one answer.
func receive(conn net.Conn) bool {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return false
	}
	_, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:])))
	return err == nil
}

// stall sends all but the end of the largest frame, and waits to be cut.
func (f *flood) stall() {
	conn := f.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	frame := make([]byte, 16*mib)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	if f.send(conn, frame[:len(frame)-1]) {
		_, _ = conn.Read(frame[:1]) // the server's patience ends it
	}
}

// deafFetch asks for everything, many times, and takes nothing.
func (f *flood) deafFetch() {
	conn := f.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	q := kmsg.NewPtrFetchRequest()
	q.Version, q.MaxWaitMillis, q.MinBytes, q.MaxBytes, q.SessionEpoch = 11, 60_000, 50*mib, 55*mib, -1
	part := kmsg.NewFetchRequestTopicPartition()
	part.PartitionMaxBytes, part.FetchOffset = 55*mib, rand.Int64N(64)
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = "producer", append(rt.Partitions, part)
	q.Topics = append(q.Topics, rt)
	var frames []byte
	for i := range int32(100) {
		frames = append(frames, kmsg.NewRequestFormatter().AppendRequest(nil, q, i)...)
	}
	f.send(conn, frames)
	<-f.ctx.Done()
}

// pipeline sends produce requests that are refused, and takes no answer.
func (f *flood) pipeline() {
	conn := f.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	damaged := append([]byte(nil), f.plain...)
	damaged[len(damaged)-10] ^= 1 // its CRC does not hold
	for f.send(conn, damaged) && f.ctx.Err() == nil {
	}
}

// bomb produces batches that expand to what a batch may, one after the other.
func (f *flood) bomb(topic string, times int) {
	conn := f.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	for range times {
		if !f.send(conn, f.bombs[topic]) || !receive(conn) {
			return
		}
		f.answered.Add(1)
	}
}

// garbage sends what is no request.
func (f *flood) garbage() {
	for range 50 {
		conn := f.dial()
		if conn == nil {
			return
		}
		_, _ = io.CopyN(conn, rand.NewChaCha8([32]byte{2}), 64<<10)
		_ = conn.Close()
	}
}
