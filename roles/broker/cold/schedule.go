package cold

import (
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// schedule begins the loads that there are slots and memory for: first what
// requests wait for, one consumer after the other, then what is read ahead, the
// same way. Reader.mu is held, as everywhere here.
func (r *Reader) schedule() {
	if r.closed {
		return
	}
	r.loadDemands()
	if len(r.demanding) == 0 {
		r.loadAhead()
	}
}

// waits reports whether the pace has all reading wait, and if so has schedule called when
// it is over: what is waited for then goes first.
func (r *Reader) waits() bool {
	if r.o.Pace == nil || len(r.demanding) == 0 && len(r.hungry) == 0 {
		return false
	}
	wait := r.o.Pace.Delay()
	if !guard.Check("cold.pace", wait <= 0) {
		r.later(wait)
		return true
	}
	return false
}

// demand queues what a stream waits for.
func (r *Reader) demand(s *stream) {
	if s.queued {
		return
	}
	c := s.consumer
	s.queued = true
	c.demands = append(c.demands, s)
	if !c.demanding {
		c.demanding = true
		r.demanding = append(r.demanding, c)
	}
}

// hunger queues a stream that may read further ahead.
func (r *Reader) hunger(s *stream) {
	if s.hungry || s.gone || r.sated(s) {
		return
	}
	c := s.consumer
	s.hungry = true
	c.hungry = append(c.hungry, s)
	if !c.waiting {
		c.waiting = true
		r.hungry = append(r.hungry, c)
	}
}

// loadDemands begins what is waited for. One that does not fit yet holds up the
// others, so that small ones do not starve a large one.
func (r *Reader) loadDemands() {
	for guard.Check("cold.parallel", r.running < r.o.Parallel) && len(r.demanding) > 0 && !r.waits() {
		c := r.demanding[0]
		var s *stream
		for len(c.demands) > 0 {
			if s = c.demands[0]; s.waits != nil && s.waits.state == wanted {
				break
			}
			s.queued = false
			c.demands, s = c.demands[1:], nil
		}
		if s == nil {
			c.demanding, r.demanding = false, r.demanding[1:]
			continue
		}
		if !r.makeRoom(s.waits) {
			r.again()
			return
		}
		s.queued = false
		c.demands = c.demands[1:]
		r.demanding = append(r.demanding[1:], c)
		of := &flight{}
		r.board(of, s.waits)
		r.launch(of)
	}
}

// loadAhead begins what is read ahead, within what is left.
func (r *Reader) loadAhead() {
	for r.running < r.o.aheadSlots() && len(r.hungry) > 0 && !r.waits() {
		c := r.hungry[0]
		if len(c.hungry) == 0 {
			c.waiting, r.hungry = false, r.hungry[1:]
			continue
		}
		s := c.hungry[0]
		it, full := r.nextAhead(s)
		switch {
		case full:
			return
		case it == nil:
			s.hungry = false
			c.hungry = c.hungry[1:]
		default:
			r.hungry = append(r.hungry[1:], c)
			c.hungry = append(c.hungry[1:], s)
			of := &flight{}
			for ; it != nil; it = r.follow(s, of) {
				r.board(of, it)
			}
			r.launch(of)
		}
	}
}

// nextAhead returns what a stream reads ahead next. nil: nothing now; full: for
// want of memory.
func (r *Reader) nextAhead(s *stream) (it *item, full bool) {
	if s.gone || r.sated(s) {
		return nil, false
	}
	if it, full = r.nextIndex(s); it != nil || full {
		return it, full
	}
	for e := range s.ranges.From(s.cursor) {
		w := wantIndex(s.id, &e)
		x, here := r.find(&w)
		if !here {
			return r.afford(s, x)
		}
		r.hold(s, x)
		if x.state == loading {
			return nil, false // when it ends, the stream is hungry again
		}
		l := x.layout
		for i := l.Find(max(s.cursor, e.Base)); i < len(l.Blocks); i = l.Find(s.cursor) {
			of := w.piece(l, l.pieceOf(i))
			_, size, first, next := l.place(int(of.key.piece))
			if s.beyond(first) || s.distance > 0 && s.distance+size > s.window {
				return nil, false
			}
			// Before the cache is asked: that counts as use.
			if wanting, full := r.wanting(s, size); wanting {
				return nil, full
			}
			p, here := r.find(&of)
			if !here {
				if it, full = r.afford(s, p); it == nil {
					return nil, full
				}
			} else if p.state == loading || p.charge > 0 {
				r.hold(s, p)
			} else {
				p.pass()
			}
			s.cursor, s.distance = next, s.distance+size
			if it != nil {
				return it, false
			}
		}
		s.cursor = e.End
	}
	return nil, false
}

// wanting reports whether there is too little memory to read ahead for a stream, of
// its consumer's share or (full) of all: for less than a request it is not worth it, or
// each piece that is let go of would bring a request for one.
func (r *Reader) wanting(s *stream, piece int64) (wanting, full bool) {
	need := costOf(max(piece, r.request(s)))
	switch {
	case !r.shares(s, need):
		return true, false
	case r.used[poolData]+need > r.limit[poolData]:
		return true, true
	}
	return false, false
}

// follow returns the piece behind the last of a flight, if the stream reads that ahead
// too; nil: it does not, or not by this request.
func (r *Reader) follow(s *stream, of *flight) *item {
	w := of.items[len(of.items)-1].want
	if w.key.isIndex() || int(w.key.piece)+1 == len(w.layout.pieces) {
		return nil
	}
	w.key.piece++
	_, size, first, next := w.layout.place(int(w.key.piece))
	if of.size+size > r.request(s) || s.distance+size > s.window || s.beyond(first) || r.used[poolData]+size > r.limit[poolData] {
		return nil
	}
	it, here := r.find(&w)
	if here {
		it.pass()
		return nil
	}
	if it, _ = r.afford(s, it); it != nil {
		s.cursor, s.distance = next, s.distance+size
	}
	return it
}

// nextIndex returns an index that the stream will need soon.
func (r *Reader) nextIndex(s *stream) (it *item, full bool) {
	n, bytes := 0, int64(0)
	for e := range s.ranges.From(s.cursor) {
		if n == indexesAhead || bytes > s.window || s.beyond(e.Base) {
			break
		}
		n++
		bytes += e.Bytes
		if e.End <= s.indexed {
			continue
		}
		w := wantIndex(s.id, &e)
		x, here := r.find(&w)
		if !here {
			if it, full = r.afford(s, x); it == nil {
				return nil, full
			}
		} else if x.state == loading {
			r.hold(s, x)
		}
		s.indexed = e.End
		if it != nil {
			return it, false
		}
	}
	return nil, false
}

// beyond reports whether an offset is not the bucket's to give.
func (s *stream) beyond(o storage.Offset) bool { return s.until > 0 && o >= s.until }

// afford gives an item to a stream that reads ahead, if its consumer's share
// allows it and there is memory.
func (r *Reader) afford(s *stream, it *item) (_ *item, full bool) {
	if !r.shares(s, r.cost(it)) {
		return nil, false
	}
	if !r.room(it) {
		return nil, true
	}
	r.hold(s, it)
	return it, false
}

// shares reports whether a stream's consumer may have so much memory more.
func (r *Reader) shares(s *stream, more int64) bool {
	return guard.Check("cold.share", s.consumer.held+more <= r.share())
}

// share is how much memory each consumer may have.
func (r *Reader) share() int64 { return r.o.ReadAhead / int64(max(1, len(r.consumers))) }

// costOf is the most that data of so many bytes takes.
func costOf(size int64) int64 { return size + size/8 + overhead }

// cost is what an item is charged until it is known what it takes: the most that
// this can be. What is larger than all of its pool gets all of it.
func (r *Reader) cost(it *item) int64 {
	most := costOf(it.size)
	if it.key.isIndex() {
		most = indexGrowth*it.size + overhead
	}
	return min(most, r.limit[it.pool()])
}

func (r *Reader) room(it *item) bool {
	return guard.Check("cold.budget", r.used[it.pool()]+r.cost(it) <= r.limit[it.pool()])
}

// again has schedule look later whether memory can be had: when what was brought
// for others has been left for long enough.
func (r *Reader) again() { r.later(grace) }

// later has schedule look after a while.
func (r *Reader) later(wait time.Duration) {
	if r.retry != nil {
		r.retry.Reset(wait)
		return
	}
	r.retry = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.unlock()
		r.schedule()
	})
}

