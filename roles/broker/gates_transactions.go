package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
)

var idDenied = kerr.TransactionalIDAuthorizationFailed.Code

// gateFindCoordinator is by the kind of coordinator; others than of groups and of
// transactions are refused by who serves the request.
func gateFindCoordinator(_ *Broker, c *acl.Client, q *kmsg.FindCoordinatorRequest) (is ruling[*kmsg.FindCoordinatorResponse]) {
	resource, code := acl.Group, kerr.GroupAuthorizationFailed
	switch q.CoordinatorType {
	case groupCoordinator:
	case transactionCoordinator:
		resource, code = acl.TransactionalID, kerr.TransactionalIDAuthorizationFailed
	default:
		return is
	}
	if q.Version < 4 {
		if may(c, acl.Describe, resource, q.CoordinatorKey) {
			return is
		}
		p := q.ResponseKind().(*kmsg.FindCoordinatorResponse)
		p.ErrorCode, p.NodeID, p.Port = code.Code, -1, -1
		return refusedWith(p)
	}
	refused := divide(&q.CoordinatorKeys, func(key *string) bool { return may(c, acl.Describe, resource, *key) })
	add := func(p *kmsg.FindCoordinatorResponse) {
		for _, key := range refused {
			out := kmsg.NewFindCoordinatorResponseCoordinator()
			out.Key, out.ErrorCode, out.NodeID, out.Port = key, code.Code, -1, -1
			p.Coordinators = append(p.Coordinators, out)
		}
	}
	if len(q.CoordinatorKeys) == 0 && len(refused) > 0 { // nothing is made for who may find nothing
		p := q.ResponseKind().(*kmsg.FindCoordinatorResponse)
		add(p)
		return refusedWith(p)
	}
	return amendedBy(add)
}

// mayInitProducer returns how an id for a producer is refused; 0: it is not. Who may write
// to any topic may be idempotent there (KIP-679).
func mayInitProducer(c *acl.Client, q *kmsg.InitProducerIDRequest) int16 {
	if q.TransactionalID != nil {
		if may(c, acl.Write, acl.TransactionalID, *q.TransactionalID) {
			return 0
		}
		return idDenied
	}
	if c.AllowedAny(acl.Write, acl.Topic) || mayCluster(c, acl.IdempotentWrite) {
		return 0
	}
	return clusterDenied
}

func gateAddPartitionsToTxn(_ *Broker, c *acl.Client, q *kmsg.AddPartitionsToTxnRequest) (is ruling[*kmsg.AddPartitionsToTxnResponse]) {
	p := q.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if q.Version >= 4 { // of brokers
		if mayCluster(c, acl.ClusterAction) {
			return is
		}
		p.ErrorCode = clusterDenied
		return refusedWith(p)
	}
	hidden := func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return !sees(c, acl.Write, acl.Topic, t.Topic) }
	all := !may(c, acl.Write, acl.TransactionalID, q.TransactionalID)
	if !all && !slices.ContainsFunc(q.Topics, hidden) {
		return is
	}
	for _, t := range q.Topics {
		out := kmsg.NewAddPartitionsToTxnResponseTopic()
		out.Topic = t.Topic
		code := kerr.OperationNotAttempted.Code // all of them or none
		if all {
			code = idDenied
		} else if !may(c, acl.Write, acl.Topic, t.Topic) {
			code = topicDenied
		}
		for _, index := range t.Partitions {
			part := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			part.Partition, part.ErrorCode = index, code
			out.Partitions = append(out.Partitions, part)
		}
		p.Topics = append(p.Topics, out)
	}
	return refusedWith(p)
}

func gateAddOffsetsToTxn(_ *Broker, c *acl.Client, q *kmsg.AddOffsetsToTxnRequest) (is ruling[*kmsg.AddOffsetsToTxnResponse]) {
	p := q.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
	switch {
	case !may(c, acl.Write, acl.TransactionalID, q.TransactionalID):
		p.ErrorCode = idDenied
	case !may(c, acl.Read, acl.Group, q.Group):
		p.ErrorCode = groupDenied
	default:
		return is
	}
	return refusedWith(p)
}

