package broker

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
)

// gatedFS is a disk whose durable writes a test can hold up.
type gatedFS struct {
	disk.FS
	mu   sync.Mutex
	gate chan struct{} // nil: they go through
}

func (g *gatedFS) Create(name string) (disk.File, error) { return g.wrap(g.FS.Create(name)) }
func (g *gatedFS) Open(name string) (disk.File, error)   { return g.wrap(g.FS.Open(name)) }

func (g *gatedFS) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return gatedFile{f, g}, nil
}

type gatedFile struct {
	disk.File
	fs *gatedFS
}

func (f gatedFile) WriteSync(bufs [][]byte, off int64) error {
	f.fs.mu.Lock()
	gate := f.fs.gate
	f.fs.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return f.File.WriteSync(bufs, off)
}

func (g *gatedFS) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gate == nil {
		g.gate = make(chan struct{})
	}
}

func (g *gatedFS) let() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gate != nil {
		close(g.gate)
	}
	g.gate = nil
}

// gated is brokers on disks that can be held up.
type gated struct {
	*replicated
	disks map[int32]*gatedFS
}

func startGated(t *testing.T, n int32, change ...func(*Options)) *gated {
	c := &gated{startReplicas(t, 0), map[int32]*gatedFS{}}
	for id := int32(1); id <= n; id++ {
		c.controller.replicas = append(c.controller.replicas, id)
		c.begin(id, disk.NewMem(disk.MemOptions{}), change...)
	}
	return c
}

func (c *gated) begin(id int32, fs *disk.Mem, change ...func(*Options)) {
	gate := &gatedFS{FS: fs}
	c.t.Cleanup(gate.let)
	m := c.start(id, fs, append(change, func(o *Options) {
		o.Store.Close()
		o.Store = openStore(c.t, gate)
		c.t.Cleanup(gate.let) // before the store is closed
	})...)
	m.store, c.disks[id] = m.options.Store, gate
}

func (c *gated) hold() {
	for _, g := range c.disks {
		g.hold()
	}
}

// powerCut ends a broker with what is on its disk, without the controller being told.
func (c *gated) powerCut(id int32) *disk.Mem {
	c.t.Helper()
	left := c.nodes[id].fs.Crash(rand.New(rand.NewPCG(7, uint64(id))))
	c.disks[id].let()
	c.kill(id)
	return left
}

func unclean(o *Options) { o.UncleanEnd = true }

// TestAPowerCutOfOneLosesNothingOfAMemoryTopic: acks came before any disk had the records;
// the others had them, and the one that lost them leads no more, and is out of sync
// until it has them again.
func TestAPowerCutOfOneLosesNothingOfAMemoryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startGated(t, 3)
		c.createTopic("events", "rustmq.durability", "memory")
		if code := c.produce(c.leader("events"), "events", -1, numbered("a", 5)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		before := c.partition("events")
		time.Sleep(time.Second)
		c.hold()
		if code := c.produce(c.leader("events"), "events", -1, numbered("b", 5)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		if got := content(t, c.log(before.Leader, "events")); len(got) != 10 {
			t.Fatalf("consumers see %v", got)
		}
		fs := c.powerCut(before.Leader)
		c.eventually("another leads", func() bool { p := c.partition("events"); return p.Leader != before.Leader && p.Leader > 0 })
		c.eventually("it takes batches", func() bool { return c.produce(c.leader("events"), "events", -1, "c0") == 0 })
		after := c.partition("events")
		if after.LeaderEpoch <= before.LeaderEpoch {
			t.Fatalf("epoch %d after %d", after.LeaderEpoch, before.LeaderEpoch)
		}
		c.begin(before.Leader, fs, unclean)
		c.eventually("it is back in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.same("events", 1, 2, 3)
		want := slices.Concat(numbered("a", 5), numbered("b", 5), []string{"c0"})
		if got := content(t, c.log(before.Leader, "events")); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
	})
}

// TestAPowerCutOfAllEndsTheEpochOfAMemoryTopic: what no disk had is lost, consumed or not, and
// its offsets are given to other records only under another epoch; whoever has more than
// the one that then leads, or other records, gives them up.
func TestAPowerCutOfAllEndsTheEpochOfAMemoryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startGated(t, 3)
		c.createTopic("events", "rustmq.durability", "memory")
		c.produce(c.leader("events"), "events", -1, numbered("a", 5)...)
		before := c.partition("events")
		time.Sleep(time.Second)
		for id, g := range c.disks { // one disk will have more than the others
			if id != 1 {
				g.hold()
			}
		}
		if code := c.produce(c.leader("events"), "events", -1, numbered("b", 5)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		time.Sleep(time.Second)
		c.isolate(1) // it has all that was acked, and is not known to
		left := map[int32]*disk.Mem{2: c.powerCut(2), 3: c.powerCut(3)}
		for id, fs := range left {
			c.begin(id, fs, unclean)
		}
		c.eventually("one leads", func() bool { return c.partition("events").Leader > 1 })
		for id := range left {
			c.setCut(1, id, false)
			c.setCut(id, 1, false)
		}
		c.nodes[1].hears.reach(true)
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		after := c.partition("events")
		if after.LeaderEpoch <= before.LeaderEpoch {
			t.Fatalf("epoch %d after %d", after.LeaderEpoch, before.LeaderEpoch)
		}
		if code := c.produce(c.leader("events"), "events", -1, numbered("c", 3)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		want := slices.Concat(numbered("a", 5), numbered("c", 3))
		for id := range c.nodes {
			l := c.log(id, "events")
			c.eventually("it has what the leader has", func() bool { return l.HighWatermark() == 8 })
			if got := content(t, l); !slices.Equal(got, want) {
				t.Errorf("broker %d has %v", id, got)
			}
			if epoch, end := l.EpochEnd(before.LeaderEpoch); epoch != before.LeaderEpoch || end != 5 {
				t.Errorf("broker %d: epoch %d is said to be %d, and to end at %d", id, before.LeaderEpoch, epoch, end)
			}
		}
	})
}

// TestInternalTopicsAreNotKeptInMemory, whatever somebody has set.
func TestInternalTopicsAreNotKeptInMemory(t *testing.T) {
	n := startNode(t)
	for _, internal := range []bool{false, true} {
		topic := &metadata.Topic{Name: "t", Internal: internal, Configs: map[string]string{"rustmq.durability": "memory"}}
		is := &metadata.Partition{Replicas: []int32{1}}
		if got := n.logConfig(topic, is).EarlyAcks; got == internal {
			t.Errorf("internal %v: acks come early: %v", internal, got)
		}
	}
}

// TestCoordinatorsWaitForNoBucket (RULES 4.4): their topics stay in the WAL whatever somebody has set; the
// audit log goes to the bucket.
func TestCoordinatorsWaitForNoBucket(t *testing.T) {
	n := startNode(t)
	for name, want := range map[string]bool{offsetsTopic: true, transactionsTopic: true, AuditTopic: false} {
		for _, policy := range []string{"delete", "compact,delete"} {
			topic := &metadata.Topic{Name: name, Internal: true, Configs: map[string]string{"cleanup.policy": policy}}
			if got := n.logConfig(topic, &metadata.Partition{Replicas: []int32{1}}).KeepLocal; got != want {
				t.Errorf("%s, cleanup.policy %s: it stays in the WAL: %v", name, policy, got)
			}
		}
	}
}
