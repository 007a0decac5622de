package consensus

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// loop is the state of a member that only its goroutine touches.
type loop struct {
	n       *Node
	ctx     context.Context // ends with the node
	raft    *raft.RawNode
	entries *entryLog
	self    Member
	boot    uint64
	numbers uint64
	pending map[uint64]*Proposal // by number; in the log or on the way to it
	reads   map[uint64]*barrier  // by number
	retry   int                  // ticks until unanswered reads are asked again
	leads   bool
	taken   events // being handled

	writes   []*write // storage messages in flight, oldest first
	admitted int      // bytes of proposals that the WAL holds room for

	applied       uint64
	appliedTerm   uint64
	conf          *raftpb.ConfState
	members       []Member
	snapshotIndex uint64
	sinceEntries  uint64 // applied since the newest snapshot
	sinceBytes    uint64
	snapshotting  bool
	saidRotten    string // file of a snapshot that cannot be read
	snapshotDue   bool   // the newest does not have the present configuration
	changedAt     uint64 // index up to which members has every change, at least that of the last
	encoding      sync.WaitGroup
	change        *change // under way; nil: none
	requests      []*request
	told          toldLeader
	standing      standing
	late          lateness // while this one leads
}

// toldLeader is who led in which term, as OnLeader was called for last.
type toldLeader struct{ leader, term uint64 }

// write is what raft is to be told when a storage message is carried out.
type write struct {
	responses []*raftpb.Message
	last      uint64 // index of the last entry in it; 0: there is none
}

func newLoop(ctx context.Context, n *Node, entries *entryLog, snap *snapshot) (*loop, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	l := &loop{
		n: n, ctx: ctx, entries: entries,
		self:    Member{ID: n.opt.NodeID, Directory: n.opt.Directory},
		boot:    binary.LittleEndian.Uint64(random[:]),
		pending: map[uint64]*Proposal{}, reads: map[uint64]*barrier{},
		conf: snap.conf, members: snap.members, changedAt: snap.index,
		applied: snap.index, appliedTerm: snap.term, snapshotIndex: snap.index,
	}
	entries.rotten = l.rotten
	core, err := raft.NewRawNode(&raft.Config{
		ID:                        n.opt.NodeID,
		ElectionTick:              n.opt.ElectionTicks,
		HeartbeatTick:             n.opt.HeartbeatTicks,
		Storage:                   entries,
		Applied:                   snap.index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  maxApplyBytes,
		MaxUncommittedEntriesSize: maxUncommittedBytes,
		MaxInflightMsgs:           maxInflightMessages,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{n.log},
		DisableProposalForwarding: true, // a decision belongs to the image of the leader that took it
		StepDownOnRemoval:         true,
	})
	if err != nil {
		return nil, fmt.Errorf("consensus: start raft: %w", err)
	}
	l.raft = core
	l.publish()
	if alone := len(snap.conf.GetVoters()) == 1 && snap.conf.Voters[0] == n.opt.NodeID; alone {
		return l, core.Campaign() // nobody to wait for
	}
	return l, nil
}

func (l *loop) tick() error {
	l.raft.Tick()
	if l.standing.tick(l.raft.BasicStatus()) {
		if err := l.raft.Campaign(); err != nil {
			return fmt.Errorf("stand for election: %w", err)
		}
	}
	if l.leads {
		l.yield(time.Now())
	}
	if l.retry--; l.retry <= 0 {
		l.askReads()
		// One that could not be written is tried again.
		l.snapshotDue = l.snapshotDue || l.changedAt > l.snapshotIndex
	}
	return l.ready()
}

// askReads asks again for every barrier that has no answer: without a leader,
// or with one that is gone, the question was lost.
func (l *loop) askReads() {
	l.retry = l.n.opt.ElectionTicks
	for number, b := range l.reads {
		if b.index == 0 {
			l.raft.ReadIndex(l.readContext(number))
		}
	}
}

// hasAcked returns an error if the leader was told that this member has entries that it does
// not have: it may have lost votes with them.
func (l *loop) hasAcked(m *raftpb.Message) error {
	last, err := l.entries.LastIndex()
	if err != nil || m.GetType() != raftpb.MsgHeartbeat || guard.Check("consensus.acked-entries-there", m.GetCommit() <= last) {
		return err
	}
	return &CorruptionError{File: l.n.opt.Dir, Reason: fmt.Sprintf("member %d leads, and was told that this one has the log up to %d, which ends at %d: an older copy was put in its place, or its end was lost. "+
		"Move %s/ and %s/ away, and have it join as another member with `rustmq admin cluster recover --join`", m.GetFrom(), m.GetCommit(), last, l.n.opt.Dir, l.n.opt.SnapshotsDir)}
}

