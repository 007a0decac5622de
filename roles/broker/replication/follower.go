package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// FollowerOptions of a [Follower].
type FollowerOptions struct {
	Self  func() rpc.Incarnation // this broker's registration
	Store *log.Store
	// Await returns once metadata of that offset, or later, is carried out.
	Await func(ctx context.Context, offset uint64) error
	// Registered is the epoch under which a broker is registered by the metadata that is
	// carried out; false: it is not.
	Registered func(broker int32) (epoch int64, ok bool)
	// Following returns the log of a partition, and whom and which epoch it follows by the
	// metadata that is carried out; nil: none.
	Following func(id storage.PartitionID) (l *log.Log, leader int32, epoch storage.Epoch)
	// Counted reports whether this broker is in sync, or eligible, in a partition by the
	// metadata that is carried out: held to have all that was acknowledged.
	Counted func(id storage.PartitionID) bool
	Log     *slog.Logger // nil: none
}

// Follower takes what leaders push. It implements [rpc.PushHandler]. All methods are safe
// for concurrent use.
type Follower struct {
	o     FollowerOptions
	bytes atomic.Int64 // of batches that were taken

	mu      sync.Mutex // guards the rest
	current map[storage.PartitionID]*session
	agreed  map[storage.PartitionID]storage.Epoch // see Agrees
	parted  map[storage.PartitionID]storage.Epoch // see Parted
}

// session is one partition as a stream feeds it. It implements [log.Replicated].
type session struct {
	in        *intake
	number    uint32
	partition storage.PartitionID
	log       *log.Log
	epoch     storage.Epoch
	ended     atomic.Bool // another has taken its place, or it was refused
	began     atomic.Bool // the log was brought to where the leader goes on: it is not shortened any more

	// Guarded by in.mu.
	synced  storage.Offset
	waiting bool // in in.confirms

	state []byte // of a restart, what has come; of the stream's goroutine
}

// NewFollower returns a follower of whoever leads by the metadata.
func NewFollower(o FollowerOptions) *Follower {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Follower{o: o, current: map[storage.PartitionID]*session{}, agreed: map[storage.PartitionID]storage.Epoch{}, parted: map[storage.PartitionID]storage.Epoch{}}
}

// Bytes is how many bytes of batches were taken.
func (f *Follower) Bytes() int64 { return f.bytes.Load() }

// Fed is when the leader of a partition was heard last that feeds it; zero: none does.
func (f *Follower) Fed(id storage.PartitionID) (last time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.current[id]; s != nil && s.began.Load() {
		last = time.Unix(0, s.in.heard.Load())
	}
	return last
}

// Agrees reports whether the leader of an epoch has brought the log of a partition to
// where it goes on: what is committed here is committed there too. Before, a leader that
// was elected without some of it may yet take it back.
func (f *Follower) Agrees(id storage.PartitionID, epoch storage.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	agreed, ok := f.agreed[id]
	return ok && agreed == epoch
}

func (f *Follower) agree(id storage.PartitionID, epoch storage.Epoch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.agreed[id] = epoch
	delete(f.parted, id)
}

// Parted is how many replicas are fed nothing: they are held to have all that was acknowledged,
// and what is committed here is not in the log of who leads.
func (f *Follower) Parted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.parted)
}

// part notes that a replica is fed nothing under an epoch, and reports whether that is new.
func (f *Follower) part(id storage.PartitionID, epoch storage.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, known := f.parted[id]
	f.parted[id] = epoch
	return !known || was != epoch
}

// Changed ends what is fed to a partition under another epoch than the one it follows
// now; NoEpoch: it follows none. The leader of old is told.
func (f *Follower) Changed(id storage.PartitionID, epoch storage.Epoch) {
	f.mu.Lock()
	if epoch == storage.NoEpoch {
		delete(f.agreed, id)
	}
	if parted, known := f.parted[id]; known && parted != epoch {
		delete(f.parted, id)
	}
	s := f.current[id]
	if s == nil || s.epoch == epoch {
		f.mu.Unlock()
		return
	}
	delete(f.current, id)
	f.mu.Unlock()
	s.in.refuse(s, "the epoch is over")
}