func gateEndTxn(_ *Broker, c *acl.Client, q *kmsg.EndTxnRequest) (is ruling[*kmsg.EndTxnResponse]) {
	if may(c, acl.Write, acl.TransactionalID, q.TransactionalID) {
		return is
	}
	p := q.ResponseKind().(*kmsg.EndTxnResponse)
	p.ErrorCode = idDenied
	return refusedWith(p)
}

func gateTxnOffsetCommit(b *Broker, c *acl.Client, q *kmsg.TxnOffsetCommitRequest) ruling[*kmsg.TxnOffsetCommitResponse] {
	code, all := topicDenied, true
	switch {
	case !may(c, acl.Write, acl.TransactionalID, q.TransactionalID):
		code = idDenied
	case !may(c, acl.Read, acl.Group, q.Group):
		code = groupDenied
	default:
		all = false
	}
	refused := divide(&q.Topics, func(t *kmsg.TxnOffsetCommitRequestTopic) bool {
		name, known := b.topicNamed(t.Topic, idFrom(6, q.Version, t.TopicID))
		return !all && (!known || may(c, acl.Read, acl.Topic, name))
	})
	add := func(p *kmsg.TxnOffsetCommitResponse) {
		for _, t := range refused {
			out := kmsg.NewTxnOffsetCommitResponseTopic()
			out.Topic, out.TopicID = t.Topic, t.TopicID
			for _, want := range t.Partitions {
				part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = want.Partition, code
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	}
	if all || len(q.Topics) == 0 && len(refused) > 0 {
		p := q.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		add(p)
		return refusedWith(p)
	}
	return amendedBy(add)
}

// gateWriteTxnMarkers is for operators who end what hangs: other brokers ask elsewhere.
func gateWriteTxnMarkers(_ *Broker, c *acl.Client, q *kmsg.WriteTxnMarkersRequest) (is ruling[*kmsg.WriteTxnMarkersResponse]) {
	if seesCluster(c, acl.Alter) || mayCluster(c, acl.ClusterAction) {
		return is
	}
	p := q.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	for _, m := range q.Markers {
		out := kmsg.NewWriteTxnMarkersResponseMarker()
		out.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			ot := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			ot.Topic = t.Topic
			for _, index := range t.Partitions {
				part := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				part.Partition, part.ErrorCode = index, clusterDenied
				ot.Partitions = append(ot.Partitions, part)
			}
			out.Topics = append(out.Topics, ot)
		}
		p.Markers = append(p.Markers, out)
	}
	return refusedWith(p)
}

func gateDescribeTransactions(_ *Broker, c *acl.Client, q *kmsg.DescribeTransactionsRequest) ruling[*kmsg.DescribeTransactionsResponse] {
	refused := divide(&q.TransactionalIDs, func(id *string) bool { return may(c, acl.Describe, acl.TransactionalID, *id) })
	return amendedBy(func(p *kmsg.DescribeTransactionsResponse) {
		for i := range p.TransactionStates {
			s := &p.TransactionStates[i]
			s.Topics = slices.DeleteFunc(slices.Clone(s.Topics), func(t kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
				return !sees(c, acl.Describe, acl.Topic, t.Topic)
			})
		}
		for _, id := range unique(refused, func(id string) string { return id }) {
			out := kmsg.NewDescribeTransactionsResponseTransactionState()
			out.TransactionalID, out.ErrorCode = id, idDenied
			p.TransactionStates = append(p.TransactionStates, out)
		}
	})
}

func gateListTransactions(_ *Broker, c *acl.Client, _ *kmsg.ListTransactionsRequest) ruling[*kmsg.ListTransactionsResponse] {
	return amendedBy(func(p *kmsg.ListTransactionsResponse) {
		p.TransactionStates = slices.DeleteFunc(p.TransactionStates, func(s kmsg.ListTransactionsResponseTransactionState) bool {
			return !sees(c, acl.Describe, acl.TransactionalID, s.TransactionalID)
		})
	})
}
