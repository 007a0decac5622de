package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// The simulation: three brokers with a log of one partition each, over disks that lose
// their power; a controller that elects among those in sync; followers that replicate by
// what the room offers; producers that send until they are answered. What a broker knows
// of the controller may be old: it goes on leading until it is told.

// simNode is a broker.
type simNode struct {
	id    int32
	mem   *disk.Mem
	fs    *hookedFS
	let   func() // lets the held syncs go
	store *Store
	log   *Log
	up    bool
	life  int // grows with every start
	told  simImage
	seen  storage.Offset // below it, what is committed here was compared
}

// simImage is what the controller has decided.
type simImage struct {
	epoch              storage.Epoch
	leader             int32 // -1: none
	inSync             []int32
	logStart, uploaded storage.Offset
	version            int
}

// simStream is from a leader to a follower, of one life of each and one epoch.
type simStream struct {
	epoch                storage.Epoch
	leaderLife, follower int
}

// simProducer sends its batches in order, at most three at a time.
type simProducer struct {
	id            int64
	transactional bool
	next          int32
	unacked       []*simBatch
	node, life    int // it sent to last
	epoch         storage.Epoch
	open          bool // a transaction
	marker        *simBatch
	batches       int
}

type simBatch struct {
	sequence int32
	bytes    batch.Batch
	acked    bool
	base     storage.Offset
}

// simAnswer comes back from a broker.
type simAnswer struct {
	node, life int
	current    bool // the broker led the newest epoch as it was sent
	producer   *simProducer
	batch      *simBatch
	marker     bool
	result     AppendResult
}

type simulation struct {
	t         *testing.T
	rng       *rand.Rand
	minInSync int
	nodes     [3]*simNode
	image     simImage // the controller's
	streams   map[[2]int32]simStream
	producers []*simProducer
	committed map[storage.Offset]batch.Batch // by base offset: what some high watermark has passed
	trace     []string
	count     map[string]int

	mu      sync.Mutex // guards what brokers say
	answers []simAnswer
	acks    []simConfirm
}

type simConfirm struct {
	follower     int32
	followerLife int
	err          error
}

func (s *simulation) fatalf(format string, args ...any) {
	s.t.Helper()
	for _, line := range s.trace[max(0, len(s.trace)-60):] {
		s.t.Log(line)
	}
	s.t.Fatalf(format, args...)
}

func (s *simulation) met(what string) { s.count[what]++ }

func (s *simulation) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *simulation) options(n *simNode) Options {
	o := Options{FS: n.fs, Dir: "wal", Now: func() time.Time { return sentAt }, Tiered: true}
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 2<<20, 64<<10, 16<<10, 4<<20
	return o
}

var simPartition = partition(topicA, 0)

func (s *simulation) start(n *simNode) {
	n.fs = &hookedFS{FS: n.mem}
	var err error
	if n.store, err = Open(context.Background(), s.options(n)); err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	if n.log, err = n.store.Create(simPartition, Config{MinInSync: s.minInSync}); err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	if err := n.log.Err(); err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	n.up, n.told, n.seen = true, simImage{leader: -1, version: -1}, 0
	n.life++
	s.hold(n)
	if h := n.log.History(); n.log.asOf > h.End {
		s.met("started between a state and what it is as of")
	} else if h.End > h.HighWatermark {
		s.met("started with a tail")
	}
	s.note("node %d starts: %+v", n.id, n.log.History())
}

// hold has nothing reach the disk until the next sync.
func (s *simulation) hold(n *simNode) {
	gate := make(chan struct{})
	hook := func() error { <-gate; return nil }
	n.fs.beforeSync.Store(&hook)
	fs := n.fs
	n.let = sync.OnceFunc(func() {
		fs.beforeSync.Store(nil)
		close(gate)
	})
}

// sync has all that was appended reach the disk.
func (s *simulation) sync(n *simNode) {
	n.let()
	if err := n.store.Flush(context.Background()); err != nil {
		s.fatalf("node %d: %v", n.id, err)
	}
	s.hold(n)
}

