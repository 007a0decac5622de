package broker

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
)

// A replica that is ahead of a leader which was elected without what it holds, as somebody
// asked for, begins anew as that leader has it: it would be out of sync for ever.
func TestAReplicaAheadOfAnUncleanLeaderBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, tiered)
		c.createTopic("events")
		leads := c.partition("events").Leader
		behind, ahead := leads%3+1, (leads+1)%3+1
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		c.isolate(behind)
		c.produce(c.leader("events"), "events", -1, numbered("lost", 10)...)
		c.eventually("the others have committed it", func() bool { return c.log(ahead, "events").HighWatermark() == 20 })
		c.isolate(ahead)
		c.isolate(leads)
		c.rejoin(behind)
		tp, _ := c.controller.Image().Topic("events")
		elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: tp.ID}, Leader: behind, Unclean: true}
		c.eventually("it is elected", func() bool {
			return c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{elect})[0] == nil
		})
		c.eventually("it leads", func() bool { return c.nodes[behind].serves("events") })
		c.produce(c.leader("events"), "events", 1, "b0", "b1", "b2")
		c.rejoin(ahead)
		c.rejoin(leads)
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.eventually("its leader knows", func() bool { return c.produce(c.leader("events"), "events", -1, "b3") == 0 })
		c.same("events", 1, 2, 3)
		if got := content(t, c.log(ahead, "events")); !slices.Equal(got, append(numbered("a", 10), "b0", "b1", "b2", "b3")) {
			t.Errorf("%v", got)
		}
	})
}

// A replica that may be ahead of its leader serves no reader of its rack before that has
// said what stays: what is to go would be read under the epoch that it goes by (KIP-320).
func TestWhoMayBeAheadServesNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks, tiered)
		c.createTopic("events")
		leads := c.partition("events").Leader
		behind, ahead := leads%3+1, (leads+1)%3+1
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		c.isolate(behind)
		c.produce(c.leader("events"), "events", -1, numbered("lost", 10)...)
		c.eventually("the others have committed it", func() bool { return c.log(ahead, "events").HighWatermark() == 20 })
		c.isolate(ahead)
		c.isolate(leads)
		c.rejoin(behind)
		tp, _ := c.controller.Image().Topic("events")
		elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: tp.ID}, Leader: behind, Unclean: true}
		c.eventually("it is elected", func() bool {
			return c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{elect})[0] == nil
		})
		c.eventually("it leads", func() bool { return c.nodes[behind].serves("events") })
		c.nodes[ahead].hears.reach(true) // and its leader does not reach it
		follows := func() bool {
			return c.nodes[ahead].table.byName([]byte("events")).partition(0).role.Load().leader == behind
		}
		c.eventually("it follows", follows)
		c.wantReferred(c.fetchAt(ahead, fetchOf("events", 10, rackOf(ahead), 0)), behind)
		c.rejoin(ahead)
		c.rejoin(leads)
		c.eventually("it has what its leader has", func() bool {
			p := c.fetchAt(ahead, fetchOf("events", 10, rackOf(ahead), 0))
			return p.ErrorCode == 0 && p.PreferredReadReplica == -1 && c.log(ahead, "events").HighWatermark() == 10
		})
	})
}

// rejoin ends what isolate began.
func (c *replicated) rejoin(id int32) {
	for other := range c.nodes {
		if other != id && !c.nodes[other].hears.isDeaf() {
			c.setCut(id, other, false)
			c.setCut(other, id, false)
		}
	}
	c.nodes[id].hears.reach(true)
}

// serves reports whether a broker leads partition 0 of a topic.
func (m *member) serves(topic string) bool {
	tp := m.table.byName([]byte(topic))
	return tp != nil && tp.partition(0).role.Load().log != nil
}

// RULES 3.2, 1.1: after a power cut of all, with the last group of one disk gone, which that
// had acknowledged and cannot know of, another leads: what was acked is there.
func TestWhoCutItsTailLeadsNobodyThatHasMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		first := c.partition("events").Leader
		second, third := first%3+1, (first+1)%3+1
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		c.produce(c.leader("events"), "events", -1, "the last that was acked")
		disks := map[int32]*disk.Mem{}
		for id, m := range c.nodes {
			disks[id] = m.fs.Clone()
		}
		for _, id := range []int32{third, first, second} {
			c.kill(id)
		}
		spoil(t, disks[first], "the last that")
		c.start(first, disks[first])
		time.Sleep(5 * time.Second) // in the bubble's time
		if p := c.partition("events"); p.Leader >= 0 || !slices.Contains(p.ELR, first) {
			t.Errorf("it cut its tail, and %+v", *p)
		}
		c.start(second, disks[second])
		c.start(third, disks[third])
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.eventually("its leader knows", func() bool { return c.produce(c.leader("events"), "events", -1, "b") == 0 })
		c.same("events", 1, 2, 3)
		if got := content(t, c.log(first, "events")); !slices.Equal(got, append(numbered("a", 10), "the last that was acked", "b")) {
			t.Errorf("%v", got)
		}
	})
}