func (l *loop) handle(e events) error {
	l.taken = e // what an error leaves unhandled, end answers
	for _, durable := range e.durable {
		if err := durable(); err != nil {
			return err
		}
	}
	for _, peer := range e.unreachable {
		l.raft.ReportUnreachable(peer)
	}
	for _, s := range e.sent {
		l.raft.ReportSnapshot(s.peer, s.status)
	}
	for _, m := range e.messages {
		if l.leads && m.GetType() == raftpb.MsgAppResp && !m.GetReject() && l.votes(m.GetFrom()) { // a learner cannot lead instead
			l.late.confirmed(time.Now(), m.GetFrom(), m.GetIndex())
		}
		if err := l.hasAcked(m); err != nil {
			return err
		}
		if err := l.raft.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) && !errors.Is(err, raft.ErrProposalDropped) {
			return fmt.Errorf("step %s of member %d: %w", m.GetType(), m.GetFrom(), err)
		}
	}
	for _, peer := range e.gone {
		if err := l.gone(peer); err != nil {
			return fmt.Errorf("forget member %d: %w", peer, err)
		}
	}
	for len(l.taken.proposals) > 0 {
		p := l.taken.proposals[0]
		l.taken.proposals = l.taken.proposals[1:]
		if err := l.propose(p); err != nil {
			return err
		}
	}
	for _, c := range e.changes {
		if err := l.changeMembers(c); err != nil {
			c.done <- err
		}
	}
	for _, answer := range e.asked {
		answer <- l.memberStatus()
	}
	for _, r := range e.requests {
		l.carryOut(r)
	}
	l.taken.changes, l.taken.asked, l.taken.requests = nil, nil, nil
	l.taken.barriers = nil
	for _, b := range e.barriers {
		l.numbers++
		l.reads[l.numbers] = b
		l.raft.ReadIndex(l.readContext(l.numbers))
	}
	if e.snapshot != nil {
		if err := l.snapshotWritten(e.snapshot); err != nil {
			return err
		}
	}
	return l.ready()
}

// propose holds room for the command in the WAL, and hands it to raft.
func (l *loop) propose(p *Proposal) error {
	l.numbers++
	number := l.numbers
	data := encodeCommand(proposalID{l.boot, number}, p.command)
	size := frameBytes(len(data))
	if l.admitted > 0 && l.admitted+size > maxAdmitted {
		if err := l.ready(); err != nil { // appends them and gives their room back
			l.taken.proposals = append(l.taken.proposals, p)
			return err
		}
	}
	refuse := func(reason error) {
		l.n.settled(1)
		p.settle(nil, reason)
	}
	if live := l.n.wal.Stats().LiveBytes; live+int64(l.admitted+size) > l.n.opt.LogCapacity/liveShare {
		refuse(fmt.Errorf("consensus: no room for the proposal until a snapshot has the %d bytes before it: %w", live, wal.ErrFull))
		return nil
	}
	// A proposal is taken only while some room is left, on a full disk too, for
	// what must be written whatever happens: votes, trims.
	headroom := l.n.opt.segmentSize() / 8
	switch err := l.n.wal.Admit(l.ctx, wal.Produce, size+headroom); {
	case err == nil:
		l.n.wal.Unadmit(headroom)
	case noRoom(err):
		refuse(fmt.Errorf("consensus: no room for the proposal: %w", err))
		return nil
	default:
		l.taken.proposals = append(l.taken.proposals, p)
		return fmt.Errorf("the log: %w", err)
	}
	if err := l.raft.Propose(data); err != nil {
		l.n.wal.Unadmit(size)
		refuse(&NotLeaderError{Leader: l.raft.BasicStatus().Lead})
		return nil
	}
	p.command = nil // data has it
	l.admitted += size
	l.pending[number] = p
	return nil
}

