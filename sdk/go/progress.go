package rustmq

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// topicPartition names a partition.
type topicPartition struct {
	topic     string
	partition int32
}

// progress knows what of each partition was handed out, what of it is done, and up to where
// all is: that may be committed. It does no I/O, and is safe for concurrent use.
//
// A span is a stretch of a partition without a break: where the partition is revoked, or
// another position is sought, the span ends, and what is done of it later counts for nothing.
type progress struct {
	mu    sync.Mutex
	spans map[topicPartition]*span
}

type span struct {
	p       *progress
	of      topicPartition
	slots   []slot // in order of offset; those before the first that is not done are gone
	room    []slot // what slots began in when they last were none: they begin there again
	first   int64  // number of slots[0]
	next    kgo.EpochOffset
	moved   bool // next was not taken for a commit yet
	running int  // handlers that are at work
	ended   bool
	sought  bool          // ended by another position, not by a revocation
	gone    chan struct{} // closed once ended
	idle    chan struct{} // closed once ended and running is 0
}

type slot struct {
	offset int64
	epoch  int32
	done   bool
}

func newProgress() *progress { return &progress{spans: map[topicPartition]*span{}} }

// add notes records of one partition that were handed out, at least one, in their order, and returns
// the place of the first; the others' follow.
func (p *progress) add(records ...*Record) (*span, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := topicPartition{records[0].Topic, records[0].Partition}
	s := p.spans[of]
	if s == nil {
		s = &span{p: p, of: of, gone: make(chan struct{}), idle: make(chan struct{})}
		p.spans[of] = s
	}
	place := s.first + int64(len(s.slots))
	anew := len(s.slots) == 0
	if anew {
		s.slots = s.room[:0]
	}
	s.slots = slices.Grow(s.slots, len(records))
	for _, r := range records {
		s.slots = append(s.slots, slot{offset: r.Offset, epoch: r.LeaderEpoch})
	}
	if anew {
		s.room = s.slots
	}
	return s, place
}

// begin reports whether the span still counts, and if so that a handler is at work.
func (s *span) begin() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.ended {
		return false
	}
	s.running++
	return true
}

// end says that the handler of begin is not at work any more.
func (s *span) end() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.running--; s.ended && s.running == 0 {
		close(s.idle)
	}
}

// done says that the records of n places, from one on, are handled. The span may end while a handler is
// at work, and what that has done before idle is closed counts.
func (s *span) done(place, n int64) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	// Places before the first were done before.
	for i := max(0, place-s.first); i < min(place-s.first+n, int64(len(s.slots))); i++ {
		s.slots[i].done = true
	}
	through := 0
	for through < len(s.slots) && s.slots[through].done {
		through++
	}
	if through == 0 {
		return
	}
	last := s.slots[through-1]
	s.next, s.moved = kgo.EpochOffset{Epoch: last.epoch, Offset: last.offset + 1}, true
	s.slots, s.first = s.slots[through:], s.first+int64(through)
}

func (s *span) isEnded() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.ended
}

// mayCommit reports whether the position of a message of the span may be committed by hand:
// who revokes waits for handlers.
func (s *span) mayCommit() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return !s.ended || !s.sought && s.running > 0
}

// close ends the spans of some partitions, which take no part in take any more.
func (p *progress) close(of map[string][]int32, sought bool) []*span {
	p.mu.Lock()
	defer p.mu.Unlock()
	var closed []*span
	for topic, partitions := range of {
		for _, partition := range partitions {
			if s := p.spans[topicPartition{topic, partition}]; s != nil {
				p.finish(s, sought)
				closed = append(closed, s)
			}
		}
	}
	return closed
}

// closeAll ends all spans.
func (p *progress) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.spans {
		p.finish(s, false)
	}
}

func (p *progress) finish(s *span, sought bool) {
	delete(p.spans, s.of)
	s.ended, s.sought = true, sought
	close(s.gone)
	if s.running == 0 {
		close(s.idle)
	}
}

// offsets maps partitions to what is to be committed, as franz-go takes it.
type offsets map[string]map[int32]kgo.EpochOffset

func (o offsets) set(of topicPartition, at kgo.EpochOffset) {
	if o[of.topic] == nil {
		o[of.topic] = map[int32]kgo.EpochOffset{}
	}
	o[of.topic][of.partition] = at
}

// take returns what has moved since the last take.
func (p *progress) take() offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := offsets{}
	for of, s := range p.spans {
		if s.moved {
			s.moved = false
			taken.set(of, s.next)
		}
	}
	return taken
}

// final returns what has moved of spans that are closed.
func (p *progress) final(spans []*span) offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := offsets{}
	for _, s := range spans {
		if s.moved {
			s.moved = false
			taken.set(s.of, s.next)
		}
	}
	return taken
}

// restore has what could not be committed taken again.
func (p *progress) restore(o offsets) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, partitions := range o {
		for partition := range partitions {
			if s := p.spans[topicPartition{topic, partition}]; s != nil {
				s.moved = true
			}
		}
	}
}

// rewound ends the spans of which something was handed out that is not handled, and returns
// where to read on.
func (p *progress) rewound() offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	back := offsets{}
	for _, s := range p.spans {
		if len(s.slots) > 0 {
			back.set(s.of, kgo.EpochOffset{Epoch: -1, Offset: s.slots[0].offset})
			p.finish(s, true)
		}
	}
	return back
}
