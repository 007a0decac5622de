package broker

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// with adds partitions to a fetch of one.
func with(q *kmsg.FetchRequest, partitions ...int32) *kmsg.FetchRequest {
	for _, i := range partitions {
		p := q.Topics[0].Partitions[0]
		p.Partition = i
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, p)
	}
	return q
}

func (c *client) produce(topic string, partition int32, values ...string) int64 {
	c.t.Helper()
	p := ask[*kmsg.ProduceResponse](c, 9, produceTo(topic, partition, -1, batchOf(c.t, values...)))
	part := p.Topics[0].Partitions[0]
	if part.ErrorCode != 0 {
		c.t.Fatalf("produce to %s-%d: %v", topic, partition, kerr.ErrorForCode(part.ErrorCode))
	}
	return part.BaseOffset
}

func fetched(t testing.TB, p *kmsg.FetchResponse) map[string][]string {
	t.Helper()
	if p.ErrorCode != 0 {
		t.Fatalf("fetch: %v", kerr.ErrorForCode(p.ErrorCode))
	}
	all := map[string][]string{}
	for _, topic := range p.Topics {
		for _, part := range topic.Partitions {
			if part.ErrorCode != 0 {
				t.Fatalf("fetch %s-%d: %v", topic.Topic, part.Partition, kerr.ErrorForCode(part.ErrorCode))
			}
			all[fmt.Sprintf("%s-%d", topic.Topic, part.Partition)] = values(t, part.RecordBatches)
		}
	}
	return all
}

// A fetch that finds nothing waits for its time, to the millisecond, and is
// answered at the moment when there is a record.
func TestFetchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 2)
		n.settle(t.Context())
		reader, writer := n.connect(), n.connect()

		began := time.Now()
		got := fetched(t, ask[*kmsg.FetchResponse](reader, 12, with(fetchFrom("events", 0, 0, 700*time.Millisecond), 1)))
		if waited := time.Since(began); waited != 700*time.Millisecond || len(got["events-0"]) != 0 {
			t.Errorf("an empty fetch took %v and brought %v", waited, got)
		}

		q := with(fetchFrom("events", 0, 0, 700*time.Millisecond), 1)
		q.Version = 12
		reader.send(q)
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		began = time.Now()
		writer.produce("events", 1, "now")
		got = fetched(t, reader.receive().(*kmsg.FetchResponse))
		if waited := time.Since(began); waited > 50*time.Millisecond || !slices.Equal(got["events-1"], []string{"now"}) {
			t.Errorf("after %v: %v", waited, got)
		}
	})
}

func TestFetchWaitsForMinBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		reader, writer := n.connect(), n.connect()
		size := int32(len(batchOf(t, "one")))
		q := fetchFrom("events", 0, 0, time.Second)
		q.Version, q.MinBytes = 12, 3*size
		reader.send(q)
		began := time.Now()
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			writer.produce("events", 0, "one")
		}
		got := fetched(t, reader.receive().(*kmsg.FetchResponse))
		if waited := time.Since(began); waited > 900*time.Millisecond || len(got["events-0"]) != 3 {
			t.Errorf("after %v: %v", waited, got)
		}
	})
}

// A fetch is used again, with its timer, by its own broker alone: a timer of another
// clock would not end it.
func TestFetchesAreNotSharedByBrokers(t *testing.T) {
	wait := func(t *testing.T, what string, wait time.Duration) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		began := time.Now()
		c := n.connect()
		if err := c.conn.SetDeadline(began.Add(10*wait + time.Minute)); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			fetched(t, ask[*kmsg.FetchResponse](c, 12, fetchFrom("events", 0, 0, wait)))
		}
		if waited := time.Since(began); waited < 10*wait || waited > 10*wait+30*time.Second {
			t.Errorf("%s: ten fetches of %v took %v", what, wait, waited)
		}
		n.server.Close()
		n.Close()
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // a pool is one for each
	wait(t, "by the clock", time.Millisecond)
	synctest.Test(t, func(t *testing.T) { wait(t, "in simulated time", 10*time.Second) })
}

