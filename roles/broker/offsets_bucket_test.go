package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// tieredGroups is a node whose groups' topic goes into the bucket, and is compacted
// there.
func tieredGroups(t *testing.T, b bucket.Bucket) *node {
	return openTiered(t, b, 9092, func(tier *Tier) {
		limits := clean.DefaultLimits()
		limits.Patience, limits.KeyMemory = 0, 1<<20
		tier.Remember = func(nonce [16]byte) error { tier.Nonce = nonce; return nil }
		tier.Clean = &Cleaning{Limits: limits, Interval: 20 * time.Millisecond}
	})
}

// offsets is the partition of a group's offsets.
func (n *node) offsets(id string) *metadata.Partition {
	n.t.Helper()
	topic, ok := n.options.Controller.Image().Topic(offsetsTopic)
	if !ok {
		n.t.Fatal("no topic of groups")
	}
	return topic.Partition(group.Partition(id))
}

// await waits until something is so in the metadata.
func (n *node) await(what string, is func() bool) {
	n.t.Helper()
	until(within(n.t, 30*time.Second), n.t, n.options.Controller, what, is)
}

// makeEvents makes the topic that groups commit offsets of.
func (n *node) makeEvents() {
	n.t.Helper()
	made := n.options.Controller.CreateTopics(n.t.Context(), []controller.NewTopic{{Name: "events", Partitions: 1, ReplicationFactor: 1}}, false)
	if made[0].Err != nil {
		n.t.Fatal(made[0].Err)
	}
	n.settle(n.t.Context())
}

// commit commits offsets 0 to last, one after the other.
func (c *client) commit(id string, last int64) {
	c.t.Helper()
	for offset := range last + 1 {
		if code := ask[*kmsg.OffsetCommitResponse](c, 8, commitOf(id, offset)).Topics[0].Partitions[0].ErrorCode; code != 0 {
			c.t.Fatalf("commit of %d: code %d", offset, code)
		}
	}
}

// reopen ends the node and starts it again over a store of its own files, or others.
func (n *node) reopen(fs disk.FS, dir string) {
	n.t.Helper()
	n.server.Close()
	n.Broker.Close()
	if err := n.store.Close(); err != nil {
		n.t.Fatal(err)
	}
	store, err := log.Open(n.t.Context(), log.Options{FS: fs, Dir: dir, Tiered: true, WAL: wal.Options{Capacity: 32 << 20, SegmentSize: 2 << 20, Memory: 8 << 20}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { store.Close() })
	n.store, n.options.Store = store, store
	n.open()
}

// goesOn waits until a node that has lost its log leads topics again, once it knows what the bucket knows
// of their producers.
func (n *node) goesOn(topics ...string) {
	n.t.Helper()
	ctx := within(n.t, 30*time.Second)
	n.settle(ctx)
	for _, name := range topics {
		for _, p := range *n.table.byName([]byte(name)).partitions.Load() {
			for _, _, err := p.leading(); err != nil; _, _, err = p.leading() {
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					n.t.Fatalf("%s-%d is not led: %v", name, p.index, err)
				}
			}
		}
	}
}

// TestGroupsStartWithoutTheBucket (RULES 4.4): their topic is in the bucket, the WAL
// gives up what it may, the bucket goes away, and after a restart the groups are
// served from the WAL.
func TestGroupsStartWithoutTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewFaulty(bucket.NewMemory())
		n := tieredGroups(t, b)
		c := n.connect()
		n.makeEvents()
		const id, last = "readers", 50
		c.findGroups(id)
		c.commit(id, last)
		n.await("the groups are in the bucket", func() bool { return n.offsets(id).CommittedEnd() == last+1 })
		if err := n.store.Evict(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Set(bucket.Rule{Err: errors.New("connection refused")})
		n.reopen(n.fs, "wal")
		c = n.connect()
		c.findGroups(id)
		if got := c.committed(id); got != last {
			t.Errorf("the group is at %d, want %d", got, last)
		}
		c.commit(id, last+1)
		if got := c.committed(id); got != last+1 {
			t.Errorf("the group is at %d, want %d", got, last+1)
		}
	})
}