// enter makes s the one that its partition is fed by. The one before is told: of two that
// begin at once, it may be the one that the leader goes on with.
func (f *Follower) enter(s *session) {
	f.mu.Lock()
	before := f.current[s.partition]
	f.current[s.partition] = s
	f.mu.Unlock()
	if before != nil {
		before.in.refuse(before, "another session took its place")
	}
}

// leave ends s, unless another took its place.
func (f *Follower) leave(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current[s.partition] == s {
		delete(f.current, s.partition)
	}
}

// TakePushes implements [rpc.PushHandler]. A leader is taken as the registration that it
// names, and speaks to that of this broker which it names (RULES 3.1, KIP-903).
func (f *Follower) TakePushes(ctx context.Context, leader, follower rpc.Incarnation, s *rpc.FollowerStream) error {
	if self := f.o.Self(); !guard.Check("replication.follower-incarnation", follower == self) {
		return status.Errorf(codes.FailedPrecondition, "meant for epoch %d of broker %d, this is epoch %d of broker %d", follower.Epoch, follower.Broker, self.Epoch, self.Broker)
	}
	wait, cancel := context.WithTimeout(ctx, imagePatience)
	defer cancel()
	if err := f.o.Await(wait, uint64(max(leader.Epoch, 0))); err != nil {
		return status.Errorf(codes.Unavailable, "the metadata that registers broker %d with epoch %d has not come: %v", leader.Broker, leader.Epoch, err)
	}
	if epoch, ok := f.o.Registered(leader.Broker); !guard.Check("replication.leader-incarnation", ok && epoch == leader.Epoch) {
		return status.Errorf(codes.FailedPrecondition, "from epoch %d of broker %d, which is registered with epoch %d", leader.Epoch, leader.Broker, epoch)
	}
	in := &intake{f: f, leader: leader, stream: s, wake: make(chan struct{}, 1), sessions: map[uint32]*session{}, opens: make(chan rpc.Push, messageEntries)}
	if err := s.Send(new(rpc.PushReply)); err != nil {
		return err
	}
	return in.serve(ctx)
}

// intake is a stream from a leader.
type intake struct {
	f      *Follower
	leader rpc.Incarnation
	stream *rpc.FollowerStream
	heard  atomic.Int64  // when the newest message came, ns since 1970
	wake   chan struct{} // holds a token while there is something to say
	opens  chan rpc.Push

	mu       sync.Mutex // guards the rest
	stamp    int64      // of the newest message that was taken
	said     int64
	sessions map[uint32]*session
	replies  []rpc.Reply // histories and refusals
	confirms []*session  // whose synced end is to be said
}

// serve takes messages until the stream ends. Besides this goroutine one answers, and one
// waits for metadata.
func (in *intake) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() {
		defer cancel()
		in.answer(ctx)
	})
	others.Go(func() { in.open(ctx) })
	defer func() {
		cancel()
		others.Wait()
		in.end()
	}()
	for {
		m, err := in.stream.Receive()
		if err != nil {
			return err
		}
		in.heard.Store(time.Now().UnixNano())
		err = in.take(ctx, m)
		m.Done()
		if err != nil {
			return err
		}
	}
}

// end ends all sessions.
func (in *intake) end() {
	in.mu.Lock()
	sessions := in.sessions
	in.sessions = nil
	in.mu.Unlock()
	for _, s := range sessions {
		s.ended.Store(true)
		in.f.leave(s)
	}
}

