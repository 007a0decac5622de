package broker

import (
	"errors"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
)

func accepting(names ...string) func(*Options) {
	return func(o *Options) { o.AcceptDamage = names }
}

// refusedFor waits until broker 1 refuses a partition, and returns how that is accepted.
func (c *held) refusedFor() string {
	c.t.Helper()
	c.eventually("it is refused", func() bool { return c.nodes[1].Damage().Corrupt == 1 })
	said := c.nodes[1].Damage().CorruptError.Error()
	name := regexp.MustCompile(`wal\.accept_damage = "([^"]+)"`).FindStringSubmatch(said)
	if name == nil {
		c.t.Fatalf("it does not say how to go on: %s", said)
	}
	return name[1]
}

// A node alone whose log of a partition has rotted, and where the bucket has not all, goes on from what that
// has once somebody says so of this very damage, under an epoch that nobody has read the lost records in.
func TestDamageThatIsAcceptedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		c.produced("events", "rots behind the bucket", "f")
		left := c.kill(1)
		spoil(t, left, "rots behind the bucket")
		before := c.partition("events").LeaderEpoch
		c.begin(1, left)
		name := c.refusedFor()
		c.begin(1, c.kill(1), accepting("events/0@0", "other/0@4", name+"0"))
		if again := c.refusedFor(); again != name {
			t.Errorf("the damage is now %s, and was %s", again, name)
		}
		l, next := c.log(1, "events"), c.partition("events").LeaderEpoch+1
		for what, is := range map[string]*metadata.Partition{
			"":                            {LeaderEpoch: next, ISR: []int32{1}},
			"another has it":              {LeaderEpoch: next, ISR: []int32{1, 2}},
			"another is known to have it": {LeaderEpoch: next, ISR: []int32{1}, ELR: []int32{2}},
			"it was read in that epoch":   {LeaderEpoch: l.History().Epoch, ISR: []int32{1}},
		} {
			o := Options{NodeID: 1, AcceptDamage: []string{name}}
			if got := o.accepts("events", is, l); got != (what == "") {
				t.Errorf("%s: it is given up: %v", what, got)
			}
		}
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("503"), Temporary: true})
		c.begin(1, c.kill(1), accepting(name))
		time.Sleep(5 * time.Second) // in the bubble's time
		if code := c.produce(c.nodes[1], "events", -1, "too early"); code == 0 {
			t.Error("a partition whose producers are not known takes records")
		}
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errors.New("503"), Temporary: true})
		c.want("events", "a", rots, "b", "c")
		k := c.leads("events").connect()
		k.send(lone(t, "events", &batch.Producer{ID: 7}, time.Minute, "a"))
		if at, err := producedAt(k.receive()); err != nil || at != 0 {
			t.Errorf("what the bucket has, and is sent again, is answered with %d, %v", at, err)
		}
		k.conn.Close()
		if now := c.partition("events").LeaderEpoch; now <= before {
			t.Errorf("it goes on under epoch %d, and was led under %d", now, before)
		}
		c.produced("events", "in its place")
		for range 2 { // accepted still, or no more
			c.begin(1, c.kill(1), accepting(name))
			c.want("events", "a", rots, "b", "c", "in its place")
		}
		c.begin(1, c.kill(1))
		c.bucket.Set()
		c.produced("events", "g")
		c.eventually("the bucket has all", func() bool { return c.partition("events").CommittedEnd() == 6 })
		c.want("events", "a", rots, "b", "c", "in its place", "g")
	})
}