// TestGroupsAreCompactedInTheBucket: of fifty commits of one group the last is left
// there, and groups whose WAL is lost are read from it.
func TestGroupsAreCompactedInTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tieredGroups(t, bucket.NewMemory())
		c := n.connect()
		n.makeEvents()
		const id, last = "readers", 50
		c.findGroups(id)
		c.commit(id, last)
		n.await("the groups are compacted", func() bool { return n.offsets(id).Cleaning().To == last+1 })
		if bytes := n.offsets(id).Ranges().Bytes(); bytes > 2*batch.HeaderSize+200 {
			t.Errorf("%d bytes are left in the bucket", bytes)
		}
		n.reopen(disk.NewMem(disk.MemOptions{}), fmt.Sprintf("wal-%d", 2))
		n.goesOn(offsetsTopic)
		c = n.connect()
		c.findGroups(id)
		if got := c.committed(id); got != last {
			t.Errorf("the group is at %d, want %d", got, last)
		}
	})
}

// TestOffsetsOfTransactionsOutliveTheirMarkers: the groups' topic is compacted by key
// past the time that markers stay; the WAL is lost, and what a transaction committed
// is committed still.
func TestOffsetsOfTransactionsOutliveTheirMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tieredGroups(t, bucket.NewMemory())
		made := n.options.Controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "in", Partitions: 1, ReplicationFactor: 1}}, false)
		if made[0].Err != nil {
			t.Fatal(made[0].Err)
		}
		n.settle(t.Context())
		tx := n.transact("t")
		changed := n.options.Controller.AlterConfigs(t.Context(), []controller.ConfigChange{{
			Type: metadata.TopicResource, Name: offsetsTopic, Ops: []controller.ConfigOp{{Op: controller.SetConfig, Key: "delete.retention.ms", Value: "0"}},
		}}, false)
		if changed[0] != nil {
			t.Fatal(changed[0])
		}
		if code := tx.commitOffset(5, storage.TopicID{}, 7); code != 0 {
			t.Fatalf("commit: code %d", code)
		}
		tx.end(5, true)
		tx.wantOffset(7)
		n.await("the marker had its time", func() bool {
			is := n.offsets("group").Cleaning()
			return is.To == 2 && is.Due == 0
		})
		n.reopen(disk.NewMem(disk.MemOptions{}), "wal-2")
		n.goesOn(offsetsTopic, transactionsTopic)
		tx = n.transact("u")
		tx.wantOffset(7)
	})
}

// doubting is a controller that believes no time for now.
type doubting struct {
	Controller
	doubts atomic.Bool
}

func (d *doubting) BelievedTime() (time.Time, bool) { return time.Now(), !d.doubts.Load() }

// TestNothingExpiresWhileNoTimeIsBelieved: neither offsets nor transactional ids, and
// compaction by key, which takes tombstones, begins no round.
func TestNothingExpiresWhileNoTimeIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tieredGroups(t, bucket.NewMemory())
		d := &doubting{Controller: n.options.Controller}
		d.doubts.Store(true)
		n.options.Controller = d
		n.options.Groups.OffsetRetention, n.options.Groups.OffsetCheck = time.Minute, time.Minute
		n.options.Transactions.IDExpiration = time.Minute
		n.reopen(n.fs, "wal")
		n.transact("t")
		c := n.connect()
		n.makeEvents()
		const id = "readers"
		c.findGroups(id)
		c.commit(id, 5)
		time.Sleep(5 * time.Minute)
		if got, ids := c.committed(id), n.transactions.Stats().IDs; got != 5 || ids != 1 {
			t.Errorf("the group is at %d, there are %d ids", got, ids)
		}
		if is := n.offsets(id); is.CommittedEnd() != 6 || is.Cleaning() != (metadata.Cleaning{}) {
			t.Errorf("in the bucket to %d, compacted: %+v", is.CommittedEnd(), is.Cleaning())
		}
		d.doubts.Store(false)
		time.Sleep(15 * time.Minute)
		c = n.connect() // the other was idle
		c.findGroups(id)
		if got, ids := c.committed(id), n.transactions.Stats().IDs; got != -1 || ids != 0 {
			t.Errorf("believed again: the group is at %d, there are %d ids", got, ids)
		}
		if is := n.offsets(id).Cleaning(); is.To < 6 {
			t.Errorf("believed again: compacted: %+v", is)
		}
	})
}

// TestCoordinatorsTopicsFitASmallLog: their largest record is what the log takes, or the
// controller would refuse to make them.
func TestCoordinatorsTopicsFitASmallLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tieredGroups(t, bucket.NewMemory())
		n.options.LargestBatch = 1 << 18
		n.reopen(n.fs, "wal")
		n.connect().findGroups("readers")
		topic, _ := n.options.Controller.Image().Topic(offsetsTopic)
		if got := topic.Configs["max.message.bytes"]; got != "262144" {
			t.Errorf("it has max.message.bytes=%s", got)
		}
	})
}
