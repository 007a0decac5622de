package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Replication.

// agree is where two histories agree: above it, the follower's is another log.
func (s *simulation) agree(leader, follower History) storage.Offset {
	at := func(h History, offset storage.Offset) storage.Epoch {
		epoch := storage.NoEpoch
		for _, e := range h.Epochs {
			if e.Start <= offset {
				epoch = e.Epoch
			}
		}
		return epoch
	}
	for x := min(leader.End, follower.End); x > follower.HighWatermark; x-- {
		if e := at(leader, x-1); e != storage.NoEpoch && e == at(follower, x-1) {
			return x
		}
	}
	if follower.HighWatermark > leader.End {
		s.fatalf("the follower has committed more than the leader has: %+v and %+v", follower, leader)
	}
	return follower.HighWatermark
}

// replicate does the next step of a stream.
func (s *simulation) replicate(leader, follower *simNode) {
	l, f := leader.log.History(), follower.log.History()
	key := [2]int32{leader.id, follower.id}
	if !l.Leads || f.Leads || f.Epoch != l.Epoch {
		return
	}
	now := simStream{l.Epoch, leader.life, follower.life}
	if s.streams[key] != now {
		s.cut(key)
		if s.open(leader, follower, l, f) {
			s.streams[key] = now
		}
		return
	}
	r, err := leader.log.Read(ReadRequest{Offset: f.End, MaxBytes: 1 + s.rng.IntN(2000), MinOne: true, Isolation: LogEnd})
	if errors.As(err, new(*NotLocalError)) || errors.As(err, new(*OffsetOutOfRangeError)) {
		s.cut(key) // it was given up meanwhile
		return
	}
	if err != nil || r.Epoch != l.Epoch {
		s.fatalf("node %d: read at %d for node %d: epoch %d, %v; %+v", leader.id, f.End, follower.id, r.Epoch, err, l)
	}
	var records []byte
	for _, b := range r.Batches {
		records = append(records, b...)
	}
	hw := r.HighWatermark
	r.Release()
	if len(records) > 0 {
		s.note("node %d to %d: %d bytes at %d, hw %d", leader.id, follower.id, len(records), f.End, hw)
		if err := follower.store.AdmitReplica(context.Background(), len(records)); err != nil {
			s.fatalf("node %d: %v", follower.id, err)
		}
		to := &simReplicated{s, simConfirm{follower: follower.id, followerLife: follower.life}}
		if err := follower.log.AppendReplicated(records, l.Epoch, to); err != nil {
			s.fatalf("node %d: %v; %+v", follower.id, err, follower.log.History())
		}
	}
	if err := follower.log.SetHighWatermark(hw, l.Epoch); err != nil {
		s.fatalf("node %d: %v", follower.id, err)
	}
}

// simReplicated sends confirmations.
type simReplicated struct {
	s *simulation
	c simConfirm
}

func (r *simReplicated) Replicated(_ storage.Offset, err error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.c.err = err
	r.s.acks = append(r.s.acks, r.c)
}

// open begins a stream: the follower's log becomes a part of the leader's. false: not yet.
func (s *simulation) open(leader, follower *simNode, l, f History) bool {
	at := s.agree(l, f)
	s.note("node %d to %d: %+v and %+v agree to %d", leader.id, follower.id, l, f, at)
	switch {
	case at < l.LocalStart || f.HighWatermark > f.End: // its producers are not of this leader
		s.met("began anew")
		if l.LocalStart < f.LogStart {
			return false // until the leader learns of the log start
		}
		state, at, err := leader.log.ReplicaState()
		if err == nil {
			err = follower.log.Restart(at, state, l.Epoch)
		}
		if errors.As(err, new(*OffsetOutOfRangeError)) && !slices.Contains(s.image.inSync, follower.id) {
			follower.seen = at // what it gives up, the leader has or nobody
			err = follower.log.RestartDiscarding(at, state, l.Epoch)
		}
		if err != nil {
			s.fatalf("node %d begins anew: %v; %+v", follower.id, err, f)
		}
		follower.seen = max(follower.seen, at)
	case at < f.End:
		s.met("truncated")
		if err := follower.log.TruncateTo(at, l.Epoch); err != nil {
			s.fatalf("node %d: %v", follower.id, err)
		}
	}
	if err := leader.log.Confirm(follower.id, follower.log.History().Synced, l.Epoch); err != nil {
		s.fatalf("node %d: %v", leader.id, err)
	}
	return true
}

