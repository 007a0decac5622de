package broker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// TestPartitionMadeWhileTheLogIsFullIsLedLater: no image comes when the WAL has
// room again, so the broker tries by itself,
// however many images of other things come.
func TestPartitionMadeWhileTheLogIsFullIsLedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, b := smallLogged(t, disk.NewMem(disk.MemOptions{}), 8<<20)
		defer func() { b.Close(); n.store.Close() }()
		full := create(n, "full")
		fillLog(n, b.table.byID(full).partition(0).role.Load().log)
		late := create(n, "late")
		if p := b.table.byID(late).partition(0).role.Load(); p.err == nil {
			t.Fatal("it is led although the log is full: the test shows nothing")
		}
		n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: full}})
		for until := time.Now().Add(2 * leadAgain); time.Now().Before(until); {
			// A busy cluster has images all the time; none changes this partition.
			if err := n.controller.Heartbeat(t.Context(), 1, b.registration.epoch.Load()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(leadAgain / 10)
		}
		synctest.Wait()
		if p := b.table.byID(late).partition(0).role.Load(); p.log == nil {
			t.Fatalf("it is not led: %v", p.err)
		}
	})
}

// TestALogStartThatTheLogRefusedIsMovedLater: no image comes when the disk gives room
// again. Until then what was deleted is read, and the earliest offset is one that the
// catalogue does not have; and what a deleted topic had takes the room for good.
func TestALogStartThatTheLogRefusedIsMovedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
		n, b := smallLogged(t, faulty, 32<<20)
		defer func() { b.Close(); n.store.Close() }()
		full, short := create(n, "full"), create(n, "short")
		role := b.table.byID(short).partition(0).role.Load()
		l := role.log
		for range 2000 {
			l.Append(time.Now(), batchOf(t, "x"), log.AppendOptions{Epoch: storage.NoEpoch}, nil)
		}
		faulty.Set(disk.Rule{Op: disk.OpCreate, Err: unix.EIO})
		fillLog(n, b.table.byID(full).partition(0).role.Load().log)
		// A trim may have of the last room what records may not, until that is gone too.
		end := storage.Offset(0)
		for ; l.LogStart() == end; time.Sleep(3 * leadAgain) {
			if end++; end == 2000 {
				t.Fatal("every trim had room: the test shows nothing")
			}
			moved := n.controller.AdvanceLogStart(t.Context(), 1, b.registration.epoch.Load(), []controller.LogStart{{Partition: storage.PartitionID{Topic: short}, LeaderEpoch: role.epoch, Offset: end}})
			if moved[0] != nil {
				t.Fatal(moved[0])
			}
		}
		if b.table.byID(short).partition(0).role.Load().log != l {
			t.Fatal("it is not led any more")
		}
		n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: full}})
		time.Sleep(3 * leadAgain)
		kept := func() bool {
			return slices.ContainsFunc(n.store.Partitions(), func(id storage.PartitionID) bool { return id.Topic == full })
		}
		if !kept() {
			t.Fatal("records were dropped although the log is full: the test shows nothing of them")
		}
		faulty.Set()
		time.Sleep(10 * leadAgain)
		if l.LogStart() != end {
			t.Errorf("the log begins at %d, the catalogue says %d", l.LogStart(), end)
		}
		if kept() {
			t.Error("the records of a deleted topic are there still")
		}
	})
}

// smallLogged is a broker whose log is soon full.
func smallLogged(t *testing.T, fs disk.FS, capacity int64) (*node, *Broker) {
	t.Helper()
	store, err := log.Open(t.Context(), log.Options{
		FS: fs, Dir: "wal", WAL: wal.Options{Capacity: capacity, SegmentSize: 1 << 20, Memory: 4 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, controller: newTestController(t), store: store}
	n.options = Options{NodeID: 1, Store: store, Controller: n.controller, Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: 9092, Protocol: "PLAINTEXT"}}}
	b, err := Open(t.Context(), n.options)
	if err != nil {
		t.Fatal(err)
	}
	return n, b
}

// create makes a topic of one partition, and waits until the broker knows it.
func create(n *node, name string) storage.TopicID {
	n.t.Helper()
	r := n.controller.CreateTopics(n.t.Context(), []controller.NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}, false)[0]
	if r.Err != nil {
		n.t.Fatal(r.Err)
	}
	time.Sleep(time.Millisecond)
	return r.ID
}

// fillLog appends until there is no room, not for a byte.
func fillLog(n *node, l *log.Log) {
	noWait, cancel := context.WithCancel(n.t.Context())
	cancel()
	for _, size := range []int{100 << 10, 10 << 10, 1 << 10, 1} {
		records := batchOf(n.t, strings.Repeat("x", size))
		for n.store.Admit(noWait, len(records)) == nil {
			l.Append(time.Now(), slices.Clone(records), log.AppendOptions{Epoch: storage.NoEpoch}, nil)
			time.Sleep(100 * time.Millisecond) // the log makes room as far as it may
		}
	}
}
