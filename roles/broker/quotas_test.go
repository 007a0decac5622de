package broker

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/controller"
)

// hold holds every client to a rate.
func (n *node) hold(key string, rate float64) {
	n.t.Helper()
	change := controller.QuotaChange{Entity: metadata.QuotaEntity{User: metadata.QuotaName{Scope: metadata.QuotaDefault}}, Set: map[string]float64{key: rate}}
	if err := n.controller.AlterClientQuotas(context.Background(), []controller.QuotaChange{change}, false)[0]; err != nil {
		n.t.Fatal(err)
	}
	n.settle(n.t.Context())
}

// A producer that sends more than its quota is told for how long to wait, and what
// it sends all the same is not looked at before: over many requests it gets no
// further than its rate.
func TestProducersAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		const rate = 1000
		n.hold(metadata.ProducerByteRate, rate)
		c := n.connect()
		payload := batchOf(t, strings.Repeat("v", 4000))
		began := time.Now()
		const requests = 20
		for i := range requests {
			p := ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, payload))
			requireProduced(t, p, nil, int64(i))
			if told := p.ThrottleMillis; (told > 0) != (i >= 2) { // ten seconds' worth is free
				t.Errorf("request %d: told to wait %d ms", i, told)
			}
		}
		sent := float64(requests * len(payload))
		if least := time.Duration((sent-4500)/rate*float64(time.Second)) - quota.Window; time.Since(began) < least {
			t.Errorf("%.0f bytes in %v, at least %v", sent, time.Since(began), least)
		}
		if got := testutil.ToFloat64(n.Broker.metrics.throttles[quota.Produce]); got != requests-2 {
			t.Errorf("%v throttled requests were counted", got)
		}
		n.server.Close()
		n.Close()
	})
}

// Producers that ask for no acks cannot be told, and are muted all the same.
func TestProducersWithoutAcksAreMuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		n.hold(metadata.ProducerByteRate, 1000)
		c := n.connect()
		q := produceTo("events", 0, 0, batchOf(t, strings.Repeat("v", 20_000)))
		q.SetVersion(9)
		c.send(q)
		c.waiting = nil // not answered
		synctest.Wait()
		began := time.Now()
		ask[*kmsg.MetadataResponse](c, 9, metadataOf())
		if waited := time.Since(began); waited < 10*time.Second || waited > 11*time.Second {
			t.Errorf("served after %v", waited)
		}
		n.server.Close()
		n.Close()
	})
}

// A consumer gets at most ten seconds' worth at once, and nothing while it owes.
func TestConsumersAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		w := n.connect()
		const batches, size = 60, 1000
		for range batches {
			w.produce("events", 0, strings.Repeat("v", size))
		}
		const rate = 1000
		n.hold(metadata.ConsumerByteRate, rate)
		began := time.Now()
		// Two of one user share what there is.
		readers := []*client{n.connect(), n.connect()}
		read := 0
		for i := 0; read < batches/2; i++ {
			p := ask[*kmsg.FetchResponse](readers[i%2], 12, fetchFrom("events", 0, int64(read), 0))
			got := values(t, p.Topics[0].Partitions[0].RecordBatches)
			if len(got)*size > rate*int(quota.Window/time.Second) {
				t.Errorf("%d records at once", len(got))
			}
			if len(got) == 0 && p.ThrottleMillis == 0 {
				t.Fatalf("after %d records nothing came, and no word to wait", read)
			}
			read += len(got)
		}
		if least := time.Duration(read*size/rate)*time.Second - 2*quota.Window; time.Since(began) < least {
			t.Errorf("%d records in %v, at least %v", read, time.Since(began), least)
		}
		if took := time.Since(began); took > 90*time.Second {
			t.Errorf("%d records took %v", read, took)
		}
		n.server.Close()
		n.Close()
	})
}

// Whoever takes more of the broker's time than its share waits a second at most
// for each answer.
func TestRequestTimeIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var looks atomic.Int64 // seconds
		var slow atomic.Bool
		n := startNode(t, func(o *Options) {
			o.Now = func() time.Time {
				if slow.Load() {
					looks.Add(1) // each look at the clock takes a second
				}
				return began.Add(time.Duration(looks.Load()) * time.Second)
			}
		})
		n.hold(metadata.RequestPercentage, 1)
		slow.Store(true)
		c := n.connect()
		ask[*kmsg.MetadataResponse](c, 9, metadataOf())
		slow.Store(false)
		asked := time.Now()
		p := ask[*kmsg.MetadataResponse](c, 9, metadataOf())
		if p.ThrottleMillis != 1000 {
			t.Errorf("told to wait %d ms", p.ThrottleMillis)
		}
		ask[*kmsg.MetadataResponse](c, 9, metadataOf())
		if waited := time.Since(asked); waited != time.Second {
			t.Errorf("served after %v", waited)
		}
		n.server.Close()
		n.Close()
	})
}

