package async

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// clientID is what brokers are told of who asks.
	clientID = "rustmq-etl"
	// maxAnswer bytes of an answer are believed; a batch comes whole, however large.
	maxAnswer = 128 << 20
)

// errLineEnded is in the error of what had no answer when a line ended.
var errLineEnded = errors.New("the connection ended")

// line is one connection to a broker: requests go out in the order of asking, and answers
// come in that order.
type line struct {
	conn   net.Conn
	format *kmsg.RequestFormatter
	room   func(int) []byte // for an answer

	mu      sync.Mutex // guards all below, and the order of writes
	frame   []byte
	next    int32
	waiting []*call // in order
	err     error   // why nothing is asked any more
}

type call struct {
	id      int32
	request kmsg.Request
	records []byte // of a Produce to one partition, flexible, that has none; nil: they are in it
	answer  kmsg.Response
	err     error
	done    chan struct{}
}

// newLine takes over a connection. A goroutine reads it until it ends; room makes room for
// each answer.
func newLine(conn net.Conn, room func(int) []byte) *line {
	l := &line{conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)), room: room}
	go l.read() // blocks on the connection
	return l
}

// ask sends a request and waits for its answer, which lies in the room that was made. What
// has no answer may have had an effect.
func (l *line) ask(ctx context.Context, q kmsg.Request) (kmsg.Response, error) {
	return l.askWith(ctx, q, nil)
}

// askWith is ask for a Produce whose records are not in q.
func (l *line) askWith(ctx context.Context, q kmsg.Request, records []byte) (kmsg.Response, error) {
	c := &call{request: q, records: records, done: make(chan struct{})}
	if err := l.send(c); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", kmsg.NameForKey(q.Key()), err)
	}
	select {
	case <-c.done:
		if c.err != nil {
			return nil, fmt.Errorf("ask for %s: %w", kmsg.NameForKey(q.Key()), c.err)
		}
		return c.answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the answer to %s: %w", kmsg.NameForKey(q.Key()), ctx.Err())
	}
}

func (l *line) send(c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.next++
	c.id = l.next
	l.waiting = append(l.waiting, c)
	l.frame = l.format.AppendRequest(l.frame[:0], c.request, c.id)
	err := l.write(c.records)
	if cap(l.frame) > keptFrame {
		l.frame = nil
	}
	if err != nil {
		_ = l.conn.Close() // which read is told of, and all that wait by it
	}
	return nil
}

// write writes the frame, of a Produce with records that are not in it yet: they are large,
// and go as they are.
func (l *line) write(records []byte) error {
	if records == nil {
		_, err := l.conn.Write(l.frame)
		return err
	}
	// Behind them stand the tags of partition, topic and request: none.
	const tags = 3
	l.frame = binary.AppendUvarint(l.frame[:len(l.frame)-tags-1], uint64(len(records))+1)
	binary.BigEndian.PutUint32(l.frame, uint32(len(l.frame)-4+len(records)+tags))
	for _, part := range [][]byte{l.frame, records, make([]byte, tags)} {
		if _, err := l.conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// keptFrame bytes are kept for the next request.
const keptFrame = 64 << 10

// read reads answers until the connection ends.
func (l *line) read() {
	var err error
	for err == nil {
		err = l.readOne()
	}
	_ = l.conn.Close()
	l.mu.Lock()
	l.err = fmt.Errorf("%w: %w", errLineEnded, err)
	left := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, c := range left {
		c.err = l.err
		close(c.done)
	}
}

func (l *line) readOne() error {
	var head [8]byte
	if _, err := io.ReadFull(l.conn, head[:]); err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	id := int32(binary.BigEndian.Uint32(head[4:]))
	l.mu.Lock()
	var c *call
	if len(l.waiting) > 0 {
		c = l.waiting[0]
	}
	l.mu.Unlock()
	if c == nil || c.id != id || size < 0 || size > maxAnswer {
		return fmt.Errorf("an answer of %d bytes to request %d that nobody waits for", size, id)
	}
	body := l.room(int(size))
	if _, err := io.ReadFull(l.conn, body); err != nil {
		return err
	}
	p := c.request.ResponseKind()
	p.SetVersion(c.request.GetVersion())
	fields := kbin.Reader{Src: body}
	if p.IsFlexible() {
		kmsg.SkipTags(&fields)
	}
	err := p.ReadFrom(fields.Src)
	if err != nil {
		err = fmt.Errorf("read the answer: %w", err)
	}
	c.answer, c.err = p, err
	l.mu.Lock()
	l.waiting = l.waiting[1:]
	l.mu.Unlock()
	close(c.done)
	return err
}

// ended reports whether nothing can be asked any more.
func (l *line) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// close ends the line; what waits has no answer.
func (l *line) close() { _ = l.conn.Close() } // an end is what is wanted