// admit holds room for so many bytes of frames more than proposals do already;
// release gives all of it back, once they are appended.
func (l *loop) admit(size int) (release func(), err error) {
	more := size + groupBytes - l.admitted
	if more <= 0 {
		return func() {}, nil
	}
	// A full log empties while this waits: segments whose frames were released
	// become spares, the oldest is copied forward.
	ctx, cancel := context.WithTimeout(l.ctx, fullPatience)
	defer cancel()
	for {
		err := l.n.wal.Admit(ctx, wal.Internal, more)
		if err == nil {
			return func() { l.n.wal.Unadmit(more) }, nil
		}
		if !noRoom(err) {
			return nil, fmt.Errorf("no room in the log: %w", err)
		}
		pause := time.NewTimer(fullPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("no room in the log: %w", err)
		}
	}
}

// noRoom reports whether the log takes nothing now and may later: it is full, or the
// disk did not give it another segment. What is in it is whole.
func noRoom(err error) bool { return errors.Is(err, wal.ErrFull) || errors.Is(err, wal.ErrNoSegment) }

// ready carries out what raft asks for until it asks for nothing.
func (l *loop) ready() error {
	for l.raft.HasReady() {
		rd := l.raft.Ready()
		if rd.SoftState != nil {
			l.roleChanged(rd.SoftState.RaftState == raft.StateLeader)
		}
		for _, m := range rd.Messages {
			var err error
			switch m.GetTo() {
			case raft.LocalAppendThread:
				err = l.store(m)
			case raft.LocalApplyThread:
				err = l.apply(m)
			default:
				l.send(m)
			}
			if err != nil {
				return err
			}
		}
		for _, r := range rd.ReadStates {
			if b := l.ownRead(r.RequestCtx); b != nil {
				b.index = max(r.Index, 1)
			}
		}
		if rd.SoftState != nil && rd.SoftState.Lead != raft.None {
			l.askReads()
		}
		l.answerReads()
		l.publish()
		l.tellLeader()
	}
	l.maybeSnapshot()
	return nil
}

// tellLeader says when there is another leader, or term, than was told last.
func (l *loop) tellLeader() {
	s := l.raft.BasicStatus()
	if now := (toldLeader{s.Lead, s.HardState.GetTerm()}); now != l.told {
		l.told = now
		l.n.opt.OnLeader()
	}
}

func (l *loop) roleChanged(leads bool) {
	if l.leads && !leads {
		l.failPending(ErrLeadershipLost)
	}
	if l.leads != leads {
		l.late = lateness{}
	}
	l.leads = leads
	l.settleRequests()
}

func (l *loop) failPending(reason error) {
	l.n.settled(len(l.pending))
	for number, p := range l.pending {
		delete(l.pending, number)
		p.settle(nil, reason)
	}
	if c := l.change; c != nil {
		l.change = nil
		c.done <- reason
	}
}

// end answers everything that still waits in the loop.
func (l *loop) end(reason error) {
	l.encoding.Wait()
	l.failPending(reason)
	for _, p := range l.taken.proposals {
		p.settle(nil, reason)
	}
	for _, b := range l.taken.barriers {
		b.done(reason)
	}
	for _, c := range l.taken.changes {
		c.done <- reason
	}
	for _, answer := range l.taken.asked {
		close(answer)
	}
	l.requests = append(l.requests, l.taken.requests...)
	l.answerRequests(reason, func(*request) bool { return true })
	for number, b := range l.reads {
		delete(l.reads, number)
		b.done(reason)
	}
}

// answerReads answers the barriers whose entries are applied. A new leader's
// commit index may lag behind what its predecessor, or itself before a restart,
// has acknowledged, until an entry of its own term is committed; raft minds
// that itself only where there are several voters.
func (l *loop) answerReads() {
	if len(l.reads) == 0 {
		return
	}
	if !guard.Check("consensus.read-own-term", !l.leads || l.appliedTerm == l.raft.BasicStatus().HardState.GetTerm()) {
		return
	}
	for number, b := range l.reads {
		if b.index != 0 && b.index <= l.applied {
			delete(l.reads, number)
			b.done(nil)
		}
	}
}

func (l *loop) send(m *raftpb.Message) {
	at := slices.IndexFunc(l.members, func(to Member) bool { return to.ID == m.GetTo() })
	to, known := Member{}, at >= 0
	if known {
		to = l.members[at]
	} else {
		to, known = l.n.stranger(m.GetTo())
	}
	if known && l.n.opt.Network != nil {
		l.n.opt.Network.Send(Message{From: l.self, To: to, Changed: l.changedAt, Raft: m})
	}
}

