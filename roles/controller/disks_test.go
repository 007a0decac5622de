package controller

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestSlowDisk walks what a disk's syncs take beside those of others, second by second.
func TestSlowDisk(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		what   string
		others []time.Duration
		took   time.Duration
		after  int // seconds until it is slow; 0: never
	}{
		{"ten times slower", []time.Duration{2 * ms, 2 * ms}, 20 * ms, 3},
		{"half a second", []time.Duration{1 * ms, 3 * ms}, 500 * ms, 3},
		{"beside one other", []time.Duration{1 * ms}, 500 * ms, 3},
		{"nine times slower", []time.Duration{2 * ms, 2 * ms}, 18 * ms, 0},
		{"a hundred times slower, and yet quick", []time.Duration{ms / 20, ms / 20}, 5 * ms, 0},
		{"another is as slow", []time.Duration{1 * ms, 500 * ms}, 500 * ms, 0},
		{"another of four is as slow", []time.Duration{1 * ms, 500 * ms, 1 * ms}, 500 * ms, 3},
		{"alone", nil, 500 * ms, 0},
		{"others have nothing to sync", []time.Duration{0, 0}, 500 * ms, 0},
		{"nothing to sync", []time.Duration{1 * ms, 1 * ms}, 0, 0},
	} {
		d := disks{}
		now := time.Unix(1000, 0)
		was := 0
		for second := range 30 {
			for i, took := range c.others {
				d.report(now, int32(i)+2, 1, took)
			}
			if changed := d.report(now, 1, 1, c.took); changed != (d.slow(1) && was == 0) {
				t.Fatalf("%s: after %d s changed is %v", c.what, second, changed)
			}
			if d.slow(1) && was == 0 {
				was = second
			}
			now = now.Add(time.Second)
		}
		if was != c.after {
			t.Errorf("%s: slow after %d s, want %d", c.what, was, c.after)
		}
	}
}

// TestDiskThatIsQuickAgain: it has to be for a minute; what lies between slow and quick
// counts for neither, and a new start of the broker begins anew.
func TestDiskThatIsQuickAgain(t *testing.T) {
	d := disks{}
	now := time.Unix(1000, 0)
	run := func(seconds int, took time.Duration) {
		for range seconds {
			now = now.Add(time.Second)
			d.report(now, 2, 1, 2*time.Millisecond)
			d.report(now, 3, 1, 2*time.Millisecond)
			d.report(now, 1, 1, took)
		}
	}
	run(3, 500*time.Millisecond)
	run(1, time.Millisecond)
	run(3, 500*time.Millisecond)
	if d.slow(1) {
		t.Fatal("slow for 2 s twice")
	}
	run(1, 500*time.Millisecond)
	if !d.slow(1) {
		t.Fatal("slow for 3 s, and not said to be")
	}
	run(50, time.Millisecond)
	run(1, 15*time.Millisecond) // neither slow nor quick
	run(60, time.Millisecond)
	if !d.slow(1) {
		t.Fatal("quick for less than a minute, and taken for it")
	}
	run(1, time.Millisecond)
	if d.slow(1) {
		t.Fatal("quick for a minute, and taken for slow")
	}
	run(9, 500*time.Millisecond)
	d.report(now, 1, 2, 500*time.Millisecond)
	if d.slow(1) {
		t.Fatal("a start of the broker that was not heard of is taken for slow")
	}
}

