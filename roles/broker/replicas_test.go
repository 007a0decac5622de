package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/rpc"
)

func (c *testController) ReportLoad(_ context.Context, id int32, epoch int64, syncs time.Duration, loads []controller.PartitionLoad) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loads, c.syncs = loads, syncs
	c.reports++
	return c.refuse
}

func (c *testController) ReportEnds(_ context.Context, brokerID int32, epoch int64, ends []metadata.PartitionEnd) error {
	_, err := c.propose(metadata.NewReportEnds(brokerID, epoch, ends))
	return err
}

func (c *testController) GiveUpReplicas(_ context.Context, brokerID int32, epoch int64, partitions []storage.PartitionID) []error {
	if c.giveUpFails.Add(-1) >= 0 {
		return slices.Repeat([]error{errors.New("it is not reached")}, len(partitions))
	}
	c.giveUpFails.Store(0)
	c.givenUp.Add(int64(len(partitions)))
	result, err := c.propose(metadata.NewGiveUpReplicas(brokerID, epoch, partitions))
	if err == nil {
		return result.(metadata.PartitionResults)
	}
	return slices.Repeat([]error{err}, len(partitions))
}

func (c *testController) AlterPartitions(_ context.Context, brokerID int32, epoch int64, changes []metadata.PartitionChange) []error {
	result, err := c.propose(metadata.NewAlterPartitions(brokerID, epoch, changes))
	if err == nil {
		return result.(metadata.PartitionResults)
	}
	return slices.Repeat([]error{err}, len(changes))
}

// replicated is brokers with one controller, and the wires between them, in a bubble.
type replicated struct {
	t          *testing.T
	controller *testController
	nodes      map[int32]*member
	disk       *disk.Faulty // of the next that is started with a tiered store; nil: what it is given
	forgets    bool         // what brokers append is soon only on their disks; before they are started

	mu    sync.Mutex
	doors map[string]*bufconn.Listener
	cut   map[[2]int32]bool    // nothing that the first sends reaches the second
	late  func() time.Duration // what is sent to a follower takes so long; nil: no time
}

// member is one broker.
type member struct {
	*node
	hears  *hearing
	server *grpc.Server
}

func startReplicas(t *testing.T, n int32, change ...func(*Options)) *replicated {
	c := &replicated{t: t, controller: newTestController(t), nodes: map[int32]*member{}, doors: map[string]*bufconn.Listener{}, cut: map[[2]int32]bool{}}
	c.controller.replicas = nil
	for id := int32(1); id <= n; id++ {
		c.controller.replicas = append(c.controller.replicas, id)
		c.start(id, disk.NewMem(disk.MemOptions{}), change...)
	}
	return c
}

// start starts a broker on a disk.
func (c *replicated) start(id int32, fs *disk.Mem, change ...func(*Options)) *member {
	m := &member{node: &node{t: c.t, controller: c.controller, fs: fs, store: openStore(c.t, fs)}, hears: &hearing{testController: c.controller}}
	m.options = Options{
		NodeID: id, Store: m.store, Controller: m.hears, Heartbeat: 200 * time.Millisecond, Now: time.Now,
		Listeners: []metadata.Listener{
			{Name: "kafka", Host: "127.0.0.1", Port: 9092 + id, Protocol: "PLAINTEXT"},
			{Name: metadata.PeerListener, Host: fmt.Sprint("broker-", id), Port: 9093},
		},
		Replication: &Replication{LagTime: 2 * time.Second, Lease: time.Second, Dial: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return c.dial(ctx, id, to) }),
		}},
	}
	for _, f := range change {
		f(&m.options)
	}
	switch isTiered := m.options.Store == nil; {
	case c.forgets:
		m.store.Close()
		m.store = openStoreWith(c.t, fs, log.Options{Tiered: isTiered, WAL: wal.Options{ChunkSize: 256 << 10, Memory: 2 << 20}})
		m.options.Store = m.store
	case isTiered:
		m.store.Close()
		var on disk.FS = fs
		if c.disk != nil {
			on = c.disk
		}
		m.store = openTieredStore(c.t, on)
		m.options.Store = m.store
	}
	if m.options.Store != m.store {
		m.store.Close()
		m.store = m.options.Store
	}
	m.open()
	c.serve(id, m)
	c.nodes[id] = m
	return m
}