// What is asked for at least may be more than a response may hold: as soon as no
// more would fit, it is answered.
func TestFetchDoesNotWaitForMoreThanFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 2)
		n.settle(t.Context())
		c := n.connect()
		for i := range int32(6) {
			c.produce("events", i%2, strings.Repeat("v", 1000))
		}
		size := len(batchOf(t, strings.Repeat("v", 1000)))
		read := func(maxBytes, partitionBytes int) (records int, waited time.Duration) {
			t.Helper()
			q := with(fetchFrom("events", 0, 0, time.Minute), 1)
			q.MinBytes, q.MaxBytes = 1<<20, int32(maxBytes)
			for i := range q.Topics[0].Partitions {
				q.Topics[0].Partitions[i].PartitionMaxBytes = int32(partitionBytes)
			}
			began := time.Now()
			for _, values := range fetched(t, ask[*kmsg.FetchResponse](c, 12, q)) {
				records += len(values)
			}
			return records, time.Since(began)
		}
		for name, tc := range map[string]struct {
			maxBytes, partitionBytes, records int
			wait                              time.Duration
		}{
			"to the byte":           {4 * size, 1 << 20, 4, 0},
			"within a partition":    {2*size + size/2, 1 << 20, 2, 0},
			"between partitions":    {3*size + size/2, 3 * size, 3, 0},
			"all there is":          {6*size + 1, 1 << 20, 6, time.Minute},
			"as partitions have it": {1 << 20, size, 2, time.Minute}, // others might get records
		} {
			if records, waited := read(tc.maxBytes, tc.partitionBytes); records != tc.records || waited != tc.wait {
				t.Errorf("%s: %d records after %v, want %d after %v", name, records, waited, tc.records, tc.wait)
			}
		}
		n.hold(metadata.ConsumerByteRate, float64(3*size)/quota.Window.Seconds())
		if records, waited := read(1<<20, 1<<20); records == 0 || records > 3 || waited != 0 {
			t.Errorf("by quota: %d records after %v", records, waited)
		}
		n.server.Close()
		n.Close()
	})
}

// Ending a connection ends its fetches; nothing is left that waits.
func TestFetchEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		reader := n.connect()
		q := fetchFrom("events", 0, 0, time.Hour)
		q.Version = 12
		reader.send(q)
		synctest.Wait()
		reader.conn.Close()
		synctest.Wait()
		n.connections.mu.Lock()
		left := len(n.connections.all)
		n.connections.mu.Unlock()
		if left != 0 {
			t.Errorf("%d connections are remembered", left)
		}
	})
}

func TestCloseEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		reader := n.connect()
		q := fetchFrom("events", 0, 0, time.Hour)
		q.Version = 12
		reader.send(q)
		synctest.Wait()
		began := time.Now()
		n.Broker.Close()
		if time.Since(began) > time.Second {
			t.Errorf("Close took %v", time.Since(began))
		}
		fetched(t, reader.receive().(*kmsg.FetchResponse))
	})
}

func TestFetchKeepsToItsLimits(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	c := n.connect()
	for p := range int32(3) {
		for range 4 {
			c.produce("events", p, "0123456789")
		}
	}
	size := int32(len(batchOf(t, "0123456789")))
	get := func(partitionMax, max int32) map[string][]string {
		q := with(fetchFrom("events", 0, 0, 0), 1, 2)
		for i := range q.Topics[0].Partitions {
			q.Topics[0].Partitions[i].PartitionMaxBytes = partitionMax
		}
		q.MaxBytes = max
		return fetched(t, ask[*kmsg.FetchResponse](c, 12, q))
	}
	cases := []struct {
		partitionMax, max int32
		want              [3]int // batches of the partitions
	}{
		{1 << 20, 1 << 20, [3]int{4, 4, 4}},
		{2 * size, 1 << 20, [3]int{2, 2, 2}},
		{2*size + 1, 1 << 20, [3]int{2, 2, 2}},
		{1 << 20, 5 * size, [3]int{4, 1, 0}},
		{2 * size, 5 * size, [3]int{2, 2, 1}},
		{1, 1 << 20, [3]int{1, 0, 0}}, // one batch at least, else nobody gets on
		{1 << 20, 1, [3]int{1, 0, 0}},
		{0, 0, [3]int{1, 0, 0}},
		{-1, -1, [3]int{1, 0, 0}},
	}
	for _, tc := range cases {
		got := get(tc.partitionMax, tc.max)
		for p, want := range tc.want {
			if n := len(got[fmt.Sprintf("events-%d", p)]); n != want {
				t.Errorf("limits %d and %d: partition %d brought %d batches, want %d", tc.partitionMax, tc.max, p, n, want)
			}
		}
	}
}

