package rustmq

import (
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
	pieces  []piece // of what was handed out, in order; records before the first that is not done are gone
	room    []piece // what pieces began in when they last were none: they begin there again
	first   int64   // place of the first record of pieces
	count   int64   // of their records
	ahead   marks   // places that are done, behind one that is not
	next    kgo.EpochOffset
	moved   bool // next was not taken for a commit yet
	running int  // handlers that are at work
	ended   bool
	sought  bool          // ended by another position, not by a revocation
	gone    chan struct{} // closed once ended
	idle    chan struct{} // closed once ended and running is 0
}

// piece is n records of one leader epoch that follow each other without a hole.
type piece struct {
	offset int64
	epoch  int32
	n      int64
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
	place := s.first + s.count
	// Offsets and epochs of a partition do not go back.
	if first, last := records[0], records[len(records)-1]; last.Offset-first.Offset == int64(len(records)-1) && first.LeaderEpoch == last.LeaderEpoch {
		s.hand(first, int64(len(records)))
	} else {
		for _, r := range records {
			s.hand(r, 1)
		}
	}
	return s, place
}

// hand notes n records from r on, which follow each other.
func (s *span) hand(r *Record, n int64) {
	s.count += n
	if i := len(s.pieces) - 1; i >= 0 && s.pieces[i].epoch == r.LeaderEpoch && s.pieces[i].offset+s.pieces[i].n == r.Offset {
		s.pieces[i].n += n
		return
	}
	anew := len(s.pieces) == 0
	if anew {
		s.pieces = s.room[:0]
	}
	s.pieces = append(s.pieces, piece{r.Offset, r.LeaderEpoch, n})
	if anew {
		s.room = s.pieces
	}
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
	from, to := max(place, s.first), min(place+n, s.first+s.count)
	if from >= to {
		return
	}
	if from > s.first || s.ahead.to > s.first {
		s.ahead.mark(from, to, s.first)
		to = s.ahead.through(s.first)
	}
	if to > s.first {
		s.advance(to - s.first)
	}
}

// advance gives up the first n records, which are done.
func (s *span) advance(n int64) {
	s.first, s.count = s.first+n, s.count-n
	for n > 0 {
		p := &s.pieces[0]
		some := min(n, p.n)
		p.offset, p.n, n = p.offset+some, p.n-some, n-some
		s.next, s.moved = kgo.EpochOffset{Epoch: p.epoch, Offset: p.offset}, true
		if p.n == 0 {
			s.pieces = s.pieces[1:]
		}
	}
}

// marks are places that are marked, from one on.
type marks struct {
	words []uint64
	from  int64 // place of the first bit
	to    int64 // behind the last place that is marked
}

const wordBits = 64

// mark marks the places from..to. None before first is asked for any more.
func (m *marks) mark(from, to, first int64) {
	if m.to <= first {
		m.words, m.from = m.words[:0], first
	}
	if gone := (first - m.from) / wordBits; gone > 0 {
		m.words, m.from = append(m.words[:0], m.words[gone:]...), m.from+gone*wordBits
	}
	for int64(len(m.words))*wordBits < to-m.from {
		m.words = append(m.words, 0)
	}
	for at := from - m.from; at < to-m.from; at++ {
		m.words[at/wordBits] |= 1 << (at % wordBits)
	}
	m.to = max(m.to, to)
}

// through is the first place from one on that is not marked.
func (m *marks) through(place int64) int64 {
	for place < m.to && m.words[(place-m.from)/wordBits]&(1<<((place-m.from)%wordBits)) != 0 {
		place++
	}
	return place
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
		if s.count > 0 {
			back.set(s.of, kgo.EpochOffset{Epoch: -1, Offset: s.pieces[0].offset})
			p.finish(s, true)
		}
	}
	return back
}
