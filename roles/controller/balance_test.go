package controller

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// drawn is a cluster without a log.
type drawn struct {
	t      interface{ Fatalf(string, ...any) }
	state  *metadata.State
	epochs map[int32]int64
}

func (d *drawn) propose(body proto.Message) any {
	image := d.state.Image()
	command, err := metadata.Encode(image, body)
	if err != nil {
		d.t.Fatalf("encode %T: %v", body, err)
	}
	result, err := d.state.Apply(image.Offset()+1, command)
	if err == nil {
		err = metadata.Refused(result)
	}
	if err != nil {
		d.t.Fatalf("%T: %v", body, err)
	}
	return result
}

// broker registers a broker and puts it into service.
func (d *drawn) broker(id int32, rack string) {
	d.register(id, rack)
	d.propose(&pb.FenceBroker{BrokerId: id, BrokerEpoch: d.epochs[id]})
}

func (d *drawn) register(id int32, rack string) {
	incarnation := make([]byte, 16)
	incarnation[0], incarnation[1] = byte(id), byte(d.state.Image().Offset())
	directory := make([]byte, 16)
	directory[0] = byte(id)
	epoch := d.propose(&pb.RegisterBroker{BrokerId: id, Incarnation: incarnation, Directory: directory, Rack: rack})
	d.epochs[id] = int64(epoch.(metadata.BrokerEpoch))
}

func (d *drawn) topic(n byte, unset bool, replicas ...[]int32) storage.TopicID {
	id := storage.TopicID{n, n >> 4, 1}
	d.propose(&pb.CreateTopic{TopicId: id[:], Name: fmt.Sprint("t", n), ReplicasUnset: unset, Assignments: assignments(replicas)})
	return id
}

// catchUp has every replica in service in sync.
func (d *drawn) catchUp() {
	image := d.state.Image()
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			leader, ok := image.Broker(p.Leader)
			if !ok {
				continue
			}
			var isr []metadata.ReplicaEpoch
			for _, r := range p.Replicas {
				if b, _ := image.Broker(r); !b.Fenced {
					isr = append(isr, metadata.ReplicaEpoch{Broker: r, Epoch: b.Epoch})
				}
			}
			if len(isr) != len(p.ISR) {
				d.propose(metadata.NewAlterPartitions(leader.ID, leader.Epoch, []metadata.PartitionChange{{
					Partition: storage.PartitionID{Topic: t.ID, Index: p.Index}, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: isr,
				}}))
			}
		}
	}
}

func (d *drawn) elect(moves []LeaderElection) {
	command := &pb.ElectLeaders{}
	for _, e := range moves {
		command.Entries = append(command.Entries, &pb.ElectLeaders_Entry{TopicId: e.Partition.Topic[:], Partition: e.Partition.Index, Leader: e.Leader})
	}
	for i, err := range d.propose(command).(metadata.PartitionResults) {
		if err != nil {
			d.t.Fatalf("%+v: %v", moves[i], err)
		}
	}
}

func (d *drawn) reassign(id storage.PartitionID, replicas []int32) {
	results := d.propose(&pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{{TopicId: id.Topic[:], Partition: id.Index, Replicas: replicas}}})
	if err := results.(metadata.PartitionResults)[0]; err != nil {
		d.t.Fatalf("%v to %v: %v", id, replicas, err)
	}
}

func newDrawn(t interface{ Fatalf(string, ...any) }) *drawn {
	d := &drawn{t: t, state: metadata.NewState(), epochs: map[int32]int64{}}
	d.propose(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel})
	return d
}

// drawCluster draws brokers and topics; some brokers are fenced, or drained.
func drawCluster(t *rapid.T) *drawn {
	d := newDrawn(t)
	n := rapid.IntRange(1, 7).Draw(t, "brokers")
	var all []int32
	for id := range int32(n) {
		d.broker(id+1, rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "rack"))
		all = append(all, id+1)
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "topics") {
		factor := rapid.IntRange(1, min(3, n)).Draw(t, "factor")
		var replicas [][]int32
		for range rapid.IntRange(1, 12).Draw(t, "partitions") {
			replicas = append(replicas, rapid.Permutation(all).Draw(t, "replicas")[:factor])
		}
		d.topic(byte(i+1), rapid.Bool().Draw(t, "unset"), replicas...)
	}
	for id := range int32(n) {
		switch rapid.IntRange(0, 6).Draw(t, "state") {
		case 0:
			d.propose(&pb.FenceBroker{BrokerId: id + 1, BrokerEpoch: d.epochs[id+1], Fenced: true})
		case 1:
			d.propose(&pb.ChangeBroker{BrokerId: id + 1, Draining: true})
		case 2: // it was away, and leads nothing
			d.propose(&pb.FenceBroker{BrokerId: id + 1, BrokerEpoch: d.epochs[id+1], Fenced: true})
			d.propose(&pb.FenceBroker{BrokerId: id + 1, BrokerEpoch: d.epochs[id+1]})
		}
	}
	d.catchUp()
	return d
}