// A transaction that was aborted in what is lost is not taken for committed: what the bucket has of it
// nobody gets who reads what is committed.
func TestATransactionWhoseMarkerIsGivenUpIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.controller.createTopic("events", 1)
		c.nodes[1].settle(t.Context())
		c.produced("events", "a")
		l := c.log(1, "events")
		done := c.transacts(l, 9, "aborted")
		c.eventually("the bucket has it", func() bool { return c.partition("events").CommittedEnd() == 2 })
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errors.New("503"), Temporary: true})
		l.AppendMarker(t.Context(), time.Now(), log.Marker{ProducerID: 9}, log.MarkerOptions{Epoch: storage.NoEpoch}, done)
		if r := <-done; r.Err != nil {
			t.Fatal(r.Err)
		}
		if at := l.Offsets(); at.LastStable != 3 {
			t.Fatalf("it is stable to %d", at.LastStable)
		}
		c.produced("events", "rots behind the bucket")
		c.produced("events", "b")
		left := c.kill(1)
		spoil(t, left, "rots behind the bucket")
		c.begin(1, left)
		name := c.refusedFor()
		c.begin(1, c.kill(1), accepting(name))
		c.eventually("it goes on", func() bool { return c.produce(c.nodes[1], "events", -1, "in its place") == 0 })
		if at := c.log(1, "events").Offsets(); at.LastStable != 1 {
			t.Errorf("it is stable to %d, and of a transaction from 1 on nobody knows how it ended", at.LastStable)
		}
	})
}

// transacts appends a record in a transaction of a producer, and returns where the next append may be answered.
func (c *held) transacts(l *log.Log, producer int64, text string) appendAnswer {
	c.t.Helper()
	sent := batchWith(c.t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: producer}}, text)
	g, _, err := l.BeginVerification(producer, 0, 0)
	if err == nil {
		err = c.nodes[1].store.Admit(c.t.Context(), len(sent))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(appendAnswer, 1)
	l.Append(time.Now(), sent, log.AppendOptions{Epoch: storage.NoEpoch, Guard: g}, done)
	if r := <-done; r.Err != nil {
		c.t.Fatal(r.Err)
	}
	return done
}

// Nor is a bucket that has lost what would tell of producers in the way of who gives all up.
func TestDamageIsAcceptedThoughTheBucketHasLostMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startAlone(t)
		c.produced("events", "rots behind the bucket", "f")
		left := c.kill(1)
		spoil(t, left, "rots behind the bucket")
		c.begin(1, left)
		name := c.refusedFor()
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: bucket.ErrNotFound})
		c.begin(1, c.kill(1), accepting(name))
		c.eventually("it is led", func() bool { return c.produce(c.nodes[1], "events", -1, "in its place") == 0 })
		if l := c.log(1, "events"); l.LocalStart() != 4 || l.End() < 5 {
			t.Errorf("it goes on at %d, and ends at %d", l.LocalStart(), l.End())
		}
	})
}

// A topic of the coordinators is nobody's to delete: its groups come back with what the bucket has of them.
func TestGroupsComeBackOnceTheirDamageIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.controller.createTopic("events", 1)
		c.nodes[1].settle(t.Context())
		k := c.nodes[1].connect()
		k.findGroups("readers")
		commit := func(offset int64) {
			t.Helper()
			q := commitOf("readers", offset)
			q.Topics[0].Partitions[0].Metadata = new("the one that rots")
			if code := ask[*kmsg.OffsetCommitResponse](k, 7, q).Topics[0].Partitions[0].ErrorCode; code != 0 {
				t.Fatal(code)
			}
		}
		q := commitOf("readers", 5)
		if code := ask[*kmsg.OffsetCommitResponse](k, 7, q).Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatal(code)
		}
		id := storage.PartitionID{Topic: c.topicID(offsetsTopic), Index: group.Partition("readers")}
		c.eventually("the bucket has it", func() bool {
			_, p := c.controller.Image().Partition(id)
			l, ok := c.nodes[1].store.Log(id)
			return ok && p.CommittedEnd() == l.End() && l.End() > 0
		})
		commit(6)
		commit(7)
		k.conn.Close()
		left := c.kill(1)
		spoil(t, left, "the one that rots")
		c.begin(1, left)
		name := c.refusedFor()
		k = c.nodes[1].connect()
		if got := k.committed("readers"); got >= -100 {
			t.Errorf("a coordinator that lacks a record says %d", got)
		}
		k.conn.Close()
		c.begin(1, c.kill(1), accepting(name))
		k = c.nodes[1].connect()
		c.eventually("its coordinator is back", func() bool { return k.committed("readers") == 5 })
		commit(8)
		if got := k.committed("readers"); got != 8 {
			t.Errorf("it has committed 8, and is at %d", got)
		}
		k.conn.Close()
	})
}
