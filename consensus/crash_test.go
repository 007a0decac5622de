package consensus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
)

// cutter is a disk whose power fails before the call of a given number that
// changes or syncs something.
type cutter struct {
	*disk.Mem
	mu    sync.Mutex
	calls int
	at    int // 0: never
	rng   *rand.Rand
	after *disk.Mem // what the cut has left; nil before
}

func (c *cutter) step() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls++; c.calls == c.at {
		c.after = c.Crash(c.rng)
	}
}

func (c *cutter) Create(name string) (disk.File, error) {
	c.step()
	return c.wrap(c.Mem.Create(name))
}

func (c *cutter) Open(name string) (disk.File, error) { return c.wrap(c.Mem.Open(name)) }

func (c *cutter) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return cutFile{f, c}, nil
}

func (c *cutter) Remove(name string) error     { c.step(); return c.Mem.Remove(name) }
func (c *cutter) Rename(from, to string) error { c.step(); return c.Mem.Rename(from, to) }
func (c *cutter) SyncDir(dir string) error     { c.step(); return c.Mem.SyncDir(dir) }

type cutFile struct {
	disk.File
	c *cutter
}

func (f cutFile) WriteAt(b []byte, off int64) (int, error) { f.c.step(); return f.File.WriteAt(b, off) }
func (f cutFile) Sync() error                              { f.c.step(); return f.File.Sync() }
func (f cutFile) Truncate(size int64) error                { f.c.step(); return f.File.Truncate(size) }
func (f cutFile) WriteSync(bufs [][]byte, off int64) error {
	f.c.step()
	return f.File.WriteSync(bufs, off)
}

// small are options under which little work goes through many segments and
// snapshots.
func small(fs disk.FS, sm StateMachine) Options {
	opt := options(fs, sm)
	opt.SnapshotEntries = 8
	return opt
}

// work proposes until it has done its share or the node is dead, and returns
// what was acknowledged. What a full log turns away it proposes again.
func work(t *testing.T, n *Node, from, count int) (acked []string) {
	t.Helper()
	for i := from; i < from+count; {
		var batch []*Proposal
		var commands []string
		for j := range 3 {
			commands = append(commands, fmt.Sprintf("%d %s", i+j, strings.Repeat("x", (i+j)%5*1000)))
			batch = append(batch, n.Start([]byte(commands[j])))
		}
		for j, p := range batch {
			_, err := p.Wait(t.Context())
			dead := isDead(err)
			for errors.Is(err, wal.ErrFull) && !dead {
				runtime.Gosched()
				_, err = n.Propose(t.Context(), []byte(commands[j]))
				dead = isDead(err)
			}
			if dead || errors.Is(err, wal.ErrNoSegment) {
				return acked
			}
			if err != nil {
				t.Fatalf("propose: %v", err)
			}
			acked = append(acked, commands[j])
			i++
		}
	}
	return acked
}

func isDead(err error) bool {
	_, dead := errors.AsType[*DeadError](err)
	return dead
}

// TestAckedProposalSurvivesPowerCut cuts the power at every third call to the
// disk, from the first start on; twice in a row, for the second cut meets what the
// first recovery did. Whatever was acknowledged is there once.
func TestAckedProposalSurvivesPowerCut(t *testing.T) {
	seed := seeded.Seed(t)
	whole := &cutter{Mem: disk.NewMem(disk.MemOptions{})}
	n := start(t, small(whole, &register{}))
	work(t, n, 0, 60)
	closeNode(t, n)
	const step = 3 // the seed says which third
	for at := 1 + int(seed%step); at <= whole.calls; at += step {
		// A node waits for room for as long as it may: not in a test's time.
		synctest.Test(t, func(t *testing.T) { survivesCut(t, seed, at) })
	}
}

