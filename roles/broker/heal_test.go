package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
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
	"rustmq.dev/rustmq/test/seeded"
)

// flipBit flips a bit of a WAL somewhere in what is in use, and says which.
func flipBit(t testing.TB, rng *rand.Rand, fs *disk.Mem) string {
	t.Helper()
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "segment-") })
	type place struct {
		name string
		at   int64
	}
	var used []place
	for _, name := range names {
		b, err := disk.ReadFile(fs, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for at, c := range b {
			if c != 0 {
				used = append(used, place{"wal/" + name, int64(at)})
			}
		}
	}
	p, bit := used[rng.IntN(len(used))], rng.IntN(8)
	f, err := fs.Open(p.name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, p.at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.WriteSync([][]byte{{b[0] ^ 1<<bit}}, p.at), f.Close()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, byte %d, bit %d", p.name, p.at, bit)
}

// leadBy has a broker lead partition 0 of a topic, as a preferred election would.
func (c *replicated) leadBy(id int32, topic string) {
	c.t.Helper()
	tp, _ := c.controller.Image().Topic(topic)
	elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: tp.ID}, Leader: id}
	c.eventually(fmt.Sprintf("broker %d leads %s", id, topic), func() bool {
		err := c.controller.ElectLeaders(c.t.Context(), []controller.LeaderElection{elect})[0]
		return (err == nil || metadata.CodeOf(err) == metadata.ElectionNotNeeded) && c.nodes[id].serves(topic)
	})
}

// holds waits until a broker has committed what a partition is to hold, and reads it there.
func (c *replicated) holds(id int32, topic, what string, want []string) {
	c.t.Helper()
	c.eventually(what+": "+topic+" is committed", func() bool { return int(c.log(id, topic).HighWatermark()) == len(want) })
	if got := content(c.t, c.log(id, topic)); !slices.Equal(got, want) {
		c.t.Errorf("%s: of %s broker %d has %q, acked were %q", what, topic, id, got, want)
	}
}

// RULES 1.1, issue 7 P4: a bit of one replica's log flips, and then that broker leads:
// nothing is lost, and it is healed.
func TestAFlippedBitIsHealedAndThenItLeads(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	gaveUp, healed := int64(0), int64(0)
	for round := range 8 {
		synctest.Test(t, func(t *testing.T) {
			brokers := int32(2 + round%2) // of two, who is away stays eligible
			c := startReplicas(t, brokers)
			acked := map[string][]string{}
			produce := func(topic, prefix string, n int) {
				texts := numbered(prefix, n)
				if code := c.produce(c.leader(topic), topic, -1, texts...); code != 0 {
					t.Fatalf("%s: code %d", topic, code)
				}
				acked[topic] = append(acked[topic], texts...)
			}
			for _, topic := range []string{"a", "b", "c"} {
				c.createTopic(topic)
				produce(topic, "first-", 2+rng.IntN(4))
			}
			for range 3 {
				produce([]string{"a", "b"}[rng.IntN(2)], "then-", 2)
			}
			victim := 1 + rng.Int32N(brokers)
			left := c.kill(victim)
			what := flipBit(t, rng, left)
			c.eventually("others lead", func() bool {
				return c.partition("a").Leader > 0 && c.partition("b").Leader > 0 && c.partition("c").Leader > 0 && c.leader("a").serves("a") && c.leader("b").serves("b")
			})
			if brokers == 3 {
				produce("a", "meanwhile-", 2)
			}
			c.start(victim, left)
			for _, topic := range []string{"a", "b", "c"} {
				c.eventually(what+": all are in sync in "+topic, func() bool { return len(c.partition(topic).ISR) == int(brokers) })
				c.leadBy(victim, topic)
				c.holds(victim, topic, what, acked[topic])
			}
			h := c.nodes[victim].Healing()
			gaveUp, healed = gaveUp+h.GivenUp, healed+h.Done
			if h.Now != 0 || h.Done < h.GivenUp {
				t.Errorf("%s: %+v", what, h)
			}
			if c.nodes[victim].store.Losing() {
				t.Errorf("%s: the loss is not settled", what)
			}
		})
	}
	t.Logf("%d replicas were given up, %d healed", gaveUp, healed)
}

