package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/disk"
)

// Member is one voter or learner. A node that lost its directory is another
// member, whatever its id.
type Member struct {
	ID        uint64 // not 0
	Directory [16]byte
}

// StateMachine is what the log drives.
type StateMachine interface {
	// Apply carries out the command of one entry; indexes grow. An error stops
	// the node for good; a refusal is a result.
	Apply(index uint64, command []byte) (result any, err error)
	// Snapshot captures the state after the last Apply and returns at once. The
	// function it returns encodes what was captured, beside Apply.
	Snapshot() (encode func() []byte)
	// Restore replaces the state by that of a snapshot.
	Restore(snapshot []byte) error
}

// Network carries messages between members. A cluster of one needs none.
type Network interface {
	// Attach says who answers what peers ask and takes what they send, from now on.
	// It is called once, before anything else.
	Attach(Receiver)
	// Send hands over a message for m.To. It must not block and may lose the
	// message, which the Receiver is told; it must not change it.
	Send(m Message)
	// Hello asks a peer who it is and where it stands; no answer is an error.
	Hello(ctx context.Context, peer uint64) (Hello, error)
}

// Receiver is a member as its network sees it. All may be called from any goroutine,
// while [Open] has not returned yet too.
type Receiver interface {
	// Hello says who this member is; an error while it does not know yet whether it has a log.
	Hello() (Hello, error)
	// Receive takes a message; an error says why it was not taken.
	Receive(m Message) error
	// Unreachable says that a message to a peer was lost.
	Unreachable(peer uint64)
	// Gone says that a peer's process seems to have ended: its connection broke, and no
	// other can be made. It may be wrong.
	Gone(peer uint64)
	// SnapshotSent says how the sending of a snapshot (MsgSnap) to a peer ended.
	SnapshotSent(peer uint64, err error)
}

// Message is one from a member to another.
type Message struct {
	From, To Member
	// Changed is an index up to which the sender knows every change of the members, at
	// least that of the last one.
	Changed uint64
	Raft    *raftpb.Message
}

// Hello is what a member says of itself before it is one.
type Hello struct {
	Member Member   // who answers
	First  []uint64 // ids of the members that it is to begin a group with, itself among them; in order
	Joins  bool     // it begins none, but waits to be added
	// Begun is the members of the group that it belongs to, as it knows them; none
	// while it has neither log nor snapshot.
	Begun []Member
}

// Defaults of Options, and limits.
const (
	DefaultTick            = 50 * time.Millisecond
	DefaultElectionTicks   = 10 // raft draws between one and two of these
	DefaultHeartbeatTicks  = 2
	DefaultSnapshotEntries = 10_000
	DefaultSnapshotBytes   = 32 << 20
	DefaultMaxProposals    = 4096

	// trailingEntries stay in the log behind a snapshot where there are peers,
	// so that one that is a little behind needs no snapshot.
	trailingEntries = 2000
	// keptSnapshots is the newest, which a start reads, and one before it for
	// whoever has to repair by hand.
	keptSnapshots = 2
	// maxReceived bounds messages of peers waiting for the loop. More are
	// dropped; raft sends again.
	maxReceived = 4096
	// maxMessageBytes is about the most that one message to a peer carries: what a slow
	// line takes in a part of an election timeout.
	maxMessageBytes = 256 << 10
	// maxApplyBytes bounds the committed entries handled between two looks at
	// anything else.
	maxApplyBytes = 16 << 20
	// maxUncommittedBytes of a leader's log; more proposals are turned away.
	maxUncommittedBytes = 256 << 20
	maxInflightMessages = 256
	// maxAdmitted is how many bytes of proposals are taken before they are
	// appended; well below what the WAL's memory admits at once.
	maxAdmitted = 4 << 20
	// fullPatience is how long a node waits for room in a full log before it
	// gives up; fullPause is between two looks.
	fullPatience = 10 * time.Second
	fullPause    = 5 * time.Millisecond
	// helloPause is between two rounds of asking peers that do not answer; the log
	// says whom this waits for as often as helloTold.
	helloPause = 200 * time.Millisecond
	helloTold  = 10 * time.Second
	// caughtUp is how many entries a learner may lack that gets a vote: they are under
	// way to it.
	caughtUp = maxInflightMessages
)