func TestFetchSaysWhatIsWrong(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a", "b")
	cases := map[string]struct {
		version int16
		change  func(*kmsg.FetchRequest)
		want    *kerr.Error
	}{
		"unknown topic":     {12, func(q *kmsg.FetchRequest) { q.Topics[0].Topic = "nowhere" }, kerr.UnknownTopicOrPartition},
		"unknown id":        {13, func(q *kmsg.FetchRequest) { q.Topics[0].TopicID = [16]byte{9} }, kerr.UnknownTopicID},
		"unknown partition": {12, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].Partition = 5 }, kerr.UnknownTopicOrPartition},
		"beyond the end":    {12, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].FetchOffset = 100 }, kerr.OffsetOutOfRange},
		"before the start":  {12, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].FetchOffset = -5 }, kerr.OffsetOutOfRange},
		"old epoch":         {12, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].CurrentLeaderEpoch = -2 }, kerr.FencedLeaderEpoch},
		"future epoch":      {12, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].CurrentLeaderEpoch = 99 }, kerr.UnknownLeaderEpoch},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			q := fetchFrom("events", 0, 0, time.Minute) // an error does not wait
			q.Topics[0].TopicID = nameOrID(n, 13, "events")
			tc.change(q)
			p := ask[*kmsg.FetchResponse](n.connect(), tc.version, q)
			if got := p.Topics[0].Partitions[0].ErrorCode; got != tc.want.Code {
				t.Errorf("got %v, want %v", kerr.ErrorForCode(got), tc.want)
			}
		})
	}
}

// A reader whose history left this log is told where (KIP-320, KIP-595).
func TestFetchTellsOfADivergingEpoch(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a", "b")
	q := fetchFrom("events", 0, 2, 0)
	q.Topics[0].Partitions[0].LastFetchedEpoch = 0
	q.Topics[0].Partitions[0].FetchOffset = 2
	p := ask[*kmsg.FetchResponse](c, 12, q)
	if d := p.Topics[0].Partitions[0].DivergingEpoch; d.Epoch != -1 {
		t.Errorf("a reader at the end of the only epoch diverges: %+v", d)
	}
	q.Topics[0].Partitions[0].FetchOffset = 5
	p = ask[*kmsg.FetchResponse](c, 12, q)
	if d := p.Topics[0].Partitions[0].DivergingEpoch; d.Epoch != 0 || d.EndOffset != 2 {
		t.Errorf("a reader beyond the end of its epoch is told %+v", d)
	}
}

// However much a client asks for, a response is bounded.
func TestFetchIsBoundedByTheBroker(t *testing.T) {
	f := new(fetchRequest)
	f.q.MaxBytes = 1<<31 - 1
	if f.evaluate(); f.limit > maxFetchBytes {
		t.Errorf("a response may hold %d bytes", f.limit)
	}
}

// Clients that ask for much and read nothing hold no more than the budget;
// others wait, and go on when it is given back.
func TestSlowReadersHoldNoMoreThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 256 << 10
		n := startNode(t, func(o *Options) { o.FetchMemory = budget })
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		writer := n.connect()
		for range 10 {
			writer.produce("events", 0, strings.Repeat("v", 100<<10))
		}
		var slow []*client
		for range 20 {
			c := n.connect()
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version = 12
			c.send(q)
			slow = append(slow, c)
			synctest.Wait()
		}
		if used := n.fetchMemory.inUse(); used == 0 || used > budget+minGrant+100<<10 {
			t.Errorf("%d bytes are held, of %d", used, budget)
		}
		began := time.Now()
		var reading sync.WaitGroup
		for i, c := range slow {
			reading.Go(func() {
				p, err := c.tryReceive()
				if err != nil || len(p.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches) == 0 {
					t.Errorf("reader %d got nothing: %v", i, err)
				}
			})
		}
		reading.Wait()
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the last reader waited %v for memory that was free", waited)
		}
		synctest.Wait()
		if used := n.fetchMemory.inUse(); used != 0 || len(n.fetchMemory.starved) != 0 {
			t.Errorf("%d bytes are held, %d fetches wait, when all is read", used, len(n.fetchMemory.starved))
		}
	})
}