// serve takes what others push. It ends before the broker does.
func (c *replicated) serve(id int32, m *member) {
	m.server = grpc.NewServer(grpc.ForceServerCodecV2(rpc.NewCodec()), grpc.MaxRecvMsgSize(rpc.MaxPush+1<<20))
	m.ServeReplication(m.server)
	door := bufconn.Listen(1 << 20)
	c.mu.Lock()
	c.doors[fmt.Sprintf("broker-%d:9093", id)] = door
	c.mu.Unlock()
	server := m.server
	go server.Serve(door)
	c.t.Cleanup(server.Stop)
}

func (c *replicated) dial(ctx context.Context, from int32, to string) (net.Conn, error) {
	var id int32
	fmt.Sscanf(to, "broker-%d:", &id)
	c.mu.Lock()
	door, cut := c.doors[to], c.cut[[2]int32{from, id}] || c.cut[[2]int32{id, from}]
	c.mu.Unlock()
	if door == nil || cut {
		return nil, errors.New("nobody listens")
	}
	conn, err := door.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyWire{Conn: conn, c: c, from: from, to: id}, nil
}

// faultyWire is the dialer's end of a connection, which may be cut in each direction: what is
// sent is swallowed, what would come is not given out. A connection that has lost
// something is reset when it is cut no more.
type faultyWire struct {
	net.Conn
	lost     atomic.Bool
	c        *replicated
	from, to int32
}

func (w *faultyWire) isCut(from, to int32) bool {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	return w.c.cut[[2]int32{from, to}]
}

func (w *faultyWire) Write(b []byte) (int, error) {
	w.c.mu.Lock()
	late := w.c.late
	w.c.mu.Unlock()
	if late != nil {
		time.Sleep(late())
	}
	switch {
	case w.isCut(w.from, w.to):
		w.lost.Store(true)
		return len(b), nil
	case w.lost.Load() && !w.isCut(w.to, w.from):
		w.Conn.Close()
		return 0, errReset
	}
	return w.Conn.Write(b)
}

func (w *faultyWire) Read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		switch {
		case err != nil:
			return n, err
		case w.isCut(w.to, w.from):
			w.lost.Store(true)
		case w.lost.Load():
			w.Conn.Close()
			return 0, errReset
		default:
			return n, nil
		}
	}
}

var errReset = errors.New("the connection was reset")

func (c *replicated) delay(late func() time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = late
}

func (c *replicated) setCut(from, to int32, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[[2]int32{from, to}] = is
}

// isolate cuts a broker off from the others and from the controller, which notices.
func (c *replicated) isolate(id int32) {
	for other := range c.nodes {
		if other != id {
			c.setCut(id, other, true)
			c.setCut(other, id, true)
		}
	}
	c.nodes[id].hears.reach(false)
	c.fence(id)
}