// Of a partition that nobody else has, what is damaged is served nowhere, and the other
// partitions of the broker are.
func TestTheLastReplicaThatRotsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 2)
		c.createTopic("both")
		c.controller.replicas = []int32{1}
		c.controller.createTopic("alone", 1)
		c.nodes[1].settle(t.Context())
		for _, topic := range []string{"both", "alone"} {
			if code := c.produce(c.leader(topic), topic, -1, "one-of-"+topic, "two-of-"+topic, "three-of-"+topic); code != 0 {
				t.Fatal(code)
			}
		}
		left := c.kill(1)
		spoil(t, left, "two-of-alone")
		spoil(t, left, "one-of-both")
		c.start(1, left)
		c.eventually("both is healed", func() bool { return len(c.partition("both").ISR) == 2 })
		c.leadBy(1, "both")
		c.holds(1, "both", "rotten", []string{"one-of-both", "two-of-both", "three-of-both"})
		if p := c.partition("alone"); !slices.Equal(p.ISR, []int32{1}) && !slices.Equal(p.ELR, []int32{1}) {
			t.Errorf("%+v", p)
		}
		if code := c.produce(c.nodes[1], "alone", -1, "four"); code == 0 {
			t.Error("a partition that lacks a record takes others")
		}
		if d := c.nodes[1].Damage(); d.Corrupt != 1 || !errors.As(d.CorruptError, new(*log.CorruptionError)) || !strings.Contains(d.CorruptError.Error(), "wal/segment-") {
			t.Errorf("%+v", d)
		}
		alone, _ := c.controller.Image().Topic("alone")
		id := storage.PartitionID{Topic: alone.ID}
		if said, ok := c.nodes[1].endOf(id, &metadata.Partition{Leader: metadata.NoLeader}); ok {
			t.Errorf("in a cluster brought back from its bucket it says %+v of what it cannot read", said)
		}
		if _, ok := c.nodes[1].endOf(id, &metadata.Partition{Leader: metadata.NoLeader, ELR: []int32{1, 2}}); !ok {
			t.Error("who may be doubted does not hear that it cannot serve")
		}
	})
}

// Damage that is met in use is healed too: of who leads, and of who follows.
func TestWhatRotsInUseIsHealed(t *testing.T) {
	for _, leads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := startReplicas(t, 3)
			c.createTopic("events")
			texts := append(numbered("a", 5), "the one that rots")
			texts = append(texts, numbered("b", 5)...)
			if code := c.produce(c.leader("events"), "events", -1, texts...); code != 0 {
				t.Fatal(code)
			}
			victim := c.partition("events").Leader
			if !leads {
				victim = victim%3 + 1
			}
			m := c.nodes[victim]
			spoil(t, m.fs, "the one that rots")
			m.unreadable(c.log(victim, "events").ID(), errors.New("met"))
			c.eventually("it was given up", func() bool { return m.Healing().GivenUp == 1 })
			c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
			c.leadBy(victim, "events")
			c.holds(victim, "events", "rotten", texts)
		})
	}
}

// A replica that is refused in use is read no more, so that nobody meets its damage again;
// that the controller could not be asked when it was met is no reason that it stays so.
func TestWhatCouldNotBeGivenUpIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		c.produced("events", numbered("a", 5)...)
		victim := c.partition("events").Leader%3 + 1
		m := c.nodes[victim]
		c.controller.giveUpFails.Store(1)
		m.unreadable(c.log(victim, "events").ID(), errors.New("met once"))
		c.eventually("the controller was asked in vain", func() bool { return c.controller.giveUpFails.Load() == 0 })
		if h := m.Healing(); h.GivenUp != 0 {
			t.Fatalf("%+v", h)
		}
		c.eventually("it was given up", func() bool { return m.Healing().GivenUp == 1 })
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 && m.Healing().Done == 1 })
		c.holds(victim, "events", "rotten", numbered("a", 5))
	})
}