// uneven is the sum of squares of what brokers lead, which a move to somebody with less
// makes smaller.
func uneven(b *balancer, image *metadata.Image) (sum float64) {
	for _, load := range b.weigh(image).load {
		sum += load * load
	}
	return sum
}

// TestBalanceNeverWorsens: whatever the cluster and its load, every move makes it more even
// and goes to who may lead; no partition moves twice in a minute, nor more of them than are
// allowed; it comes to rest, and then no move is left that would be worth it.
func TestBalanceNeverWorsens(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		d := drawCluster(t)
		most := rapid.SampledFrom([]int{0, 1, 3, 100}).Draw(t, "moves a minute")
		b := newBalancer(most)
		now := time.Unix(1000, 0)
		for topic := range d.state.Image().Topics() {
			for p := range topic.Partitions.All() {
				rate := rapid.SampledFrom([]int64{0, 100, 1 << 20, 5 << 20}).Draw(t, "rate")
				b.report(now, d.state.Image(), p.Leader, []PartitionLoad{{Partition: storage.PartitionID{Topic: topic.ID, Index: p.Index}, Rate: rate}})
			}
		}
		maps.DeleteFunc(b.loads, func(id storage.PartitionID, _ load) bool { return id.Index%5 == 4 }) // never told
		lately := map[storage.PartitionID]time.Time{}
		idle := 0
		for range 2000 {
			now = now.Add(rapid.SampledFrom([]time.Duration{2 * time.Second, 30 * time.Second}).Draw(t, "pause"))
			moves := b.plan(now, d.state.Image())
			for _, m := range moves {
				if at, is := lately[m.Partition]; is && now.Sub(at) < time.Minute {
					t.Fatalf("%v moves again after %v", m.Partition, now.Sub(at))
				}
				lately[m.Partition] = now
				before := uneven(b, d.state.Image())
				to, _ := d.state.Image().Broker(m.Leader)
				if to.Draining || to.Fenced {
					t.Fatalf("%v to broker %+v", m.Partition, to)
				}
				d.elect([]LeaderElection{m})
				if after := uneven(b, d.state.Image()); after >= before {
					t.Fatalf("%+v: %g, before %g", m, after, before)
				}
			}
			n := 0
			for _, at := range lately {
				if now.Sub(at) < time.Minute {
					n++
				}
			}
			if n > most || len(moves) > movesARound {
				t.Fatalf("%d moves in a minute, %d at once, %d are allowed", n, len(moves), most)
			}
			if idle++; len(moves) > 0 {
				idle = 0
			}
			if idle > 40 { // longer than a minute
				break
			}
		}
		if idle <= 40 {
			t.Fatalf("it does not come to rest")
		}
		s := b.weigh(d.state.Image())
		if at, to := s.best(); most > 0 && at >= 0 {
			t.Fatalf("at rest, and %v could go to %d", s.led[at].id, to)
		}
	})
}

// TestReturnedBrokerLeadsItsShare: of equal partitions, with no load known, a broker that
// was away leads as many as others within rounds.
func TestReturnedBrokerLeadsItsShare(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(3) {
		d.broker(id+1, "")
	}
	for i := range byte(10) {
		d.topic(i+1, false, []int32{1, 2, 3}, []int32{2, 3, 1}, []int32{3, 1, 2})
	}
	d.register(1, "") // a new start
	d.propose(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: d.epochs[1]})
	b := newBalancer(100)
	for _, m := range b.plan(time.Unix(1, 0), d.state.Image()) {
		if m.Leader == 1 {
			t.Fatalf("not in sync, and is to lead %v", m.Partition)
		}
		d.elect([]LeaderElection{m})
	}
	d.catchUp()
	moves := b.plan(time.Unix(1, 0).Add(stillFor), d.state.Image())
	d.elect(moves)
	leads := map[int32]int{}
	for topic := range d.state.Image().Topics() {
		for p := range topic.Partitions.All() {
			leads[p.Leader]++
		}
	}
	if leads[1] < 9 || leads[1] > 11 {
		t.Errorf("after %d moves brokers lead %v", len(moves), leads)
	}
	preferred := 0
	for _, m := range moves {
		if _, p := d.state.Image().Partition(m.Partition); p.Replicas[0] == 1 {
			preferred++
		}
	}
	if preferred < 8 { // the last ones are where brokers differ, not where it is preferred
		t.Errorf("of %d moves %d are to the first replica", len(moves), preferred)
	}
}

