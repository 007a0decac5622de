package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/bench/floor"
)

// maxCommitted bounds a request to the committing server.
const maxCommitted = 64 << 20

// committing is a server that does with records what no broker that syncs can leave out: it
// receives a produce request into memory, has it written and synced with whatever else
// came meanwhile, and answers. It looks at no record, keeps no offset and gives nothing back;
// what else a client asks is answered by kfake, whose connections it wraps.
type committing struct {
	net.Listener
	loops []*floor.Loop // each has every byte: as many as there are replicas
}

// startBare starts one in a process of its own.
func startBare(copies int) (*process, error) {
	return startPeer("a bare server that commits", "committing", "-copies", strconv.Itoa(copies))
}

// startCommitting serves until the process ends; its files are in dir.
func startCommitting(dir string, copies int) (addr string, err error) {
	s := &committing{}
	for i := range copies {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o755); err != nil {
			return "", err
		}
		loop, err := floor.OpenLoop(own, walCapacity)
		if err != nil {
			return "", err
		}
		s.loops = append(s.loops, loop)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		var err error
		s.Listener, err = net.Listen(network, address)
		return s, err
	}))
	if err != nil {
		return "", err
	}
	return cluster.ListenAddrs()[0], nil
}

// Accept implements net.Listener.
func (s *committing) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &committingConn{Conn: conn, server: s, in: bufio.NewReaderSize(conn, 64<<10), ready: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.answer() // ends with the connection
	return c, nil
}

// committingConn is one of its connections. Produce requests never leave Read; a client that
// sends others between them, of which none here does, may be answered out of order.
type committingConn struct {
	net.Conn
	server *committing
	in     *bufio.Reader
	frame  []byte // of the goroutine that reads
	left   []byte // of frame: what goes to kfake

	mu      sync.Mutex
	answers []byte // guarded by mu: of what is on disk
	failed  error  // guarded by mu
	ready   chan struct{}
	ended   chan struct{}
	once    sync.Once
}

// Read implements net.Conn with what is no produce request.
func (c *committingConn) Read(b []byte) (int, error) {
	for len(c.left) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}

// next reads a frame, and takes it if it is a produce request.
func (c *committingConn) next() error {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size < 12 || size > maxCommitted {
		return fmt.Errorf("a request of %d bytes", size)
	}
	if cap(c.frame) < 4+size {
		c.frame = make([]byte, 4+size)
	}
	c.frame = c.frame[:4+size]
	copy(c.frame, head[:])
	if _, err := io.ReadFull(c.in, c.frame[4:]); err != nil {
		return err
	}
	if kmsg.Key(binary.BigEndian.Uint16(c.frame[4:])) != kmsg.Produce {
		c.left = c.frame
		return nil
	}
	answer, err := acknowledge(c.frame[4:])
	if err != nil {
		return err
	}
	w := &committedRequest{conn: c, answer: answer, left: len(c.server.loops)}
	for _, loop := range c.server.loops {
		if err := loop.Append(c.frame, w); err != nil { // which copies
			return err
		}
	}
	return nil
}

// acknowledge encodes the answer to a produce request that goes well.
func acknowledge(request []byte) ([]byte, error) {
	version, correlation := int16(binary.BigEndian.Uint16(request[2:])), request[4:8]
	body := 10 + int(max(0, int16(binary.BigEndian.Uint16(request[8:])))) // behind the client's id
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(version)
	if q.IsFlexible() {
		body++ // no tags
	}
	if body > len(request) {
		return nil, errors.New("a produce request ends in its header")
	}
	if err := q.ReadFrom(request[body:]); err != nil {
		return nil, err
	}
	p := kmsg.NewPtrProduceResponse()
	p.SetVersion(version)
	for i := range q.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = q.Topics[i].Topic, q.Topics[i].TopicID
		for j := range q.Topics[i].Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition = q.Topics[i].Partitions[j].Partition
			topic.Partitions = append(topic.Partitions, part)
		}
		p.Topics = append(p.Topics, topic)
	}
	answer := append(make([]byte, 4, 128), correlation...)
	if p.IsFlexible() {
		answer = append(answer, 0)
	}
	answer = p.AppendTo(answer)
	binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
	return answer, nil
}

// committedRequest is answered when the last loop has it on disk.
type committedRequest struct {
	conn   *committingConn
	answer []byte
	mu     sync.Mutex
	left   int // guarded by mu
}

// Committed implements floor.Completion.
func (r *committedRequest) Committed(err error) {
	r.mu.Lock()
	r.left--
	last := r.left == 0
	r.mu.Unlock()
	c := r.conn
	c.mu.Lock()
	c.failed = errors.Join(c.failed, err)
	if last {
		c.answers = append(c.answers, r.answer...)
	}
	c.mu.Unlock()
	if last {
		select {
		case c.ready <- struct{}{}:
		default:
		}
	}
}

// answer sends answers, those that came meanwhile in one write. It blocks on the client.
func (c *committingConn) answer() {
	var out []byte
	for {
		select {
		case <-c.ready:
		case <-c.ended:
			return
		}
		c.mu.Lock()
		out, c.answers = c.answers, out[:0]
		failed := c.failed
		c.mu.Unlock()
		if failed == nil {
			_, failed = c.Write(out)
		}
		if failed != nil {
			_ = c.Close()
			return
		}
	}
}

// Close implements net.Conn.
func (c *committingConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}