// makeRoom takes memory from others, if need be, for what somebody waits for.
func (r *Reader) makeRoom(of *item) bool {
	for !r.room(of) {
		it := r.spare(of.pool())
		if it == nil {
			return false
		}
		for len(it.holders) > 0 {
			s := it.holders[0]
			if !it.used {
				s.retreat(it)
			}
			r.drop(s, it)
		}
		r.stats.Reclaimed++
	}
	return true
}

// Classes of what can be done without, the best first.
const (
	spareAhead    = iota // no request came to it: from who has the most, what is furthest ahead
	spareUsed            // what was given out, or an index by which a piece is being read; kept for more of it
	spareForsaken        // what was brought for somebody who does not come for it
	spareNone
)

// spare returns the item of a pool that can best be done without; nil: none.
func (r *Reader) spare(pool int) (best *item) {
	now := r.o.Now()
	class, held, read := spareNone, int64(0), time.Time{}
	for _, it := range r.items {
		if it.pool() != pool || it.state != loaded || it.charge == 0 {
			continue
		}
		c, h, t := it.spare(now)
		better := c < class
		if c == class && c == spareAhead {
			better = h > held || h == held && it.first > best.first
		} else if c == class && c != spareNone {
			better = t.Before(read)
		}
		if better {
			best, class, held, read = it, c, h, t
		}
	}
	return best
}

// spare says how well an item can be done without: its class, the most that one
// of its consumers holds, and when one of its streams was read last.
func (it *item) spare(now time.Time) (class int, held int64, read time.Time) {
	waited := false
	for _, s := range it.holders {
		waited = waited || s.waits == it || it.key.isIndex() && s.layoutOf(&it.want) == nil
		held = max(held, s.consumer.held)
		if s.read.After(read) {
			read = s.read
		}
	}
	switch {
	case !it.used:
		class = spareAhead
	case !waited:
		class = spareUsed
	case now.Sub(it.loaded) >= grace && now.Sub(read) >= grace:
		class = spareForsaken
	default:
		class = spareNone
	}
	return class, held, read
}