// The WAL of a raft log is small: entries stay in memory anyway, until a
// snapshot has them.
const (
	// MaxCommand is the largest command in bytes.
	MaxCommand         = 2 << 20
	defaultLogCapacity = 256 << 20
	minLogCapacity     = 2 << 20
	maxSegment         = 8 << 20
	segmentsPerLog     = 32
	// liveShare of the log is what entries may take that no snapshot has: frames
	// fill half of a segment when they are large, and copying them forward makes
	// room only while a good part of the log is dead. A log that is full of live
	// frames could not be restarted, for that too takes room.
	liveShare  = 3
	chunkBytes = 1 << 20
	logMemory  = 16 << 20
)

// Options of a node. The zero value of a field with a default means it.
type Options struct {
	NodeID       uint64   // of this member, not 0
	Directory    [16]byte // id of its data directory
	Peers        []uint64 // ids of the other first members; used when a new group begins, or is joined
	StateMachine StateMachine
	Network      Network // nil without peers

	FS           disk.FS
	Dir          string // of the log; default "raft"
	SnapshotsDir string // default "snapshots"
	// Joined says that this node is known to have belonged to a group. Beside
	// are directories that hold files only then (a broker's wal/). In either
	// case an empty log is a lost one, and refused.
	Joined bool
	Beside []string
	// Join says that an empty log begins no group with the peers, but waits until
	// theirs adds this member.
	Join bool
	// OnJoined is called where there are peers and Joined is false, when it is durable
	// that this member has a log, and before anybody counts on it: from then on Joined
	// is true.
	OnJoined func() error

	// LogCapacity is the bytes of the WAL's files, at least 2 MiB; 0: 256 MiB.
	// A command may have a 64th of it, and MaxCommand at most.
	LogCapacity int64

	Tick            time.Duration
	ElectionTicks   int
	HeartbeatTicks  int
	SnapshotEntries uint64 // applied since the last snapshot, and then a new one is made
	SnapshotBytes   uint64 // the same in bytes of the log; an eighth of LogCapacity at most
	MaxProposals    int    // in flight; more are answered ErrBusy

	// OnLeader is called by the loop when [Node.Status] tells of another leader, or of
	// another term under the same one. It must not block, and may call Status.
	OnLeader func()

	Log    *slog.Logger
	OnDead func(error) // called once, on a goroutine of the node, when it stops by itself
}

func (o *Options) fill() error {
	switch {
	case o.NodeID == 0:
		return errors.New("node id 0")
	case o.StateMachine == nil || o.FS == nil:
		return errors.New("no state machine or no file system")
	case o.LogCapacity != 0 && o.LogCapacity < minLogCapacity:
		return fmt.Errorf("log capacity %d: at least %d", o.LogCapacity, minLogCapacity)
	case len(o.Peers) > 0 && o.Network == nil:
		return errors.New("peers but no network")
	case slices.Contains(o.Peers, o.NodeID) || slices.Contains(o.Peers, 0):
		return fmt.Errorf("peers %v of member %d: others, and none is 0", o.Peers, o.NodeID)
	case o.Join && len(o.Peers) == 0:
		return errors.New("a group to join, but nobody of it")
	}
	setDefault(&o.Dir, "raft")
	setDefault(&o.SnapshotsDir, "snapshots")
	setDefault(&o.Tick, DefaultTick)
	setDefault(&o.ElectionTicks, DefaultElectionTicks)
	setDefault(&o.HeartbeatTicks, DefaultHeartbeatTicks)
	setDefault(&o.SnapshotEntries, DefaultSnapshotEntries)
	setDefault(&o.SnapshotBytes, DefaultSnapshotBytes)
	setDefault(&o.MaxProposals, DefaultMaxProposals)
	setDefault(&o.LogCapacity, defaultLogCapacity)
	o.SnapshotBytes = min(o.SnapshotBytes, uint64(o.LogCapacity)/8) // or it would be full before
	if o.ElectionTicks < 5*o.HeartbeatTicks {
		return fmt.Errorf("election after %d ticks: at least five times the heartbeat's %d", o.ElectionTicks, o.HeartbeatTicks)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnJoined == nil {
		o.OnJoined = func() error { return nil }
	}
	if o.OnLeader == nil {
		o.OnLeader = func() {}
	}
	if o.OnDead == nil {
		o.OnDead = func(error) {}
	}
	return nil
}

// segmentSize is that of the WAL.
func (o *Options) segmentSize() int {
	return int(min(maxSegment, o.LogCapacity/segmentsPerLog)) &^ 4095
}

// maxCommand is the most that a proposal may have.
func (o *Options) maxCommand() int { return min(MaxCommand, o.segmentSize()/2) }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
