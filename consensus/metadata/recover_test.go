package metadata

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

var testNonce = bytes.Repeat([]byte{5}, 16)

// life is the history of one partition: who led it under which epoch, and what of that
// came into the bucket.
type life struct {
	*testLog
	rng    *rand.Rand
	epochs []storage.Epoch // of each offset that the leader has
	epoch  storage.Epoch
	found  []FoundObject
	images []*Image // after each command
	lost   bool     // a leader was elected that lacked what another had in the bucket, or acked
}

func (l *life) committedEnd() storage.Offset {
	_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)})
	return p.CommittedEnd()
}

func (l *life) keep() { l.images = append(l.images, l.state.Image()) }

// upload puts what the leader has into the bucket, and commits it if asked to.
func (l *life) upload(commit bool) {
	base, end := l.committedEnd(), storage.Offset(len(l.epochs))
	if base >= end {
		return
	}
	end = base + 1 + storage.Offset(l.rng.IntN(int(end-base)))
	id := l.prepare(1)
	l.keep()
	r := rangeAt(0, base, end)
	r.Range.Epoch = l.epochs[end-1]
	l.found = append(l.found, FoundObject{ID: id, Size: 1 << 20, Ranges: []FoundRange{{Partition: r.Partition, First: l.epochs[base], Range: r.Range}}})
	if commit {
		r.Range.Epoch = l.epoch
		l.accepted(NewCommitObject(1, 2, id, 1<<20, []PartitionRange{r}))
		l.keep()
	}
}

// fail elects another leader. An unclean one lacks some of what the log had, but never
// what is committed to the bucket.
func (l *life) fail(unclean bool) {
	// Moves the leadership away and back: broker 1 is the one that uploads.
	for _, to := range []int32{2, 1} {
		results := l.accepted(&pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: bytes.Repeat([]byte{7}, 16), Leader: to}}}).(PartitionResults)
		if results[0] != nil {
			l.t.Fatal(results[0])
		}
		l.keep()
	}
	l.epoch += 2
	if unclean {
		least := int(l.committedEnd())
		cut := least + l.rng.IntN(len(l.epochs)-least+1)
		l.lost = l.lost || cut < len(l.epochs)
		l.epochs = l.epochs[:cut]
	}
}

// contents are the epochs of the offsets that a run of ranges has.
func contents(of map[storage.ObjectID][]storage.Epoch, base []storage.Epoch, run []Range) []storage.Epoch {
	out := slices.Clone(base)
	for _, r := range run {
		out = append(out, of[r.Object]...)
	}
	return out
}

