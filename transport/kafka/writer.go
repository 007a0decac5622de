package kafka

import (
	"net"
	"runtime"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// writer is what the goroutine that sends answers keeps. It runs only while
// there is something to send, so that an idle connection has one goroutine.
type writer struct {
	bufs     net.Buffers
	step     net.Buffers // a part of bufs; WriteTo consumes it
	deadline time.Time   // of writes, as set
}

// write sends the answers that are ready, and returns when none is.
func (c *Conn) write() {
	defer c.writers.Done()
	for {
		first, bytes := c.takeReady()
		if first == nil {
			return
		}
		w := &c.out
		w.bufs = w.bufs[:0]
		for r := first; r != nil; r = r.next {
			if !r.silent {
				w.bufs = append(w.bufs, r.bufs...)
			}
		}
		var err error
		if len(w.bufs) > 0 {
			err = c.send(w.bufs, bytes)
		}
		clear(w.bufs)
		if err != nil {
			c.end(reasonOf(err), err)
			c.mu.Lock()
			c.ended = true // what follows half an answer would be read as its rest
			c.mu.Unlock()
		}
		c.sent(first, bytes, err == nil)
	}
}

// takeReady takes the answers that are next, about a write step of them. When
// there is none the writer has ended.
func (c *Conn) takeReady() (first *Request, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last *Request
	for r := c.head; r != nil && bytes < writeStep && guard.Check("kafka.answer-order", r.answered); r = r.next {
		last = r
		bytes += r.bytes
	}
	if last == nil || c.ended {
		c.writing = false
		return nil, 0
	}
	first = c.head
	c.head = last.next
	last.next = nil
	if c.head == nil {
		c.tail = nil
	}
	return first, bytes
}

// sent lets go of answers that were written, or never will be.
func (c *Conn) sent(first *Request, bytes int64, ok bool) {
	c.server.unsent.Add(-bytes)
	var now time.Time
	if c.server.timed {
		now = time.Now()
	}
	n := 0
	for r := first; r != nil; n++ {
		next := r.next
		if ok && c.server.timed && !r.silent {
			c.server.timer.Answered(r.Key, r.done.Sub(r.Received), now.Sub(r.done))
		}
		if r.reserved != 0 {
			c.server.answers.give(r.reserved)
		}
		if r.release != nil {
			r.release()
		}
		r.recycle()
		r = next
	}
	c.mu.Lock()
	c.pending -= n
	c.unsent -= bytes
	wake := c.waits
	c.mu.Unlock()
	if wake {
		c.signal()
	}
	if ok && bytes > 0 {
		c.server.metrics.Sent(bytes)
	}
}

// send writes the buffers, of so many bytes, a step at a time: the deadline is for
// progress, and for the whole of a large answer only while memory for answers is short.
func (c *Conn) send(bufs net.Buffers, bytes int64) error {
	paced := time.Now().Add(c.server.limits.WriteTimeout + time.Duration(bytes/slowestAnswer)*time.Second)
	for len(bufs) > 0 {
		step := c.out.step[:0]
		size := 0
		for len(bufs) > 0 && size < writeStep {
			b := bufs[0]
			if len(b) > writeStep-size {
				step = append(step, b[:writeStep-size])
				bufs[0] = b[writeStep-size:]
				break
			}
			step = append(step, b)
			size += len(b)
			bufs = bufs[1:]
		}
		c.out.step = step
		if err := c.writeDeadline(paced); err != nil {
			return err
		}
		var err error
		if c.info.Transport == "tcp" {
			_, err = c.out.step.WriteTo(c.net)
		} else {
			err = c.sendJoined(step)
		}
		c.out.step = step
		clear(step)
		if err != nil {
			return err
		}
		if len(bufs) > 0 {
			// A client on a fast line takes all that there is: who produces, or reads the tail,
			// is not to wait until a large answer is sent.
			runtime.Gosched()
		}
	}
	return nil
}

// writeDeadline gives the next write at least three quarters of its time, but while
// memory is short not more than until paced.
func (c *Conn) writeDeadline(paced time.Time) error {
	now := time.Now()
	timeout := c.server.limits.WriteTimeout
	at := c.out.deadline
	if at.Sub(now) < timeout/4*3 {
		at = now.Add(timeout)
	}
	if !guard.Check("kafka.answer-pace", paced.After(at) || !c.server.answersShort()) {
		at = paced
	}
	if at.Equal(c.out.deadline) {
		return nil
	}
	c.out.deadline = at
	return c.net.SetWriteDeadline(at)
}

// sendJoined writes small buffers together where there is no gather write: each
// Write of TLS is a record, and of QUIC a frame.
func (c *Conn) sendJoined(bufs net.Buffers) error {
	if len(bufs) == 1 {
		_, err := c.net.Write(bufs[0])
		return err
	}
	class, size := classOf(joinedWrite)
	scratch := getBuffer(joinedWrite, class, size)
	defer putBuffer(scratch, class)
	joined := (*scratch)[:0]
	flush := func() error {
		if len(joined) == 0 {
			return nil
		}
		_, err := c.net.Write(joined)
		joined = joined[:0]
		return err
	}
	for _, b := range bufs {
		if len(joined)+len(b) <= joinedWrite {
			joined = append(joined, b...)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if len(b) < joinedWrite {
			joined = append(joined, b...)
			continue
		}
		if _, err := c.net.Write(b); err != nil {
			return err
		}
	}
	return flush()
}
