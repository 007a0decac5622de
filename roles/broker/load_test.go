package broker

import (
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// TestLoadOfWhatIsLed: a report names what is led here and not idle, once.
func TestLoadOfWhatIsLed(t *testing.T) {
	table := newTable()
	tp := table.topicOf(&metadata.Topic{Name: "t", ID: storage.TopicID{1}, Partitions: metadata.PartitionsOf(metadata.Partition{}, metadata.Partition{}, metadata.Partition{})})
	table.put(tp)
	for i := range int32(2) { // partition 2 is led elsewhere
		tp.partition(i).role.Store(&role{log: new(log.Log)})
	}
	for i, passed := range []int64{4 * loadFloor, loadFloor, 100 * loadFloor} {
		tp.partition(int32(i)).passed.Add(passed)
	}
	want := []controller.PartitionLoad{{Partition: tp.partition(0).id(), Rate: 2 * loadFloor}}
	if got := table.loads(2 * time.Second); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := table.loads(2 * time.Second); len(got) > 0 {
		t.Errorf("counted twice: %+v", got)
	}
}
