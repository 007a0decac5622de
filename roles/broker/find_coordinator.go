package broker

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// Kinds of coordinators.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

// findCoordinator tells which broker coordinates a group: the leader of the
// partition of __consumer_offsets that the group belongs to.
func (b *Broker) findCoordinator(ctx context.Context, r *kafka.Request, q *kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
	p := q.ResponseKind().(*kmsg.FindCoordinatorResponse)
	keys := q.CoordinatorKeys
	if q.Version < 4 {
		keys = []string{q.CoordinatorKey}
	}
	var err error
	if q.CoordinatorType == transactionCoordinator {
		err = errTransactions
	} else if q.CoordinatorType != groupCoordinator {
		err = explained{kerr.InvalidRequest, fmt.Sprintf("coordinators of kind %d are not served", q.CoordinatorType)}
	} else if guard.Check("broker.early-coordinator", !r.Conn.EarlyData()) {
		err = b.makeOffsetsTopic(ctx)
	}
	for _, key := range keys {
		found := kmsg.NewFindCoordinatorResponseCoordinator()
		found.Key, found.NodeID, found.Port = key, -1, -1
		e, missing := b.coordinatorOf(key, r.Conn.Listener())
		if err != nil {
			missing = err
		}
		found.ErrorCode, found.ErrorMessage = codeAndMessage(missing)
		if missing == nil {
			found.NodeID, found.Host, found.Port = e.ID, e.Host, e.Port
		}
		p.Coordinators = append(p.Coordinators, found)
	}
	if q.Version < 4 {
		first := p.Coordinators[0]
		p.ErrorCode, p.ErrorMessage = first.ErrorCode, first.ErrorMessage
		p.NodeID, p.Host, p.Port = first.NodeID, first.Host, first.Port
	}
	return p
}

func (b *Broker) coordinatorOf(groupID, listener string) (wire.Endpoint, error) {
	image := b.follower.image()
	t, ok := image.Topic(offsetsTopic)
	if !ok {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	p := t.Partition(group.Partition(groupID))
	if p == nil {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	broker, ok := image.Broker(p.Leader)
	if !ok {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	return endpoint(broker, listener), nil
}

// makeOffsetsTopic makes __consumer_offsets if it is not there, and returns when
// its coordinators are found here.
func (b *Broker) makeOffsetsTopic(ctx context.Context) error {
	if _, ok := b.follower.image().Topic(offsetsTopic); ok {
		return nil
	}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	made := b.opt.Controller.CreateTopics(ctx, []controller.NewTopic{{
		Name: offsetsTopic, Partitions: group.Partitions, ReplicationFactor: -1, Internal: true,
		// A group's record holds all its members, thousands in the largest. It is
		// what a WAL of the default segment size takes.
		Configs: map[string]string{"max.message.bytes": strconv.Itoa(8 << 20), "cleanup.policy": "compact"},
	}}, false)
	if err := made[0].Err; err != nil && metadata.CodeOf(err) != metadata.TopicAlreadyExists {
		b.log.Warn("topic of the group coordinators could not be made", "topic", offsetsTopic, "error", err)
		return explained{kerr.CoordinatorNotAvailable, err.Error()}
	}
	b.settle(ctx)
	return nil
}