// take obeys a message. It blocks while there is no room for its records.
func (in *intake) take(ctx context.Context, m *rpc.PushMessage) error {
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Kind == rpc.PushOpen {
			select {
			case in.opens <- *e:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		in.mu.Lock()
		s := in.sessions[e.Session]
		in.mu.Unlock()
		if s == nil || !guard.Check("replication.session-ended", !s.ended.Load()) {
			continue // what was on its way when the session ended
		}
		if err := s.obey(ctx, e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			in.f.o.Log.Debug("what a leader sent was not taken", "partition", s.partition, "epoch", s.epoch, "leader", in.leader.Broker, "error", err)
			in.f.leave(s)
			in.refuse(s, err.Error())
		}
	}
	in.mu.Lock()
	in.stamp = m.Stamp
	in.mu.Unlock()
	in.ring()
	return nil
}

// obey does what an entry asks for.
func (s *session) obey(ctx context.Context, e *rpc.Push) error {
	switch e.Kind {
	case rpc.PushTruncate:
		if err := s.log.TruncateTo(e.Offset, s.epoch); err != nil {
			return err
		}
	case rpc.PushRestart:
		for _, d := range e.Data {
			s.state = append(s.state, d...)
		}
		if len(s.state) > maxState {
			return fmt.Errorf("a state of more than %d bytes", maxState)
		}
		if !e.Last {
			return nil
		}
		state := s.state
		s.state = nil
		if err := s.restart(e.Offset, state); err != nil {
			return err
		}
	case rpc.PushRecords:
		for _, d := range e.Data {
			if err := s.in.f.o.Store.AdmitReplica(ctx, len(d)); err != nil {
				return err
			}
			s.in.f.bytes.Add(int64(len(d)))
			if err := s.log.AppendReplicated(d, s.epoch, s); err != nil {
				return err
			}
		}
		if err := s.log.SetHighWatermark(e.Offset, s.epoch); err != nil {
			return err
		}
	default:
		return fmt.Errorf("an entry of kind %d", e.Kind)
	}
	if !s.began.Swap(true) {
		s.in.f.agree(s.partition, s.epoch)
		// What was appended before may have come to disk since the history, or will: an
		// earlier session passes on what it is told, of what this broker led itself this one is.
		s.confirm(s.log.Held(s))
	}
	return nil
}

// restart has the log begin anew. Where that gives up what is committed here the leader
// has not got it, or has it and sends it again: that is for a replica that is held to have
// nothing. Of one that is, it would be what was acknowledged.
func (s *session) restart(at storage.Offset, state []byte) error {
	err := s.log.Restart(at, state, s.epoch)
	if _, has := errors.AsType[*log.OffsetOutOfRangeError](err); !has {
		return err
	}
	h := s.log.History()
	if !guard.Check("replication.counted-discards-nothing", !s.in.f.o.Counted(s.partition)) {
		if s.in.f.part(s.partition, s.epoch) {
			s.in.f.o.Log.Error("a replica is held to have all that was acknowledged, and its leader has not what is committed here: it is fed nothing. "+
				"To go on as the leader has it, reassign the partition without this broker and back (kafka-reassign-partitions.sh); what only this one has is lost then",
				"partition", s.partition, "epoch", s.epoch, "leader", s.in.leader.Broker, "leader-begins", at, "committed", h.HighWatermark, "ends", h.End)
		}
		return err
	}
	if err := s.log.RestartDiscarding(at, state, s.epoch); err != nil {
		return err
	}
	s.in.f.o.Log.Warn("a replica gave up what it had, to begin anew as its leader has it: the leader was elected without some of it, or sends it again",
		"partition", s.partition, "epoch", s.epoch, "leader", s.in.leader.Broker, "from", at, "was-committed", h.HighWatermark, "ended", h.End)
	return nil
}

// Replicated implements [log.Replicated].
func (s *session) Replicated(synced storage.Offset, err error) {
	switch {
	case s.ended.Load() && err == nil:
		s.in.f.synced(s.partition)
	case s.ended.Load():
	case err == nil:
		s.confirm(synced)
	case !errors.Is(err, log.ErrFenced): // who follows another epoch ends the session
		s.in.refuse(s, err.Error())
	}
}

// synced has the session that took an earlier one's place say what that appended. Before it
// has begun it may yet shorten the log, and looks by itself when it has.
func (f *Follower) synced(id storage.PartitionID) {
	f.mu.Lock()
	s := f.current[id]
	f.mu.Unlock()
	if s != nil && s.began.Load() {
		s.confirm(s.log.Progress().Synced)
	}
}

func (s *session) confirm(synced storage.Offset) {
	in := s.in
	in.mu.Lock()
	s.synced = max(s.synced, synced)
	if !s.waiting {
		s.waiting = true
		in.confirms = append(in.confirms, s)
	}
	in.mu.Unlock()
	in.ring()
}

// refuse ends a session, and says so.
func (in *intake) refuse(s *session, why string) {
	if s.ended.Swap(true) {
		return
	}
	in.remove(s)
	in.say(rpc.Reply{Kind: rpc.ReplyRefused, Session: s.number, Reason: why})
}

func (in *intake) remove(s *session) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.sessions, s.number)
}

