package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

func TestReign(t *testing.T) {
	at := func(leader, term uint64) consensus.Status { return consensus.Status{Leader: leader, Term: term} }
	var r reign
	for i, step := range []struct {
		status       consensus.Status
		begins, ends bool
	}{
		{at(0, 0), false, false},
		{at(2, 1), false, false},
		{at(1, 2), true, false},
		{at(1, 2), false, false},
		{at(1, 4), true, true}, // lost and won again, unseen
		{at(0, 4), false, true},
		{at(0, 5), false, false},
		{at(1, 6), true, false},
		{at(3, 7), false, true},
	} {
		if begins, ends := r.step(1, step.status); begins != step.begins || ends != step.ends {
			t.Errorf("step %d, %+v: begins %v, ends %v", i, step.status, begins, ends)
		}
	}
}

// group is several controllers, joined by a network in memory. It lives in a synctest
// bubble.
type group struct {
	t       *testing.T
	options func(*Options) // of each; nil: none of its own
	said    *lines

	mu    sync.Mutex
	doors map[uint64]consensus.Receiver
	cut   map[uint64]bool // nothing reaches them, and they reach nobody
	fs    map[uint64]*disk.Mem
	begun map[uint64]bool
	all   map[uint64]*Controller
}

// lane is the network of one controller.
type lane struct {
	g    *group
	from uint64
}

func (l lane) door(to uint64) consensus.Receiver {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.g.cut[to] || l.g.cut[l.from] {
		return nil
	}
	return l.g.doors[to]
}

func (l lane) Attach(r consensus.Receiver) {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	l.g.doors[l.from] = r
}

func (l lane) Send(m consensus.Message) {
	err := errors.New("nobody is there")
	if door := l.door(m.To.ID); door != nil {
		m.Raft = proto.Clone(m.Raft).(*raftpb.Message)
		err = door.Receive(m)
	}
	l.g.mu.Lock()
	own := l.g.doors[l.from]
	l.g.mu.Unlock()
	switch {
	case own == nil:
	case m.Raft.GetType() == raftpb.MsgSnap:
		own.SnapshotSent(m.To.ID, err)
	case err != nil:
		own.Unreachable(m.To.ID)
	}
}

func (l lane) Hello(_ context.Context, peer uint64) (consensus.Hello, error) {
	if door := l.door(peer); door != nil {
		return door.Hello()
	}
	return consensus.Hello{}, errors.New("nobody is there")
}

// inGroup runs a test with three controllers.
func inGroup(t *testing.T, options func(*Options), test func(t *testing.T, g *group)) {
	synctest.Test(t, func(t *testing.T) {
		g := &group{
			t: t, options: options, said: &lines{}, doors: map[uint64]consensus.Receiver{}, cut: map[uint64]bool{},
			fs: map[uint64]*disk.Mem{}, begun: map[uint64]bool{}, all: map[uint64]*Controller{},
		}
		g.open(1, 2, 3)
		defer func() {
			for id := range g.all {
				g.close(id)
			}
		}()
		test(t, g)
	})
}

// open starts controllers side by side, as a first start waits for the others.
func (g *group) open(ids ...uint64) {
	g.t.Helper()
	var opening sync.WaitGroup
	for _, id := range ids {
		if g.fs[id] == nil {
			g.fs[id] = disk.NewMem(disk.MemOptions{})
		}
		opt := Options{
			NodeID: int32(id), Directory: [16]byte{byte(id)}, FS: g.fs[id], LogCapacity: memoryLogCapacity, Network: lane{g, id},
			BrokerSession: 10 * time.Second, Log: slog.New(slog.NewTextHandler(g.said, nil)).With("node", id),
			OnDead: func(err error) { g.t.Errorf("controller %d is dead: %v", id, err) },
		}
		for _, other := range []uint64{1, 2, 3} {
			if other != id {
				opt.Peers = append(opt.Peers, other)
			}
		}
		if g.options != nil {
			g.options(&opt)
		}
		opening.Go(func() {
			c, err := Open(context.Background(), opt)
			g.mu.Lock()
			defer g.mu.Unlock()
			if err != nil {
				g.t.Errorf("open controller %d: %v", id, err)
				return
			}
			g.all[id] = c
		})
	}
	opening.Wait()
	if g.t.Failed() {
		g.t.FailNow()
	}
}