// Topics and partitions that are made beyond the rate are refused to clients that
// understand it; older ones are made to wait (KIP-599).
func TestMutationsAreHeldToTheirRate(t *testing.T) {
	n := startNode(t)
	n.hold(metadata.ControllerMutationRate, 0.1) // one partition in ten seconds, and one at once
	create := func(version int16, names ...string) *kmsg.CreateTopicsResponse {
		return ask[*kmsg.CreateTopicsResponse](n.connect(), version, createTopics(names...))
	}
	p := create(7, "a", "b") // two partitions each
	if p.Topics[0].Topic != "b" {
		t.Fatalf("%+v", p.Topics)
	}
	if p.Topics[0].ErrorCode != kerr.ThrottlingQuotaExceeded.Code || p.Topics[1].ErrorCode != 0 || p.ThrottleMillis < 5000 || p.ThrottleMillis > 10_000 {
		t.Errorf("create: %+v, wait %d ms", p.Topics, p.ThrottleMillis)
	}
	if p := create(5, "c"); p.Topics[0].ErrorCode != 0 || p.ThrottleMillis == 0 {
		t.Errorf("create by an old client: %+v, wait %d ms", p.Topics, p.ThrottleMillis)
	}
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("a")}}
	if p := ask[*kmsg.DeleteTopicsResponse](n.connect(), 6, remove); p.Topics[0].ErrorCode != kerr.ThrottlingQuotaExceeded.Code || *p.Topics[0].Topic != "a" {
		t.Errorf("delete: %+v", p.Topics)
	}
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "a", Count: 4}}
	if p := ask[*kmsg.CreatePartitionsResponse](n.connect(), 3, grow); p.Topics[0].ErrorCode != kerr.ThrottlingQuotaExceeded.Code || p.ThrottleMillis == 0 {
		t.Errorf("grow: %+v", p)
	}
	grow.ValidateOnly = true
	if p := ask[*kmsg.CreatePartitionsResponse](n.connect(), 3, grow); p.Topics[0].ErrorCode != 0 {
		t.Errorf("a question: %+v", p.Topics)
	}
	if topic, _ := n.controller.Image().Topic("a"); topic == nil || topic.Partitions.Len() != 2 {
		t.Error("something was done that was refused")
	}
}

// Topics that are made because somebody asked for them count as those that somebody
// makes: while partitions are owed, none is made, and the client is told to wait.
func TestTopicsMadeOnFirstUseAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.hold(metadata.ControllerMutationRate, 0.1)
		c := n.connect()
		made := func() int { return n.controller.Image().NumTopics() }
		names := []string{"a", "b", "c", "d", "e", "f"}
		use := func(c *client) *kmsg.MetadataResponse {
			q := metadataOf(names...)
			q.AllowAutoTopicCreation = true
			return ask[*kmsg.MetadataResponse](c, 9, q)
		}
		p := use(c)
		if made() == 0 || made() == len(names) || p.ThrottleMillis <= 0 {
			t.Fatalf("%d topics are made at once, told to wait %d ms", made(), p.ThrottleMillis)
		}
		for _, topic := range p.Topics {
			_, there := n.controller.Image().Topic(*topic.Topic)
			if want := map[bool]int16{true: 0, false: kerr.UnknownTopicOrPartition.Code}[there]; topic.ErrorCode != want {
				t.Errorf("%s: error %d, there: %v", *topic.Topic, topic.ErrorCode, there)
			}
		}
		before, began := made(), time.Now()
		if p := use(n.connect()); p.ThrottleMillis <= 0 {
			t.Errorf("another connection is told to wait %d ms", p.ThrottleMillis)
		}
		if made() != before {
			t.Error("another connection gets ahead of the rate")
		}
		// Who waits as told gets them one by one.
		for made() < len(names) && time.Since(began) < 10*time.Minute {
			use(c)
			<-time.After(time.Second)
		}
		partitions := 0
		for topic := range n.controller.Image().Topics() {
			partitions += topic.Partitions.Len()
		}
		if least := time.Duration(partitions-2)*10*time.Second - quota.Window; made() < len(names) || time.Since(began) < least {
			t.Errorf("%d partitions of %d topics are made in %v, at least %v", partitions, made(), time.Since(began), least)
		}
		n.server.Close()
		n.Close()
	})
}

// What a request waits for room in the WAL is not the broker's time.
func TestWaitingForRoomIsNotChargedAsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		n.hold(metadata.RequestPercentage, 1) // a tenth of a second at once
		const room = 8 << 20
		if err := n.store.Admit(t.Context(), room); err != nil { // all there is for producers
			t.Fatal(err)
		}
		time.AfterFunc(5*time.Second, func() { n.store.Unadmit(room) })
		c, began := n.connect(), time.Now()
		requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, "v"))), nil, 0)
		if waited := time.Since(began); waited < 5*time.Second {
			t.Fatalf("produced after %v: there was room", waited)
		}
		if p := ask[*kmsg.MetadataResponse](c, 9, metadataOf()); p.ThrottleMillis != 0 {
			t.Errorf("told to wait %d ms", p.ThrottleMillis)
		}
		n.server.Close()
		n.Close()
	})
}
