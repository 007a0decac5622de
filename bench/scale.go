package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// What is simulated: docs/scale.md reckons with the same numbers.
const (
	scaleBrokers    = 100
	scaleTopics     = 1000
	scalePartitions = 100 // of each topic
	scaleReplicas   = 3
	scaleRanges     = 4        // of each partition, large ones, that the image holds
	scaleObject     = 64 << 20 // bytes of each
)

// simulation is the metadata of a large cluster: the state machine, commands and deltas
// are the real ones, without raft, network and bucket.
type simulation struct {
	state  *metadata.State
	index  uint64
	epochs [scaleBrokers]int64
	ends   []storage.Offset // of each partition, in the bucket
}

// cost is what commands took.
type cost struct {
	commands, bytes int
	took            time.Duration // to apply them
}

func (c *cost) add(o cost) {
	c.commands, c.bytes, c.took = c.commands+o.commands, c.bytes+o.bytes, c.took+o.took
}

func (c cost) micros() float64 { return float64(c.took.Microseconds()) / float64(max(1, c.commands)) }

// apply has the state machine take a command, which it must not refuse, in any part.
func (s *simulation) apply(body proto.Message) (any, cost, error) {
	command, err := metadata.Encode(s.state.Image(), body)
	if err != nil {
		return nil, cost{}, err
	}
	s.index++
	begun := time.Now()
	result, err := s.state.Apply(s.index, command)
	c := cost{1, len(command), time.Since(begun)}
	if err == nil {
		err = metadata.Refused(result)
	}
	var each []error
	switch results := result.(type) {
	case metadata.RangeResults:
		each = results
	case metadata.PartitionResults:
		each = results
	case metadata.LogStarts:
		each = results
	}
	for _, e := range each {
		if err == nil {
			err = e
		}
	}
	if err != nil {
		return nil, c, fmt.Errorf("apply %T: %w", body, err)
	}
	return result, c, nil
}

func topicID(t int) (id storage.TopicID) {
	binary.BigEndian.PutUint64(id[8:], uint64(t)+1)
	return id
}

func partitionID(p int) storage.PartitionID {
	return storage.PartitionID{Topic: topicID(p / scalePartitions), Index: int32(p % scalePartitions)}
}

// broker is that of a partition that comes first, second or third. What one leads, it
// shares with many others.
func (s *simulation) broker(p, replica int) int32 {
	return int32((p + replica*(1+p/scaleBrokers%49)) % scaleBrokers)
}