func (g *group) close(id uint64) {
	g.t.Helper()
	c := g.all[id]
	delete(g.all, id)
	g.mu.Lock()
	delete(g.doors, id)
	g.mu.Unlock()
	if err := c.Close(); err != nil {
		g.t.Errorf("close controller %d: %v", id, err)
	}
}

// isolate cuts a controller off, or lets it back.
func (g *group) isolate(id uint64, cut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut[id] = cut
}

// leader returns the one that decides, which it waits for; others than that are asked.
func (g *group) leader(others ...uint64) *Controller {
	g.t.Helper()
	for range 300 {
		for id, c := range g.all {
			if !slices.Contains(others, id) && c.leads() == nil {
				return c
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.t.Fatalf("nobody leads:\n%s", g.said.text.String())
	return nil
}

func (g *group) follower() *Controller {
	g.t.Helper()
	leader := g.leader()
	for _, c := range g.all {
		if c != leader {
			return c
		}
	}
	g.t.Fatal("no follower")
	return nil
}

// agree waits until all have applied the same, and compares them (promise 10).
func (g *group) agree() {
	g.t.Helper()
	time.Sleep(5 * time.Second)
	var want []byte
	for id, c := range g.all {
		got := c.state.Image().Snapshot()
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			g.t.Errorf("controller %d has another state", id)
		}
	}
}

func TestGroupMakesOneCluster(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		leader := g.leader()
		for id, c := range g.all {
			if !c.Ready() || c.Image().ClusterID() == "" || c.Image().ClusterID() != leader.Image().ClusterID() {
				t.Errorf("controller %d: ready %v, cluster %q", id, c.Ready(), c.Image().ClusterID())
			}
			if c.Image().ControllerID() != leader.opt.NodeID {
				t.Errorf("controller %d says that %d leads", id, c.Image().ControllerID())
			}
		}
		if n := g.said.count("cluster made"); n != 1 {
			t.Errorf("%d clusters were made", n)
		}
		g.agree()
	})
}

// Subscribers hear who leads as it changes, though nothing is decided meanwhile.
func TestSubscribersHearWhoLeads(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		old := g.leader()
		var mu sync.Mutex
		var heard []int32
		cancel := g.follower().Subscribe(func(image *metadata.Image) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, image.ControllerID())
		})
		defer cancel()
		g.agree()
		g.close(uint64(old.opt.NodeID))
		next := g.leader()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(heard) < 2 || heard[0] != old.opt.NodeID || heard[len(heard)-1] != next.opt.NodeID {
			t.Errorf("heard of leaders %v; %d led, and %d does", heard, old.opt.NodeID, next.opt.NodeID)
		}
	})
}

