package broker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// lateController answers with the image of before the registration for as long
// as it is held: what a broker sees whose controller is far away.
type lateController struct {
	*testController
	stale *metadata.Image
	offer func(*metadata.Image)
}

func (c *lateController) Image() *metadata.Image { return c.stale }

func (c *lateController) Subscribe(f func(*metadata.Image)) (cancel func()) {
	c.offer = f
	f(c.stale)
	return func() {}
}

// A broker that restarts leads nothing under the epochs that its former self was
// given, though the image still names it (RULES 3.1).
func TestRestartIntoOldEpoch(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	n.connect().produce("events", 0, "of the former self")
	late := &lateController{testController: n.controller, stale: n.controller.Image()}
	n.Broker.Close()
	n.options.Controller = late
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, n.options); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a broker enters service by an image that lacks its registration: %v", err)
	}

	// The judgement itself, on the images that there are.
	r := newRegistration(1)
	epoch, err := n.controller.RegisterBroker(t.Context(), controller.Registration{BrokerID: 1, Incarnation: r.incarnation})
	if err != nil {
		t.Fatal(err)
	}
	r.epoch.Store(epoch)
	if b, _ := late.stale.Broker(1); b == nil || r.mayLead(late.stale) {
		t.Error("leads by an image of before its registration")
	}
	if !r.mayLead(n.controller.Image()) {
		t.Error("does not lead by the image of its registration")
	}
	if newRegistration(1).mayLead(n.controller.Image()) {
		t.Error("leads by another incarnation's registration")
	}
}

// unledController refuses the first heartbeats, each with the next error.
type unledController struct {
	*testController
	errs []error
}

func (c *unledController) Heartbeat(ctx context.Context, id int32, epoch int64) error {
	if len(c.errs) == 0 {
		return c.testController.Heartbeat(ctx, id, epoch)
	}
	err := c.errs[0]
	c.errs = c.errs[1:]
	return err
}

// A broker that starts while the controllers change their leader outwaits that, and gives
// up on what another try does not change.
func TestFirstHeartbeatOutwaitsAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ceased := metadata.Errorf(metadata.RequestTimedOut, "the controller ceased to lead")
		none := metadata.Errorf(metadata.NotController, "no controller leads")
		stale := metadata.Errorf(metadata.StaleBrokerEpoch, "another process has the id")
		n := startNode(t)
		n.Broker.Close()
		n.options.Controller = &unledController{testController: n.controller, errs: []error{ceased, none, ceased}}
		b, err := Open(t.Context(), n.options)
		if err != nil {
			t.Fatalf("a broker does not outwait an election: %v", err)
		}
		b.Close()
		n.options.Controller = &unledController{testController: n.controller, errs: []error{none, stale}}
		if _, err := Open(t.Context(), n.options); metadata.CodeOf(err) != metadata.StaleBrokerEpoch {
			t.Errorf("a broker whose id is taken enters service: %v", err)
		}
		begin := time.Now()
		n.options.Controller = &unledController{testController: n.controller, errs: slices.Repeat([]error{none}, 1e6)}
		if _, err := Open(t.Context(), n.options); metadata.CodeOf(err) != metadata.NotController || time.Since(begin) > 2*maxFirstBeatWait {
			t.Errorf("a broker that nobody hears ends after %v with %v", time.Since(begin), err)
		}
	})
}

// A broker that was closed is out of service at once, and its heartbeats do not
// put it back.
func TestClosedBrokerIsOutOfService(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Heartbeat = time.Millisecond })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	if b, _ := n.controller.Image().Broker(1); b.Fenced {
		t.Fatal("out of service before it was closed")
	}
	n.server.Close()
	if err := n.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	image := n.controller.Image()
	if b, _ := image.Broker(1); !b.Fenced {
		t.Error("a closed broker is in service")
	}
	if topic, _ := image.Topic("events"); topic.Partition(0).Leader != metadata.NoLeader {
		t.Error("a closed broker leads")
	}
}

// The former self, still running, stops as soon as it hears of its successor.
func TestDeposedBrokerLeadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		c := n.connect()
		c.produce("events", 0, "mine")
		if _, err := n.controller.RegisterBroker(t.Context(), controller.Registration{BrokerID: 1, Incarnation: [16]byte{9}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p := ask[*kmsg.ProduceResponse](c, 10, produceTo("events", 0, -1, batchOf(t, "not mine")))
		requireProduced(t, p, kerr.NotLeaderForPartition, -1)
		if n.Health() != nil {
			t.Errorf("before a heartbeat: %v", n.Health())
		}
		time.Sleep(2 * DefaultHeartbeat)
		if !errors.Is(n.Health(), errDeposed) {
			t.Errorf("after a heartbeat: %v", n.Health())
		}
	})
}