// roomy makes sure that what comes does not wait for room, which comes with a sync.
func (s *simulation) roomy(of ...*simNode) {
	const enough = 64 << 10
	for _, n := range of {
		for n.up && !n.store.TryAdmit(enough) {
			s.sync(n)
			n.let()
			if err := n.store.Admit(context.Background(), enough); err != nil {
				s.fatalf("node %d: %v", n.id, err)
			}
			n.store.Unadmit(enough)
			s.hold(n)
		}
		if n.up {
			n.store.Unadmit(enough)
		}
	}
}

func (s *simulation) crash(n *simNode) {
	how := "is killed"
	var left *disk.Mem
	if s.rng.IntN(2) == 0 {
		how, left = "loses its power", n.mem.Crash(s.rng)
	} else {
		left = n.mem.Clone()
	}
	s.note("node %d %s: %+v", n.id, how, n.log.History())
	n.up = false
	n.let()
	_ = n.store.Close()
	n.mem = left
	for key := range s.streams {
		if key[0] == n.id || key[1] == n.id {
			s.cut(key)
		}
	}
}

// cut ends a stream: the leader forgets what the follower confirmed.
func (s *simulation) cut(key [2]int32) {
	delete(s.streams, key)
	if leader := s.nodes[key[0]]; leader.up {
		leader.log.Forget(key[1])
	}
}

// The controller.

func (s *simulation) decide(change func(i *simImage)) {
	s.image.inSync = slices.Clone(s.image.inSync)
	change(&s.image)
	s.image.version++
	s.note("image %+v", s.image)
}

// elect gives the partition to another leader of those in sync that are up; they have
// another epoch.
func (s *simulation) elect() {
	var may []int32
	for _, id := range s.image.inSync {
		if s.nodes[id].up {
			may = append(may, id)
		}
	}
	if len(may) == 0 {
		s.decide(func(i *simImage) { i.leader = -1 })
		return
	}
	s.decide(func(i *simImage) { i.epoch, i.leader = i.epoch+1, may[s.rng.IntN(len(may))] })
}

// fence takes a broker that is down out of those in sync, if others are left.
func (s *simulation) fence(id int32) {
	if others := without3(s.image.inSync, id); len(others) > 0 && slices.ContainsFunc(others, func(o int32) bool { return s.nodes[o].up }) {
		s.decide(func(i *simImage) { i.inSync = others })
	}
	if s.image.leader == id {
		s.elect()
	}
}

func without3(of []int32, id int32) []int32 {
	return slices.DeleteFunc(slices.Clone(of), func(o int32) bool { return o == id })
}

// tell has a broker carry out what the controller has decided.
func (s *simulation) tell(n *simNode) {
	i, was := s.image, n.told
	if was.version == i.version {
		return
	}
	n.told = i
	must := func(what string, err error) {
		if err != nil {
			s.fatalf("node %d: %s at %+v: %v; %+v", n.id, what, i, err, n.log.History())
		}
	}
	if i.leader != n.id { // nobody may lead
		must("follow", n.log.BecomeFollower(i.epoch))
	} else if was.epoch != i.epoch {
		n.log.Resign()
	}
	must("log start", n.log.SetLogStart(i.logStart))
	must("uploaded", n.log.SetUploaded(i.uploaded))
	if i.leader == n.id {
		n.log.SetReplicas(Replicas{InSync: without3(i.inSync, n.id)})
		first := was.epoch != i.epoch
		must("lead", n.log.BecomeLeader(i.epoch))
		if first {
			s.met("led")
			if _, err := n.log.Latest(); errors.Is(err, ErrOffsetNotAvailable) {
				s.met("led without knowing what is committed")
			}
			s.checkLeader(n)
		}
	}
	for key, stream := range s.streams {
		if (key[0] == n.id || key[1] == n.id) && stream.epoch != i.epoch {
			s.cut(key)
		}
	}
	s.note("node %d has image %d: %+v", n.id, i.version, n.log.History())
}