// TestRecoverIsTruncationByEpoch (RULES 7): of a history of uploads and failovers the
// bucket's log was cut anywhere. What comes out is what the best of all runs of objects
// has, by epoch and then by end, and of a history without unclean elections what the
// leader had.
func TestRecoverIsTruncationByEpoch(t *testing.T) {
	seeds := uint64(300)
	adopted := 0
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 77))
		l := &life{testLog: newLog(t, 1), rng: rng}
		l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
		l.keep()
		of := map[storage.ObjectID][]storage.Epoch{}
		for range 40 {
			switch n := rng.IntN(10); {
			case n < 4:
				for range 1 + rng.IntN(4) {
					l.epochs = append(l.epochs, l.epoch)
				}
			case n < 8:
				had := len(l.found)
				l.upload(rng.IntN(3) > 0)
				for _, f := range l.found[had:] {
					r := f.Ranges[0].Range
					of[f.ID] = slices.Clone(l.epochs[r.Base:r.End])
				}
			default:
				l.fail(rng.IntN(3) == 0)
			}
		}
		last := l.images[rng.IntN(len(l.images))]
		// Objects that were committed behind the cut are prepared at it; of some the id is not known.
		o := RecoverOptions{Objects: l.found}
		if seed%2 == 0 {
			o.Brokers = []int32{} // nobody can come who has more, or has it otherwise
		}
		next, taken, err := Recover(last, o)
		if err != nil {
			t.Fatal(err)
		}
		adopted += len(taken)
		_, was := last.Partition(storage.PartitionID{Topic: testID(7)})
		_, is := next.Partition(storage.PartitionID{Topic: testID(7)})
		if life := next.LifeEpoch(); was.LeaderEpoch >= life || is.LeaderEpoch < life || last.LifeEpoch() != 0 {
			t.Fatalf("seed %d: led at epoch %d, then %d, and the lives are told apart by %d and %d", seed, was.LeaderEpoch, is.LeaderEpoch, last.LifeEpoch(), life)
		}
		var before []Range
		for r := range was.Ranges().All() {
			before = append(before, r)
		}
		start := contents(of, nil, before)
		want := start
		var try func(end storage.Offset, has []storage.Epoch)
		try = func(end storage.Offset, has []storage.Epoch) {
			if len(has) > len(start) && (len(want) == len(start) || has[len(has)-1] > want[len(want)-1] || has[len(has)-1] == want[len(want)-1] && len(has) > len(want)) {
				want = has
			}
			for _, f := range l.found {
				o, known := last.Object(f.ID)
				r := f.Ranges[0]
				outdated := seed%2 == 1 && r.Range.Epoch < was.LeaderEpoch
				if known && o.State == Prepared && r.Range.Base == end && !outdated && (len(has) == len(start) || of[f.ID][0] >= has[len(has)-1]) {
					try(r.Range.End, slices.Concat(has, of[f.ID]))
				}
			}
		}
		try(was.CommittedEnd(), start)
		var run []Range
		for r := range is.Ranges().All() {
			run = append(run, r)
		}
		got := contents(of, nil, run)
		// Two runs that come as far may differ in what lies before only after an unclean election.
		if len(got) != len(want) || len(got) > 0 && got[len(got)-1] != want[len(want)-1] {
			t.Fatalf("seed %d: recovered %v, want %v", seed, got, want)
		}
		if !l.lost && !slices.Equal(got, l.epochs[:len(got)]) {
			t.Fatalf("seed %d: recovered %v, the leader had %v", seed, got, l.epochs)
		}
		if again := decoded(t, next); !bytes.Equal(again.Snapshot(), next.Snapshot()) {
			t.Fatalf("seed %d: the image does not survive a snapshot", seed)
		}
	}
	if adopted < int(seeds)/4 {
		t.Fatalf("%d objects were taken in %d histories: the test sees little", adopted, seeds)
	}
}

// decoded is the image of a snapshot of another.
func decoded(t *testing.T, m *Image) *Image {
	t.Helper()
	s := NewState()
	if err := s.Restore(m.Snapshot()); err != nil {
		t.Fatal(err)
	}
	return s.Image()
}

// recovered is a cluster of two brokers after Recover, with one partition.
func recovered(t *testing.T, brokers []int32) *testLog {
	t.Helper()
	l := newLog(t, 1)
	l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
	l.accepted(&pb.AnnounceEntry{Number: 9, Term: 2, Writer: 3})
	l.accepted(NewRegisterController(ControllerNode{ID: 1, Raft: "a:1", Controller: "a:2", MaxFeatureLevel: LatestFeatureLevel}))
	l.accepted(&pb.AllocateProducerIds{BrokerId: 1, BrokerEpoch: 2, Count: 10})
	id := l.prepare(3)
	l.accepted(NewCommitObject(1, 2, id, 1000, []PartitionRange{rangeAt(0, 0, 10)}))
	next, _, err := Recover(l.state.Image(), RecoverOptions{Brokers: brokers})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.state.Restore(next.Snapshot()); err != nil {
		t.Fatal(err)
	}
	l.index = next.Offset()
	return l
}

func (l *testLog) partition() *Partition {
	_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)})
	return p
}

// start registers a broker anew, and returns its epoch.
func (l *testLog) start(id int32, directory byte) int64 {
	l.t.Helper()
	return int64(l.accepted(&pb.RegisterBroker{
		BrokerId: id, Incarnation: bytes.Repeat([]byte{byte(l.index)}, 16), Directory: bytes.Repeat([]byte{directory}, 16), BucketNonce: testNonce, MaxFeatureLevel: LatestFeatureLevel,
	}).(BrokerEpoch))
}

