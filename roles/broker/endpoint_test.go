package broker

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// In a rolling change some brokers have a second listener already. Who comes by it is told of
// those alone, and asks again for what the others lead: an address of the other listener may
// lead nowhere from there, or to somebody else's broker.
func TestBrokersWithoutTheListenerAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const has, without = 1, 2
		c := startReplicas(t, 3, inRacks, func(o *Options) {
			if o.NodeID != without {
				o.Listeners = append(o.Listeners, metadata.Listener{Name: "external", Host: fmt.Sprint("outside-", o.NodeID), Port: 9192})
			}
		})
		c.createTopic("here")
		c.createTopic("there")
		c.leadBy(has, "here")
		c.leadBy(without, "there")
		c.eventually("broker 1 knows", func() bool {
			_, p := c.nodes[has].images.image().Partition(storage.PartitionID{Topic: c.topicID("there")})
			return p.Leader == without
		})
		asks := c.nodes[has].connect("external")
		for version, told := range map[int16]*kerr.Error{5: kerr.LeaderNotAvailable, 12: kerr.ListenerNotFound} {
			p := ask[*kmsg.MetadataResponse](asks, version, metadataOf("here", "there"))
			for _, b := range p.Brokers {
				if b.NodeID == without || b.Host != fmt.Sprint("outside-", b.NodeID) || b.Port != 9192 {
					t.Errorf("v%d: broker %d is told as %s:%d", version, b.NodeID, b.Host, b.Port)
				}
			}
			if len(p.Brokers) != 2 {
				t.Errorf("v%d: %d brokers are told, want 2", version, len(p.Brokers))
			}
			if got := p.Topics[0].Partitions[0]; got.Leader != has || got.ErrorCode != 0 {
				t.Errorf("v%d: here is led by %d, %v", version, got.Leader, kerr.ErrorForCode(got.ErrorCode))
			}
			if got := p.Topics[1].Partitions[0]; got.Leader != -1 || got.ErrorCode != told.Code {
				t.Errorf("v%d: there is led by %d, %v; want %v", version, got.Leader, kerr.ErrorForCode(got.ErrorCode), told)
			}
		}
		brokers := kmsg.NewPtrDescribeClusterRequest()
		brokers.EndpointType = 1
		if p := ask[*kmsg.DescribeClusterResponse](asks, 1, brokers); len(p.Brokers) != 2 {
			t.Errorf("DescribeCluster: %d brokers, want 2", len(p.Brokers))
		}
		described := kmsg.NewPtrDescribeTopicPartitionsRequest()
		described.Topics, described.ResponsePartitionLimit = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "there"}}, 100
		if got := ask[*kmsg.DescribeTopicPartitionsResponse](asks, 0, described).Topics[0].Partitions[0]; got.LeaderID != -1 || got.ErrorCode != kerr.ListenerNotFound.Code {
			t.Errorf("DescribeTopicPartitions: there is led by %d, %v", got.LeaderID, kerr.ErrorForCode(got.ErrorCode))
		}

		// What came to the wrong broker is told of no leader that cannot be dialled.
		c.eventually("broker 1 follows", func() bool { return !c.nodes[has].serves("there") })
		wrong := produceVersion(10, produceTo("there", 0, 1, batchOf(t, "v")))
		for listener, want := range map[string]int{"kafka": 1, "external": 0} {
			k := c.nodes[has].connect(listener)
			p := ask[*kmsg.ProduceResponse](k, 10, wrong)
			if part := p.Topics[0].Partitions[0]; part.ErrorCode != kerr.NotLeaderForPartition.Code || len(p.Brokers) != want || (part.CurrentLeader.LeaderID == without) != (want == 1) {
				t.Errorf("Produce by %s: %v, led by %d of %v", listener, kerr.ErrorForCode(part.ErrorCode), part.CurrentLeader.LeaderID, p.Brokers)
			}
		}
		// And a reader is referred to no replica that it does not know.
		c.produced("here", numbered("v", 10)...)
		c.eventually("broker 2 has them", func() bool { return c.log(without, "here").HighWatermark() == 10 })
		for listener, want := range map[string]int32{"kafka": without, "external": -1} {
			k := c.nodes[has].connect(listener)
			if got := ask[*kmsg.FetchResponse](k, 12, fetchOf("here", 0, rackOf(without), 0)).Topics[0].Partitions[0].PreferredReadReplica; got != want {
				t.Errorf("Fetch by %s: it is referred to %d, want %d", listener, got, want)
			}
		}

		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{"readers"}
		ask[*kmsg.FindCoordinatorResponse](asks, 4, find)
		c.eventually("broker 2 coordinates", func() bool {
			elect := controller.LeaderElection{Partition: storage.PartitionID{Topic: c.topicID(offsetsTopic), Index: group.Partition("readers")}, Leader: without}
			err := c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{elect})[0]
			return err == nil || metadata.CodeOf(err) == metadata.ElectionNotNeeded
		})
		c.eventually("who comes by the first listener is told", func() bool {
			return ask[*kmsg.FindCoordinatorResponse](c.nodes[has].connect(), 4, find).Coordinators[0].NodeID == without
		})
		if got := ask[*kmsg.FindCoordinatorResponse](asks, 4, find).Coordinators[0]; got.NodeID != -1 || got.ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("FindCoordinator: broker %d, %v", got.NodeID, kerr.ErrorForCode(got.ErrorCode))
		}
	})
}

func (c *replicated) topicID(name string) storage.TopicID {
	c.t.Helper()
	tp, ok := c.controller.Image().Topic(name)
	if !ok {
		c.t.Fatalf("no topic %s", name)
	}
	return tp.ID
}
