package broker

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// rots is a record of events whose batch is to rot.
const rots = "the one that rots"

// startForgetful starts brokers that soon have only on disk what they were given, with two
// topics, of events and to fill their memory with.
func startForgetful(t *testing.T, n int32) *replicated {
	c := startReplicas(t, 0)
	c.forgets = true
	for id := int32(1); id <= n; id++ {
		c.controller.replicas = append(c.controller.replicas, id)
		c.start(id, disk.NewMem(disk.MemOptions{}), inRacks)
	}
	c.createTopic("events")
	c.createTopic("filler")
	return c
}

// produced has values acknowledged by all.
func (c *replicated) produced(topic string, values ...string) {
	c.t.Helper()
	if code := c.produce(c.leader(topic), topic, -1, values...); code != 0 {
		c.t.Fatalf("%s: code %d", topic, code)
	}
}

// forget fills the memory of the brokers with other records.
func (c *replicated) forget() {
	c.t.Helper()
	c.produced("filler", slices.Repeat([]string{strings.Repeat("x", 100_000)}, 30)...)
}

// healedOnce waits until a broker was healed of what rotted there: it gave up one replica,
// all are in sync, and it can lead with all that was acknowledged.
func (c *replicated) healedOnce(id int32, want []string) {
	c.t.Helper()
	m := c.nodes[id]
	c.eventually("it was given up", func() bool { return m.Healing().GivenUp > 0 })
	c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == len(c.nodes) })
	c.leadBy(id, "events")
	c.holds(id, "events", "rotten", want)
	if h := m.Healing(); h.GivenUp != 1 || h.Done != 1 {
		c.t.Errorf("%+v", h)
	}
	for other := range c.nodes {
		if h := c.nodes[other].Healing(); other != id && h.GivenUp > 0 {
			c.t.Errorf("broker %d: %+v", other, h)
		}
	}
}

// A fetch that meets a batch that rotted on the disk of who leads, or of a follower that is
// asked, is given nothing of it, and what is there is healed.
func TestAFetchThatMeetsRotHasItHealed(t *testing.T) {
	for _, leads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := startForgetful(t, 3)
			texts := slices.Concat(numbered("a", 3), []string{rots}, numbered("b", 3))
			c.produced("events", texts...)
			c.forget()
			victim := c.partition("events").Leader
			if !leads {
				victim = victim%3 + 1
				c.eventually("it knows what is committed", func() bool { return int(c.log(victim, "events").HighWatermark()) == len(texts) })
			}
			spoil(t, c.nodes[victim].fs, rots)
			for offset := range texts {
				p := c.fetchAt(victim, fetchOf("events", int64(offset), rackOf(victim), 100*time.Millisecond))
				for raw := p.RecordBatches; len(raw) > 0; {
					b, rest, err := batch.Next(raw)
					if err != nil {
						t.Fatal(err)
					}
					if got, at := values(t, b), int(b.BaseOffset()); !slices.Equal(got, texts[at:at+1]) {
						t.Fatalf("a fetch at %d gets %q at %d", offset, got, at)
					}
					raw = rest
				}
			}
			c.healedOnce(victim, texts)
		})
	}
}

// What is to be pushed to a follower has rotted where it is led: the follower is given
// nothing of it, another leads, and both get all of it from there.
func TestAPushThatMeetsRotHasItHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startForgetful(t, 3)
		texts := numbered("a", 3)
		c.produced("events", texts...)
		victim := c.partition("events").Leader
		behind := victim%3 + 1
		left := c.kill(behind)
		c.eventually("it left", func() bool { return len(c.partition("events").ISR) == 2 && c.partition("filler").Leader != behind })
		c.eventually("another leads", func() bool { return c.leader("filler").serves("filler") })
		more := slices.Concat([]string{rots}, numbered("b", 3))
		c.produced("events", more...)
		texts = append(texts, more...)
		c.forget()
		spoil(t, c.nodes[victim].fs, rots)
		c.start(behind, left)
		c.healedOnce(victim, texts)
		c.same("events", 1, 2, 3)
	})
}