// newSimulation is a cluster all of whose brokers are in service.
func newSimulation() (*simulation, error) {
	s := &simulation{state: metadata.NewState(), ends: make([]storage.Offset, scaleTopics*scalePartitions)}
	if _, _, err := s.apply(&pb.InitCluster{ClusterId: "a-cluster-of-100-brokers", FeatureLevel: metadata.LatestFeatureLevel}); err != nil {
		return nil, err
	}
	for b := range s.epochs {
		directory := make([]byte, 16)
		directory[0] = byte(b + 1)
		result, _, err := s.apply(&pb.RegisterBroker{
			BrokerId: int32(b), Incarnation: directory, Directory: directory, MaxFeatureLevel: metadata.LatestFeatureLevel,
			Listeners: []*pb.Listener{{Name: "kafka", Host: fmt.Sprintf("broker-%d.rustmq.internal", b), Port: 9092, Protocol: "SSL"}},
		})
		if err != nil {
			return nil, err
		}
		s.epochs[b] = int64(result.(metadata.BrokerEpoch))
		if _, _, err := s.apply(&pb.FenceBroker{BrokerId: int32(b), BrokerEpoch: s.epochs[b]}); err != nil {
			return nil, err
		}
	}
	for t := range scaleTopics {
		id := topicID(t)
		c := &pb.CreateTopic{TopicId: id[:], Name: fmt.Sprintf("orders.region-%d.events", t)}
		for i := range scalePartitions {
			a := &pb.Assignment{}
			for r := range scaleReplicas {
				a.Replicas = append(a.Replicas, s.broker(t*scalePartitions+i, r))
			}
			c.Assignments = append(c.Assignments, a)
		}
		if _, _, err := s.apply(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// commit has a broker commit an object with the next bytes of each of partitions, which
// it leads.
func (s *simulation) commit(broker int32, partitions []int, bytes int64) (cost, error) {
	epoch := s.epochs[broker]
	result, spent, err := s.apply(&pb.PrepareObjects{BrokerId: broker, BrokerEpoch: epoch, Count: 1})
	if err != nil {
		return spent, err
	}
	ranges := make([]metadata.PartitionRange, len(partitions))
	at := int64(0)
	for i, p := range partitions {
		id := partitionID(p)
		_, is := s.state.Image().Partition(id)
		end := s.ends[p] + storage.Offset(1+bytes/1024)
		ranges[i] = metadata.PartitionRange{Partition: id, Range: metadata.Range{
			Base: s.ends[p], End: end, Bytes: bytes, MaxTimestamp: 1_790_000_000_000 + int64(s.index), Epoch: is.LeaderEpoch,
			IndexPosition: at + bytes, IndexLength: 48, IndexCRC: uint32(p) * 2654435761,
		}}
		s.ends[p] = end
		at += bytes + 48
	}
	_, c, err := s.apply(metadata.NewCommitObject(broker, epoch, result.(metadata.ObjectIDs).First, at, ranges))
	spent.add(c)
	return spent, err
}

// ledBy are the partitions that a broker leads.
func (s *simulation) ledBy(broker int32) (led []int) {
	for t := range scaleTopics {
		image, _ := s.state.Image().TopicByID(topicID(t))
		for p := range image.Partitions.All() {
			if p.Leader == broker {
				led = append(led, t*scalePartitions+int(p.Index))
			}
		}
	}
	return led
}

// file moves the first ranges of a partition into a manifest. It is as large as one that
// the broker writes, and the image compares it.
func (s *simulation) file(p, n int) (manifest int64, spent cost, err error) {
	id := partitionID(p)
	_, is := s.state.Image().Partition(id)
	result, spent, err := s.apply(&pb.PrepareObjects{BrokerId: is.Leader, BrokerEpoch: s.epochs[is.Leader], Count: 1})
	if err != nil {
		return 0, spent, err
	}
	f := metadata.Filing{Partition: id, LeaderEpoch: is.LeaderEpoch}
	var entries []byte
	for r := range is.Ranges().All() {
		if len(f.Moved) == n {
			break
		}
		o, _ := s.state.Image().Object(r.Object)
		f.Moved = append(f.Moved, metadata.FiledRange(&r, o.Size))
		entries = object.AppendFiled(entries, &f.Moved[len(f.Moved)-1])
	}
	ref := object.ManifestRef{
		Base: f.Moved[0].Base, End: f.Moved[n-1].End, Ranges: n,
		Bytes: uint32(len(entries)), CRC: object.AddFiledCRC(0, entries),
	}
	_, c, err := s.apply(metadata.NewFileRanges(is.Leader, s.epochs[is.Leader], result.(metadata.ObjectIDs).First, ref, &f))
	spent.add(c)
	return ref.Size(), spent, err
}

// told is what all brokers are told of a change.
type told struct {
	bytes int
	took  time.Duration // to encode a delta for each
}

func (s *simulation) tell(before *metadata.Image) (t told) {
	after := s.state.Image()
	begun := time.Now()
	for b := range int32(scaleBrokers) {
		t.bytes += len(metadata.EncodeDelta(before, after, b))
	}
	t.took = time.Since(begun)
	return t
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// whole adds what an image costs as a whole: memory, snapshot, replay, a new broker's view.
func (r *run) whole(s *simulation, what string, before float64) error {
	r.scale(what+": memory of the image", "MiB", (heap()-before)/(1<<20), "")
	begun := time.Now()
	snapshot := s.state.Image().Snapshot()
	took := time.Since(begun)
	r.scale(what+": snapshot", "MiB", float64(len(snapshot))/(1<<20), fmt.Sprintf("encoded in %d ms", took.Milliseconds()))
	begun = time.Now()
	if err := metadata.NewState().Restore(snapshot); err != nil {
		return err
	}
	r.scale(what+": a controller reads it", "ms", float64(time.Since(begun).Milliseconds()), "")
	begun = time.Now()
	delta := metadata.EncodeDelta(nil, s.state.Image(), 1)
	took = time.Since(begun)
	begun = time.Now()
	if err := metadata.NewView().Apply(delta); err != nil {
		return err
	}
	r.scale(what+": the whole view of a broker", "MiB", float64(len(delta))/(1<<20),
		fmt.Sprintf("encoded in %d ms, applied in %d", took.Milliseconds(), time.Since(begun).Milliseconds()))
	return nil
}

func (r *run) scale(name, unit string, value float64, detail string) {
	r.add(summarise(row{Figure: "K6", Name: name, Unit: unit, Detail: detail}, []float64{value}))
}

// change adds what a change costs: as commands, and what brokers are told of it.
func (r *run) change(s *simulation, what string, do func() (cost, error)) error {
	before := s.state.Image()
	spent, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t := s.tell(before)
	r.scale(what+": a command is applied in", "µs", spent.micros(), fmt.Sprintf("%d commands, %.1f KB of log in all", spent.commands, float64(spent.bytes)/1e3))
	r.scale(what+": told to all brokers", "KB", float64(t.bytes)/1e3, fmt.Sprintf("%d deltas, encoded in %.1f ms", scaleBrokers, float64(t.took.Microseconds())/1e3))
	return nil
}

// large is K6: the metadata of 100 brokers and 100,000 partitions, simulated.
func (r *run) large() error {
	before := heap()
	s, err := newSimulation()
	if err != nil {
		return err
	}
	if err := r.whole(s, "100,000 partitions, nothing in the bucket", before); err != nil {
		return err
	}
	var spent cost
	for range scaleRanges {
		for p := range s.ends {
			_, is := s.state.Image().Partition(partitionID(p))
			c, err := s.commit(is.Leader, []int{p}, scaleObject)
			if err != nil {
				return err
			}
			spent.add(c)
		}
	}
	r.scale("an object of one range: a command is applied in", "µs", spent.micros(), fmt.Sprintf("%d commands of %d bytes", spent.commands, spent.bytes/spent.commands))
	if err := r.whole(s, fmt.Sprintf("with %d ranges of each partition", scaleRanges), before); err != nil {
		return err
	}
	if err := r.changes(s); err != nil {
		return err
	}
	manifest := int64(0)
	if err := r.change(s, fmt.Sprintf("100 partitions file %d ranges each", scaleRanges-1), func() (spent cost, err error) {
		for p := 7; p < len(s.ends) && err == nil; p += len(s.ends) / 100 {
			var c cost
			manifest, c, err = s.file(p, scaleRanges-1)
			spent.add(c)
		}
		return spent, err
	}); err != nil {
		return err
	}
	r.scale("a range in a manifest", "B", float64(manifest-object.ManifestHead)/(scaleRanges-1), "")
	runtime.KeepAlive(s)
	return nil
}

// changes adds what happens day by day.
func (r *run) changes(s *simulation) error {
	if err := r.change(s, "every broker uploads, 10 of the 1000 it leads", func() (spent cost, err error) {
		for b := int32(0); b < scaleBrokers && err == nil; b++ {
			var c cost
			c, err = s.commit(b, s.ledBy(b)[:10], 32<<10)
			spent.add(c)
		}
		return spent, err
	}); err != nil {
		return err
	}
	if err := r.change(s, "one broker uploads, of all 1000 it leads", func() (cost, error) { return s.commit(3, s.ledBy(3), 32<<10) }); err != nil {
		return err
	}
	if err := r.compacts(s); err != nil {
		return err
	}
	led := s.ledBy(5)
	if err := r.change(s, "one partition's follower leaves the ISR", func() (cost, error) { return s.isr(led[0], 2) }); err != nil {
		return err
	}
	if err := r.change(s, "it comes back", func() (cost, error) { return s.isr(led[0], 3) }); err != nil {
		return err
	}
	if err := r.change(s, "a broker falls", func() (cost, error) {
		_, c, err := s.apply(&pb.FenceBroker{BrokerId: 5, BrokerEpoch: s.epochs[5], Fenced: true})
		return c, err
	}); err != nil {
		return err
	}
	if err := r.change(s, "it is in service again", func() (cost, error) {
		_, c, err := s.apply(&pb.FenceBroker{BrokerId: 5, BrokerEpoch: s.epochs[5]})
		return c, err
	}); err != nil {
		return err
	}
	return r.change(s, "it comes into its 3000 ISRs, each leader in one command", func() (spent cost, err error) {
		for b := int32(0); b < scaleBrokers && err == nil; b++ {
			var changes []metadata.PartitionChange
			for _, p := range s.ledBy(b) {
				if _, is := s.state.Image().Partition(partitionID(p)); len(is.ISR) < scaleReplicas {
					changes = append(changes, s.inSync(p, scaleReplicas))
				}
			}
			if len(changes) > 0 {
				var c cost
				_, c, err = s.apply(metadata.NewAlterPartitions(b, s.epochs[b], changes))
				spent.add(c)
			}
		}
		return spent, err
	})
}

// mergedAtOnce is how many ranges of about one size a broker makes one of: compact.DefaultLimits.
const mergedAtOnce = 16

// merge has a broker make one object of the last ranges of each of partitions, n of each, as
// compaction does, and the ids of those that this leaves empty are condemned, deleted and forgotten.
func (s *simulation) merge(broker int32, partitions []int, n int) (cost, error) {
	epoch := s.epochs[broker]
	result, spent, err := s.apply(&pb.PrepareObjects{BrokerId: broker, BrokerEpoch: epoch, Count: 1})
	if err != nil {
		return spent, err
	}
	all := make([]metadata.Replacement, len(partitions))
	at := int64(0)
	for i, p := range partitions {
		id := partitionID(p)
		_, is := s.state.Image().Partition(id)
		l := is.Ranges()
		m := metadata.Replacement{PartitionRange: metadata.PartitionRange{Partition: id}}
		for k := l.Len() - n; k < l.Len(); k++ {
			r := l.At(k)
			m.Removed = append(m.Removed, metadata.RemovedRange{Object: r.Object, Base: r.Base, End: r.End})
			m.Range.Bytes += r.Bytes
			m.Range.MaxTimestamp = max(m.Range.MaxTimestamp, r.MaxTimestamp)
		}
		m.Range.Base, m.Range.End, m.Range.Epoch = m.Removed[0].Base, m.Removed[n-1].End, is.LeaderEpoch
		m.Range.IndexPosition, m.Range.IndexLength, m.Range.IndexCRC = at+m.Range.Bytes, 48*uint32(n), uint32(p)*2654435761
		at += m.Range.Bytes + 48*int64(n)
		all[i] = m
	}
	_, c, err := s.apply(metadata.NewReplaceRanges(broker, epoch, result.(metadata.ObjectIDs).First, at, all))
	spent.add(c)
	return spent, err
}

// compacts adds what compaction writes into the log: what a broker uploaded of all that it leads
// becomes one object, and what a partition has of such ones an object of its own.
func (r *run) compacts(s *simulation) error {
	led := s.ledBy(7)
	upload := func(rounds int) error {
		for range rounds {
			if _, err := s.commit(7, led, 32<<10); err != nil {
				return err
			}
		}
		return nil
	}
	if err := upload(mergedAtOnce); err != nil {
		return err
	}
	if err := r.change(s, "compaction of 16 uploads of 1000 partitions", func() (cost, error) { return s.merge(7, led, mergedAtOnce) }); err != nil {
		return err
	}
	for range mergedAtOnce - 1 {
		if err := upload(mergedAtOnce); err != nil {
			return err
		}
		if _, err := s.merge(7, led, mergedAtOnce); err != nil {
			return err
		}
	}
	if err := r.change(s, "compaction of 16 such ranges of a partition into an object of its own", func() (cost, error) { return s.merge(7, led[:1], mergedAtOnce) }); err != nil {
		return err
	}
	var gone []uint64
	for o := range s.state.Image().ObjectsIn(metadata.Condemned) {
		gone = append(gone, uint64(o.ID))
	}
	return r.change(s, fmt.Sprintf("%d objects that it has emptied are forgotten", len(gone)), func() (cost, error) {
		_, c, err := s.apply(&pb.ForgetObjects{ObjectIds: gone})
		return c, err
	})
}

// inSync is the change by which so many replicas of a partition are in its ISR, the
// leader among them.
func (s *simulation) inSync(p, n int) metadata.PartitionChange {
	id := partitionID(p)
	_, is := s.state.Image().Partition(id)
	c := metadata.PartitionChange{
		Partition: id, LeaderEpoch: is.LeaderEpoch, PartitionEpoch: is.PartitionEpoch,
		ISR: []metadata.ReplicaEpoch{{Broker: is.Leader, Epoch: s.epochs[is.Leader]}},
	}
	for _, b := range is.Replicas {
		if b != is.Leader && len(c.ISR) < n {
			c.ISR = append(c.ISR, metadata.ReplicaEpoch{Broker: b, Epoch: s.epochs[b]})
		}
	}
	return c
}

func (s *simulation) isr(p, n int) (cost, error) {
	c := s.inSync(p, n)
	leader := c.ISR[0].Broker
	_, spent, err := s.apply(metadata.NewAlterPartitions(leader, s.epochs[leader], []metadata.PartitionChange{c}))
	return spent, err
}
