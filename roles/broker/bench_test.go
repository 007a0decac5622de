package broker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// pipelined is a client that sends frames made before and counts answers.
type pipelined struct {
	conn   net.Conn
	in     *bufio.Reader
	length [4]byte
}

func dial(t testing.TB, addr string) *pipelined {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &pipelined{conn: conn, in: bufio.NewReaderSize(conn, 1<<20)}
}

// skip reads one answer and forgets it.
func (p *pipelined) skip() error {
	if _, err := io.ReadFull(p.in, p.length[:]); err != nil {
		return err
	}
	_, err := p.in.Discard(int(binary.BigEndian.Uint32(p.length[:])))
	return err
}

// Allocations are those of the whole process: broker, transport, log and WAL,
// and none of the client's.
func BenchmarkProduce(b *testing.B) {
	for _, records := range []int{1, 64} {
		for _, partitions := range []int{1, 16} {
			b.Run(fmt.Sprintf("records=%d/partitions=%d", records, partitions), func(b *testing.B) {
				n := startNode(b)
				n.controller.createTopic("events", int32(partitions))
				l := listenLoopback(b)
				n.serve(l)
				n.settle(b.Context())
				value := strings.Repeat("v", 1024)
				values := make([]string, records)
				for i := range values {
					values[i] = value
				}
				q := produceTo("events", 0, -1, batchOf(b, values...))
				for p := 1; p < partitions; p++ {
					part := q.Topics[0].Partitions[0]
					part.Partition = int32(p)
					q.Topics[0].Partitions = append(q.Topics[0].Partitions, part)
				}
				q.Version = 9
				frame := kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)
				p := dial(b, l.Addr().String())
				b.SetBytes(int64(records * partitions * 1024))
				b.ReportAllocs()
				window := make(chan struct{}, 64)
				failed := make(chan error, 1)
				b.ResetTimer()
				go func() {
					var err error
					for range b.N {
						if err == nil {
							err = p.skip()
						}
						<-window
					}
					failed <- err
				}()
				trim := 0
				for range b.N {
					window <- struct{}{}
					if _, err := p.conn.Write(frame); err != nil {
						b.Fatal(err)
					}
					if trim += len(frame); trim > 16<<20 {
						trim = 0
						b.StopTimer()
						n.deleteAll(b, "events")
						b.StartTimer()
					}
				}
				if err := <-failed; err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				n.Broker.Close()
			})
		}
	}
}

// deleteAll makes room in the WAL.
func (n *node) deleteAll(b *testing.B, topic string) {
	b.Helper()
	tp := n.table.byName([]byte(topic))
	for _, p := range *tp.partitions.Load() {
		l, _, err := p.leading()
		if err == nil {
			err = l.SetLogStart(l.HighWatermark())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, partitions := range []int{1, 1000} {
		for _, kind := range []string{"sessionless", "session"} {
			b.Run(fmt.Sprintf("partitions=%d/%s", partitions, kind), func(b *testing.B) {
				n := startNode(b)
				n.controller.createTopic("events", int32(partitions))
				l := listenLoopback(b)
				n.serve(l)
				n.settle(b.Context())
				n.connect().produce("events", 0, strings.Repeat("v", 1024))
				q := fetchFrom("events", 0, 0, 0)
				for i := 1; i < partitions; i++ {
					with(q, int32(i))
				}
				p := dial(b, l.Addr().String())
				format := kmsg.NewRequestFormatter()
				ask := func(frame []byte) {
					if _, err := p.conn.Write(frame); err != nil {
						b.Fatal(err)
					}
					if err := p.skip(); err != nil {
						b.Fatal(err)
					}
				}
				q.Version = 12
				frame := format.AppendRequest(nil, q, 1)
				epochAt := 0
				if kind == "session" {
					inSession(q, 0, 0)
					ask(format.AppendRequest(nil, q, 1))
					c := n.connections
					c.mu.Lock()
					var id int32
					for _, found := range c.all {
						for _, s := range found.sessions {
							id = s.id
						}
					}
					c.mu.Unlock()
					again := next(id, 1, time.Millisecond)
					again.Version = 12
					frame = format.AppendRequest(nil, again, 1)
					epochAt = len(frame) - len(again.AppendTo(nil)) + 4 + 4 + 4 + 4 + 1 + 4
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					if epochAt > 0 {
						binary.BigEndian.PutUint32(frame[epochAt:], uint32(i+1))
					}
					ask(frame)
				}
				b.StopTimer()
			})
		}
	}
}