func (in *intake) say(r rpc.Reply) {
	in.mu.Lock()
	in.replies = append(in.replies, r)
	in.mu.Unlock()
	in.ring()
}

func (in *intake) ring() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// open answers opens, in order, until ctx ends. It blocks until the metadata has come
// under which they were sent.
func (in *intake) open(ctx context.Context) {
	for {
		var e rpc.Push
		select {
		case <-ctx.Done():
			return
		case e = <-in.opens:
		}
		if err := in.begin(ctx, e); err != nil {
			in.say(rpc.Reply{Kind: rpc.ReplyRefused, Session: e.Session, Reason: err.Error()})
		}
	}
}

func (in *intake) begin(ctx context.Context, e rpc.Push) error {
	wait, cancel := context.WithTimeout(ctx, imagePatience)
	defer cancel()
	if err := in.f.o.Await(wait, e.MetadataOffset); err != nil {
		return fmt.Errorf("metadata of offset %d has not come: %w", e.MetadataOffset, err)
	}
	l, leader, epoch := in.f.o.Following(e.Partition)
	if l == nil || !guard.Check("replication.open-leader", leader == in.leader.Broker && epoch == e.LeaderEpoch) {
		return fmt.Errorf("broker %d leads at epoch %d, by metadata of offset %d or later", leader, epoch, e.MetadataOffset)
	}
	s := &session{in: in, number: e.Session, partition: e.Partition, log: l, epoch: e.LeaderEpoch}
	in.mu.Lock()
	gone := in.sessions == nil
	if !gone {
		in.sessions[s.number] = s
	}
	in.mu.Unlock()
	if gone {
		return nil
	}
	in.f.enter(s)
	// From here on only what another session had begun to append joins this: of the same
	// leader and epoch. Where the leader goes on elsewhere, it is refused and asks again.
	if guard.Check("replication.counted-believes", in.f.o.Counted(e.Partition)) {
		l.Believe(e.LeaderEpoch)
	}
	h := l.History()
	if h.Leads || h.Epoch != e.LeaderEpoch {
		in.f.leave(s)
		in.remove(s)
		return fmt.Errorf("epoch %d is followed", h.Epoch)
	}
	in.say(rpc.Reply{Kind: rpc.ReplyHistory, Session: s.number, History: h})
	return nil
}

// answer sends until ctx ends. That a message has come is said with what else there is to
// say, or after a while.
func (in *intake) answer(ctx context.Context) {
	late := time.NewTimer(answerWait)
	defer late.Stop()
	armed, due := true, false // due: it is said now, alone if need be
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.wake:
		case <-late.C:
			armed, due = false, true
		}
		for m := in.answers(due); m != nil; m = in.answers(due) {
			if in.stream.Send(m) != nil {
				return
			}
		}
		if due = false; !armed && in.owes() {
			armed = true
			late.Reset(answerWait)
		}
	}
}

// owes reports whether a message has come that was not answered.
func (in *intake) owes() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stamp != in.said
}

// answers is the next message; nil: there is nothing to say, or, unless alone, nothing but
// that a message has come.
func (in *intake) answers(alone bool) *rpc.PushReply {
	in.mu.Lock()
	silent := len(in.replies)+len(in.confirms) == 0 && (in.stamp == in.said || !alone)
	in.mu.Unlock()
	if silent {
		return nil
	}
	fullness := in.f.o.Store.Stats().Fullness
	in.mu.Lock()
	defer in.mu.Unlock()
	m := &rpc.PushReply{Stamp: in.stamp, Fullness: uint16(1000 * min(max(fullness, 0), 1))}
	n := min(len(in.replies), mostAnswers)
	m.Entries = append(m.Entries, in.replies[:n]...)
	in.replies = in.replies[n:]
	if len(in.replies) > 0 {
		m.Stamp = in.said // sessions that have ended follow: a message is answered when the leader knows of them
	}
	n = min(len(in.confirms), messageEntries)
	for _, s := range in.confirms[:n] {
		s.waiting = false
		if !s.ended.Load() {
			m.Entries = append(m.Entries, rpc.Reply{Kind: rpc.ReplyConfirm, Session: s.number, Offset: s.synced})
		}
	}
	in.confirms = in.confirms[n:]
	in.said = m.Stamp
	return m
}
