package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// withLimits serves n within limits of the test's choice.
func (n *node) withLimits(l kafka.Limits) {
	n.server = kafka.New(kafka.Options{Handler: n.Broker, EarlyOK: EarlyOK, Limits: l})
	server := n.server
	n.t.Cleanup(func() { server.Close() })
}

func (n *node) held() int64 {
	requests, _ := n.server.InUse()
	return requests
}

// A fetch that waits holds no frame, however long it was.
func TestWaitingFetchesHoldNoFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		n.withLimits(kafka.Limits{TotalMemory: 1 << 20})
		var readers []*client
		for range 10 {
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version, q.Rack = 12, strings.Repeat("r", 500_000)
			c := n.connect()
			c.send(q)
			readers = append(readers, c)
		}
		synctest.Wait()
		if held := n.held(); held > 20_000 {
			t.Errorf("fetches that wait hold %d bytes", held)
		}
		began := time.Now()
		n.connect().produce("events", 0, "now")
		for _, c := range readers {
			if got := fetched(t, c.receive().(*kmsg.FetchResponse)); len(got["events-0"]) != 1 || time.Since(began) != 0 {
				t.Errorf("%v after %v", got, time.Since(began))
			}
		}
		synctest.Wait()
		if held := n.held(); held != 0 {
			t.Errorf("%d bytes are held at the end", held)
		}
	})
}

// Where fetches that wait keep all there is for that, others are answered and do not
// wait.
func TestFetchesWaitWithinTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", mostPartitions)
		n.settle(t.Context())
		n.withLimits(kafka.Limits{TotalMemory: 1 << 20})
		wide := func() *kmsg.FetchRequest {
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version = 11
			for i := range int32(mostPartitions - 1) {
				with(q, i+1)
			}
			return q
		}
		first, second, small := n.connect(), n.connect(), n.connect()
		first.send(wide())
		synctest.Wait()
		if held := n.held(); held < mostPartitions*waitingPartition {
			t.Fatalf("the first does not wait, and holds %d bytes", held)
		}
		began := time.Now()
		second.send(wide())
		fetched(t, second.receive().(*kmsg.FetchResponse))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("a fetch that there is no room for waited %v", waited)
		}
		q := fetchFrom("events", 0, 0, time.Second)
		q.Version = 11
		small.send(q)
		fetched(t, small.receive().(*kmsg.FetchResponse))
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("a small fetch waited %v", waited)
		}
	})
}

// A member that waits for the others holds no frame, and what it said stays as it was.
func TestWaitingMembersHoldNoFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, func(o *Options) { o.Groups.InitialRebalanceDelay = 3 * time.Second })
		n.withLimits(kafka.Limits{TotalMemory: 8 << 20})
		c, other := n.connect(), n.connect()
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.ProtocolType = "g", "consumer"
		join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 10_000, 10_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte(strings.Repeat("m", 100_000))}}
		for try := range 100 { // until the coordinator is there
			if ask[*kmsg.FindCoordinatorResponse](other, 1, findGroup("g")).ErrorCode == 0 {
				break
			} else if try == 99 {
				t.Fatal("no coordinator")
			}
			time.Sleep(time.Second)
		}
		for {
			join.Version = 3
			c.send(join)
			synctest.Wait()
			if n.held() != 0 {
				break
			}
			if p := c.receive().(*kmsg.JoinGroupResponse); p.ErrorCode != kerr.CoordinatorLoadInProgress.Code && p.ErrorCode != kerr.NotCoordinator.Code {
				t.Fatal(kerr.ErrorForCode(p.ErrorCode))
			}
			time.Sleep(time.Second)
		}
		if held := n.held(); held > 110_000 {
			t.Errorf("a member that waits holds %d bytes", held)
		}
		for range 10 { // buffers are used again
			q := kmsg.NewPtrOffsetCommitRequest()
			q.Version, q.Group = 7, strings.Repeat("x", 30_000)
			for i := range 4 {
				q.Topics = append(q.Topics, kmsg.OffsetCommitRequestTopic{Topic: strings.Repeat(fmt.Sprint(i), 30_000)})
			}
			other.send(q)
			other.receive()
		}
		p := c.receive().(*kmsg.JoinGroupResponse)
		if p.ErrorCode != 0 || len(p.Members) != 1 || string(p.Members[0].ProtocolMetadata) != strings.Repeat("m", 100_000) {
			t.Errorf("%v, %d members", kerr.ErrorForCode(p.ErrorCode), len(p.Members))
		}
	})
}

func findGroup(name string) *kmsg.FindCoordinatorRequest {
	q := kmsg.NewPtrFindCoordinatorRequest()
	q.CoordinatorKey = name
	return q
}

// Answers that nobody takes are not made without bound.
func TestLargeAnswersWaitUntilOthersAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		for i := range 5 {
			n.controller.createTopic(fmt.Sprint("many", i), 1000)
		}
		n.settle(t.Context())
		n.withLimits(kafka.Limits{TotalUnsent: 1 << 20})
		var clients []*client
		for range 20 {
			q := kmsg.NewPtrMetadataRequest()
			q.Version = 9
			c := n.connect()
			c.send(q)
			clients = append(clients, c)
		}
		synctest.Wait()
		if _, unsent := n.server.InUse(); unsent > 2<<20 {
			t.Errorf("%d bytes of answers wait for clients that take none", unsent)
		}
		var taken sync.WaitGroup
		for _, c := range clients { // in whatever order they are made
			taken.Go(func() {
				if p, err := c.tryReceive(); err != nil || len(p.(*kmsg.MetadataResponse).Topics) != 5 {
					t.Errorf("%+v, %v", p, err)
				}
			})
		}
		taken.Wait()
	})
}

// Groups have a configuration by being named: that of many is asked for in parts.
func TestDescribeConfigsIsBounded(t *testing.T) {
	n := startNode(t)
	q := kmsg.NewPtrDescribeConfigsRequest()
	for i := range 3000 {
		q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: fmt.Sprint(i)})
	}
	q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"})
	p := ask[*kmsg.DescribeConfigsResponse](n.connect(), 4, q)
	for i, r := range p.Resources {
		want := int16(0)
		if i >= maxDescribedByName && i < 3000 {
			want = kerr.InvalidRequest.Code
		}
		if r.ErrorCode != want || (want == 0) != (len(r.Configs) > 0) {
			t.Fatalf("resource %d: error %d, %d configs", i, r.ErrorCode, len(r.Configs))
		}
	}
	if len(p.Resources) != 3001 {
		t.Errorf("%d resources", len(p.Resources))
	}
}
