package controller

import (
	"fmt"
	"slices"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// TestEvacuateLeavesNothing holds that a broker which is emptied is named nowhere after
// its moves, and that its partitions stay on as many racks as they can.
func TestEvacuateLeavesNothing(t *testing.T) {
	c := open(t, Options{})
	ctx := t.Context()
	for id := range int32(5) {
		epoch, err := c.RegisterBroker(ctx, Registration{BrokerID: id + 1, Incarnation: [16]byte{byte(id + 1)}, Directory: [16]byte{byte(id + 1)},
			Listeners: []metadata.Listener{{Name: "kafka", Host: "a", Port: 9092, Protocol: "PLAINTEXT"}}, Rack: fmt.Sprint("r", id%3), MaxFeatureLevel: metadata.LatestFeatureLevel})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Heartbeat(ctx, id+1, epoch); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range c.CreateTopics(ctx, []NewTopic{{Name: "t", Partitions: 30, ReplicationFactor: 3}, {Name: "all", Partitions: 1, ReplicationFactor: 5}}, false) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := c.DrainBroker(ctx, 2, true); err != nil {
		t.Fatal(err)
	}
	image := c.Image()
	moves, stuck := Evacuate(image, 2)
	all, _ := image.Topic("all")
	if len(stuck) != 1 || stuck[0].Topic != all.ID {
		t.Errorf("stuck: %v", stuck)
	}
	for _, m := range moves {
		_, p := image.Partition(m.Partition)
		if slices.Contains(m.Replicas, 2) || len(m.Replicas) != 3 || m.Replicas[0] == m.Replicas[1] || m.Replicas[1] == m.Replicas[2] || m.Replicas[0] == m.Replicas[2] {
			t.Errorf("%v moves from %v to %v", m.Partition, p.Replicas, m.Replicas)
		}
		racks := map[string]bool{}
		for _, r := range m.Replicas {
			b, _ := image.Broker(r)
			racks[b.Rack] = true
		}
		if len(racks) < 3 {
			t.Errorf("%v has racks %v", m.Replicas, racks)
		}
	}
	if len(moves) == 0 {
		t.Fatal("nothing moves")
	}
	for _, err := range c.ReassignPartitions(ctx, moves) {
		if err != nil {
			t.Error(err)
		}
	}
	if again, _ := Evacuate(c.Image(), 2); len(again) != 0 {
		t.Errorf("what moves already is moved again: %v", again)
	}
}

// TestEvacuateTakesBackWhatIsAdded holds that a broker which partitions are just being given
// is left out of that: drained, it does not come in sync, and the move would never end.
func TestEvacuateTakesBackWhatIsAdded(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(4) {
		d.broker(id+1, string('a'+id))
	}
	grows := d.topic(1, false, []int32{1}, []int32{1})
	d.reassign(storage.PartitionID{Topic: grows, Index: 0}, []int32{1, 2, 3})
	d.reassign(storage.PartitionID{Topic: grows, Index: 1}, []int32{1, 2, 3, 4})
	d.propose(&pb.ChangeBroker{BrokerId: 3, Draining: true})
	moves, stuck := Evacuate(d.state.Image(), 3)
	if len(moves) != 2 || len(stuck) != 0 {
		t.Fatalf("moves %v, stuck %v", moves, stuck)
	}
	for i, want := range [][]int32{{1, 2, 4}, {1, 2, 4}} {
		if !slices.Equal(moves[i].Replicas, want) {
			t.Errorf("partition %d gets %v, want %v", i, moves[i].Replicas, want)
		}
		d.reassign(moves[i].Partition, moves[i].Replicas)
	}
	d.catchUp()
	for i := range int32(2) {
		if _, p := d.state.Image().Partition(storage.PartitionID{Topic: grows, Index: i}); slices.Contains(p.Replicas, 3) || len(p.Adding) > 0 {
			t.Errorf("%d: replicas %v, adding %v", i, p.Replicas, p.Adding)
		}
	}
}