// TestLoadDecides: what much passes through is led apart, and a load is what its leader
// said of late.
func TestLoadDecides(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	d.broker(2, "")
	topic := d.topic(1, false, []int32{1, 2}, []int32{1, 2}, []int32{2, 1}, []int32{2, 1})
	at := func(i int32) storage.PartitionID { return storage.PartitionID{Topic: topic, Index: i} }
	b := newBalancer(10)
	now := time.Unix(1000, 0)
	if moves := b.plan(now, d.state.Image()); len(moves) > 0 {
		t.Fatalf("as many here as there, and %v", moves)
	}
	b.report(now, d.state.Image(), 2, []PartitionLoad{{at(0), 9 << 30, 0, false}, {at(1), 9 << 30, 0, false}, {at(2), -1, 0, false}}) // that broker leads none of them, or not so
	if len(b.loads) != 0 {
		t.Fatalf("taken from who does not lead: %v", b.loads)
	}
	b.report(now, d.state.Image(), 1, []PartitionLoad{{at(0), 1 << 20, 5, false}, {at(1), 1 << 20, 0, false}})
	moves := b.plan(now, d.state.Image())
	if want := []LeaderElection{{Partition: at(0), Leader: 2}}; !slices.Equal(moves, want) {
		t.Fatalf("%v, want %v", moves, want)
	}
	d.elect(moves)
	// The new leader has said nothing yet: the load is what it was.
	if now = now.Add(stillFor); len(b.plan(now, d.state.Image())) > 0 {
		t.Fatal("it moves back")
	}
	for range 20 { // nothing passes any more
		now = now.Add(loadHalf)
		b.report(now, d.state.Image(), 1, nil)
		b.report(now, d.state.Image(), 2, nil)
	}
	if len(b.loads) != 0 {
		t.Errorf("long idle, and known for %v", b.loads)
	}
}

// TestDamageIsKnownByTheWordOfWhoLeads, and no longer than it is said.
func TestDamageIsKnownByTheWordOfWhoLeads(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	d.broker(2, "")
	topic := d.topic(1, false, []int32{1, 2}, []int32{2, 1})
	at := func(i int32) storage.PartitionID { return storage.PartitionID{Topic: topic, Index: i} }
	b := newBalancer(10)
	now := time.Unix(1000, 0)
	want := func(when string, ids ...storage.PartitionID) {
		t.Helper()
		if got := b.damage(now); !slices.Equal(got, ids) {
			t.Errorf("%s: %v are damaged, want %v", when, got, ids)
		}
	}
	both := []PartitionLoad{{Partition: at(1), Damaged: true}, {Partition: at(0), Damaged: true}}
	b.report(now, d.state.Image(), 1, both)
	want("broker 1 leads one of them", at(0))
	b.report(now, d.state.Image(), 2, both)
	want("broker 2 leads the other", at(0), at(1))
	b.report(now, d.state.Image(), 1, []PartitionLoad{{Partition: at(0)}})
	want("one is healed", at(1))
	b.report(now, d.state.Image(), 2, nil)
	want("and so is the other")
	b.report(now, d.state.Image(), 2, both)
	now = now.Add(loadMemory)
	want("nobody has said so of late")
}

// TestWhatTheBucketHoldsMovesAnywhere: partitions without other replicas are led in equal
// numbers too, where any broker can lead them.
func TestWhatTheBucketHoldsMovesAnywhere(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(3) {
		d.broker(id+1, "")
	}
	for name, configs := range map[string][]*pb.ConfigEntry{"local": nil, "held": {{Key: "rustmq.durability", Value: "object"}}} {
		id := storage.TopicID{byte(len(name))}
		c := &pb.CreateTopic{TopicId: id[:], Name: name, Configs: configs}
		for range 6 {
			c.Assignments = append(c.Assignments, &pb.Assignment{Replicas: []int32{1}})
		}
		d.propose(c)
	}
	b := newBalancer(100)
	moves := b.plan(time.Unix(1, 0), d.state.Image())
	d.elect(moves)
	leads := map[string]map[int32]int{"local": {}, "held": {}}
	for topic := range d.state.Image().Topics() {
		for p := range topic.Partitions.All() {
			leads[topic.Name][p.Leader]++
		}
	}
	if leads["local"][1] != 6 || leads["held"][2] != 3 || leads["held"][3] != 3 {
		t.Errorf("after %d moves %v", len(moves), leads)
	}
}