// Who comes to the wrong broker is told where the right one is.
func TestRequestsForAnotherBrokersPartitionAreSentThere(t *testing.T) {
	n := startNode(t)
	epoch, err := n.controller.RegisterBroker(t.Context(), controller.Registration{
		BrokerID: 2, Listeners: []metadata.Listener{{Name: "kafka", Host: "two.example", Port: 9093}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.controller.Heartbeat(t.Context(), 2, epoch); err != nil {
		t.Fatal(err)
	}
	n.controller.replicas = []int32{2}
	n.controller.createTopic("elsewhere", 1)
	n.settle(t.Context())
	c := n.connect()

	q := produceTo("elsewhere", 0, -1, batchOf(t, "x"))
	p := ask[*kmsg.ProduceResponse](c, 10, q)
	requireProduced(t, p, kerr.NotLeaderForPartition, -1)
	if p.Topics[0].Partitions[0].CurrentLeader.LeaderID != 2 || len(p.Brokers) != 1 || p.Brokers[0].Host != "two.example" {
		t.Errorf("produce: %+v, %+v", p.Topics[0].Partitions[0].CurrentLeader, p.Brokers)
	}
	f := fetchFrom("elsewhere", 0, 0, time.Hour)
	f.Topics[0].TopicID = nameOrID(n, 16, "elsewhere")
	got := ask[*kmsg.FetchResponse](c, 16, f)
	if part := got.Topics[0].Partitions[0]; part.ErrorCode != kerr.NotLeaderForPartition.Code || part.CurrentLeader.LeaderID != 2 || len(got.Brokers) != 1 {
		t.Errorf("fetch: %+v, %+v", part, got.Brokers)
	}
	if got := ask[*kmsg.ProduceResponse](c, 3, produceTo("elsewhere", 0, 1, batchOf(t, "x"))); got.Topics[0].Partitions[0].ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Errorf("v3: %+v", got)
	}
	n.controller.propose(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: epoch, Fenced: true})
	n.settle(t.Context())
	m := ask[*kmsg.MetadataResponse](c, 9, metadataOf("elsewhere"))
	if part := m.Topics[0].Partitions[0]; part.ErrorCode != kerr.LeaderNotAvailable.Code || len(part.OfflineReplicas) != 1 || len(m.Brokers) != 1 {
		t.Errorf("a partition without leader: %+v", part)
	}
}

// Records of a topic that was deleted while the broker was away are dropped
// when it is back, and no others.
func TestStrayLogsAreDropped(t *testing.T) {
	n := startNode(t)
	gone := n.controller.createTopic("gone", 2)
	later := n.controller.createTopic("deleted-later", 1)
	n.controller.createTopic("kept", 2)
	n.settle(t.Context())
	n.connect().produce("kept", 0, "x")
	n.Broker.Close()
	for _, result := range n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: gone}, {ID: later}}) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	if len(n.store.Partitions()) != 5 {
		t.Fatalf("logs %v", n.store.Partitions())
	}
	// By an image that is older than its registration nothing is dropped.
	b := &Broker{store: n.store, registration: newRegistration(1), table: newTable(), log: n.Broker.log}
	b.registration.epoch.Store(1 << 40)
	b.dropStrays(n.controller.Image())
	if len(n.store.Partitions()) != 5 {
		t.Fatalf("dropped by an old image; left are %v", n.store.Partitions())
	}
	// Nor by one that was brought back from the bucket: the lost log may have known it.
	b.registration.epoch.Store(1)
	nonce := [16]byte{1}
	state := metadata.NewState()
	if err := state.Restore(n.controller.Image().Snapshot()); err != nil {
		t.Fatal(err)
	}
	command, err := metadata.Encode(state.Image(), &pb.SetBucket{Nonce: nonce[:], Incarnation: controller.FirstIncarnation})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := state.Apply(state.Image().Offset()+1, command); err != nil || metadata.Refused(result) != nil {
		t.Fatal(result, err)
	}
	recovered, _, err := metadata.Recover(state.Image(), metadata.RecoverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.dropStrays(recovered)
	if len(n.store.Partitions()) != 5 {
		t.Fatalf("dropped by a recovered image; left are %v", n.store.Partitions())
	}
	var noted Strays
	b.opt.RememberStrays = func(is Strays) error { noted = is; return errors.New("disk full") }
	b.dropStrays(recovered)
	b.opt.RememberStrays = func(is Strays) error { noted = is; return nil }
	b.dropStrays(recovered)
	b.dropStrays(recovered)
	if left := n.store.Partitions(); len(left) != 5 || noted.Incarnation != 2 || len(noted.Topics) != 2 {
		t.Fatalf("noted %v; left are %v", noted, left)
	}
	// A later life knows no more of it.
	b.opt.Strays = Strays{Incarnation: 7}
	b.dropStrays(recovered)
	if len(n.store.Partitions()) != 5 {
		t.Fatalf("dropped by what another life was noted to lack; left are %v", n.store.Partitions())
	}
	// What that life knew, and does not any more, was deleted in it.
	b.opt.Strays = Strays{Incarnation: 2, Topics: []storage.TopicID{gone}}
	b.dropStrays(recovered)
	if left := n.store.Partitions(); len(left) != 4 || slices.ContainsFunc(left, func(id storage.PartitionID) bool { return id.Topic == later }) {
		t.Fatalf("left are %v", left)
	}
	n.open()
	if left := n.store.Partitions(); len(left) != 2 || left[0].Topic == gone || left[1].Topic == gone {
		t.Errorf("logs %v", left)
	}
	if got := fetched(t, ask[*kmsg.FetchResponse](n.connect(), 12, fetchFrom("kept", 0, 0, 0))); len(got["kept-0"]) != 1 {
		t.Errorf("kept: %v", got)
	}
}

// A subscriber that is called does not wait: the controller goes on.
func TestImagesThatOvertakeEachOtherEndInTheLast(t *testing.T) {
	n := startNode(t)
	for i := range 200 {
		name := string(rune('a'+i%26)) + "-topic"
		if _, ok := n.controller.Image().Topic(name); ok {
			n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{Name: name}})
		} else {
			n.controller.createTopic(name, 3)
		}
	}
	n.settle(t.Context())
	want := n.controller.Image().NumPartitions()
	if all, led, _ := n.table.counts(); all != want || led != want || len(n.store.Partitions()) != want {
		t.Errorf("%d partitions, %d led, %d logs; the image has %d", all, led, len(n.store.Partitions()), want)
	}
}