// What is to be uploaded has rotted where it is led: nothing of it comes into the bucket,
// and who leads next uploads it.
func TestAnUploadThatMeetsRotHasItHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 0)
		c.controller.place, c.forgets = nil, true
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Hook: func(context.Context, bucket.Op, string) error { return errors.New("it is down") }})
		for id := int32(1); id <= 3; id++ {
			c.controller.replicas = append(c.controller.replicas, id)
			c.begin(id, disk.NewMem(disk.MemOptions{}))
		}
		c.replicated.createTopic("events")
		c.replicated.createTopic("filler")
		texts := slices.Concat(numbered("a", 3), []string{rots}, numbered("b", 3))
		c.produced("events", texts...)
		victim := c.partition("events").Leader
		c.forget()
		spoil(t, c.nodes[victim].fs, rots)
		c.bucket.Set()
		c.eventually("it was given up", func() bool { return c.nodes[victim].Healing().GivenUp > 0 })
		c.eventually("all is uploaded", func() bool { return int(c.partition("events").CommittedEnd()) == len(texts) })
		if h := c.nodes[victim].Healing(); h.GivenUp != 1 {
			t.Errorf("%+v", h)
		}
		found := false
		var keys []string
		if err := c.bucket.List(t.Context(), "", "", func(o bucket.Info) bool { keys = append(keys, o.Key); return true }); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			all, err := bucket.ReadAll(t.Context(), c.bucket, key, 64<<20)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(all, []byte(rots))
			if bytes.Contains(all, []byte("uhe one that rots")) {
				t.Errorf("%s has what rotted", key)
			}
		}
		if !found {
			t.Error("the record is nowhere in the bucket")
		}
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.want("events", texts...)
	})
}

// What waits for the bucket has rotted where it is led, and nobody else has it: it was never
// acknowledged. Another leads, from the committed end on, and takes what is sent again.
func TestRotThatWaitsForTheBucketHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 0)
		c.controller.place, c.forgets = func(string, int32) []int32 { return []int32{1} }, true
		for id := int32(1); id <= 2; id++ {
			c.begin(id, disk.NewMem(disk.MemOptions{}))
		}
		c.createTopic("events", 1)
		c.controller.createTopic("filler", 1)
		c.nodes[1].settle(t.Context())
		texts := numbered("a", 3)
		c.produced("events", texts...)
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Hook: func(context.Context, bucket.Op, string) error { return errors.New("it is down") }})
		k := c.leads("events").connect()
		defer k.conn.Close()
		k.send(lone(t, "events", nil, time.Hour, rots))
		c.eventually("it is on the disk", func() bool { return c.log(1, "events").Progress().Synced == 4 })
		c.forget()
		spoil(t, c.nodes[1].fs, rots)
		c.bucket.Set()
		if _, err := producedAt(k.receive()); !errors.Is(err, kerr.NotLeaderForPartition) {
			t.Errorf("who waits is told %v", err)
		}
		if leads := c.leads("events"); leads != c.nodes[2] {
			t.Errorf("it is led by %d", leads.options.NodeID)
		}
		c.produced("events", rots, "b")
		c.want("events", append(texts, rots, "b")...)
		c.leadBy(1, "events")
		c.want("events", append(texts, rots, "b")...)
	})
}

// What has rotted and is in the bucket holds nothing up where it is led: nobody else need lead.
func TestRotThatTheBucketHasMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 2)
		c.createTopic("events", 1)
		c.produced("events", "a", "b")
		m, before := c.leads("events"), c.partition("events").LeaderEpoch
		id := c.log(m.options.NodeID, "events").ID()
		m.unreadable(id, errors.New("met"))
		synctest.Wait()
		m.healing.mu.Lock()
		defer m.healing.mu.Unlock()
		if now := c.partition("events").LeaderEpoch; now != before || m.healing.rotten[id] != nil {
			t.Errorf("epoch %d, it was %d; kept %+v", now, before, m.healing.rotten[id])
		}
	})
}