// deliver brings confirmations and answers.
func (s *simulation) deliver() {
	s.mu.Lock()
	acks, answers := s.acks, s.answers
	s.acks, s.answers = nil, nil
	s.mu.Unlock()
	for _, c := range acks {
		// What came by an older stream is on disk all the same; as it was on its way, the
		// log may have been shortened, so it is asked anew.
		for key, stream := range s.streams {
			leader, follower := s.nodes[key[0]], s.nodes[key[1]]
			if c.err != nil || key[1] != c.follower || stream.follower != c.followerLife || !leader.up || !follower.up {
				continue
			}
			if err := leader.log.Confirm(c.follower, follower.log.Progress().Synced, stream.epoch); err != nil {
				s.fatalf("node %d: %v", leader.id, err)
			}
		}
	}
	for _, a := range answers {
		s.answered(a)
	}
}

// grow proposes a follower that has caught up for those in sync, for one life of it, on top
// of those that the leader knows of, and one at a time.
func (s *simulation) grow(leader, follower *simNode) {
	l := leader.log.History()
	stream := s.streams[[2]int32{leader.id, follower.id}]
	if !l.Leads || l.Epoch != s.image.epoch || !slices.Equal(leader.told.inSync, s.image.inSync) || slices.Contains(s.image.inSync, follower.id) || stream != (simStream{l.Epoch, leader.life, follower.life}) {
		return
	}
	leader.log.mu.Lock()
	confirmed, start := leader.log.replica.other(follower.id).synced, leader.log.replica.start
	leader.log.mu.Unlock()
	if confirmed < max(l.HighWatermark, start) {
		return
	}
	leader.log.SetReplicas(Replicas{InSync: without3(leader.told.inSync, leader.id), Pending: []int32{follower.id}})
	s.decide(func(i *simImage) { i.inSync = append(i.inSync, follower.id) })
}

// shrink takes a follower out of those in sync.
func (s *simulation) shrink(leader, follower *simNode) {
	if l := leader.log.History(); l.Leads && l.Epoch == s.image.epoch && slices.Contains(s.image.inSync, follower.id) {
		s.decide(func(i *simImage) { i.inSync = without3(i.inSync, follower.id) })
	}
}

// leads reports whether the controller would have the broker lead as it does.
func (s *simulation) leads(n *simNode) bool {
	return s.image.leader == n.id && n.log.Progress().Epoch == s.image.epoch
}

// upload has the bucket have some more, if the leader is the controller's.
func (s *simulation) upload(n *simNode) {
	h := n.log.History()
	if !h.Leads || h.Epoch != s.image.epoch {
		return
	}
	point, err := n.log.UploadPoint(true)
	if err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	end, _ := n.log.Extent(point.From, point.HighWatermark, int64(1+s.rng.IntN(3000)))
	if end > s.image.uploaded && point.From <= s.image.uploaded {
		s.decide(func(i *simImage) { i.uploaded = end })
	}
}

func (s *simulation) deleteRecords(n *simNode) {
	h := n.log.History()
	if h.Leads && h.Epoch == s.image.epoch && h.HighWatermark > s.image.logStart {
		to := s.image.logStart + 1 + storage.Offset(s.rng.Int64N(int64(h.HighWatermark-s.image.logStart)))
		s.decide(func(i *simImage) { i.logStart = to })
	}
}

// Producers.

