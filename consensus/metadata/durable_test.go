package metadata

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestElectableHoldWhatWasAcked runs clusters of five brokers through random commands,
// falls, returns, wipes, moves and drains, beside a model of what each replica holds:
// leaders append and acknowledge by an image that may be old, followers confirm to the
// leader that theirs names. In every image each replica of ISR and ELR holds every record
// that was acknowledged, and nobody that holds them is forgotten unless it was wiped
// (promises 1 and 3, RULES 3.2).
func TestElectableHoldWhatWasAcked(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 20
	}
	acked, seed := 0, seeded.Seed(t)
	for run := range runs {
		acked += runModel(t, seed+uint64(run))
		if t.Failed() {
			t.Logf("the seed is -seed=%d", seed+uint64(run))
			return
		}
	}
	t.Logf("%d records were acknowledged", acked)
	if acked < runs {
		t.Errorf("only %d records were acknowledged in %d runs", acked, runs)
	}
}

// modelTopic is of one partition; its min.insync.replicas and durability differ.
type modelTopic struct {
	id     storage.TopicID
	memory bool
	// cut are replicas that lost synced records with their tail, and nobody knows which they
	// are; fewer than min.insync.replicas, which does not change here. nil: nobody does.
	cut   map[int32]bool
	acked []int // records, in order
	// since is the leader epoch of the last unclean election: what leaders before it
	// acknowledge is lost with it, as somebody asked for.
	since storage.Epoch
	// orphaned is whether nobody is eligible since a replica, which is none any more perhaps,
	// lost its disk.
	orphaned bool
}

// process is one start of a broker; a broker that fell is none.
type process struct {
	epoch int64
	view  *Image // nil until it has applied its own registration
	// confirmed, by topic and follower; pending, by topic: as the leader that it is.
	confirmed map[storage.TopicID]map[int32]confirmation
	pending   map[storage.TopicID][]int32
}

type confirmation struct {
	end         int
	leaderEpoch storage.Epoch
	brokerEpoch int64 // of the follower
}

type model struct {
	t       *testing.T
	rng     *rand.Rand
	state   *State
	index   uint64
	topics  []*modelTopic
	brokers map[int32]*process
	logs    map[storage.TopicID]map[int32][]int
	dirs    map[int32]byte
	starts  int
	record  int
	epochOf map[int]storage.Epoch // of records
	did     []string

	underWay []func() // requests of leaders, that the controller has not had yet
}

func runModel(t *testing.T, seed uint64) (acked int) {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 9)), state: NewState(), brokers: map[int32]*process{},
		logs: map[storage.TopicID]map[int32][]int{}, dirs: map[int32]byte{}, epochOf: map[int]storage.Epoch{},
	}
	m.apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	for id := int32(1); id <= 5; id++ {
		m.start(id, false, false)
		m.serve(id)
	}
	for i, min := range []string{"1", "2", "", "3", "2"} {
		topic := &modelTopic{id: testID(byte(i + 1)), memory: i == 4}
		if i == cutTopic {
			topic.cut = map[int32]bool{}
		}
		m.topics = append(m.topics, topic)
		m.logs[topic.id] = map[int32][]int{}
		c := &pb.CreateTopic{TopicId: topic.id[:], Name: fmt.Sprint("t", i), ReplicasUnset: i%2 == 0, Assignments: []*pb.Assignment{{Replicas: m.some(1 + (i+2)%4)}}}
		if min != "" {
			c.Configs = append(c.Configs, &pb.ConfigEntry{Key: minInsyncReplicas, Value: min})
		}
		if topic.memory {
			c.Configs = append(c.Configs, &pb.ConfigEntry{Key: durability, Value: memoryDurability})
		}
		m.apply(c)
	}
	for range 2000 {
		m.step()
		if t.Failed() {
			for _, line := range m.did[max(0, len(m.did)-40):] {
				t.Log(line)
			}
			t.Log(show(m.state.Image()))
			return 0
		}
	}
	for _, topic := range m.topics {
		acked += len(topic.acked)
	}
	return acked
}