// checkLeader: what was committed is in the log of who is elected, or in the bucket.
func (s *simulation) checkLeader(n *simNode) {
	local, end := n.log.LocalStart(), n.log.End()
	for base, want := range s.committed {
		if base < max(local, s.image.logStart) {
			continue
		}
		r, err := n.log.Read(ReadRequest{Offset: base, MinOne: true, Isolation: LogEnd})
		if err != nil || len(r.Batches) != 1 || !bytes.Equal(r.Batches[0], want) {
			s.fatalf("node %d leads epoch %d, [%d, %d), without the batch at %d, which was committed: %v", n.id, n.told.epoch, local, end, base, err)
		}
		r.Release()
	}
}

// compare: what is committed here is what is committed everywhere.
func (s *simulation) compare(n *simNode) {
	at := max(n.seen, n.log.LocalStart(), n.log.LogStart())
	for {
		r, err := n.log.Read(ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOne: true})
		if err != nil {
			s.fatalf("node %d: read at %d: %v; %+v", n.id, at, err, n.log.History())
		}
		if len(r.Batches) == 0 {
			break
		}
		for _, raw := range r.Batches {
			b := batch.Batch(raw)
			known, ok := s.committed[b.BaseOffset()]
			if ok && !bytes.Equal(known, b) {
				s.fatalf("node %d: at %d another batch is committed, of epoch %d, was %d", n.id, b.BaseOffset(), b.LeaderEpoch(), known.LeaderEpoch())
			}
			if !ok {
				for base, other := range s.committed {
					if base < b.NextOffset() && other.NextOffset() > b.BaseOffset() {
						s.fatalf("node %d: [%d, %d) is committed, was [%d, %d)", n.id, b.BaseOffset(), b.NextOffset(), base, other.NextOffset())
					}
				}
				s.committed[b.BaseOffset()] = bytes.Clone(b)
			}
			at = b.NextOffset()
		}
		r.Release()
	}
	n.seen = at
}

// The run.

func (s *simulation) step() {
	n, o := s.nodes[s.rng.IntN(3)], s.nodes[s.rng.IntN(3)]
	if !n.up {
		if s.rng.IntN(4) == 0 {
			s.start(n)
			if s.image.leader == n.id || s.image.leader < 0 { // another registration
				s.elect()
			}
		}
		return
	}
	s.roomy(n, o)
	switch at := s.rng.IntN(100); {
	case at < 25:
		s.produce(s.producers[s.rng.IntN(len(s.producers))], n)
	case at < 55 && o != n && o.up:
		s.replicate(n, o)
	case at < 70:
		s.sync(n)
	case at < 80:
		s.tell(n)
	case at < 84 && o != n && o.up:
		s.grow(n, o)
	case at < 85 && o != n:
		s.shrink(n, o)
	case at < 88:
		s.upload(n)
	case at < 90:
		if err := n.store.Evict(context.Background()); err != nil {
			s.fatalf("node %d: %v", n.id, err)
		}
	case at < 91:
		s.deleteRecords(n)
	case at < 92 && o != n:
		s.cut([2]int32{n.id, o.id})
	case at < 94 && s.image.leader >= 0:
		s.elect()
	case at < 96:
		s.crash(n)
		if s.rng.IntN(2) == 0 {
			s.fence(n.id)
		}
	case at < 97:
		s.fence(n.id) // it was thought to be down
	}
	if s.rng.IntN(3) > 0 {
		s.deliver()
	}
	if n.up {
		s.compare(n)
	}
}

// settle brings everybody up, and everything to everybody.
func (s *simulation) settle(done func() bool) {
	for _, n := range s.nodes {
		if !n.up {
			s.start(n)
			if s.image.leader == n.id {
				s.elect()
			}
		}
	}
	if s.image.leader < 0 {
		s.elect()
	}
	for range 400 {
		s.roomy(s.nodes[:]...)
		for _, n := range s.nodes {
			s.tell(n)
			s.sync(n)
		}
		s.deliver()
		if s.image.leader < 0 {
			s.fatalf("nobody can lead: %+v", s.image)
		}
		leader := s.nodes[s.image.leader]
		for _, f := range s.nodes {
			if f != leader {
				s.replicate(leader, f)
				s.sync(f)
				s.deliver()
				s.grow(leader, f)
			}
		}
		if done() {
			return
		}
	}
	for _, n := range s.nodes {
		s.note("node %d: %+v", n.id, n.log.History())
	}
	s.fatalf("it does not settle: %+v", s.image)
}