// TestSlowReadersLeaveSomethingToOthers: who does not read holds what he leaves to others
// at most, alone and with others, whatever is asked for at once; who reads gets records
// at once. What he held is there again when he is gone.
func TestSlowReadersLeaveSomethingToOthers(t *testing.T) {
	for _, readers := range []int{1, 5, 10} {
		synctest.Test(t, func(t *testing.T) {
			const budget = 4 << 20
			n := startNode(t, func(o *Options) { o.FetchMemory = budget })
			n.controller.createTopic("events", 2)
			n.controller.createTopic("few", 1)
			n.settle(t.Context())
			writer := n.connect()
			for range 100 {
				for p := range int32(2) {
					writer.produce("events", p, strings.Repeat("v", 20<<10))
				}
			}
			var slow []*client
			for range readers {
				c := n.connect()
				for range 10 {
					q := with(fetchFrom("events", 0, 0, time.Minute), 1)
					q.SetVersion(12)
					c.send(q)
				}
				slow = append(slow, c)
				synctest.Wait()
			}
			writer.produce("few", 0, "one")
			c, began := n.connect(), time.Now()
			got := fetched(t, ask[*kmsg.FetchResponse](c, 12, fetchFrom("few", 0, 0, time.Second)))
			if waited := time.Since(began); waited > 0 || !slices.Equal(got["few-0"], []string{"one"}) {
				t.Errorf("beside %d slow readers: %v after %v", readers, got, waited)
			}
			left := float64(budget)
			for range readers {
				left -= left / (shareOfLeft + 1)
			}
			if got := budget - n.fetchMemory.inUse(); float64(got) < left/2 {
				t.Errorf("%d slow readers leave %d of %d, want %.0f", readers, got, budget, left)
			}
			// One that begins to read has all his answers, and gets what he asks for next.
			began = time.Now()
			for range 10 {
				fetched(t, slow[0].receive().(*kmsg.FetchResponse))
			}
			synctest.Wait() // what the last of them held is given back once it is written
			records := fetched(t, ask[*kmsg.FetchResponse](slow[0], 12, fetchFrom("events", 0, 0, time.Minute)))
			if waited := time.Since(began); waited > 0 || len(records["events-0"]) == 0 {
				t.Errorf("who reads waits %v, and has %d records then", waited, len(records["events-0"]))
			}
			for _, c := range slow {
				c.conn.Close()
			}
			synctest.Wait()
			if used := n.fetchMemory.inUse(); used != 0 || len(n.fetchMemory.starved) != 0 {
				t.Errorf("%d bytes are held, %d fetches wait, of nobody", used, len(n.fetchMemory.starved))
			}
			n.server.Close()
			n.Close()
		})
	}
}

// TestSlowReadersAreCut when there are so many that nothing is left, and somebody waits
// for it: he has his records when they are, and from then on. Who reads at a pace, with
// answers under way all the time, is not cut, and nobody is while there is memory.
func TestSlowReadersAreCut(t *testing.T) {
	const many = 25 // there is room for some 15; before 30 s the transport cuts nobody
	for _, readers := range []int{many, 3} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t, func(o *Options) { o.FetchMemory = 4 << 20 })
			n.controller.createTopic("events", 1)
			n.controller.createTopic("few", 1)
			n.settle(t.Context())
			writer := n.connect()
			for range 10 {
				writer.produce("events", 0, strings.Repeat("v", 200<<10))
			}
			writer.produce("few", 0, "one")
			ask := func(c *client) {
				q := fetchFrom("events", 0, 0, time.Minute)
				q.SetVersion(12)
				c.send(q)
			}
			steady := n.connect()
			for range 3 {
				ask(steady)
			}
			synctest.Wait()
			var slow []*client
			for range readers {
				c := n.connect()
				ask(c)
				slow = append(slow, c)
				synctest.Wait()
			}
			end := time.Now().Add(28 * time.Second)
			var reading sync.WaitGroup
			reading.Go(func() {
				for time.Now().Before(end) {
					<-time.After(500 * time.Millisecond)
					if _, err := steady.tryReceive(); err != nil {
						t.Errorf("who reads at a pace: %v", err)
						return
					}
					ask(steady)
				}
			})
			c, began, waited := n.connect(), time.Now(), time.Duration(0)
			for time.Now().Before(end) {
				q := fetchFrom("few", 0, 0, time.Second)
				q.SetVersion(12)
				c.send(q)
				if got := fetched(t, c.receive().(*kmsg.FetchResponse)); len(got["few-0"]) == 1 {
					<-time.After(time.Second)
					continue
				}
				waited = time.Since(began)
			}
			if waited > 2*(fetchGrace+2*time.Second) {
				t.Errorf("%d slow readers: no records for %v", readers, waited)
			}
			reading.Wait()
			cut := 0
			for _, c := range slow {
				if _, err := c.conn.Read(make([]byte, 1)); err != nil {
					cut++
				}
			}
			if (cut > 0) != (readers == many) {
				t.Errorf("%d of %d slow readers are cut", cut, readers)
			}
			n.server.Close()
			n.Close()
		})
	}
}