func survivesCut(t *testing.T, seed uint64, at int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, uint64(at)))
	disks := &cutter{Mem: disk.NewMem(disk.MemOptions{}), at: at, rng: rng}
	acked := untilCut(t, disks, 0)
	if disks.after == nil {
		return // this run needed fewer calls
	}
	again := &cutter{Mem: disks.after, at: 1 + rng.IntN(40), rng: rng}
	acked = append(acked, untilCut(t, again, 1000)...)
	found := again.after
	if found == nil {
		found = again.Mem
	}
	machine := &register{}
	n, err := Open(t.Context(), small(found, machine))
	if err != nil {
		t.Fatalf("cut at call %d: open: %v", at, err)
	}
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatalf("cut at call %d: barrier: %v", at, err)
	}
	closeNode(t, n)
	checkKept(t, at, acked, machine.commands)
}

// untilCut opens a node and lets it work until the power fails or the work is
// done.
func untilCut(t *testing.T, fs *cutter, from int) (acked []string) {
	t.Helper()
	n, err := Open(t.Context(), small(fs, &register{}))
	if err != nil {
		if fs.after == nil {
			t.Fatalf("open on a good disk: %v", err)
		}
		return nil
	}
	if err := n.Barrier(t.Context()); err == nil {
		acked = work(t, n, from, 60)
	}
	if err := n.Close(); err != nil && fs.after == nil {
		t.Fatalf("close on a good disk: %v", err)
	}
	return acked
}

func checkKept(t *testing.T, at int, acked, kept []string) {
	t.Helper()
	times := map[string]int{}
	for _, command := range kept {
		times[command]++
	}
	for i, command := range acked {
		if times[command] != 1 {
			t.Fatalf("cut at call %d: acknowledged command %d of %d (%q) is there %d times", at, i, len(acked), command, times[command])
		}
	}
}

// TestKilledProcessLosesNothing: SIGKILL keeps the page cache.
func TestKilledProcessLosesNothing(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	n := start(t, small(fs, &register{}))
	acked := work(t, n, 0, 300)
	left := fs.Clone()
	closeNode(t, n)
	machine := &register{}
	closeNode(t, start(t, small(left, machine)))
	checkKept(t, 0, acked, machine.commands)
}

// TestFailedWriteEndsTheNode: it is not tried again, whoever waits is told, and
// what was acknowledged is there after a restart.
func TestFailedWriteEndsTheNode(t *testing.T) {
	fs := &cutter{Mem: disk.NewMem(disk.MemOptions{}), rng: rand.New(rand.NewPCG(1, 1))}
	dead := make(chan error, 1)
	opt := small(fs, &register{})
	opt.OnDead = func(err error) { dead <- err }
	n := start(t, opt)
	acked := work(t, n, 0, 3)
	fs.mu.Lock()
	fs.at = fs.calls + 1
	fs.mu.Unlock()
	acked = append(acked, work(t, n, 3, 1000)...)
	if err := <-dead; !errors.Is(err, unix.EIO) {
		t.Errorf("it died of %v", err)
	}
	if err := n.Close(); err == nil {
		t.Error("close of a dead log says nothing")
	}
	machine := &register{}
	closeNode(t, start(t, small(fs.after, machine)))
	checkKept(t, 0, acked, machine.commands)
}

// TestLogGoesRoundItsSegments proposes many times the log's capacity: snapshots
// let segments go, and what is live in an old one is copied forward.
func TestLogGoesRoundItsSegments(t *testing.T) {
	// A node waits for room for as long as it may, and then ends: not in a machine's time.
	synctest.Test(t, func(t *testing.T) {
		fs := disk.NewMem(disk.MemOptions{})
		opt := small(fs, &register{})
		opt.SnapshotEntries = 40
		n := start(t, opt)
		acked := work(t, n, 0, 3000)
		synctest.Wait() // the segments that are let go of are recycled
		if s := n.wal.Stats(); len(acked) < 3000 || s.Recycled < 5 || s.AllocatedBytes > opt.LogCapacity {
			t.Errorf("%d were acknowledged, %+v", len(acked), s)
		}
		closeNode(t, n)
		machine := &register{}
		opt.StateMachine = machine
		closeNode(t, start(t, opt))
		checkKept(t, 0, acked, machine.commands)
	})
}

// stalled is a disk whose commits wait while it is held.
type stalled struct {
	*disk.Mem
	mu   sync.Mutex
	held chan struct{} // nil: nothing waits
}