// spoil changes a byte of a WAL where something stands.
func spoil(t *testing.T, fs *disk.Mem, what string) {
	t.Helper()
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, name := range names {
		all, err := disk.ReadFile(fs, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(all, []byte(what))
		if at < 0 {
			continue
		}
		found = true
		f, err := fs.Open("wal/" + name)
		if err == nil {
			err = errors.Join(f.WriteSync([][]byte{{all[at] + 1}}, int64(at)), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatalf("%q is nowhere", what)
	}
}

// A leader that is elected out of sync, as somebody asked for, and has other records than were
// acknowledged since and are in the bucket, leads on from what is there: what an offset has been
// read as it stays.
func TestAnUncleanLeaderGoesOnFromWhatTheBucketHas(t *testing.T) {
	t.Run("at once", func(t *testing.T) { uncleanOverBucket(t, func(*held, int32) {}) })
	fenced := func(c *held, parted int32) {
		c.isolate(parted)
		c.eventually("nobody leads", func() bool { return c.partition("events").Leader == metadata.NoLeader })
		c.rejoin(parted)
		c.eventually("it is to lead again", func() bool { return c.partition("events").Leader == parted })
		time.Sleep(time.Second) // in the bubble's time
	}
	t.Run("fenced before it knows", func(t *testing.T) { uncleanOverBucket(t, fenced) })
	t.Run("fenced while it asks", func(t *testing.T) {
		uncleanOverBucket(t, func(c *held, parted int32) {
			id := storage.PartitionID{Topic: c.topicID("events")}
			c.eventually("it knows", func() bool {
				_, p := c.nodes[parted].images.image().Partition(id)
				return p.Leader == parted
			})
			fenced(c, parted)
		})
	})
}

// uncleanOverBucket has something happen before the bucket has answered who was elected.
func uncleanOverBucket(t *testing.T, meanwhile func(c *held, parted int32)) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 3)
		c.controller.place = func(string, int32) []int32 { return []int32{1, 2, 3} }
		c.replicated.createTopic("events")
		parted := c.partition("events").Leader
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		for id := range c.nodes {
			c.setCut(parted, id, id != parted)
		}
		if code := c.produce(c.leader("events"), "events", 1, numbered("never", 5)...); code != 0 {
			t.Fatal(code)
		}
		c.isolate(parted)
		c.eventually("another takes batches", func() bool {
			l := c.partition("events").Leader
			return l != parted && l > 0 && c.produce(c.nodes[l], "events", -1, "b0") == 0
		})
		c.produce(c.leader("events"), "events", -1, "b1", "b2")
		c.eventually("all of it is in the bucket", func() bool { return c.partition("events").CommittedEnd() == 13 })
		for id := range c.nodes {
			if id != parted {
				c.isolate(id)
			}
		}
		c.rejoin(parted)
		answers := make(chan struct{})
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Hook: func(ctx context.Context, _ bucket.Op, _ string) error {
			select {
			case <-answers:
			case <-ctx.Done():
			}
			return ctx.Err()
		}})
		elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: c.topicID("events")}, Leader: parted, Unclean: true}
		c.eventually("it is elected", func() bool {
			return c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{elect})[0] == nil
		})
		meanwhile(c, parted)
		close(answers)
		want := append(numbered("a", 10), "b0", "b1", "b2")
		c.want("events", want...)
		for id := range c.nodes {
			if id != parted {
				c.rejoin(id)
			}
		}
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.produce(c.leads("events"), "events", -1, "c0")
		c.want("events", append(want, "c0")...)
	})
}

// One whose log ends before what the bucket has, or is empty, knows what the bucket knows: who sends again
// what is there has it there once, and a transaction that was under way when all else was lost is nobody's
// to read before its end has come, and not once it was aborted.
func TestAnUncleanLeaderThatHasLessKnowsWhatTheBucketKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.controller.createTopic("events", 1)
		c.nodes[1].settle(t.Context())
		k := c.leads("events").connect()
		k.send(lone(t, "events", &batch.Producer{ID: 7}, time.Minute, "a"))
		if at, err := producedAt(k.receive()); err != nil || at != 0 {
			t.Fatalf("at %d, %v", at, err)
		}
		k.conn.Close()
		c.transacts(c.log(1, "events"), 9, "aborted")
		c.eventually("the bucket has it", func() bool { return c.partition("events").CommittedEnd() == 2 })
		c.kill(1)
		c.begin(1, disk.NewMem(disk.MemOptions{}), func(o *Options) { o.Directory = [16]byte{1: 2} })
		elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: c.topicID("events")}, Leader: 1, Unclean: true}
		c.eventually("it is elected", func() bool {
			return c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{elect})[0] == nil
		})
		k = c.leads("events").connect()
		defer k.conn.Close()
		l := c.log(1, "events")
		if at := l.Offsets(); at.LastStable != 1 || at.HighWatermark != 2 {
			t.Errorf("it is stable to %d of %d, and of a transaction from 1 on nobody knows how it ended", at.LastStable, at.HighWatermark)
		}
		k.send(lone(t, "events", &batch.Producer{ID: 7}, time.Minute, "a"))
		if at, err := producedAt(k.receive()); err != nil || at != 0 {
			t.Errorf("what the bucket has, and is sent again, is answered with %d, %v", at, err)
		}
		done := make(appendAnswer, 1)
		l.AppendMarker(t.Context(), time.Now(), log.Marker{ProducerID: 9}, log.MarkerOptions{Epoch: storage.NoEpoch}, done)
		if r := <-done; r.Err != nil {
			t.Fatal(r.Err)
		}
		aborted, _ := l.Aborted(0, l.End())
		if len(aborted) != 1 || aborted[0].ProducerID != 9 || aborted[0].First != 1 {
			t.Errorf("aborted are %+v", aborted)
		}
	})
}
