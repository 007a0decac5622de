package client

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refusals remembers what brokers have said of records that they refused (KIP-467): franz-go
// tells the code alone. It listens on the connections of a client.
type refusals struct {
	mu   sync.Mutex
	said map[int16]string // the last words by code; guarded by mu
}

// why is what a broker has said with the code of err; "": nothing.
func (r *refusals) why(err error) string {
	code, is := errors.AsType[*kerr.Error](err)
	if r == nil || !is {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said[code.Code]
}

// largestRefusal is the longest answer that is looked into: one names a hundred records at most.
const largestRefusal = 1 << 20

// watch returns conn, on which is listened.
func (r *refusals) watch(conn net.Conn) net.Conn {
	return &watched{Conn: conn, refusals: r, asked: map[int32]int16{}}
}

// watched is a connection of Kafka's protocol. One goroutine reads from it.
type watched struct {
	net.Conn
	refusals *refusals

	mu    sync.Mutex
	asked map[int32]int16 // versions of Produce under way, by correlation id; guarded by mu

	frame []byte // of the answer that is being read: its size, and as much of it as is wanted
	left  int    // bytes of it that are to come and are not wanted
}

// Write implements net.Conn: franz-go writes a request by one call.
func (w *watched) Write(b []byte) (int, error) {
	// size, api key, version, correlation id
	if len(b) >= 12 && int(binary.BigEndian.Uint32(b)) == len(b)-4 && kmsg.Key(binary.BigEndian.Uint16(b[4:])) == kmsg.Produce {
		w.mu.Lock()
		w.asked[int32(binary.BigEndian.Uint32(b[8:]))] = int16(binary.BigEndian.Uint16(b[6:]))
		w.mu.Unlock()
	}
	return w.Conn.Write(b)
}

// Read implements net.Conn.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		rest = w.take(rest)
	}
	return n, err
}

// take reads on in the answer, and returns what is of the next.
func (w *watched) take(b []byte) []byte {
	const head = 8 // size and correlation id
	switch {
	case w.left > 0:
		n := min(w.left, len(b))
		w.left -= n
		return b[n:]
	case len(w.frame) < head:
		n := min(head-len(w.frame), len(b))
		w.frame = append(w.frame, b[:n]...)
		if len(w.frame) == head && (!w.wanted() || w.size() < 4) {
			w.left, w.frame = max(w.size()-4, 0), w.frame[:0]
		}
		return b[n:]
	}
	n := min(4+w.size()-len(w.frame), len(b))
	w.frame = append(w.frame, b[:n]...)
	if len(w.frame) == 4+w.size() {
		w.look()
		w.frame = w.frame[:0]
	}
	return b[n:]
}

func (w *watched) size() int { return int(int32(binary.BigEndian.Uint32(w.frame))) }

func (w *watched) correlation() int32 { return int32(binary.BigEndian.Uint32(w.frame[4:])) }

// wanted tells whether the answer that begins is one to Produce.
func (w *watched) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, is := w.asked[w.correlation()]
	return is && w.size() > 4 && w.size() <= largestRefusal
}

// look remembers what an answer to Produce says.
func (w *watched) look() {
	w.mu.Lock()
	version := w.asked[w.correlation()]
	delete(w.asked, w.correlation())
	w.mu.Unlock()
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	body := w.frame[8:]
	if resp.IsFlexible() {
		if len(body) == 0 || body[0] != 0 { // tags in the header, of which there are none today
			return
		}
		body = body[1:]
	}
	if resp.ReadFrom(body) != nil {
		return // franz-go says so
	}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			text := ""
			if p.ErrorMessage != nil {
				text = *p.ErrorMessage
			}
			for _, record := range p.ErrorRecords {
				if record.ErrorMessage != nil && *record.ErrorMessage != "" {
					text = *record.ErrorMessage
					break
				}
			}
			if p.ErrorCode != 0 && text != "" {
				w.refusals.mu.Lock()
				w.refusals.said[p.ErrorCode] = text
				w.refusals.mu.Unlock()
			}
		}
	}
}