// However many replicas were met that are not to be given up, or are no more, others are healed.
func TestWhatCannotBeGivenUpHoldsUpNothing(t *testing.T) {
	for _, what := range []string{"deleted", "refused"} {
		synctest.Test(t, func(t *testing.T) {
			c := startReplicas(t, 3)
			c.createTopic("events")
			c.produced("events", numbered("a", 5)...)
			victim := c.partition("events").Leader
			m := c.nodes[victim]
			if what == "deleted" {
				for i := range mostMet {
					m.unreadable(storage.PartitionID{Topic: storage.TopicID{1}, Index: int32(i)}, errors.New("met"))
				}
				c.eventually("they are forgotten", func() bool {
					m.healing.mu.Lock()
					defer m.healing.mu.Unlock()
					return len(m.healing.rotten) == 0
				})
			} else {
				m.healing.mu.Lock()
				for i := range mostMet {
					m.healing.rotten[storage.PartitionID{Topic: storage.TopicID{1}, Index: int32(i)}] = &rot{refused: true}
				}
				m.healing.mu.Unlock()
			}
			m.unreadable(c.log(victim, "events").ID(), errors.New("met"))
			c.eventually(what+": it was given up", func() bool { return m.Healing().GivenUp == 1 })
			c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		})
	}
}

// Of a partition that only this broker has nothing is given up, and nothing is kept.
func TestWhatRotsAloneIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 2)
		c.controller.replicas = []int32{1}
		c.controller.createTopic("alone", 1)
		m := c.nodes[1]
		m.settle(t.Context())
		id := c.log(1, "alone").ID()
		m.unreadable(id, errors.New("met"))
		synctest.Wait()
		m.healing.mu.Lock()
		defer m.healing.mu.Unlock()
		if n := c.controller.givenUp.Load(); n != 0 || m.healing.rotten[id] != nil {
			t.Errorf("%d were to be given up, kept %+v", n, m.healing.rotten[id])
		}
	})
}

// A replica that is counted upon is not dropped, whatever is known of its disk.
func TestADamagedLogThatIsCountedUponStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		texts := numbered("a", 5)
		if code := c.produce(c.leader("events"), "events", -1, texts...); code != 0 {
			t.Fatal(code)
		}
		follows := c.partition("events").Leader%3 + 1
		m, before := c.nodes[follows], c.log(follows, "events")
		m.healing.mu.Lock()
		m.healing.rotten[before.ID()] = &rot{why: errors.New("met")}
		m.healing.mu.Unlock()
		c.leadBy(follows%3+1, "events") // the third: another epoch
		synctest.Wait()
		if now := c.log(follows, "events"); now != before || now.End() != 5 || now.Err() != nil {
			t.Errorf("it was dropped: ends at %d, %v", now.End(), now.Err())
		}
	})
}

// A replica may have begun anew, for another reason, before it is its turn to be given up.
func TestWhatBeganAnewMeanwhileIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		follows := c.partition("events").Leader%3 + 1
		m, id := c.nodes[follows], c.log(follows, "events").ID()
		before := c.partition("events").LeaderEpoch
		m.healing.forget(id)
		m.healMet(t.Context()) // met twice, and healed after the first time
		if h, p := m.Healing(), c.partition("events"); h.GivenUp != 0 || len(p.ISR) != 3 || p.LeaderEpoch != before {
			t.Errorf("%+v, %+v", h, p)
		}
	})
}

// Of a topic that is acknowledged from the bucket a damaged log lacks nothing that counts:
// nobody is told that records are lost, and its only broker leads it.
func TestADamagedLogOfAnObjectTopicIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		k := c.leads("events").connect()
		k.send(lone(t, "events", nil, time.Minute, "the one that rots"))
		if _, err := producedAt(k.receive()); err != nil {
			t.Fatal(err)
		}
		left := c.kill(1)
		spoil(t, left, "the one that rots")
		c.begin(1, left)
		c.want("events", "the one that rots")
		if n := c.controller.givenUp.Load(); n != 0 || c.nodes[1].store.Losing() {
			t.Errorf("%d were to be given up, losing %v", n, c.nodes[1].store.Losing())
		}
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errors.New("503"), Temporary: true})
		k = c.leads("events").connect()
		k.send(lone(t, "events", nil, time.Minute, "acknowledged to nobody"))
		time.Sleep(time.Second) // in the bubble's time: it is on disk, and marked so
		left = c.kill(1)
		spoil(t, left, "acknowledged to nobody")
		c.begin(1, left)
		if n := c.controller.givenUp.Load(); n != 0 {
			t.Errorf("%d were to be given up, of what waited for the bucket", n)
		}
		c.bucket.Set()
		c.want("events", "the one that rots")
	})
}