func (m *model) some(n int) []int32 {
	ids := []int32{1, 2, 3, 4, 5}
	m.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:n]
}

func (m *model) apply(body proto.Message) any {
	m.index++
	before := m.state.Image()
	command := mustCommand(m.t, body)
	result, err := m.state.Apply(m.index, command)
	m.did = append(m.did, fmt.Sprintf("%d: %T %v: %v %v", m.index, body, body, result, err))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := checkImage(before, m.state.Image(), nil, command); err != nil {
		m.t.Errorf("index %d: %v", m.index, err)
	}
	return result
}

// cutTopic is the topic, of min.insync.replicas 2, of which a replica at times loses what
// it had synced with the tail that it cuts.
const cutTopic = 1

// start registers a broker anew; unclean: it lost what it had not synced; cut: it says that
// it cut its tail.
func (m *model) start(id int32, unclean, cut bool) {
	m.starts++
	c := &pb.RegisterBroker{
		BrokerId: id, Incarnation: fmt.Appendf(nil, "%016d", m.starts), Directory: slices.Repeat([]byte{m.dirs[id]}, 16), UncleanEnd: unclean, CutTail: cut,
	}
	result := m.apply(c)
	epoch, ok := result.(BrokerEpoch)
	if !ok {
		delete(m.brokers, id) // in service from another directory: it is fenced before
		return
	}
	m.brokers[id] = &process{epoch: int64(epoch), confirmed: map[storage.TopicID]map[int32]confirmation{}, pending: map[storage.TopicID][]int32{}}
}

// serve puts a broker into service once it has applied its registration.
func (m *model) serve(id int32) {
	p := m.brokers[id]
	if p == nil {
		return
	}
	m.see(id, p)
	m.apply(&pb.FenceBroker{BrokerId: id, BrokerEpoch: p.epoch})
}

// see has a broker apply what there is.
func (m *model) see(id int32, p *process) {
	before := p.view
	p.view = m.state.Image()
	for topic := range p.pending { // of what was answered; a request may still be under way
		if len(m.underWay) == 0 {
			delete(p.pending, topic)
		}
	}
	for _, topic := range m.topics {
		_, is := p.view.Partition(storage.PartitionID{Topic: topic.id})
		if before == nil || is == nil {
			continue
		}
		if _, was := before.Partition(storage.PartitionID{Topic: topic.id}); was != nil && was.LeaderEpoch != is.LeaderEpoch {
			delete(p.confirmed, topic.id)
		}
		if !slices.Contains(is.Replicas, id) {
			delete(m.logs[topic.id], id)
		}
	}
}