func (s *stalled) Create(name string) (disk.File, error) {
	f, err := s.Mem.Create(name)
	if err != nil {
		return nil, err
	}
	return stalledFile{f, s}, nil
}

type stalledFile struct {
	disk.File
	s *stalled
}

func (f stalledFile) WriteSync(bufs [][]byte, off int64) error {
	f.s.mu.Lock()
	held := f.s.held
	f.s.mu.Unlock()
	if held != nil {
		<-held
	}
	return f.File.WriteSync(bufs, off)
}

func (s *stalled) hold() (letGo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	}
}

// TestManyProposalsShareASync: whatever comes while the disk is busy goes there
// together. Counts, not time.
func TestManyProposalsShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &stalled{Mem: disk.NewMem(disk.MemOptions{})}
		opt := options(fs, &register{})
		opt.LogCapacity = 64 << 20 // no snapshot meanwhile
		n := start(t, opt)
		defer closeNode(t, n)
		synctest.Wait() // the spares are ready
		before := n.wal.Stats()
		letGo := fs.hold()
		var proposals []*Proposal
		for range 1000 {
			proposals = append(proposals, n.Start([]byte("x")))
		}
		synctest.Wait() // all are in the log, and none on the disk
		letGo()
		for _, p := range proposals {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		after := n.wal.Stats()
		// One for what was there first, one for the rest, and those of the
		// boundaries of segments.
		if syncs := after.Syncs - before.Syncs; syncs > 4 {
			t.Errorf("%d syncs for 1000 proposals", syncs)
		}
		if appends := after.Appends - before.Appends; appends > 1000+2 {
			t.Errorf("%d frames for 1000 proposals", appends)
		}
		before = after
		if _, err := n.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if frames := n.wal.Stats().Appends - before.Appends; frames != 1 {
			t.Errorf("%d frames for one proposal: a commit index alone is not written", frames)
		}
	})
}

func BenchmarkPropose(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("in-flight=%d", inFlight), func(b *testing.B) {
			fs, err := disk.OpenOS(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			opt := options(fs, &counter{})
			opt.LogCapacity = 0
			n, err := Open(b.Context(), opt)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = n.Close() }()
			if err := n.Barrier(b.Context()); err != nil {
				b.Fatal(err)
			}
			command := []byte(strings.Repeat("x", 200))
			queue := make(chan *Proposal, inFlight)
			b.ReportAllocs()
			for b.Loop() {
				if len(queue) == inFlight {
					if _, err := (<-queue).Wait(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				queue <- n.Start(command)
			}
		})
	}
}

// counter is a state machine that costs nothing.
type counter struct{}

func (counter) Apply(uint64, []byte) (any, error) { return nil, nil }
func (counter) Snapshot() func() []byte           { return func() []byte { return []byte("counter") } }
func (counter) Restore([]byte) error              { return nil }

// TestSegmentThatCannotBeMadeIsNoDeath: nothing in the log is touched by it, so
// proposals are refused, and taken again once the disk gives segments.
func TestSegmentThatCannotBeMadeIsNoDeath(t *testing.T) {
	for _, cause := range []error{unix.EIO, unix.ENOSPC} {
		t.Run(cause.Error(), func(t *testing.T) {
			fs := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
			machine := &register{}
			opt := small(fs, machine)
			opt.SnapshotEntries = 1 << 30
			n := start(t, opt)
			fs.Set(disk.Rule{Op: disk.OpCreate, Name: "*/segment-*", Err: cause})
			command := strings.Repeat("x", 4000)
			var err error
			for i := 0; err == nil; i++ {
				if _, err = n.Propose(t.Context(), []byte(command)); i == 10_000 {
					t.Fatal("nothing bounds the log")
				}
			}
			if isDead(err) || !errors.Is(err, cause) {
				t.Fatalf("where no segment can be made: %v", err)
			}
			fs.Set()
			for _, err = n.Propose(t.Context(), []byte("again")); err != nil; _, err = n.Propose(t.Context(), []byte("again")) {
				if isDead(err) || t.Context().Err() != nil {
					t.Fatalf("once they can be made again: %v", err)
				}
				runtime.Gosched()
			}
			closeNode(t, n)
		})
	}
}