// startAlone starts a broker over a bucket, and gives a topic that only it has records of which
// the bucket has those before "d".
func startAlone(t *testing.T) *held {
	c := startHeld(t, 1)
	c.controller.createTopic("events", 1)
	c.nodes[1].settle(t.Context())
	k := c.leads("events").connect()
	defer k.conn.Close()
	k.send(lone(t, "events", &batch.Producer{ID: 7}, time.Minute, "a"))
	if _, err := producedAt(k.receive()); err != nil {
		t.Fatal(err)
	}
	c.produced("events", rots)
	c.produced("events", "b", "c")
	c.eventually("the bucket has it", func() bool { return c.partition("events").CommittedEnd() == 4 })
	c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errors.New("503"), Temporary: true})
	c.produced("events", "d", "e")
	return c
}

// Issue 7 P4: of a partition that only one broker has, what rots and is in the bucket is no
// loss. The log goes on from there with what it has behind, once the bucket can be read, and
// knows what producers have sent; it stays so.
func TestALogAloneIsHealedFromTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		left := c.kill(1)
		spoil(t, left, rots)
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("503"), Temporary: true})
		c.begin(1, left)
		time.Sleep(5 * time.Second) // in the bubble's time
		if code := c.produce(c.nodes[1], "events", -1, "too early"); code == 0 {
			t.Error("a partition that lacks a record takes others")
		}
		c.bucket.Set()
		c.want("events", "a", rots, "b", "c", "d", "e")
		k := c.leads("events").connect()
		k.send(lone(t, "events", &batch.Producer{ID: 7}, time.Minute, "a"))
		if at, err := producedAt(k.receive()); err != nil || at != 0 {
			t.Errorf("what is sent again is answered with %d, %v", at, err)
		}
		k.conn.Close()
		c.produced("events", "f")
		if n, d := c.controller.givenUp.Load(), c.nodes[1].Damage(); n != 0 || d.Corrupt != 0 || c.nodes[1].store.Losing() {
			t.Errorf("%d were to be given up, %+v, losing %v", n, d, c.nodes[1].store.Losing())
		}
		for range 2 {
			c.begin(1, c.kill(1))
			c.want("events", "a", rots, "b", "c", "d", "e", "f")
		}
		c.eventually("the bucket has all", func() bool { return c.partition("events").CommittedEnd() == 7 })
	})
}

// A partition that is given another replica before its log could be healed has nobody else who has
// it all, and is healed all the same.
func TestALogThatIsGivenAnotherReplicaIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		c.begin(2, disk.NewMem(disk.MemOptions{}))
		left := c.kill(1)
		spoil(t, left, rots)
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("503"), Temporary: true})
		c.begin(1, left)
		tp, _ := c.controller.Image().Topic("events")
		moves := []controller.Reassignment{{Partition: storage.PartitionID{Topic: tp.ID}, Replicas: []int32{1, 2}}}
		if err := c.controller.ReassignPartitions(t.Context(), moves)[0]; err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // in the bubble's time
		c.bucket.Set()
		c.want("events", "a", rots, "b", "c", "d", "e")
		c.eventually("both are in sync", func() bool { return len(c.partition("events").ISR) == 2 })
		c.kill(1)
		c.want("events", "a", rots, "b", "c", "d", "e")
	})
}