func (s *simulation) level() bool {
	leader := s.nodes[s.image.leader].log
	for _, n := range s.nodes {
		if n.log.End() != leader.End() || n.log.HighWatermark() != leader.End() || n.told.version != s.image.version {
			return false
		}
	}
	return len(s.image.inSync) == 3
}

func (s *simulation) run(steps int) {
	for i := range s.nodes {
		s.nodes[i] = &simNode{id: int32(i), mem: disk.NewMem(disk.MemOptions{})}
		s.start(s.nodes[i])
		s.sync(s.nodes[i]) // or a power cut makes it another log, which none in sync may have
	}
	defer func() {
		for _, n := range s.nodes {
			if n.up {
				n.let()
				_ = n.store.Close()
			}
		}
	}()
	s.image = simImage{epoch: 0, leader: -1, inSync: []int32{0, 1, 2}}
	s.elect()
	for range steps {
		s.step()
	}
	s.settle(s.level)
	leader := s.nodes[s.image.leader]
	s.settle(func() bool {
		left := 0
		for _, p := range s.producers {
			p.batches = 0
			if left += len(p.unacked); len(p.unacked) > 0 || p.marker != nil {
				s.produce(p, leader)
			}
			if p.marker != nil {
				left++
			}
		}
		return left == 0 && s.level()
	})
	s.check()
}

// check: at the end all know the same, and each batch is there once, in the order its
// producer sent them.
func (s *simulation) check() {
	leader := s.nodes[s.image.leader].log
	for _, n := range s.nodes {
		s.compare(n)
		if want, got := remembered(leader), remembered(n.log); !slices.Equal(got, want) {
			s.fatalf("node %d remembers %+v, the leader %+v", n.id, got, want)
		}
		if got, want := n.log.LastStable(), leader.LastStable(); got != want {
			s.fatalf("node %d is stable to %d, the leader to %d", n.id, got, want)
		}
		from := max(n.log.LocalStart(), leader.LocalStart())
		ours, _ := n.log.Aborted(from, leader.End())
		theirs, _ := leader.Aborted(from, leader.End())
		if !slices.Equal(ours, theirs) {
			s.fatalf("node %d knows as aborted %+v, the leader %+v", n.id, ours, theirs)
		}
	}
	var bases []storage.Offset
	for base := range s.committed {
		bases = append(bases, base)
	}
	slices.Sort(bases)
	next := map[int64]int32{}
	for _, base := range bases {
		b := s.committed[base]
		if b.IsControl() {
			continue
		}
		if b.BaseSequence() != next[b.ProducerID()] {
			s.fatalf("at %d: sequence %d of producer %d, want %d", base, b.BaseSequence(), b.ProducerID(), next[b.ProducerID()])
		}
		next[b.ProducerID()] = b.LastSequence() + 1
	}
	for _, p := range s.producers {
		if next[p.id] != p.next {
			s.fatalf("producer %d sent to %d, %d is committed", p.id, p.next, next[p.id])
		}
	}
}

// TestReplicatedLogsLoseNothingThatWasAcked, whatever crashes, is cut off, or leads on
// without knowing better.
func TestReplicatedLogsLoseNothingThatWasAcked(t *testing.T) {
	rng := newRand(t)
	runs := 300
	if raceEnabled {
		runs = 20
	}
	count := map[string]int{}
	for range runs {
		own := rng.Uint64()
		s := &simulation{
			t: t, rng: rand.New(rand.NewPCG(own, 7)), minInSync: 1 + rng.IntN(2),
			streams: map[[2]int32]simStream{}, committed: map[storage.Offset]batch.Batch{}, count: count,
		}
		for id := range int64(4) {
			s.producers = append(s.producers, &simProducer{id: id + 1, transactional: id >= 2, node: -1, batches: 40})
		}
		s.run(400)
	}
	t.Logf("%d runs met %v", runs, count)
	for _, what := range []string{"acked", "led", "truncated", "began anew", "a duplicate", "refused"} {
		if count[what] == 0 {
			t.Fatalf("nothing %s: the test shows nothing", what)
		}
	}
}
