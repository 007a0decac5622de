package broker

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
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

// coordinated is a kind of coordinator: the topic of its state, and the partition
// of that which a key belongs to.
type coordinated struct {
	topic       string
	partitionOf func(key string) int32
	configs     map[string]string // of the topic
}

// largestRecord of a coordinator holds all members of a group, thousands in the largest,
// or all partitions of a transaction. It is what a WAL of the default segment size takes.
const largestRecord = 8 << 20

// coordinatedBy returns the kinds of coordinators, as requests number them.
func (b *Broker) coordinatedBy(kind int8) (coordinated, bool) {
	largest := min(largestRecord, cmp.Or(b.opt.LargestBatch, largestRecord))
	configs := map[string]string{"max.message.bytes": strconv.Itoa(largest), "cleanup.policy": "compact"}
	switch kind {
	case groupCoordinator:
		return coordinated{offsetsTopic, group.Partition, configs}, true
	case transactionCoordinator:
		return coordinated{transactionsTopic, txn.PartitionOf, configs}, true
	}
	return coordinated{}, false
}

// findCoordinator tells which broker coordinates a group, or transactions: the
// leader of the partition that the key belongs to.
func (b *Broker) findCoordinator(ctx context.Context, r *kafka.Request, q *kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
	p := q.ResponseKind().(*kmsg.FindCoordinatorResponse)
	keys := q.CoordinatorKeys
	if q.Version < 4 {
		keys = []string{q.CoordinatorKey}
	}
	var err error
	by, ok := b.coordinatedBy(q.CoordinatorType)
	if !ok {
		err = explained{kerr.InvalidRequest, fmt.Sprintf("coordinators of kind %d are not served", q.CoordinatorType)}
	} else if guard.Check("broker.early-coordinator", !r.Conn.EarlyData()) {
		err = b.makeCoordinated(ctx, by)
	}
	for _, key := range keys {
		found := kmsg.NewFindCoordinatorResponseCoordinator()
		found.Key, found.NodeID, found.Port = key, -1, -1
		var e wire.Endpoint
		missing := err
		if err == nil {
			e, missing = b.leaderFor(by, key, r.Conn.Listener())
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

func (b *Broker) leaderFor(by coordinated, key, listener string) (wire.Endpoint, error) {
	image := b.images.image()
	t, ok := image.Topic(by.topic)
	if !ok {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	p := t.Partition(by.partitionOf(key))
	if p == nil {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	broker, ok := image.Broker(p.Leader)
	if !ok {
		return wire.Endpoint{}, kerr.CoordinatorNotAvailable
	}
	return endpoint(broker, listener), nil
}

// makeCoordinated makes a topic of coordinators if it is not there, and returns
// when its coordinators are found here.
func (b *Broker) makeCoordinated(ctx context.Context, by coordinated) error {
	if _, ok := b.images.image().Topic(by.topic); ok {
		return nil
	}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	made := b.opt.Controller.CreateTopics(ctx, []controller.NewTopic{{
		Name: by.topic, Partitions: coordinatorPartitions, ReplicationFactor: -1, Internal: true, Configs: by.configs,
	}}, false)
	if err := made[0].Err; err != nil && metadata.CodeOf(err) != metadata.TopicAlreadyExists {
		b.log.Warn("topic of coordinators could not be made", "topic", by.topic, "error", err)
		return explained{kerr.CoordinatorNotAvailable, err.Error()}
	}
	b.settle(ctx)
	return nil
}