// publish tells other goroutines where the member stands.
func (l *loop) publish() {
	s := l.raft.BasicStatus()
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.changedAt != l.changedAt {
		clear(l.n.strangers)
	}
	l.n.members, l.n.changedAt = l.members, l.changedAt
	l.n.status = Status{Leader: s.Lead, Term: s.HardState.GetTerm(), Committed: s.HardState.GetCommit(), Applied: l.applied, Snapshot: l.snapshotIndex, Member: slices.Contains(l.members, l.self)}
}

// store carries out a storage message: it appends, and answers raft once that
// and all before it is durable.
func (l *loop) store(m *raftpb.Message) error {
	var snap *snapshot
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		received, err := snapshotOf(m.GetSnapshot())
		if err != nil {
			return fmt.Errorf("snapshot from the leader: %w", err)
		}
		received.received = true
		if err := l.entries.snapshots.write(received); err != nil {
			return err
		}
		snap = received
	}
	hard := l.entries.hardState()
	if m.Term != nil {
		hard.term, hard.vote, hard.commit = m.GetTerm(), m.GetVote(), m.GetCommit()
	}
	size := 2 * frameBytes(0) // of a truncation and a trim
	for _, e := range m.GetEntries() {
		size += frameBytes(len(e.GetData()))
	}
	release, err := l.admit(size + frameBytes(hardStateSize))
	if err != nil {
		return err
	}
	w := &write{responses: m.GetResponses()}
	if n := len(m.GetEntries()); n > 0 {
		w.last = m.GetEntries()[n-1].GetIndex()
		if l.leads {
			l.late.appended(time.Now(), w.last)
		}
	}
	called, err := l.entries.append(snap, m.GetEntries(), hard, func(err error) {
		l.n.tell(func(e *events) {
			e.durable = append(e.durable, func() error { return l.stored(w, err) })
		})
	})
	release()
	if len(m.GetEntries()) > 0 { // those of all proposals so far
		l.n.wal.Unadmit(l.admitted)
		l.admitted = 0
	}
	if err != nil {
		return err
	}
	if snap != nil {
		if err := l.restore(snap); err != nil {
			return err
		}
	}
	switch {
	case called:
		l.writes = append(l.writes, w)
	case len(l.writes) > 0: // nothing to write: as durable as what came before
		last := l.writes[len(l.writes)-1]
		last.responses = append(last.responses, w.responses...)
	default:
		return l.respond(w.responses)
	}
	return nil
}

// stored is told when a write is durable.
func (l *loop) stored(w *write, err error) error {
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	if len(l.writes) == 0 || l.writes[0] != w {
		panic("consensus: completions of the log came out of order")
	}
	l.writes = l.writes[1:]
	if l.leads && w.last != 0 {
		l.late.stored(time.Now(), w.last)
	}
	return l.respond(w.responses)
}

func (l *loop) respond(responses []*raftpb.Message) error {
	for _, m := range responses {
		if m.GetTo() != l.self.ID {
			l.send(m)
			continue
		}
		if err := l.raft.Step(m); err != nil {
			return fmt.Errorf("step %s: %w", m.GetType(), err)
		}
	}
	return nil
}

// restore makes a snapshot from the leader the state here.
func (l *loop) restore(snap *snapshot) error {
	if len(snap.state) > 0 {
		if err := l.n.opt.StateMachine.Restore(snap.state); err != nil {
			return fmt.Errorf("restore the leader's snapshot %d: %w", snap.index, err)
		}
	}
	l.n.log.Info("state taken from the leader's snapshot", "index", snap.index)
	l.conf, l.members, l.changedAt = snap.conf, snap.members, snap.index
	l.applied, l.appliedTerm, l.snapshotIndex = snap.index, snap.term, snap.index
	l.sinceEntries, l.sinceBytes = 0, 0
	return nil
}

// apply carries out committed entries.
func (l *loop) apply(m *raftpb.Message) error {
	for _, e := range m.GetEntries() {
		if !guard.Check("consensus.apply-order", e.GetIndex() == l.applied+1) {
			return fmt.Errorf("entry %d is to be applied behind %d", e.GetIndex(), l.applied)
		}
		if err := l.applyEntry(e); err != nil {
			return fmt.Errorf("apply entry %d: %w", e.GetIndex(), err)
		}
		l.applied, l.appliedTerm = e.GetIndex(), e.GetTerm()
		l.sinceEntries++
		l.sinceBytes += uint64(frameBytes(len(e.GetData())) + blockBytes)
	}
	return l.respond(m.GetResponses())
}