func (m *model) step() {
	id := int32(1 + m.rng.IntN(5))
	p := m.brokers[id]
	topic := m.topics[m.rng.IntN(len(m.topics))]
	partition := storage.PartitionID{Topic: topic.id}
	switch n := m.rng.IntN(300) - 200; {
	case n < -120:
		m.append(id, p, topic)
	case n < 20:
		m.follow(id, p, topic)
	case n < 40:
		m.deliver()
	case n < 65:
		if p != nil && p.view != nil {
			m.see(id, p)
			m.report(id, p)
		}
	case n < 80:
		m.alter(id, p, topic)
	case n < 84:
		if b, ok := m.state.Image().Broker(id); ok {
			m.apply(&pb.FenceBroker{BrokerId: id, BrokerEpoch: b.Epoch, Fenced: true})
		}
	case n < 90:
		m.serve(int32(1 + m.rng.IntN(5)))
		m.serve(id)
	case n < 93:
		m.fall(id)
		if m.rng.IntN(4) == 0 { // a power cut of all
			for other := int32(1); other <= 5; other++ {
				m.fall(other)
			}
		}
	case n < 95:
		m.apply(&pb.ChangeBroker{BrokerId: id, Draining: m.rng.IntN(3) == 0})
	case n < 97:
		m.apply(&pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{{TopicId: topic.id[:], Replicas: m.some(m.rng.IntN(4))}}})
	case n < 98 && topic.cut == nil:
		_, version := m.state.Image().Config(Resource{Type: TopicResource, Name: fmt.Sprint("t", slices.Index(m.topics, topic))})
		m.apply(&pb.AlterConfigs{ResourceType: int32(TopicResource), Name: fmt.Sprint("t", slices.Index(m.topics, topic)), Version: version, Set: []*pb.ConfigEntry{
			{Key: minInsyncReplicas, Value: fmt.Sprint(1 + m.rng.IntN(3))},
		}})
	default:
		unclean := m.rng.IntN(8) == 0
		_, was := m.state.Image().Partition(partition)
		m.apply(&pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: topic.id[:], Leader: int32(m.rng.IntN(6)) - 1, Unclean: unclean}}})
		if _, is := m.state.Image().Partition(partition); unclean && was.Leader == NoLeader && is.Leader != NoLeader {
			m.lost(topic, is.Leader)
			topic.since = is.LeaderEpoch
		}
	}
	m.check()
}

// fall ends a broker's process and starts it again, at times without what it had.
func (m *model) fall(id int32) {
	delete(m.brokers, id)
	for _, other := range m.brokers {
		for _, confirmed := range other.confirmed {
			delete(confirmed, id) // its stream ends
		}
	}
	unclean := m.rng.IntN(2) == 0
	cut := unclean && m.rng.IntN(2) == 0
	if cut {
		m.cutTail(id)
	}
	switch {
	case m.rng.IntN(6) == 0 && len(m.topics[cutTopic].cut) == 0: // another disk: it is fenced, or the start is refused
		if b, _ := m.state.Image().Broker(id); b.Fenced {
			m.dirs[id]++
			for _, logs := range m.logs {
				delete(logs, id)
			}
		}
	case unclean:
		for _, topic := range m.topics {
			if log := m.logs[topic.id][id]; topic.memory && len(log) > 0 {
				m.logs[topic.id][id] = log[:m.rng.IntN(len(log)+1)]
			}
		}
	}
	before := m.state.Image()
	m.start(id, unclean, cut)
	for _, topic := range m.topics { // the last one known to have had them stays
		_, was := before.Partition(storage.PartitionID{Topic: topic.id})
		_, is := m.state.Image().Partition(storage.PartitionID{Topic: topic.id})
		if topic.memory && unclean && slices.Contains(slices.Concat(was.ISR, was.ELR), id) && slices.Equal(is.ELR, []int32{id}) && len(is.ISR) == 0 {
			m.lost(topic, id)
		}
	}
}

// cutTail has a replica lose the last records that it had synced, if there are others
// enough that did not.
func (m *model) cutTail(id int32) {
	topic := m.topics[cutTopic]
	t, p := m.state.Image().Partition(storage.PartitionID{Topic: topic.id})
	log := m.logs[topic.id][id]
	claims, lost := slices.Concat(p.ISR, p.ELR), 0
	for _, other := range claims {
		if topic.cut[other] && other != id {
			lost++
		}
	}
	if most := min(t.MinISR(p), len(claims)) - 1; len(log) > 0 && slices.Contains(claims, id) && lost < most {
		m.logs[topic.id][id] = log[:len(log)-1-m.rng.IntN(min(3, len(log)))]
		topic.cut[id] = true
		m.did = append(m.did, fmt.Sprintf("broker %d has %d of %d records left", id, len(m.logs[topic.id][id]), len(log)))
	}
}