func (l *testLog) serve(id int32, epoch int64) {
	l.t.Helper()
	l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epoch})
}

func (l *testLog) says(id int32, brokerEpoch int64, epoch storage.Epoch, end storage.Offset) {
	l.t.Helper()
	results, ok := l.accepted(NewReportEnds(id, brokerEpoch, []PartitionEnd{{storage.PartitionID{Topic: testID(7)}, epoch, end, 0}})).(PartitionResults)
	if !ok || results[0] != nil {
		l.t.Fatal(results)
	}
}

// TestEachLifeLeadsUnderEpochsOfItsOwn: also what the life before had made itself, at the
// first epochs that there are, is told from what this one makes.
func TestEachLifeLeadsUnderEpochsOfItsOwn(t *testing.T) {
	image := recovered(t, nil).state.Image()
	for incarnation := uint64(3); incarnation < 6; incarnation++ {
		made := *image
		made.editPartitions(func(_ *Topic, _ *Partition, change func() *Partition) { change().LeaderEpoch = 0 })
		next, _, err := Recover(&made, RecoverOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := next.Bucket()
		_, p := next.Partition(storage.PartitionID{Topic: testID(7)})
		if b.Incarnation != incarnation || p.LeaderEpoch < next.LifeEpoch() {
			t.Fatalf("life %d leads what it took over from epoch %d on, and says that it does from %d on", b.Incarnation, p.LeaderEpoch, next.LifeEpoch())
		}
		image = next
	}
}

// TestAnotherLifeGivesNothingOutTwice: whatever the lost log gave out, the new one does not.
func TestAnotherLifeGivesNothingOutTwice(t *testing.T) {
	before := newLog(t, 1)
	l := recovered(t, nil)
	image := l.state.Image()
	b, _ := image.Bucket()
	if b.Incarnation != 2 || string(b.Nonce[:]) != string(testNonce) || image.AnnouncedEntry() != 0 || image.FeatureLevel() < RecoveryFeatureLevel {
		t.Errorf("bucket %+v, entry %d, level %d", b, image.AnnouncedEntry(), image.FeatureLevel())
	}
	for c := range image.Controllers() {
		t.Errorf("controller %d is a member of nothing", c.ID)
	}
	p := l.partition()
	if p.LeaderEpoch < epochLeap || !p.AsksReplicas() || !slices.Equal(p.Recovery().Awaited, []int32{1, 2}) || p.CommittedEnd() != 10 {
		t.Errorf("partition %+v, %+v", p, p.Recovery())
	}
	if n := image.NumObjects(Prepared); n != 0 || image.NumObjects(Condemned) != 2 {
		t.Errorf("%d objects prepared, %d condemned: nobody comes to commit them", n, image.NumObjects(Condemned))
	}
	epoch := l.start(1, 0)
	if epoch < offsetLeap {
		t.Errorf("broker epoch %d: the lost log may have given that out", epoch)
	}
	first := l.accepted(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: epoch, Count: 1}).(ObjectIDs).First
	if first < objectLeap {
		t.Errorf("object id %d: the lost log may have given that out", first)
	}
	if ids := l.accepted(&pb.AllocateProducerIds{BrokerId: 1, BrokerEpoch: epoch, Count: 1}).(ProducerIDs); ids.First < producerLeap {
		t.Errorf("producer id %d: the lost log may have given that out", ids.First)
	}
	if _, _, err := Recover(before.state.Image(), RecoverOptions{}); err == nil {
		t.Error("a cluster without a bucket has another life")
	}
}