// TestSlowDiskLeadsNothing: whatever the cluster, what others in sync could lead leaves a
// slow disk, at once and however lately it came there, within the moves that a minute may
// have; nothing goes there, nor to who does not serve; and it ends.
func TestSlowDiskLeadsNothing(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		d := drawCluster(t)
		most := rapid.SampledFrom([]int{1, 5, 1000}).Draw(t, "moves a minute")
		b := newBalancer(most)
		now := time.Unix(1000, 0)
		for _, m := range b.plan(now, d.state.Image()) { // what was moved lately
			d.elect([]LeaderElection{m})
		}
		made := len(b.made)
		slow := rapid.Int32Range(1, 7).Draw(t, "slow")
		b.disks[slow] = &diskOf{left: true}
		couldLead := func(p *metadata.Partition) bool {
			return slices.ContainsFunc(p.ISR, func(r int32) bool {
				is, _ := d.state.Image().Broker(r)
				return r != slow && !is.Fenced && !is.Draining
			})
		}
		for round := 0; ; round++ {
			moves := b.plan(now, d.state.Image())
			if made += len(moves); made > max(most, len(b.made)) || round > 100 {
				t.Fatalf("round %d: %d moves in a minute, %d are allowed", round, made, most)
			}
			for _, m := range moves {
				if to, _ := d.state.Image().Broker(m.Leader); m.Leader == slow || to.Fenced || to.Draining {
					t.Fatalf("%v to broker %+v", m.Partition, to)
				}
			}
			d.elect(moves)
			left := 0
			for topic := range d.state.Image().Topics() {
				for p := range topic.Partitions.All() {
					if p.Leader == slow && couldLead(p) {
						left++
					}
				}
			}
			if left > 0 && len(b.made) < most {
				t.Fatalf("%d partitions stay on the slow disk, after %d moves of %d", left, len(b.made), most)
			}
			if len(moves) == 0 && left == 0 {
				return
			}
			if len(moves) == 0 {
				now, made = now.Add(time.Minute), 0
			}
		}
	})
}

// TestHeaviestFleesFirst: of more than may move in a minute, what most passes through; to
// who leads least.
func TestHeaviestFleesFirst(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(3) {
		d.broker(id+1, "")
	}
	topic := d.topic(1, false, []int32{1, 2, 3}, []int32{1, 2, 3}, []int32{1, 2, 3}, []int32{2, 1, 3})
	at := func(i int32) storage.PartitionID { return storage.PartitionID{Topic: topic, Index: i} }
	b := newBalancer(2)
	now := time.Unix(1000, 0)
	b.report(now, d.state.Image(), 1, []PartitionLoad{{at(1), 1 << 20, 0, false}, {at(2), 9 << 20, 0, false}})
	b.disks[1] = &diskOf{left: true}
	want := []LeaderElection{{Partition: at(2), Leader: 3}, {Partition: at(1), Leader: 2}}
	if moves := b.plan(now, d.state.Image()); !slices.Equal(moves, want) {
		t.Fatalf("%v, want %v", moves, want)
	}
}

// TestControllerFleesASlowDisk: a leading controller that hears of one has others lead, at
// once when it has been slow for 3 s, and gives the leaderships back when it was quick for
// a minute.
func TestControllerFleesASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(t.Context(), Options{NodeID: 1, MovesPerMinute: 100, BrokerSession: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, c)
		epochs := map[int32]int64{}
		for id := range int32(3) {
			epochs[id+1] = register(t, c, id+1, byte(id+1))
		}
		create(t, c, NewTopic{Name: "t", Partitions: 6, ReplicationFactor: 3})
		leads := func() int {
			n := 0
			is, _ := c.Image().Topic("t")
			for p := range is.Partitions.All() {
				if p.Leader == 2 {
					n++
				}
			}
			return n
		}
		seconds := func(n int, took time.Duration) {
			for range n {
				time.Sleep(time.Second)
				for id := range int32(3) {
					syncs := time.Millisecond
					if id == 1 {
						syncs = took
					}
					if err := c.ReportLoad(t.Context(), id+1, epochs[id+1], syncs, nil); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
			}
		}
		seconds(20, time.Millisecond)
		if leads() != 2 {
			t.Fatalf("broker 2 leads %d of 6", leads())
		}
		seconds(3, 500*time.Millisecond)
		if leads() != 2 {
			t.Fatalf("slow for 2 s, and leads %d of 6", leads())
		}
		seconds(1, 500*time.Millisecond)
		if leads() != 0 {
			t.Fatalf("slow for 3 s, and leads %d of 6", leads())
		}
		seconds(59, time.Millisecond)
		if leads() != 0 {
			t.Fatalf("quick for less than a minute, and leads %d of 6", leads())
		}
		seconds(70, time.Millisecond)
		if leads() != 2 {
			t.Fatalf("quick for a minute, and leads %d of 6", leads())
		}
	})
}