func (c *replicated) fence(id int32) {
	c.t.Helper()
	epoch := c.nodes[id].registration.epoch.Load()
	if err := c.controller.FenceBroker(c.t.Context(), id, epoch); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends a broker as kill -9 does, its disk stays; the controller notices.
func (c *replicated) kill(id int32) *disk.Mem {
	c.t.Helper()
	m := c.nodes[id]
	c.isolate(id)
	m.server.Stop()
	m.node.server.Close()
	crashed := m.fs.Crash(rand.New(rand.NewPCG(1, uint64(id))))
	m.Close()
	m.store.Close()
	for other := range c.nodes {
		c.setCut(id, other, false)
		c.setCut(other, id, false)
	}
	return crashed
}

// createTopic makes a topic of one partition, and waits until all have their role.
func (c *replicated) createTopic(name string, configs ...string) {
	c.controller.createTopic(name, 1, configs...)
	for _, m := range c.nodes {
		m.settle(c.t.Context())
	}
	c.eventually("all are in sync", func() bool { return len(c.partition(name).ISR) == len(c.nodes) })
}

func (c *replicated) partition(topic string) *metadata.Partition {
	t, ok := c.controller.Image().Topic(topic)
	if !ok {
		c.t.Fatalf("no topic %s", topic)
	}
	return t.Partition(0)
}

func (c *replicated) leader(topic string) *member { return c.nodes[c.partition(topic).Leader] }

func (c *replicated) log(id int32, topic string) *log.Log {
	c.t.Helper()
	t, _ := c.controller.Image().Topic(topic)
	l, ok := c.nodes[id].store.Log(storage.PartitionID{Topic: t.ID})
	if !ok {
		c.t.Fatalf("broker %d has no log of %s", id, topic)
	}
	return l
}

// produce sends values, a batch each, and returns the code of the first that is refused.
func (c *replicated) produce(to *member, topic string, acks int16, values ...string) int16 {
	c.t.Helper()
	k := to.connect()
	defer k.conn.Close()
	for _, v := range values {
		q := produceTo(topic, 0, acks, batchOf(c.t, v))
		q.TimeoutMillis = 60_000 // as long as it takes
		p := ask[*kmsg.ProduceResponse](k, 9, q)
		if code := p.Topics[0].Partitions[0].ErrorCode; code != 0 {
			return code
		}
	}
	return 0
}

// eventually waits until what must come has come.
func (c *replicated) eventually(what string, is func() bool) {
	c.t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("never: %s", what)
}

// content is what a log holds up to its high watermark.
func content(t testing.TB, l *log.Log) (out []string) {
	t.Helper()
	for at := l.LocalStart(); at < l.HighWatermark(); {
		r, err := l.Read(log.ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOne: true, Isolation: log.LogEnd})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range r.Batches {
			out = append(out, values(t, b)...)
		}
		at += storage.Offset(len(out)) // a record a batch
		at = min(at, l.HighWatermark())
		if r.Release(); len(out) >= int(l.HighWatermark()) {
			break
		}
	}
	return out[:min(len(out), int(l.HighWatermark()-l.LocalStart()))]
}

func (c *replicated) same(topic string, ids ...int32) {
	c.t.Helper()
	want := content(c.t, c.log(c.partition(topic).Leader, topic))
	for _, id := range ids {
		c.eventually(fmt.Sprintf("broker %d has what the leader has", id), func() bool {
			return slices.Equal(content(c.t, c.log(id, topic)), want)
		})
	}
}

func numbered(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(prefix, i))
	}
	return out
}

func TestABatchIsAckedOnceItsFollowersHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		if code := c.produce(c.leader("events"), "events", -1, numbered("v", 20)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		for id := range c.nodes {
			if at := c.log(id, "events").Progress(); at.Synced < 20 {
				t.Errorf("acked, and broker %d has %+v", id, at)
			}
		}
		c.same("events", 1, 2, 3)
		other := c.nodes[c.partition("events").Leader%3+1]
		if code := c.produce(other, "events", -1, "x"); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("a follower answers %v", kerr.ErrorForCode(code))
		}
	})
}

// The leader dies with batches that nobody else has; what was acked is there, what was
// not is gone from its disk too once it is back.
func TestNothingAckedIsLostWithTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		old := c.partition("events").Leader
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		for id := range c.nodes {
			c.setCut(old, id, id != old)
		}
		if code := c.produce(c.leader("events"), "events", 1, numbered("lost", 5)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		if end := c.log(old, "events").End(); end != 15 {
			t.Fatalf("the old leader's log ends at %d", end)
		}
		fs := c.kill(old)
		c.eventually("another leads", func() bool { l := c.partition("events").Leader; return l != old && l > 0 })
		c.eventually("it takes batches", func() bool { return c.produce(c.leader("events"), "events", -1, "b0") == 0 })
		c.produce(c.leader("events"), "events", -1, "b1", "b2")
		c.start(old, fs)
		c.eventually("it is back in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.same("events", 1, 2, 3)
		if got := content(t, c.log(old, "events")); !slices.Equal(got, append(numbered("a", 10), "b0", "b1", "b2")) {
			t.Errorf("%v", got)
		}
	})
}