func (l *loop) applyEntry(e *raftpb.Entry) error {
	if e.GetType() != raftpb.EntryNormal {
		return l.applyConfChange(e)
	}
	if len(e.GetData()) == 0 {
		return nil // a leader's first entry
	}
	id, command, ok := decodeCommand(e.GetData())
	if !ok {
		return fmt.Errorf("%d bytes that are no command", len(e.GetData()))
	}
	result, err := l.n.opt.StateMachine.Apply(e.GetIndex(), command)
	if err != nil {
		return err
	}
	if p := l.pending[id.number]; p != nil && id.boot == l.boot {
		delete(l.pending, id.number)
		l.n.settled(1)
		p.settle(result, nil)
	}
	return nil
}

func (l *loop) applyConfChange(e *raftpb.Entry) error {
	var change raftpb.ConfChangeV2
	if e.GetType() != raftpb.EntryConfChangeV2 {
		return errors.New("a configuration change in the old form")
	}
	if err := proto.Unmarshal(e.GetData(), &change); err != nil {
		return fmt.Errorf("configuration change: %w", err)
	}
	members := l.members
	if len(change.GetContext()) > 0 { // none when a joint configuration is left
		resulting, _, err := decodeMembers(change.GetContext())
		if err != nil {
			return fmt.Errorf("configuration change: %w", err)
		}
		members = union(resulting, members)
		if c := l.change; c != nil && bytes.Equal(c.context, change.GetContext()) {
			c.entered = true
		}
	}
	l.conf = l.raft.ApplyConfChange(&change)
	l.members = membersIn(members, l.conf)
	l.entries.configured(e.GetIndex())
	l.snapshotDue, l.changedAt = true, e.GetIndex()
	if !slices.Contains(l.members, l.self) {
		l.n.log.Warn("this controller is no member any more: it was removed")
	}
	l.settleChange()
	return nil
}

// rotten says, once of each file, that the newest snapshot cannot be read, and has another
// taken in its place.
func (l *loop) rotten(why *CorruptionError) {
	if l.saidRotten != why.File {
		l.n.log.Error("the newest snapshot of the metadata is damaged: members that lack entries are sent the one before, and another is taken. Suspect the disk", "file", why.File, "error", why)
	}
	l.saidRotten, l.snapshotDue = why.File, true
}

// maybeSnapshot begins a snapshot when enough was applied since the last.
func (l *loop) maybeSnapshot() {
	due := l.snapshotDue || l.sinceEntries >= l.n.opt.SnapshotEntries || l.sinceBytes >= l.n.opt.SnapshotBytes
	if l.snapshotting || !due {
		return
	}
	l.snapshotting, l.snapshotDue = true, false
	l.sinceEntries, l.sinceBytes = 0, 0
	snap := &snapshot{index: l.applied, term: l.appliedTerm, conf: l.conf, members: l.members}
	encode := l.n.opt.StateMachine.Snapshot()
	l.encoding.Go(func() { // blocks on the snapshot's file
		snap.state = encode()
		err := l.entries.snapshots.write(snap)
		l.n.tell(func(e *events) { e.snapshot = &written{snap, err} })
	})
}

// snapshotWritten drops what the snapshot made superfluous. One that could not
// be written is tried again after as many entries more.
func (l *loop) snapshotWritten(w *written) error {
	l.snapshotting = false
	if w.err != nil {
		l.n.log.Warn("no snapshot; the log grows on", "error", w.err)
		l.answerRequests(w.err, func(r *request) bool { return r.kind == requestSnapshot })
		return nil
	}
	if w.snap.index <= l.snapshotIndex {
		return nil // the leader's, taken meanwhile, is newer
	}
	l.snapshotIndex = w.snap.index
	l.settleRequests()
	if err := l.entries.snapshots.prune(); err != nil {
		l.n.log.Warn("an old snapshot stays", "error", err)
	}
	upTo := w.snap.index
	if len(l.members) > 1 {
		upTo = l.entries.trailing(upTo, trailingEntries, l.n.opt.SnapshotBytes)
	}
	l.publish()
	release, err := l.admit(frameBytes(0))
	if err != nil {
		return err
	}
	defer release()
	return l.entries.compact(w.snap, upTo)
}