// TestGrowthWaitsForBrokersThatStay: a broker that is in service for less than a minute is
// given no replicas that nobody asked for, and raises no min.insync.replicas; nor is one
// that was away counted before it has been back for that long.
func TestGrowthWaitsForBrokersThatStay(t *testing.T) {
	d := newDrawn(t)
	now := time.Unix(1000, 0)
	var here tenures
	look := func() []Reassignment {
		here = here.see(now, d.state.Image())
		return grow(d.state.Image(), here.before(now.Add(-DefaultGrowAfter)))
	}
	d.broker(1, "")
	d.topic(1, true, []int32{1})
	look()
	now = now.Add(time.Hour)
	d.broker(2, "") // for a moment
	look()
	if now = now.Add(DefaultGrowAfter - time.Second); len(look()) > 0 {
		t.Fatal("grown onto a broker that came less than a minute ago")
	}
	d.propose(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: d.epochs[2], Fenced: true})
	look()
	d.propose(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: d.epochs[2]})
	if now = now.Add(time.Second); len(look()) > 0 {
		t.Fatal("grown onto a broker that was away")
	}
	d.register(2, "") // another start
	d.propose(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: d.epochs[2]})
	if now = now.Add(DefaultGrowAfter); len(look()) > 0 {
		t.Fatal("grown onto a broker that was just started")
	}
	now = now.Add(DefaultGrowAfter)
	if moves := look(); len(moves) != 1 || !slices.Equal(moves[0].Replicas, []int32{1, 2}) {
		t.Fatalf("in service for a minute, and %v", moves)
	}
}

// TestWhatWouldBringLittleStays: a partition that weighs nearly as much as two brokers
// differ by would only change their places, and stays.
func TestWhatWouldBringLittleStays(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	d.broker(2, "")
	moves, stays := d.topic(1, false, []int32{1, 2}), d.topic(2, false, []int32{1})
	at := func(topic storage.TopicID) storage.PartitionID { return storage.PartitionID{Topic: topic} }
	b := newBalancer(10)
	now := time.Unix(1000, 0)
	b.report(now, d.state.Image(), 1, []PartitionLoad{{at(moves), 8 << 20, 0, false}, {at(stays), 2 << 20, 0, false}})
	if moves := b.plan(now, d.state.Image()); len(moves) > 0 {
		t.Fatalf("8 of 10 MiB/s move to a broker that leads nothing: %v", moves)
	}
	b.report(now.Add(time.Hour), d.state.Image(), 1, []PartitionLoad{{at(moves), 8 << 20, 0, false}, {at(stays), 6 << 20, 0, false}})
	if moves := b.plan(now, d.state.Image()); len(moves) != 1 {
		t.Fatalf("8 of 14 MiB/s stay: %v", moves)
	}
}

// TestMovedLeadershipStays for a minute, whatever its load has become.
func TestMovedLeadershipStays(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	d.broker(2, "")
	topic := d.topic(1, false, []int32{1, 2}, []int32{1, 2})
	d.topic(2, false, []int32{1})
	stays := storage.PartitionID{Topic: d.topic(3, false, []int32{2})}
	at := func(i int32) storage.PartitionID { return storage.PartitionID{Topic: topic, Index: i} }
	b := newBalancer(10)
	now := time.Unix(1000, 0)
	b.report(now, d.state.Image(), 1, []PartitionLoad{{at(0), 8 << 20, 0, false}, {at(1), 8 << 20, 0, false}})
	moves := b.plan(now, d.state.Image())
	if len(moves) != 1 || moves[0].Leader != 2 {
		t.Fatalf("%v", moves)
	}
	d.elect(moves)
	now = now.Add(stillFor - time.Second)
	b.report(now, d.state.Image(), 2, []PartitionLoad{{moves[0].Partition, 8 << 20, 0, false}, {stays, 80 << 20, 0, false}})
	b.report(now, d.state.Image(), 1, nil)
	if again := b.plan(now, d.state.Image()); len(again) > 0 {
		t.Fatalf("moved 59 s ago, and again: %v", again)
	}
	if again := b.plan(now.Add(time.Second), d.state.Image()); len(again) != 1 || again[0].Leader != 1 {
		t.Fatalf("a minute later: %v", again)
	}
}