func anyone(int32) bool { return true }

// TestGrowth: what asked for no number of replicas has as many as brokers can hold, three
// at most, on as many racks as there are, so many at a time; what asked keeps its own.
func TestGrowth(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		d := drawCluster(t)
		for round := 0; ; round++ {
			image := d.state.Image()
			moves := grow(image, anyone)
			if len(moves) > maxGrowing {
				t.Fatalf("%d at a time", len(moves))
			}
			for b := range image.Brokers() {
				if b.Draining && len(moves) > 0 {
					t.Fatalf("broker %d is drained, and %v", b.ID, moves)
				}
			}
			if len(moves) == 0 {
				break
			}
			if round > 50 {
				t.Fatalf("no end: %v", moves)
			}
			for _, m := range moves {
				topic, p := image.Partition(m.Partition)
				if !topic.ReplicasUnset || len(m.Replicas) <= len(p.Replicas) || !slices.Equal(m.Replicas[:len(p.Replicas)], p.Replicas) {
					t.Fatalf("%s-%d: %v after %v", topic.Name, p.Index, m.Replicas, p.Replicas)
				}
				d.reassign(m.Partition, m.Replicas)
			}
			d.catchUp()
		}
		image := d.state.Image()
		want := min(3, len(candidates(image)))
		for b := range image.Brokers() {
			if b.Draining {
				return
			}
		}
		for topic := range image.Topics() {
			for p := range topic.Partitions.All() {
				if topic.ReplicasUnset && p.Leader != metadata.NoLeader && len(p.Adding) == 0 && len(p.Replicas) < want {
					t.Fatalf("%s-%d stays at %v, %d brokers", topic.Name, p.Index, p.Replicas, want)
				}
			}
		}
	})
}

// TestGrowthWaitsForWhatIsUnderWay: no more than so many partitions grow at a time, and
// what waits for a broker that is gone holds nothing up.
func TestGrowthWaitsForWhatIsUnderWay(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	d.broker(2, "")
	d.broker(3, "")
	topic := d.topic(1, true, slices.Repeat([][]int32{{1}}, 2*maxGrowing)...)
	for _, m := range grow(d.state.Image(), anyone) {
		d.reassign(m.Partition, m.Replicas)
	}
	if more := grow(d.state.Image(), anyone); len(more) != 0 {
		t.Fatalf("%d more while as many as may are under way", len(more))
	}
	d.propose(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: d.epochs[3], Fenced: true})
	if more := grow(d.state.Image(), anyone); len(more) != maxGrowing || len(more[0].Replicas) != 2 || more[0].Partition.Topic != topic {
		t.Fatalf("others wait for broker 3: %v", more)
	}
}

// TestRebalanceSpreads: no partition loses a rack, counts do not come to differ more but to
// have partitions on more racks, and a plan that was carried out leaves nothing to be planned.
func TestRebalanceSpreads(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		d := drawCluster(t)
		image := d.state.Image()
		plan := rebalance(image)
		racks := func(ids []int32) int {
			on := map[string]bool{}
			for _, id := range ids {
				b, _ := image.Broker(id)
				on[b.Rack] = true
			}
			return len(on)
		}
		spreadOf := func(of func(PlannedBroker) int) int {
			var all []int
			for _, b := range plan.Brokers {
				all = append(all, of(b))
			}
			if len(all) == 0 {
				return 0
			}
			return slices.Max(all) - slices.Min(all)
		}
		apart := slices.ContainsFunc(plan.Moves, func(m PlannedMove) bool { return racks(m.To) > racks(m.From) }) // which comes first
		if before, after := spreadOf(func(b PlannedBroker) int { return b.Before }), spreadOf(func(b PlannedBroker) int { return b.After }); !apart && after > before {
			t.Fatalf("they differ by %d, before by %d: %+v", after, before, plan)
		}
		for _, m := range plan.Moves {
			if racks(m.To) < racks(m.From) || len(m.To) != len(m.From) {
				t.Fatalf("%s-%d from %v to %v", m.Topic, m.Partition.Index, m.From, m.To)
			}
			for i, id := range m.To {
				b, _ := image.Broker(id)
				if slices.Contains(m.To[:i], id) || !slices.Contains(m.From, id) && (b.Fenced || b.Draining) {
					t.Fatalf("%s-%d to %v", m.Topic, m.Partition.Index, m.To)
				}
			}
			d.reassign(m.Partition, m.To)
		}
		d.catchUp()
		under := false
		for topic := range d.state.Image().Topics() {
			for p := range topic.Partitions.All() {
				under = under || len(p.Adding)+len(p.Removing) > 0
			}
		}
		if again := rebalance(d.state.Image()); !under && len(again.Moves) > 0 {
			t.Fatalf("after %+v again %+v", plan.Moves, again.Moves)
		}
	})
}