// What only the leader knows, only the leader answers: a follower that took a heartbeat
// would let a dead broker live, and one that checks a request would judge by old state.
func TestOnlyTheLeaderDecides(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		leader := g.leader()
		epoch := register(t, leader, 1, 1)
		topic := create(t, leader, defaults("t"))
		if topic.Err != nil {
			t.Fatal(topic.Err)
		}
		g.agree()
		f, ctx := g.follower(), t.Context()
		_, registered := f.RegisterBroker(ctx, Registration{BrokerID: 2, ClusterID: "another"})
		_, _, ids := f.AllocateProducerIDs(ctx, 1, epoch)
		for what, err := range map[string]error{
			"heartbeat":   f.Heartbeat(ctx, 1, epoch),
			"register":    registered,
			"fence":       f.FenceBroker(ctx, 1, epoch),
			"ids":         ids,
			"create":      create(t, f, defaults("t")).Err,
			"validate":    f.CreateTopics(ctx, []NewTopic{defaults("u")}, true)[0].Err,
			"delete":      f.DeleteTopics(ctx, []TopicRef{{Name: "absent"}})[0].Err,
			"partitions":  f.CreatePartitions(ctx, "absent", 4, nil, false),
			"configs":     f.AlterConfigs(ctx, []ConfigChange{{Type: metadata.TopicResource, Name: "t"}}, true)[0],
			"quotas":      f.AlterClientQuotas(ctx, []QuotaChange{{}}, true)[0],
			"isr":         f.AlterPartitions(ctx, 1, epoch, []PartitionChange{{}})[0],
			"elect":       f.ElectLeaders(ctx, []LeaderElection{{}})[0],
			"reassign":    f.ReassignPartitions(ctx, []Reassignment{{}})[0],
			"drain":       f.DrainBroker(ctx, 1, true),
			"unregister":  f.UnregisterBroker(ctx, 1),
			"controller":  f.RegisterController(ctx, metadata.ControllerNode{}),
			"uncontrol":   f.UnregisterController(ctx, 9),
			"log start":   f.AdvanceLogStart(ctx, 1, epoch, []LogStart{{}})[0],
			"move starts": f.MoveLogStarts(ctx, []LogStart{{}})[0],
		} {
			wantCode(t, what, err, metadata.NotController)
		}
	})
}

// A leader that is cut off decides nothing any more; another one goes on, and hears every
// broker for a whole session before it fences one.
func TestNewLeaderGivesEachBrokerASession(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		old := g.leader()
		epoch := register(t, old, 1, 1)
		register(t, old, 2, 1)
		for range 8 { // broker 2 is silent from here on, for less than a session
			time.Sleep(time.Second)
			if err := old.Heartbeat(t.Context(), 1, epoch); err != nil {
				t.Fatal(err)
			}
		}
		g.isolate(uint64(old.opt.NodeID), true)
		next := g.leader(uint64(old.opt.NodeID))
		began := time.Now()
		time.Sleep(9 * time.Second)
		for _, id := range []int32{1, 2} {
			if b, ok := next.Image().Broker(id); !ok || b.Fenced {
				t.Errorf("broker %d %s into the reign: %+v", id, time.Since(began), b)
			}
		}
		wantCode(t, "heartbeat at the old leader", old.Heartbeat(t.Context(), 1, epoch), metadata.NotController)
		if err := next.Heartbeat(t.Context(), 1, epoch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if b, _ := next.Image().Broker(1); b.Fenced {
			t.Error("broker 1 was heard of, and is fenced")
		}
		if b, _ := next.Image().Broker(2); !b.Fenced {
			t.Error("broker 2 is silent for a session, and in service")
		}
		g.isolate(uint64(old.opt.NodeID), false)
		g.agree()
		wantCode(t, "create at the old leader", create(t, old, defaults("t")).Err, metadata.NotController)
	})
}

// A member that comes up without the others opens, and is ready once they are there.
func TestOpenWithoutAMajority(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		cluster := g.leader().Image().ClusterID()
		for _, id := range []uint64{1, 2, 3} {
			g.close(id)
		}
		began := time.Now()
		g.open(2)
		if waited := time.Since(began); waited > openPatience+time.Second {
			t.Errorf("open took %s", waited)
		}
		c := g.all[2]
		if c.Ready() || c.leads() == nil {
			t.Fatal("ready, alone of three")
		}
		wantCode(t, "heartbeat", c.Heartbeat(t.Context(), 1, 1), metadata.NotController)
		g.open(1)
		g.leader()
		g.agree()
		if !c.Ready() || c.Image().ClusterID() != cluster {
			t.Errorf("ready %v, with a majority, in cluster %q", c.Ready(), c.Image().ClusterID())
		}
	})
}