// zombie-reader (RULES 3.7): a leader that is cut off completes no acks=all, and tells
// nobody an end of its log once its lease is out.
func TestAZombieCompletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		zombie := c.leader("events")
		c.produce(zombie, "events", -1, numbered("a", 10)...)
		reader, writer := zombie.connect(), zombie.connect()
		c.isolate(zombie.options.NodeID)
		never := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "never")))
		never.TimeoutMillis = 60_000
		writer.send(never)
		c.eventually("another leads", func() bool {
			l := c.leader("events")
			return l != nil && l != zombie && c.produce(l, "events", -1, "b0") == 0
		})
		time.Sleep(3 * time.Second)
		if got := zombie.table.byName([]byte("events")).partition(0).role.Load(); got.log == nil {
			t.Fatal("it knows already")
		}
		if hw := c.log(zombie.options.NodeID, "events").HighWatermark(); hw > 10 {
			t.Errorf("its high watermark moved to %d", hw)
		}
		for offset := int64(10); offset < 12; offset++ { // behind the last, who has read from the other
			q := fetchFrom("events", 0, offset, 100*time.Millisecond)
			q.Version = 11
			reader.send(q)
			if got := reader.receive().(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.NotLeaderForPartition.Code {
				t.Errorf("at %d the end of its log is told: %v", offset, kerr.ErrorForCode(got))
			}
		}
		if code := c.produce(zombie, "events", 1, "x"); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("acks=1 is answered with %v", kerr.ErrorForCode(code))
		}
		synctest.Wait()
		for other := range c.nodes {
			c.setCut(zombie.options.NodeID, other, false)
			c.setCut(other, zombie.options.NodeID, false)
		}
		zombie.hears.reach(true)
		if got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.NotLeaderForPartition.Code {
			t.Errorf("its batch was answered with %v", kerr.ErrorForCode(got))
		}
		c.eventually("it is in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.same("events", 1, 2, 3)
	})
}

// Who reaches a leader alone that is cut off is told in the time that it gave.
func TestAProducerOfAZombieIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		zombie := c.leader("events")
		writer := zombie.connect()
		c.isolate(zombie.options.NodeID)
		q := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "late")))
		q.TimeoutMillis = 2000
		began := time.Now()
		writer.send(q)
		if got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.RequestTimedOut.Code {
			t.Errorf("answered with %v", kerr.ErrorForCode(got))
		}
		if took := time.Since(began); took < 2*time.Second || took > 2*time.Second+2*expireLook {
			t.Errorf("answered after %v", took)
		}
	})
}

// A producer that waits when leadership is moved is told at once who leads by now: what
// names the broker that it has asked would cost it a pause.
func TestAWaitingProducerIsSentToTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		old := c.leader("events")
		for id := range c.nodes {
			if id != old.options.NodeID {
				c.setCut(old.options.NodeID, id, true)
			}
		}
		writer := old.connect()
		q := produceVersion(10, produceTo("events", 0, -1, batchOf(t, "a")))
		q.TimeoutMillis = 60_000
		began := time.Now()
		writer.send(q)
		synctest.Wait()
		c.fence(old.options.NodeID)
		got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		is := c.partition("events")
		if got.ErrorCode != kerr.NotLeaderForPartition.Code || got.CurrentLeader.LeaderID != is.Leader || got.CurrentLeader.LeaderEpoch != int32(is.LeaderEpoch) {
			t.Errorf("told %v, and that %+v leads; %d does, in epoch %d", kerr.ErrorForCode(got.ErrorCode), got.CurrentLeader, is.Leader, is.LeaderEpoch)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("after %v", took)
		}
	})
}

// A broker that stops answers what waits for its followers, instead of waiting for them too.
func TestAStopDoesNotWaitForFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		m := c.leader("events")
		c.isolate(m.options.NodeID)
		for _, timeout := range []int32{60_000, 0} {
			q := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "late")))
			q.TimeoutMillis = timeout
			m.connect().send(q)
		}
		synctest.Wait()
		began := time.Now()
		m.server.Stop()
		m.node.server.Close()
		m.Close()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v to stop", took)
		}
	})
}