// TestNewBrokerGetsItsShare by no more moves than that takes.
func TestNewBrokerGetsItsShare(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(3) {
		d.broker(id+1, string('a'+id))
	}
	r := rand.New(rand.NewPCG(1, 2))
	var replicas [][]int32
	for range 40 {
		p := r.Perm(3)
		replicas = append(replicas, []int32{int32(p[0]) + 1, int32(p[1]) + 1, int32(p[2]) + 1})
	}
	d.topic(1, false, replicas...)
	if plan := rebalance(d.state.Image()); len(plan.Moves) > 0 {
		t.Fatalf("as even as can be, and %v", plan.Moves)
	}
	d.broker(4, "a") // so that only replicas of broker 1 can go there
	plan := rebalance(d.state.Image())
	if len(plan.Moves) != 20 || plan.Brokers[3].After != 20 || plan.Brokers[0].After != 20 || plan.Brokers[1].After != 40 {
		t.Fatalf("%d moves: %+v", len(plan.Moves), plan.Brokers)
	}
	d.broker(5, "d")
	plan = rebalance(d.state.Image())
	if plan.Brokers[4].After < 24 {
		t.Errorf("with a rack of its own: %+v", plan.Brokers)
	}
}

// TestControllerEvens: a leading controller gives topics replicas as brokers join, and a
// broker that returns its share of leaderships; a drained one gets nothing.
func TestControllerEvens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(t.Context(), Options{NodeID: 1, MovesPerMinute: 100, BrokerSession: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, c)
		epochs := map[int32]int64{1: register(t, c, 1, 1)}
		topic := NewTopic{Name: "t", Partitions: 6, ReplicationFactor: -1}
		id := create(t, c, topic).ID
		asked := NewTopic{Name: "asked", Partitions: 1, ReplicationFactor: 1}
		create(t, c, asked)
		topicOf := func() *metadata.Topic { is, _ := c.Image().TopicByID(id); return is }
		// follow has those that are being added come into sync.
		follow := func() {
			image := c.Image()
			for is := range image.Topics() {
				for p := range is.Partitions.All() {
					leader, _ := image.Broker(p.Leader)
					var isr []ReplicaEpoch
					for _, r := range p.Replicas {
						isr = append(isr, ReplicaEpoch{Broker: r, Epoch: epochs[r]})
					}
					if len(isr) != len(p.ISR) {
						errs := c.AlterPartitions(t.Context(), leader.ID, leader.Epoch, []PartitionChange{{
							Partition: storage.PartitionID{Topic: is.ID, Index: p.Index}, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: isr,
						}})
						if errs[0] != nil {
							t.Fatal(errs[0])
						}
					}
				}
			}
		}
		pass := func() {
			time.Sleep(DefaultGrowAfter + 2*evenPause)
			synctest.Wait()
			follow()
			time.Sleep(stillFor)
			synctest.Wait()
		}
		leads := func() map[int32]int {
			n := map[int32]int{}
			for is := range c.Image().Topics() {
				for p := range is.Partitions.All() {
					n[p.Leader]++
				}
			}
			return n
		}
		epochs[2], epochs[3] = register(t, c, 2, 2), register(t, c, 3, 3)
		pass()
		for p := range topicOf().Partitions.All() {
			if len(p.ISR) != 3 {
				t.Errorf("partition %d: in sync are %v", p.Index, p.ISR)
			}
		}
		if is, _ := c.Image().Topic("asked"); len(is.Partition(0).Replicas) != 1 {
			t.Errorf("it asked for one replica, and has %v", is.Partition(0).Replicas)
		}
		if n := leads(); min(n[1], n[2], n[3]) != 2 {
			t.Errorf("three brokers lead %v", n)
		}
		epochs[2] = register(t, c, 2, 4) // killed and started
		if n := leads(); n[2] != 0 {
			t.Fatalf("just started, and leads: %v", n)
		}
		follow()
		pass()
		if n := leads(); min(n[1], n[2], n[3]) != 2 {
			t.Errorf("after a restart of broker 2 they lead %v", n)
		}
		if err := c.DrainBroker(t.Context(), 2, true); err != nil {
			t.Fatal(err)
		}
		pass()
		if n := leads(); n[2] != 0 {
			t.Errorf("drained, and brokers lead %v", n)
		}
		wantCode(t, "a report of an older start", c.ReportLoad(t.Context(), 1, epochs[1]-1, 0, nil), metadata.StaleBrokerEpoch)
	})
}