// A client too old for zstd is told so, whichever way the records would go
// (KIP-110).
func TestZstdNeedsVersionsThatKnowIt(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	records := func() []byte { return batchWith(t, batch.BuilderOptions{Codec: batch.Zstd}, "value") }
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 6, produceTo("events", 0, -1, records())), kerr.UnsupportedCompressionType, -1)
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 7, produceTo("events", 0, -1, records())), nil, 0)
	for _, version := range []int16{10, 9, 4} {
		got := ask[*kmsg.FetchResponse](c, version, fetchFrom("events", 0, 0, 0)).Topics[0].Partitions[0]
		if knows := version >= zstdFetch; knows != (got.ErrorCode == 0) || !knows && got.ErrorCode != kerr.UnsupportedCompressionType.Code {
			t.Errorf("fetch v%d: %v", version, kerr.ErrorForCode(got.ErrorCode))
		}
	}
	if used := n.fetchMemory.inUse(); used != 0 {
		t.Errorf("%d bytes are held", used)
	}
}

// TestLateWakeIsNobodysElse: a log that took a fetch's registration off its list, to
// wake it, may come to that when the fetch is answered and its memory another's.
func TestLateWakeIsNobodysElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		synctest.Wait()
		c := n.connect()
		defer c.conn.Close()
		waiting := func() *fetchRequest {
			synctest.Wait()
			n.connections.mu.RLock()
			defer n.connections.mu.RUnlock()
			for _, conn := range n.connections.all {
				conn.mu.Lock()
				defer conn.mu.Unlock()
				for f := range conn.waiting {
					return f
				}
			}
			t.Fatal("no fetch waits")
			return nil
		}
		late := map[log.Waiter]bool{}
		for range 20 { // the pool may give another now and then
			q := fetchFrom("events", 0, 0, time.Second)
			q.SetVersion(12)
			c.send(q)
			f := waiting()
			for w := range late {
				w.Wake()
			}
			synctest.Wait()
			f.conn.mu.Lock() // as its answer does
			part := &f.own[0]
			w, watching := part.waker, part.watching
			f.conn.mu.Unlock()
			if watching == nil || !w.registered() {
				t.Fatal("what another fetch waited for wakes this one")
			}
			late[w] = true
			time.AfterFunc(time.Second, w.Wake) // as the fetch's time is over
			if got := c.receive().(*kmsg.FetchResponse); len(got.Topics[0].Partitions[0].RecordBatches) > 0 {
				t.Fatal("records came")
			}
		}
	})
}

// TestFetchOfOnePartitionManyTimes waits for it once, and answers for it once: as it was
// named last, like Kafka. Whoever shares its index in another topic is another.
func TestFetchOfOnePartitionManyTimes(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 2)
	n.controller.createTopic("others", 2)
	n.settle(t.Context())
	c := n.connect()
	for _, topic := range []string{"events", "others"} {
		c.produce(topic, 1, "old")
		c.produce(topic, 1, "new")
	}
	for _, version := range []int16{12, 13} {
		q := fetchFrom("events", 0, 0, 100*time.Millisecond)
		q.MinBytes = 1 << 20
		for range 50_000 {
			with(q, 1)
		}
		q.Topics = append(q.Topics, fetchFrom("others", 1, 1, 0).Topics[0], q.Topics[0], fetchFrom("events", 1, 1, 0).Topics[0])
		for i := range q.Topics {
			q.Topics[i].TopicID = nameOrID(n, version, q.Topics[i].Topic)
		}
		q.SetVersion(version)
		before := worked(t)
		p := ask[*kmsg.FetchResponse](c, version, q)
		if took := worked(t) - before; took > 5*time.Second {
			t.Errorf("v%d: it is %v of work", version, took)
		}
		got := ""
		for _, topic := range p.Topics {
			name := topic.Topic
			if version >= 13 {
				name = n.table.byID(topic.TopicID).name
			}
			for _, part := range topic.Partitions {
				got += fmt.Sprintf("%s-%d %v; ", name, part.Partition, values(t, part.RecordBatches))
			}
		}
		if want := "events-0 []; events-1 [new]; others-1 [new]; "; got != want {
			t.Errorf("v%d: got %.200s, want %s", version, got, want)
		}
	}
}
