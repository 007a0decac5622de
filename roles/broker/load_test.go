package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
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

// TestSyncsAreTold: the controller is told how long syncs take here, and while they take
// long it is told each second.
func TestSyncsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
		c := startReplicas(t, 1, func(o *Options) { o.Store = openStore(t, fs) })
		c.controller.createTopic("t", 1)
		c.nodes[1].settle(t.Context())
		told := func() (time.Duration, int) {
			c.controller.mu.Lock()
			defer c.controller.mu.Unlock()
			return c.controller.syncs, c.controller.reports
		}
		_, before := told()
		time.Sleep(10*loadInterval + loadInterval/2)
		if took, reports := told(); took != 0 || reports-before != 10 {
			t.Errorf("idle for 30 s: %d reports, of syncs that take %v", reports-before, took)
		}
		const slow = 400 * time.Millisecond
		fs.Set(disk.Rule{Op: disk.OpSync, Hook: func(disk.Op, string) { time.Sleep(slow) }})
		_, before = told()
		for begin := time.Now(); time.Since(begin) < 10*slowInterval; {
			if code := c.produce(c.nodes[1], "t", -1, "x"); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
		if took, reports := told(); took != slow || reports-before < 9 || reports-before > 11 {
			t.Errorf("slow for 10 s: %d reports, of syncs that take %v", reports-before, took)
		}
	})
}

// TestSyncThatHangsIsLong: a sync that does not end is told of by how long it has taken.
func TestSyncThatHangsIsLong(t *testing.T) {
	w := syncWatch{told: wal.Stats{Syncs: 10, SyncTime: time.Second}}
	for _, c := range []struct {
		now  wal.Stats
		want time.Duration
	}{
		{wal.Stats{Syncs: 10, SyncTime: time.Second}, 0},
		{wal.Stats{Syncs: 12, SyncTime: time.Second + 10*time.Millisecond}, 5 * time.Millisecond},
		{wal.Stats{Syncs: 12, SyncTime: time.Second + 10*time.Millisecond, Syncing: time.Minute}, time.Minute},
		{wal.Stats{Syncs: 10, SyncTime: time.Second, Syncing: time.Second}, time.Second},
	} {
		if got := w.took(c.now); got != c.want {
			t.Errorf("%+v: %v, want %v", c.now, got, c.want)
		}
	}
}