func produceVersion(version int16, q *kmsg.ProduceRequest) *kmsg.ProduceRequest {
	q.Version = version
	return q
}

// A follower whose confirmations are cut off in one direction leaves, and returns.
func TestOneWayCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		leads := c.partition("events").Leader
		follower := leads%3 + 1
		c.produce(c.nodes[leads], "events", -1, "a0")
		c.setCut(follower, leads, true)
		k := c.nodes[leads].connect()
		patient := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "a1")))
		patient.TimeoutMillis = 60_000
		k.send(patient)
		c.eventually("it is out", func() bool { return !slices.Contains(c.partition("events").ISR, follower) })
		if got := k.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != 0 {
			t.Errorf("%v", kerr.ErrorForCode(got))
		}
		c.setCut(follower, leads, false)
		c.eventually("it is back", func() bool { return slices.Contains(c.partition("events").ISR, follower) })
		c.same("events", 1, 2, 3)
	})
}

// A follower that comes back behind what the leader's WAL still has begins anew at the
// committed end, with the leader's producers and without an object read (RULES 3.5).
func TestAFollowerBehindTheTrimPointBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, tiered)
		c.createTopic("events")
		old := c.partition("events").Leader%3 + 1
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		fs := c.kill(old)
		c.produce(c.leader("events"), "events", -1, numbered("b", 10)...)
		leads := c.log(c.partition("events").Leader, "events")
		if err := leads.SetUploaded(15); err != nil {
			t.Fatal(err)
		}
		if err := c.leader("events").store.Evict(t.Context()); err != nil || leads.LocalStart() != 15 {
			t.Fatalf("the local start is %d, %v", leads.LocalStart(), err)
		}
		c.start(old, fs, tiered)
		c.eventually("it is back in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		if at := c.log(old, "events").History(); at.LocalStart != 15 || at.Synced != 20 {
			t.Errorf("%+v", at)
		}
		if code := c.produce(c.leader("events"), "events", -1, "c"); code != 0 {
			t.Errorf("%v", kerr.ErrorForCode(code))
		}
		c.eventually("it has that too", func() bool { return c.log(old, "events").HighWatermark() == 21 })
	})
}

func openTieredStore(t testing.TB, fs disk.FS) *log.Store {
	t.Helper()
	return openStoreWith(t, fs, log.Options{Tiered: true, WAL: wal.Options{Memory: 16 << 20}})
}

// tiered gives a broker a store whose records may be in a bucket.
func tiered(o *Options) { o.Store = nil }

// ISR-shrunk-then-leader-burns (RULES 3.2): who left the ISR below the minimum stays
// eligible, for nothing was committed without it.
func TestISRShrunkThenLeaderBurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		old := c.partition("events").Leader
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		for id := range c.nodes {
			if id != old {
				c.setCut(old, id, true)
				c.setCut(id, old, true)
			}
		}
		c.produce(c.leader("events"), "events", 1, "lost0", "lost1")
		c.eventually("it is alone", func() bool { return slices.Equal(c.partition("events").ISR, []int32{old}) })
		if hw := c.log(old, "events").HighWatermark(); hw != 10 {
			t.Errorf("alone it has committed to %d", hw)
		}
		c.nodes[old].settle(t.Context())
		if code := c.produce(c.leader("events"), "events", -1, "x"); code != kerr.NotEnoughReplicas.Code {
			t.Errorf("%v", kerr.ErrorForCode(code))
		}
		c.isolate(old) // it burns
		c.eventually("another leads", func() bool { l := c.partition("events").Leader; return l != old && l > 0 })
		c.eventually("it takes batches", func() bool { return c.produce(c.leader("events"), "events", -1, "b") == 0 })
		c.eventually("all that was acked is there", func() bool {
			return slices.Equal(content(t, c.log(c.partition("events").Leader, "events")), append(numbered("a", 10), "b"))
		})
	})
}