// A node of another cluster does not go on as if it were of this one.
func TestMemberOfAnotherClusterEnds(t *testing.T) {
	inGroup(t, nil, func(t *testing.T, g *group) {
		g.leader()
		g.close(3)
		c, err := Open(t.Context(), Options{
			NodeID: 3, ClusterID: "another", Directory: [16]byte{3}, FS: g.fs[3], LogCapacity: memoryLogCapacity, Network: lane{g, 3}, Peers: []uint64{1, 2},
			Log: slog.New(slog.DiscardHandler),
		})
		if metadata.CodeOf(err) != metadata.InconsistentClusterID {
			t.Fatalf("open: %v, %v", c, err)
		}
		g.mu.Lock()
		delete(g.doors, 3)
		g.mu.Unlock()
	})
}

// One bucket for all: whoever leads next finds what the one before has put there, and
// goes on; nobody is fenced.
func TestNextLeaderShipsOn(t *testing.T) {
	shared := bucket.NewMemory()
	options := func(o *Options) {
		o.Bucket = &BucketOptions{
			Bucket: shared, Prefix: "p", Deadline: keptDeadline, Grace: keptGrace, Audit: keptAudit,
			Retention: 30 * time.Second, MetadataLog: time.Minute,
		}
	}
	inGroup(t, options, func(t *testing.T, g *group) {
		var gone []uint64
		for round := range 4 {
			leader := g.leader(gone...)
			time.Sleep(5 * time.Second) // it looks for its bucket
			is, set := leader.Image().Bucket()
			if !set {
				t.Fatalf("round %d: no bucket: %v", round, leader.BucketHealth())
			}
			epoch, err := leader.RegisterBroker(t.Context(), Registration{BrokerID: 1, Incarnation: [16]byte{byte(round + 1)}, Directory: [16]byte{1}, BucketNonce: is.Nonce})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := leader.PrepareObjects(t.Context(), 1, epoch, 3); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if err := leader.keeper().shipper.Await(t.Context(), leader.Image().Offset()); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			for id, c := range g.all {
				if err := c.BucketHealth(); err != nil {
					t.Errorf("round %d: controller %d: %v", round, id, err)
				}
			}
			for _, id := range gone {
				g.isolate(id, false)
			}
			gone = []uint64{uint64(leader.opt.NodeID)}
			g.isolate(gone[0], true)
		}
		if n := g.said.count("not ours alone"); n > 0 {
			t.Error(fmt.Sprint(n, " were fenced"))
		}
	})
}

// The feature level is what all members and brokers have said to know.
func TestKnownLevel(t *testing.T) {
	state, index := metadata.NewState(), uint64(0)
	apply := func(body proto.Message) {
		t.Helper()
		command, err := metadata.Encode(state.Image(), body)
		if err != nil {
			t.Fatal(err)
		}
		index++
		if result, err := state.Apply(index, command); err != nil || metadata.Refused(result) != nil {
			t.Fatal(result, err)
		}
	}
	member := func(id uint64) consensus.MemberStatus {
		return consensus.MemberStatus{Member: consensus.Member{ID: id, Directory: [16]byte{byte(id)}}}
	}
	want := func(what string, want uint32, members ...consensus.MemberStatus) {
		t.Helper()
		if got := knownLevel(state.Image(), 1, members); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LineageFeatureLevel})
	want("alone, of before", metadata.LatestFeatureLevel, member(1))
	want("two, of before", 0, member(1), member(2))
	apply(&pb.SetFeatureLevel{Level: metadata.ClusterFeatureLevel})
	apply(metadata.NewRegisterController(metadata.ControllerNode{ID: 2, Directory: [16]byte{2}, Raft: "h:1", Controller: "h:2", MaxFeatureLevel: 99}))
	want("both", metadata.LatestFeatureLevel, member(1), member(2))
	want("one that has not said", 0, member(1), member(2), member(3))
	other := member(2)
	other.Directory[1] = 1
	want("one that was another before", 0, member(1), other)
	apply(&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16)})
	want("a broker that has not said", 0, member(1), member(2))
}