// report has a broker say what it has of partitions that ask for it, by what it sees.
func (m *model) report(id int32, p *process) {
	var ends []PartitionEnd
	for _, topic := range m.topics {
		partition := storage.PartitionID{Topic: topic.id}
		_, is := p.view.Partition(partition)
		if is == nil || !is.AsksReplicas() || !slices.Contains(is.Replicas, id) {
			continue
		}
		end := PartitionEnd{Partition: partition, Epoch: storage.NoEpoch, LeaderEpoch: is.LeaderEpoch}
		if log := m.logs[topic.id][id]; len(log) > 0 {
			end.Epoch, end.End = m.epochOf[log[len(log)-1]], storage.Offset(len(log))
		}
		ends = append(ends, end)
	}
	if len(ends) > 0 {
		m.underWay = append(m.underWay, func() { m.apply(NewReportEnds(id, p.epoch, ends)) })
	}
}

// lost takes off what was acknowledged and a broker that may lead does not hold.
func (m *model) lost(topic *modelTopic, id int32) {
	topic.acked = topic.acked[:commonPrefix(topic.acked, m.logs[topic.id][id])]
}

func commonPrefix(a, b []int) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// leads returns the partition as a process that leads it sees it; nil: it does not.
func (p *process) leads(id int32, topic *modelTopic) (*Topic, *Partition) {
	if p == nil || p.view == nil {
		return nil, nil
	}
	t, is := p.view.Partition(storage.PartitionID{Topic: topic.id})
	if b, known := p.view.Broker(id); is == nil || is.Leader != id || !known || b.Epoch != p.epoch {
		return nil, nil
	}
	return t, is
}

// append adds a record, and acknowledges what may be.
func (m *model) append(id int32, p *process, topic *modelTopic) {
	t, is := p.leads(id, topic)
	if is == nil {
		return
	}
	if m.rng.IntN(2) == 0 {
		m.record++
		m.epochOf[m.record] = is.LeaderEpoch
		m.logs[topic.id][id] = append(slices.Clone(m.logs[topic.id][id]), m.record)
	}
	if len(is.ISR) < t.MinISR(is) || is.LeaderEpoch < topic.since {
		return // the high watermark stands still
	}
	end := len(m.logs[topic.id][id])
	for _, follower := range slices.Concat(is.ISR, p.pending[topic.id]) {
		if follower != id {
			end = min(end, p.confirmed[topic.id][follower].end)
		}
	}
	if log := m.logs[topic.id][id][:end]; end > len(topic.acked) {
		if commonPrefix(log, topic.acked) < len(topic.acked) {
			m.t.Errorf("broker %d acknowledges %v, where %v was acknowledged before", id, log, topic.acked)
		}
		topic.acked = slices.Clone(log)
		m.did = append(m.did, fmt.Sprintf("broker %d acked %s to %d", id, t.Name, end))
	}
}

// follow has a broker take some of what the leader has that it knows.
func (m *model) follow(id int32, p *process, topic *modelTopic) {
	if p == nil || p.view == nil {
		return
	}
	_, is := p.view.Partition(storage.PartitionID{Topic: topic.id})
	if is == nil || is.Leader == NoLeader || is.Leader == id || !slices.Contains(is.Replicas, id) {
		return
	}
	leader := m.brokers[is.Leader]
	_, theirs := leader.leads(is.Leader, topic)
	if theirs == nil || theirs.LeaderEpoch != is.LeaderEpoch || !slices.Contains(theirs.Replicas, id) {
		return
	}
	log := m.logs[topic.id][is.Leader]
	same := commonPrefix(log, m.logs[topic.id][id])
	end := same + m.rng.IntN(len(log)-same+1)
	if m.rng.IntN(2) == 0 {
		end = len(log)
	}
	m.logs[topic.id][id] = slices.Clone(log[:end])
	if leader.confirmed[topic.id] == nil {
		leader.confirmed[topic.id] = map[int32]confirmation{}
	}
	leader.confirmed[topic.id][id] = confirmation{end, is.LeaderEpoch, p.epoch}
	m.did = append(m.did, fmt.Sprintf("broker %d has %d of %d records of topic %d from broker %d", id, end, len(log), topic.id[0], is.Leader))
}