// TestRunsAreOfOneHistory: a range does not follow on one that ends under a later epoch
// than it begins with: whoever had it had something else before.
func TestRunsAreOfOneHistory(t *testing.T) {
	l := newLog(t, 1)
	l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
	first := l.prepare(3)
	found := make([]FoundObject, 3)
	for i, is := range []struct {
		base, end   storage.Offset
		first, last storage.Epoch
	}{{0, 10, 3, 5}, {0, 10, 3, 4}, {10, 20, 4, 6}} {
		r := rangeAt(0, is.base, is.end)
		r.Range.Epoch = is.last
		found[i] = FoundObject{ID: first + storage.ObjectID(i), Size: 1000, Ranges: []FoundRange{{Partition: r.Partition, First: is.first, Range: r.Range}}}
	}
	_, taken, err := Recover(l.state.Image(), RecoverOptions{Objects: found})
	if want := []storage.ObjectID{first + 1, first + 2}; err != nil || !slices.Equal(taken, want) {
		t.Errorf("%v are taken, want %v: %v", taken, want, err)
	}
}

// TestCondemnedUploadsAreNotTaken: their keys may be deleted at any time.
func TestCondemnedUploadsAreNotTaken(t *testing.T) {
	l := newLog(t, 1)
	l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
	id := l.prepare(1)
	l.accepted(&pb.CondemnObjects{ObjectIds: []uint64{uint64(id)}})
	r := rangeAt(0, 0, 10)
	next, taken, err := Recover(l.state.Image(), RecoverOptions{Objects: []FoundObject{{ID: id, Size: 1000, Ranges: []FoundRange{{Partition: r.Partition, Range: r.Range}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, p := next.Partition(r.Partition); p.Ranges().Len() > 0 || len(taken) > 0 {
		t.Errorf("%v is named: %v", id, taken)
	}
}

// TestLongestOfTheHighestEpochLeads (RULES 7): once all that are awaited have said what
// they have, and not before; a restart says it anew.
func TestLongestOfTheHighestEpochLeads(t *testing.T) {
	for name, c := range map[string]struct {
		first, second ReplicaEnd
		want          int32
	}{
		"higher epoch, shorter": {ReplicaEnd{1, 3, 300}, ReplicaEnd{2, 4, 200}, 2},
		"longer":                {ReplicaEnd{1, 4, 199}, ReplicaEnd{2, 4, 200}, 2},
		"the same":              {ReplicaEnd{1, 4, 200}, ReplicaEnd{2, 4, 200}, 1},
		"one has nothing":       {ReplicaEnd{1, storage.NoEpoch, 0}, ReplicaEnd{2, 0, 1}, 2},
		"nobody has anything":   {ReplicaEnd{1, storage.NoEpoch, 0}, ReplicaEnd{2, storage.NoEpoch, 0}, 1},
		"beyond the leap":       {ReplicaEnd{1, 3, 300}, ReplicaEnd{2, 2 * epochLeap, 200}, 2},
	} {
		l := recovered(t, nil)
		e1, e2 := l.start(1, 0), l.start(2, 1)
		l.serve(1, e1)
		l.says(1, e1, c.first.Epoch, c.first.End)
		if p := l.partition(); p.Leader != NoLeader {
			t.Fatalf("%s: %d leads before broker 2 was heard", name, p.Leader)
		}
		l.says(2, e2, c.second.Epoch, c.second.End)
		l.serve(2, e2)
		p := l.partition()
		if p.Leader != c.want || !slices.Equal(p.ISR, []int32{c.want}) || len(p.ELR) != 0 || p.Recovery() != nil || p.LeaderEpoch <= max(c.first.Epoch, c.second.Epoch) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestRecoveredPartitionWaits holds who is waited for, and who is not.
func TestRecoveredPartitionWaits(t *testing.T) {
	l := recovered(t, nil)
	e1, e2 := l.start(1, 0), l.start(2, 1)
	l.serve(1, e1)
	l.serve(2, e2)
	l.says(2, e2, 5, 500)
	l.accepted(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: e2, Fenced: true})
	e2 = l.start(2, 9) // wiped, before broker 1 was heard
	l.says(1, e1, 4, 400)
	if p := l.partition(); p.Leader != NoLeader || !slices.Equal(p.Recovery().Silent(), []int32{2}) {
		t.Fatalf("what a process said that is gone counts: %+v", p)
	}
	l.serve(2, e2)
	l.says(2, e2, storage.NoEpoch, 0)
	if p := l.partition(); p.Leader != 1 {
		t.Fatalf("%+v", p)
	}
	if results := l.apply(NewReportEnds(1, e1, []PartitionEnd{{storage.PartitionID{Topic: testID(7)}, 9, 900, 0}})).(PartitionResults); results[0] == nil {
		t.Error("a partition that is led takes reports")
	}

	l = recovered(t, nil)
	e3 := l.start(3, 1)
	if results := l.apply(NewReportEnds(3, e3, []PartitionEnd{{storage.PartitionID{Topic: testID(7)}, 9, 900, 0}})).(PartitionResults); results[0] == nil {
		t.Error("a broker speaks of a partition that it has no replica of")
	}

	// The longest has gone since.
	l = recovered(t, nil)
	e1, e2 = l.start(1, 0), l.start(2, 1)
	l.serve(1, e1)
	l.serve(2, e2)
	l.says(2, e2, 5, 500)
	l.accepted(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: e2, Fenced: true})
	l.says(1, e1, 4, 400)
	if p := l.partition(); p.Leader != NoLeader {
		t.Fatalf("%d leads, and lacks what broker 2 has", p.Leader)
	}
	l.serve(2, e2)
	if p := l.partition(); p.Leader != 2 {
		t.Fatalf("broker 2 is back: %+v", p)
	}

	// A person goes on without it.
	l = recovered(t, nil)
	e1 = l.start(1, 0)
	l.serve(1, e1)
	l.says(1, e1, 4, 400)
	elect := &pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: bytes.Repeat([]byte{7}, 16), Leader: NoLeader}}}
	if results := l.apply(elect).(PartitionResults); results[0] == nil {
		t.Fatal("a leader without being asked for an unclean one")
	}
	elect.Entries[0].Unclean = true
	l.accepted(elect)
	if p := l.partition(); p.Leader != 1 || p.Recovery() != nil {
		t.Fatalf("%+v", p)
	}

	// Brokers whose disks are lost are not waited for.
	l = recovered(t, []int32{1})
	e1 = l.start(1, 0)
	l.serve(1, e1)
	l.says(1, e1, 4, 400)
	if p := l.partition(); p.Leader != 1 {
		t.Fatalf("%+v", p)
	}

	// Nor does a topic that allows unclean elections do without.
	l = recovered(t, nil)
	l.accepted(&pb.AlterConfigs{ResourceType: int32(TopicResource), Name: "t", Version: l.configVersion(), Set: []*pb.ConfigEntry{{Key: uncleanElection, Value: "true"}}})
	e1 = l.start(1, 0)
	l.serve(1, e1)
	l.says(1, e1, 4, 400)
	if p := l.partition(); p.Leader != NoLeader {
		t.Fatalf("%d leads before broker 2 was heard", p.Leader)
	}
}

// TestRecoveryInASnapshot: what has been said is there after a restart, and what cannot be
// is damage.
func TestRecoveryInASnapshot(t *testing.T) {
	l := recovered(t, nil)
	e2 := l.start(2, 1)
	l.says(2, e2, 5, 500)
	is := decoded(t, l.state.Image())
	_, p := is.Partition(storage.PartitionID{Topic: testID(7)})
	if r := p.Recovery(); r == nil || fmt.Sprint(*r) != fmt.Sprint(*l.partition().Recovery()) || !slices.Equal(r.Silent(), []int32{1}) {
		t.Fatalf("%+v, was %+v", r, l.partition().Recovery())
	}
	for what, e := range map[string]*pb.Recovery{
		"awaits a stranger": {Awaited: []int32{3}},
		"a stranger's word": {Ends: []*pb.ReplicaEnd{{Broker: 3}}},
		"twice":             {Ends: []*pb.ReplicaEnd{{Broker: 1}, {Broker: 1}}},
		"a negative end":    {Ends: []*pb.ReplicaEnd{{Broker: 1, End: -1}}},
		"no room for more":  {Ends: []*pb.ReplicaEnd{{Broker: 1, Epoch: 1<<31 - 1}}},
	} {
		if _, ok := decodeRecovery(e, []int32{1, 2}); ok {
			t.Errorf("%s is taken", what)
		}
	}
}
