package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// register is a state machine that keeps every command it was given.
type register struct {
	mu       sync.Mutex // tests look while the loop applies
	indexes  []uint64
	commands []string
}

func (r *register) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(r.indexes, r.commands)
}

func (r *register) Apply(index uint64, command []byte) (any, error) {
	if string(command) == "stop" {
		return nil, errors.New("a command that stops")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.indexes = append(r.indexes, index)
	r.commands = append(r.commands, string(command))
	if string(command) == "refuse" {
		return errors.New("refused"), nil
	}
	return len(r.commands), nil
}

func (r *register) Snapshot() func() []byte {
	indexes, commands := r.indexes[:len(r.indexes):len(r.indexes)], r.commands
	return func() []byte {
		b := []byte("register")
		for i, index := range indexes {
			b = binary.LittleEndian.AppendUint64(b, index)
			b = binary.AppendUvarint(b, uint64(len(commands[i])))
			b = append(b, commands[i]...)
		}
		return b
	}
}

func (r *register) Restore(b []byte) error {
	if len(b) < 8 || string(b[:8]) != "register" {
		return fmt.Errorf("%d bytes that are no register", len(b))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.indexes, r.commands = nil, nil
	for b = b[8:]; len(b) > 0; {
		r.indexes = append(r.indexes, binary.LittleEndian.Uint64(b))
		n, width := binary.Uvarint(b[8:])
		b = b[8+width:]
		r.commands = append(r.commands, string(b[:n]))
		b = b[n:]
	}
	return nil
}

func options(fs disk.FS, sm StateMachine) Options {
	return Options{NodeID: 1, Directory: [16]byte{1}, FS: fs, StateMachine: sm, LogCapacity: minLogCapacity}
}

// start opens a member and waits until it has applied what it holds.
func start(t *testing.T, opt Options) *Node {
	t.Helper()
	n, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatalf("barrier: %v", err)
	}
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func TestRestartAppliesTheSame(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	first := &register{}
	n := start(t, options(fs, first))
	var proposals []*Proposal
	for i := range 100 {
		proposals = append(proposals, n.Start(fmt.Appendf(nil, "command %d", i)))
	}
	for i, p := range proposals {
		if result, err := p.Wait(t.Context()); err != nil || result != i+1 {
			t.Fatalf("proposal %d: %v, %v", i, result, err)
		}
	}
	closeNode(t, n)
	second := &register{}
	n = start(t, options(fs, second))
	defer closeNode(t, n)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Fatalf("after restart %v, before %v", second, first)
	}
}

func TestSnapshotAndCompactedLogRestart(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	first := &register{}
	opt := options(fs, first)
	opt.SnapshotEntries = 10
	n := start(t, opt)
	for i := 0; n.Status().Snapshot < 50; i++ {
		if _, err := n.Propose(t.Context(), fmt.Appendf(nil, "command %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	closeNode(t, n)
	second := &register{}
	opt.StateMachine = second
	n = start(t, opt)
	defer closeNode(t, n)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Fatalf("after restart %v, before %v", second, first)
	}
}

func TestRefusalIsAnErrorAndNothingStops(t *testing.T) {
	n := start(t, options(disk.NewMem(disk.MemOptions{}), &register{}))
	defer closeNode(t, n)
	if _, err := n.Propose(t.Context(), []byte("refuse")); err == nil || err.Error() != "refused" {
		t.Fatalf("refused command: %v", err)
	}
	if _, err := n.Propose(t.Context(), []byte("go on")); err != nil {
		t.Fatal(err)
	}
}

func TestStateMachineStopsTheNode(t *testing.T) {
	opt := options(disk.NewMem(disk.MemOptions{}), &register{})
	dead := make(chan error, 1)
	opt.OnDead = func(err error) { dead <- err }
	n := start(t, opt)
	defer closeNode(t, n)
	_, err := n.Propose(t.Context(), []byte("stop"))
	if _, ok := errors.AsType[*DeadError](err); !ok {
		t.Fatalf("proposal that stops: %v", err)
	}
	<-dead
	if _, err := n.Propose(t.Context(), []byte("late")); err == nil {
		t.Fatal("a stopped node took a proposal")
	}
}

// TestLostLogIsRefused: an empty raft/ is a new beginning only if nothing says
// that there was a log before (RULES 4.1).
func TestLostLogIsRefused(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *disk.Mem, *Options){
		"node known to belong to a cluster": func(_ *testing.T, _ *disk.Mem, opt *Options) { opt.Joined = true },
		"broker's log beside it": func(t *testing.T, fs *disk.Mem, opt *Options) {
			put(t, fs, "wal", "0001.wal", []byte("x"))
			opt.Beside = []string{"missing", "wal"}
		},
		"snapshot beside it": func(t *testing.T, fs *disk.Mem, _ *Options) {
			snap := firstSnapshot()
			snap.index = 7
			put(t, fs, "snapshots", snapshotName(7, 1), snap.encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := disk.NewMem(disk.MemOptions{})
			opt := options(fs, &register{})
			prepare(t, fs, &opt)
			n, err := Open(t.Context(), opt)
			if _, ok := errors.AsType[*LostLogError](err); !ok {
				if err == nil {
					closeNode(t, n)
				}
				t.Fatalf("open: %v", err)
			}
			if !strings.Contains(err.Error(), "rustmq admin cluster recover") {
				t.Errorf("it does not say what to do: %v", err)
			}
		})
	}
}

func put(t *testing.T, fs disk.FS, dir, name string, content []byte) {
	t.Helper()
	if err := fs.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFileAtomic(fs, dir+"/"+name, content); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptSnapshotIsRefused damages the newest snapshot of a log that was
// compacted: it is neither read nor taken for none.
func TestCorruptSnapshotIsRefused(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	opt := options(fs, &register{})
	opt.SnapshotEntries = 10
	n := start(t, opt)
	for n.Status().Snapshot == 1 {
		if _, err := n.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	closeNode(t, n)
	files := snapshots{fs: fs, dir: "snapshots"}
	names, err := files.names()
	if err != nil {
		t.Fatal(err)
	}
	newest := "snapshots/" + names[len(names)-1]
	content, err := disk.ReadFile(fs, newest)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"one bit": flipped(content), "cut": content[:len(content)/2], "empty": {}} {
		if err := disk.WriteFileAtomic(fs, newest, damaged); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), opt)
		if corrupt, ok := errors.AsType[*CorruptionError](err); !ok || corrupt.File != newest {
			t.Errorf("%s: open: %v", name, err)
		}
	}
	// Gone altogether: the log says that there was one.
	for _, name := range names {
		if err := fs.Remove("snapshots/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), opt); err == nil {
		t.Error("a log without its snapshots was opened")
	}
}

func flipped(content []byte) []byte {
	damaged := append([]byte(nil), content...)
	damaged[len(damaged)-1] ^= 1
	return damaged
}

func TestDirectoryOfAnotherMemberIsRefused(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	closeNode(t, start(t, options(fs, &register{})))
	for name, change := range map[string]func(*Options){
		"another node id":      func(o *Options) { o.NodeID = 2 },
		"another directory id": func(o *Options) { o.Directory = [16]byte{9} },
	} {
		opt := options(fs, &register{})
		change(&opt)
		if n, err := Open(t.Context(), opt); err == nil {
			closeNode(t, n)
			t.Errorf("%s: opened", name)
		}
	}
}

func TestTooManyProposalsAreTurnedAway(t *testing.T) {
	opt := options(disk.NewMem(disk.MemOptions{}), &register{})
	opt.MaxProposals = 2
	n := start(t, opt)
	defer closeNode(t, n)
	var proposals []*Proposal
	for range 1000 {
		proposals = append(proposals, n.Start([]byte("x")))
	}
	busy := 0
	for _, p := range proposals {
		if _, err := p.Wait(t.Context()); errors.Is(err, ErrBusy) {
			busy++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if busy == 0 {
		t.Error("none of 1000 was turned away")
	}
	if _, err := n.Propose(t.Context(), []byte("x")); err != nil {
		t.Errorf("their places did not come back: %v", err)
	}
}

func TestCloseAnswersWhatWaits(t *testing.T) {
	n := start(t, options(disk.NewMem(disk.MemOptions{}), &register{}))
	var proposals []*Proposal
	for range 100 {
		proposals = append(proposals, n.Start([]byte("x")))
	}
	closeNode(t, n)
	for _, p := range proposals {
		if _, err := p.Wait(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	if _, err := n.Propose(t.Context(), []byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("proposal after close: %v", err)
	}
	if err := n.Barrier(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("barrier after close: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	for name, change := range map[string]func(*Options){
		"no id":                  func(o *Options) { o.NodeID = 0 },
		"no state machine":       func(o *Options) { o.StateMachine = nil },
		"no files":               func(o *Options) { o.FS = nil },
		"peers but no network":   func(o *Options) { o.Peers = []uint64{2} },
		"election too impatient": func(o *Options) { o.ElectionTicks, o.HeartbeatTicks = 9, 2 },
	} {
		opt := options(fs, &register{})
		change(&opt)
		if n, err := Open(t.Context(), opt); err == nil {
			closeNode(t, n)
			t.Errorf("%s: opened", name)
		}
	}
}

// TestEntryOutOfOrderIsNotApplied hands the loop what raft never should.
func TestEntryOutOfOrderIsNotApplied(t *testing.T) {
	machine := &register{}
	l := &loop{n: &Node{opt: Options{StateMachine: machine}}, applied: 4}
	e := entryOf(1, 6)
	e.Data = encodeCommand(proposalID{}, []byte("x"))
	if err := l.apply(&raftpb.Message{Entries: []*raftpb.Entry{e}}); err == nil || len(machine.commands) > 0 {
		t.Fatalf("entry 6 was applied behind 4: %v", err)
	}
}

// TestNewLeaderAnswersReadsFromItsOwnTerm: after a restart the commit index
// that raft knows may lie behind what was acknowledged, until the first entry
// of the new term is committed.
func TestNewLeaderAnswersReadsFromItsOwnTerm(t *testing.T) {
	storage := raft.NewMemoryStorage()
	if err := storage.SetHardState(&raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(1)), Commit: new(uint64(0))}); err != nil {
		t.Fatal(err)
	}
	core, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxInflightMsgs: 1,
		Logger: raftLogger{slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	read := &barrier{index: 5, done: func(error) { answers++ }}
	l := &loop{raft: core, leads: true, applied: 10, appliedTerm: 1, reads: map[uint64]*barrier{1: read}}
	l.answerReads()
	if answers != 0 {
		t.Fatal("answered from an earlier term")
	}
	l.appliedTerm = 2
	l.answerReads()
	if answers != 1 {
		t.Fatal("not answered")
	}
}

// TestAnswersToReadsOfAnEarlierProcessAreNone: what a leader has said to the process that this
// one follows confirms less than this one asks, and a name that is none is no harm.
func TestAnswersToReadsOfAnEarlierProcessAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		leader := c.leader()
		c.propose(leader, "a")
		c.agree()
		asks := c.others(leader.opt.NodeID)[0]
		from, to := leader.opt.NodeID, asks.opt.NodeID
		c.isolate(to, true)
		synctest.Wait()
		number, boot := asks.core.numbers+1, asks.core.boot
		read := make(chan error, 1)
		go func() { read <- asks.Barrier(t.Context()) }()
		synctest.Wait()
		answer := func(name []byte) {
			t.Helper()
			m := &raftpb.Message{
				Type: raftpb.MsgReadIndexResp.Enum(), From: new(from), To: new(to), Term: new(leader.Status().Term), Index: new(uint64(1)), Entries: []*raftpb.Entry{{Data: name}},
			}
			if err := asks.Receive(Message{From: memberOf(from), To: memberOf(to), Raft: m}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		name := func(boot uint64) []byte {
			return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, number), boot)
		}
		answer(nil)
		answer(name(boot)[:8])
		answer(name(boot + 1))
		select {
		case err := <-read:
			t.Fatalf("answered by what is none: %v", err)
		default:
		}
		answer(name(boot))
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}