func (s *simulation) produce(p *simProducer, n *simNode) {
	h := n.log.History()
	if !h.Leads {
		return
	}
	if p.node != int(n.id) || p.life != n.life || p.epoch != h.Epoch { // it begins with what is not answered
		p.node, p.life, p.epoch = int(n.id), n.life, h.Epoch
		for _, b := range p.unacked {
			s.send(p, n, b)
		}
	}
	if p.transactional && len(p.unacked) == 0 && p.open && s.rng.IntN(3) == 0 && p.marker == nil {
		p.marker = &simBatch{}
	}
	if p.marker != nil {
		s.sendMarker(p, n)
		return
	}
	if len(p.unacked) >= 3 || p.batches <= 0 {
		return
	}
	p.batches--
	o := batch.BuilderOptions{Transactional: p.transactional, Producer: &batch.Producer{ID: p.id, BaseSequence: p.next}}
	w := batch.NewBuilder(o)
	records := 1 + s.rng.IntN(3)
	for i := range records {
		w.Add(int64(i), nil, fmt.Appendf(make([]byte, s.rng.IntN(200)), "%d/%d", p.id, p.next))
	}
	built, err := w.Build()
	if err != nil {
		s.fatalf("%v", err)
	}
	b := &simBatch{sequence: p.next, bytes: built, base: storage.NoOffset}
	p.next += int32(records)
	p.unacked = append(p.unacked, b)
	s.send(p, n, b)
}

func (s *simulation) send(p *simProducer, n *simNode, b *simBatch) {
	answer := simAnswer{node: int(n.id), life: n.life, current: s.leads(n) && p.unacked[0] == b, producer: p, batch: b}
	raw := bytes.Clone(b.bytes)
	o := AppendOptions{Epoch: p.epoch}
	if p.transactional {
		g, _, err := n.log.BeginVerification(p.id, 0, b.sequence)
		if err != nil {
			s.fatalf("node %d: %v", n.id, err)
		}
		o.Guard, p.open = g, true
	}
	if err := n.store.Admit(context.Background(), len(raw)); err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	n.log.Append(sentAt, raw, o, &simAppended{s, answer})
}

func (s *simulation) sendMarker(p *simProducer, n *simNode) {
	answer := simAnswer{node: int(n.id), life: n.life, current: s.leads(n), producer: p, batch: p.marker, marker: true}
	m := Marker{ProducerID: p.id, CoordinatorEpoch: 3, Commit: p.next%2 == 0}
	n.log.AppendMarker(context.Background(), sentAt, m, MarkerOptions{Epoch: p.epoch}, &simAppended{s, answer})
}

type simAppended struct {
	s *simulation
	a simAnswer
}

func (r *simAppended) Appended(result AppendResult) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.a.result = result
	r.s.answers = append(r.s.answers, r.a)
}

func (s *simulation) answered(a simAnswer) {
	n, p, b := s.nodes[a.node], a.producer, a.batch
	if n.life != a.life || !n.up {
		return // nobody hears it
	}
	if err := a.result.Err; err != nil {
		retriable := errors.Is(err, ErrNotLeader) || errors.Is(err, ErrNotEnoughReplicas) || errors.Is(err, ErrNotEnoughReplicasAfterAppend) || errors.Is(err, ErrBehindRefused) || errors.Is(err, ErrUnverified)
		if !retriable && (a.current || !errors.Is(err, ErrOutOfOrderSequence)) && !b.acked {
			s.fatalf("node %d answers sequence %d of producer %d, marker %v: %v; %+v", a.node, b.sequence, p.id, a.marker, err, n.log.History())
		}
		s.met("refused")
		if errors.Is(err, ErrNotEnoughReplicasAfterAppend) {
			s.met("refused after the append")
		}
		p.node = -1 // it begins again
		return
	}
	if a.result.Duplicate {
		s.met("a duplicate")
	}
	if n.told.epoch < s.image.epoch {
		s.met("answered by an old leader")
	}
	if b.acked && b.base != a.result.Base {
		s.fatalf("sequence %d of producer %d was answered with %d, and then with %d", b.sequence, p.id, b.base, a.result.Base)
	}
	if b.acked {
		return
	}
	b.acked, b.base = true, a.result.Base
	s.met("acked")
	s.note("node %d acks producer %d, sequence %d, at %d", a.node, p.id, b.sequence, b.base)
	if hw := n.log.HighWatermark(); a.result.Last >= hw {
		s.fatalf("node %d acks %d, and is committed to %d", a.node, a.result.Last, hw)
	}
	s.compare(n) // what was acked is committed
	if a.marker {
		p.open, p.marker = false, nil
		return
	}
	if i := slices.Index(p.unacked, b); i >= 0 {
		p.unacked = slices.Delete(p.unacked, i, i+1)
	}
}