// Where another broker has it all, a replica begins anew from that, whatever the bucket has.
func TestALogThatAnotherHasIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 2)
		c.controller.place = func(string, int32) []int32 { return []int32{1, 2} }
		c.controller.createTopic("events", 1)
		for _, m := range c.nodes {
			m.settle(t.Context())
		}
		c.produced("events", rots)
		c.produced("events", "b", "c")
		c.eventually("the bucket has it", func() bool { return c.partition("events").CommittedEnd() == 3 && len(c.partition("events").ISR) == 2 })
		victim := 3 - c.partition("events").Leader
		left := c.kill(victim)
		spoil(t, left, rots)
		c.begin(victim, left)
		c.eventually("it is given up, and in sync again", func() bool {
			return c.controller.givenUp.Load() == 1 && len(c.partition("events").ISR) == 2 && c.nodes[victim].Healing().Done == 1
		})
		c.want("events", rots, "b", "c")
	})
}

// TestHealingHoldsUpNobody: a tail that the disk takes its time to give back is read while other
// partitions come to be led.
func TestHealingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		left := c.kill(1)
		spoil(t, left, rots)
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("503"), Temporary: true})
		c.disk = disk.NewFaulty(left)
		c.begin(1, left)
		slow, reads := make(chan struct{}), atomic.Bool{}
		c.disk.Set(disk.Rule{Op: disk.OpRead, Name: "wal/segment-*", Hook: func(disk.Op, string) {
			reads.Store(true)
			<-slow
		}})
		c.bucket.Set()
		c.eventually("the tail is read", reads.Load)
		c.controller.createTopic("other", 1)
		c.leads("other")
		close(slow)
		c.want("events", "a", rots, "b", "c", "d", "e")
	})
}

// Of a batch that rots, and that nothing follows, nobody knows where it ends: that the log begins
// within it by now does not make the bucket have the rest.
func TestALogThatBeginsWithinWhatRotsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		c.controller.createTopic("other", 1)
		c.nodes[1].settle(t.Context())
		c.produced("events", "the last", "acked too")
		is := c.partition("events")
		tp, _ := c.controller.Image().Topic("events")
		moved := c.controller.AdvanceLogStart(t.Context(), 1, c.leader("events").registration.epoch.Load(), []controller.LogStart{
			{Partition: storage.PartitionID{Topic: tp.ID}, LeaderEpoch: is.LeaderEpoch, Offset: 7},
		})
		if moved[0] != nil || c.partition("events").CommittedEnd() != 7 {
			t.Fatalf("%v; %d", moved[0], c.partition("events").CommittedEnd())
		}
		c.produced("other", "z") // of the last group nobody can tell that it was there
		left := c.kill(1)
		spoil(t, left, "the last")
		c.bucket.Set()
		c.begin(1, left)
		time.Sleep(time.Minute) // in the bubble's time
		if code := c.produce(c.nodes[1], "events", -1, "in its place"); code == 0 || c.nodes[1].Damage().Corrupt != 1 {
			t.Errorf("what was acknowledged at 7 is lost, and others are taken in its place: code %d, %+v", code, c.nodes[1].Damage())
		}
	})
}

// What rots of such a partition and is not in the bucket is lost: it is refused, and the
// damage named.
func TestALogAloneThatTheBucketHasNotIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		c.produced("events", "the last")
		c.produced("events", "z")
		left := c.kill(1)
		spoil(t, left, "the last")
		c.bucket.Set()
		c.begin(1, left)
		c.eventually("it is refused", func() bool { return c.nodes[1].Damage().Corrupt == 1 })
		time.Sleep(time.Minute) // in the bubble's time
		if code := c.produce(c.nodes[1], "events", -1, "more"); code == 0 {
			t.Error("a partition that lacks a record takes others")
		}
		if d := c.nodes[1].Damage(); d.Corrupt != 1 || !strings.Contains(d.CorruptError.Error(), "wal/segment-") {
			t.Errorf("%+v", d)
		}
		tp, _ := c.controller.Image().Topic("events")
		c.controller.mu.Lock()
		defer c.controller.mu.Unlock()
		if want := (controller.PartitionLoad{Partition: storage.PartitionID{Topic: tp.ID}, Damaged: true}); !slices.Equal(c.controller.loads, []controller.PartitionLoad{want}) {
			t.Errorf("the controller hears %+v, want %+v", c.controller.loads, want)
		}
	})
}
