package broker

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
)

// alter asks for replicas of events-0, and returns the answer.
func (c *client) alter(version int16, resize bool, replicas []int32) error {
	c.t.Helper()
	q := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	q.AllowReplicationFactorChange = resize
	q.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "events", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: replicas}}}}
	return kerr.ErrorForCode(ask[*kmsg.AlterPartitionAssignmentsResponse](c, version, q).Topics[0].Partitions[0].ErrorCode)
}

// Leaders and replicas are moved by the controller, and what is under way is told.
func TestLeadersAndReplicasAreMoved(t *testing.T) {
	n := startNode(t)
	for id := int32(2); id <= 3; id++ { // nobody answers there
		epoch, err := n.controller.RegisterBroker(t.Context(), controller.Registration{BrokerID: id, Incarnation: [16]byte{byte(id)}, Directory: [16]byte{byte(id)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.controller.Heartbeat(t.Context(), id, epoch); err != nil {
			t.Fatal(err)
		}
	}
	n.controller.replicas = []int32{1, 2}
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	leader := func() int32 {
		topic, _ := n.controller.Image().Topic("events")
		return topic.Partition(0).Leader
	}
	elect := func(all bool) error {
		t.Helper()
		q := kmsg.NewPtrElectLeadersRequest()
		if !all {
			q.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "events", Partitions: []int32{0}}}
		}
		p := ask[*kmsg.ElectLeadersResponse](c, 2, q)
		if len(p.Topics) == 0 {
			return nil
		}
		return kerr.ErrorForCode(p.Topics[0].Partitions[0].ErrorCode)
	}
	moving := func(named bool) (adding, removing []int32) {
		t.Helper()
		q := kmsg.NewPtrListPartitionReassignmentsRequest()
		if named {
			q.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: "events", Partitions: []int32{0, 0, 7}}, {Topic: "nowhere", Partitions: []int32{0}}}
		}
		p := ask[*kmsg.ListPartitionReassignmentsResponse](c, 0, q)
		if len(p.Topics) == 0 {
			return nil, nil
		}
		return p.Topics[0].Partitions[0].AddingReplicas, p.Topics[0].Partitions[0].RemovingReplicas
	}
	if err := c.alter(1, false, []int32{2, 1}); err != nil {
		t.Fatalf("another order of the same: %v", err)
	}
	if got := leader(); got != 1 {
		t.Fatalf("broker %d leads", got)
	}
	for _, all := range []bool{true, false} {
		if err := elect(all); all && err != nil || !all && !errors.Is(err, kerr.ElectionNotNeeded) {
			t.Errorf("election, all %t: %v", all, err)
		}
		if got := leader(); got != 2 {
			t.Errorf("broker %d leads after the election of the preferred", got)
		}
	}
	if err := c.alter(1, false, []int32{1, 2, 3}); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("more replicas, of who may not have more: %v", err)
	}
	if err := c.alter(1, false, []int32{2, 3}); err != nil {
		t.Errorf("as many: %v", err)
	}
	for _, named := range []bool{false, true} {
		if adding, removing := moving(named); !slices.Equal(adding, []int32{3}) || !slices.Equal(removing, []int32{1}) {
			t.Errorf("under way: + %v - %v", adding, removing)
		}
	}
	if err := c.alter(1, false, []int32{1, 2, 3}); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("more replicas while some are moved: %v", err)
	}
	if err := c.alter(0, false, nil); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if adding, removing := moving(false); adding != nil || removing != nil {
		t.Errorf("under way after it was cancelled: + %v - %v", adding, removing)
	}
	if err := c.alter(0, false, nil); !errors.Is(err, kerr.NoReassignmentInProgress) {
		t.Errorf("cancel again: %v", err)
	}
	if err := c.alter(0, false, []int32{1, 2, 3}); err != nil {
		t.Errorf("more, of who knows no other way: %v", err)
	}
}