// alter has a leader change the ISR as it knows it: it takes out any, and lets in who has
// confirmed all that it has.
func (m *model) alter(id int32, p *process, topic *modelTopic) {
	_, is := p.leads(id, topic)
	if is == nil || len(p.pending[topic.id]) > 0 {
		return
	}
	c := PartitionChange{Partition: storage.PartitionID{Topic: topic.id}, LeaderEpoch: is.LeaderEpoch, PartitionEpoch: is.PartitionEpoch}
	var names []int32
	for _, replica := range is.Replicas {
		r := ReplicaEpoch{Broker: replica}
		confirmed := p.confirmed[topic.id][replica]
		switch {
		case replica == id:
			r.Epoch = p.epoch
		case slices.Contains(is.ISR, replica) && m.rng.IntN(3) > 0:
			b, _ := p.view.Broker(replica)
			r.Epoch = b.Epoch
		case confirmed.brokerEpoch > 0 && confirmed.end == len(m.logs[topic.id][id]):
			r.Epoch = confirmed.brokerEpoch
		default:
			continue
		}
		names = append(names, replica)
		c.ISR = append(c.ISR, r)
	}
	p.pending[topic.id] = names
	m.underWay = append(m.underWay, func() {
		if results, ok := m.apply(NewAlterPartitions(id, p.epoch, []PartitionChange{c})).(PartitionResults); !ok || results[0] != nil {
			delete(p.pending, topic.id)
		}
	})
}

// deliver has the controller take one of the requests that are under way, in any order.
func (m *model) deliver() {
	if n := len(m.underWay); n > 0 {
		at := m.rng.IntN(n)
		do := m.underWay[at]
		m.underWay = slices.Delete(m.underWay, at, at+1)
		do()
	}
}

// check compares what the image says with what the replicas hold.
func (m *model) check() {
	for _, topic := range m.topics {
		_, p := m.state.Image().Partition(storage.PartitionID{Topic: topic.id})
		electable := slices.Concat(p.ISR, p.ELR)
		for id := range topic.cut {
			if log := m.logs[topic.id][id]; commonPrefix(log, topic.acked) == len(topic.acked) || !slices.Contains(electable, id) {
				delete(topic.cut, id) // it has it again
			}
		}
		for _, id := range electable {
			if topic.cut[id] && slices.Contains(p.doubts.list(), id) && id != p.Leader {
				continue
			}
			if log := m.logs[topic.id][id]; commonPrefix(log, topic.acked) < len(topic.acked) {
				m.t.Errorf("topic %d: broker %d of ISR %v, ELR %v holds %v, and %v were acknowledged", topic.id[0], id, p.ISR, p.ELR, log, topic.acked)
			}
		}
		if len(electable) > 0 {
			topic.orphaned = false
			continue
		}
		topic.orphaned = topic.orphaned || m.wipedAll(topic)
		for _, id := range p.Replicas { // all were wiped that had a claim: then nobody else has
			if m.dirs[id] == 0 && len(topic.acked) > 0 && commonPrefix(m.logs[topic.id][id], topic.acked) == len(topic.acked) && !topic.orphaned {
				m.t.Errorf("topic %d: nobody is eligible, and broker %d holds what was acknowledged", topic.id[0], id)
			}
		}
	}
}

// wipedAll reports whether some replica of the topic lost its disk: the last one that was
// known to hold all may have been it.
func (m *model) wipedAll(topic *modelTopic) bool {
	_, p := m.state.Image().Partition(storage.PartitionID{Topic: topic.id})
	return slices.ContainsFunc(p.Replicas, func(id int32) bool { return m.dirs[id] > 0 })
}

func (d *doubts) list() []int32 {
	if d == nil {
		return nil
	}
	return d.of
}
