package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/transport/kafka"
)

// api is one API as it is served.
type api struct {
	key      kmsg.Key
	min, max int16
	serve    starter
	needs    needs
}

// starter starts a request and returns how long it waited for room in doing so. The
// request may be gone then.
type starter func(*Broker, *kafka.Request) (waited time.Duration)

// servedAPIs lists what is announced. Versions begin where the oldest clients
// of today do (librdkafka 2.0, kafka-python 2.0) and end where what they say
// is no longer understood here. It is one list, two lines an API.
func servedAPIs() []api {
	return []api{
		{kmsg.Produce, wire.MinProduce, wire.MaxProduce, (*Broker).produce,
			refuses(kerr.TopicAuthorizationFailed, on(acl.Write, acl.Topic)).and("the transactional id of a transaction", on(acl.Write, acl.TransactionalID))},
		{kmsg.Fetch, wire.MinFetch, wire.MaxFetch, unwaiting((*Broker).fetch),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Read, acl.Topic))},
		{kmsg.ListOffsets, 1, 11, background((*Broker).listOffsets, gateListOffsets),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Describe, acl.Topic))},
		{kmsg.Metadata, 0, 13, unwaiting((*Broker).metadata),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Describe, acl.Topic)).and("topics that are made on first use, of the topic or the cluster", on(acl.Create, acl.Topic)).hides("other topics, where all are asked for")},
		{kmsg.OffsetCommit, 2, 10, answered((*Broker).offsetCommit, gateOffsetCommit),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group), on(acl.Read, acl.Topic))},
		{kmsg.OffsetFetch, 1, 10, answered((*Broker).offsetFetch, gateOffsetFetch),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Describe, acl.Group), on(acl.Describe, acl.Topic)).hides("other topics, where all are asked for")},
		{kmsg.FindCoordinator, 0, 6, background((*Broker).findCoordinator, gateFindCoordinator),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Describe, acl.Group)).and("of transactions, instead", on(acl.Describe, acl.TransactionalID))},
		{kmsg.JoinGroup, 0, 9, answered((*Broker).joinGroup, gateJoinGroup),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group))},
		{kmsg.Heartbeat, 0, 4, answered((*Broker).heartbeat, gateHeartbeat),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group))},
		{kmsg.LeaveGroup, 0, 5, answered((*Broker).leaveGroup, gateLeaveGroup),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group))},
		{kmsg.SyncGroup, 0, 5, answered((*Broker).syncGroup, gateSyncGroup),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group))},
		{kmsg.DescribeGroups, 0, 6, answered((*Broker).describeGroups, gateDescribeGroups),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Describe, acl.Group))},
		{kmsg.ListGroups, 0, 5, answered((*Broker).listGroups, gateListGroups),
			open().hides("groups without Describe of the group or of the cluster")},
		{kmsg.SASLHandshake, 1, 1, unwaiting((*Broker).saslHandshake), open()},
		{kmsg.SASLAuthenticate, 0, 2, unwaiting((*Broker).saslAuthenticate), open()},
		{kmsg.CreateTopics, 2, 7, background((*Broker).createTopics, gateCreateTopics),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Create, acl.Topic)).and("for all topics, instead", on(acl.Create, acl.Cluster)).hides("configs without DescribeConfigs of the topic")},
		{kmsg.DeleteTopics, 1, 6, background((*Broker).deleteTopics, gateDeleteTopics),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Delete, acl.Topic))},
		{kmsg.DeleteRecords, 0, 2, background((*Broker).deleteRecords, gateDeleteRecords),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Delete, acl.Topic))},
		{kmsg.InitProducerID, 0, 5, unwaiting((*Broker).initProducerID),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.IdempotentWrite, acl.Cluster)).and("of any topic, instead", on(acl.Write, acl.Topic)).and("of a transactional id, instead", on(acl.Write, acl.TransactionalID))},
		{kmsg.OffsetForLeaderEpoch, 2, 4, inline((*Broker).offsetForLeaderEpoch, gateOffsetForLeaderEpoch),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Describe, acl.Topic))},
		{kmsg.AddPartitionsToTxn, 0, 5, answered((*Broker).addPartitionsToTxn, gateAddPartitionsToTxn),
			refuses(kerr.TransactionalIDAuthorizationFailed, on(acl.Write, acl.TransactionalID), on(acl.Write, acl.Topic)).and("v4 and v5, which are for brokers, instead", on(acl.ClusterAction, acl.Cluster))},
		{kmsg.AddOffsetsToTxn, 0, 4, answered((*Broker).addOffsetsToTxn, gateAddOffsetsToTxn),
			refuses(kerr.TransactionalIDAuthorizationFailed, on(acl.Write, acl.TransactionalID), on(acl.Read, acl.Group))},
		{kmsg.EndTxn, 0, 5, answered((*Broker).endTxn, gateEndTxn),
			refuses(kerr.TransactionalIDAuthorizationFailed, on(acl.Write, acl.TransactionalID))},
		{kmsg.WriteTxnMarkers, 1, 2, answered((*Broker).writeTxnMarkers, gateWriteTxnMarkers),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster)).and("instead", on(acl.ClusterAction, acl.Cluster))},
		{kmsg.TxnOffsetCommit, 0, 6, answered((*Broker).txnOffsetCommit, gateTxnOffsetCommit),
			refuses(kerr.TransactionalIDAuthorizationFailed, on(acl.Write, acl.TransactionalID), on(acl.Read, acl.Group), on(acl.Read, acl.Topic))},
		{kmsg.DescribeACLs, 1, 3, inline((*Broker).describeACLs, gateDescribeACLs),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Describe, acl.Cluster))},
		{kmsg.CreateACLs, 1, 3, background((*Broker).createACLs, gateCreateACLs),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.DeleteACLs, 1, 3, background((*Broker).deleteACLs, gateDeleteACLs),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.DescribeConfigs, 1, 4, inline((*Broker).describeConfigs, gateDescribeConfigs),
			refuses(kerr.TopicAuthorizationFailed, on(acl.DescribeConfigs, acl.Topic)).and("of groups", on(acl.DescribeConfigs, acl.Group)).and("of brokers and client metrics subscriptions", on(acl.DescribeConfigs, acl.Cluster))},
		{kmsg.DescribeLogDirs, 1, 5, background((*Broker).describeLogDirs, gateDescribeLogDirs),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Describe, acl.Cluster))},
		{kmsg.ElectLeaders, 0, 2, background((*Broker).electLeaders, gateElectLeaders),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.AlterPartitionAssignments, 0, 1, background((*Broker).alterPartitionAssignments, gateAlterPartitionAssignments),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.ListPartitionReassignments, 0, 0, inline((*Broker).listPartitionReassignments, gateListPartitionReassignments),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Describe, acl.Cluster))},
		{kmsg.DescribeClientQuotas, 0, 1, inline((*Broker).describeClientQuotas, gateDescribeClientQuotas),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.DescribeConfigs, acl.Cluster))},
		{kmsg.AlterClientQuotas, 0, 1, background((*Broker).alterClientQuotas, gateAlterClientQuotas),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.AlterConfigs, acl.Cluster))},
		{kmsg.DescribeUserSCRAMCredentials, 0, 0, inline((*Broker).describeUserScramCredentials, gateDescribeUserScramCredentials),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Describe, acl.Cluster))},
		{kmsg.AlterUserSCRAMCredentials, 0, 0, background((*Broker).alterUserScramCredentials, gateAlterUserScramCredentials),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.ListConfigResources, 0, 1, inline((*Broker).listConfigResources, gateListConfigResources),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.DescribeConfigs, acl.Cluster))},
		{kmsg.UpdateFeatures, 0, 2, inline((*Broker).updateFeatures, gateUpdateFeatures),
			refuses(kerr.ClusterAuthorizationFailed, on(acl.Alter, acl.Cluster))},
		{kmsg.AlterConfigs, 0, 2, background((*Broker).alterConfigs, gateAlterConfigs),
			refuses(kerr.TopicAuthorizationFailed, on(acl.AlterConfigs, acl.Topic)).and("of groups", on(acl.AlterConfigs, acl.Group)).and("of brokers and client metrics subscriptions", on(acl.AlterConfigs, acl.Cluster))},
		{kmsg.CreatePartitions, 0, 3, background((*Broker).createPartitions, gateCreatePartitions),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Alter, acl.Topic))},
		{kmsg.DeleteGroups, 0, 3, answered((*Broker).deleteGroups, gateDeleteGroups),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Delete, acl.Group))},
		{kmsg.IncrementalAlterConfigs, 0, 1, background((*Broker).incrementalAlterConfigs, gateIncrementalAlterConfigs),
			refuses(kerr.TopicAuthorizationFailed, on(acl.AlterConfigs, acl.Topic)).and("of groups", on(acl.AlterConfigs, acl.Group)).and("of brokers and client metrics subscriptions", on(acl.AlterConfigs, acl.Cluster))},
		{kmsg.OffsetDelete, 0, 0, answered((*Broker).offsetDelete, gateOffsetDelete),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Delete, acl.Group), on(acl.Read, acl.Topic))},
		{kmsg.DescribeCluster, 0, 2, inline((*Broker).describeCluster, gateDescribeCluster),
			open().hides("authorised operations without Describe of the cluster")},
		{kmsg.DescribeTransactions, 0, 0, answered((*Broker).describeTransactions, gateDescribeTransactions),
			refuses(kerr.TransactionalIDAuthorizationFailed, on(acl.Describe, acl.TransactionalID)).hides("topics without Describe of the topic")},
		{kmsg.ListTransactions, 0, 2, answered((*Broker).listTransactions, gateListTransactions),
			open().hides("transactional ids without Describe of the id")},
		{kmsg.DescribeProducers, 0, 0, inline((*Broker).describeProducers, gateDescribeProducers),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Read, acl.Topic))},
		{kmsg.ConsumerGroupHeartbeat, 0, 1, answered((*Broker).consumerGroupHeartbeat, gateConsumerGroupHeartbeat),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Read, acl.Group), on(acl.Describe, acl.Topic)).hides("topics that a pattern matches, without Describe of the topic")},
		{kmsg.ConsumerGroupDescribe, 0, 1, answered((*Broker).consumerGroupDescribe, gateConsumerGroupDescribe),
			refuses(kerr.GroupAuthorizationFailed, on(acl.Describe, acl.Group)).and("that members are assigned", on(acl.Describe, acl.Topic))},
		{kmsg.GetTelemetrySubscriptions, 0, 0, inline((*Broker).getTelemetrySubscriptions),
			open()},
		{kmsg.PushTelemetry, 0, 0, background((*Broker).pushTelemetry),
			open()},
		{kmsg.DescribeTopicPartitions, 0, 0, inline((*Broker).describeTopicPartitions),
			refuses(kerr.TopicAuthorizationFailed, on(acl.Describe, acl.Topic)).hides("other topics, where none is named")},
	}
}

func apisByKey() map[int16]*api {
	byKey := map[int16]*api{}
	for _, a := range servedAPIs() {
		byKey[a.key.Int16()] = &a
	}
	return byKey
}

// Versions returns what is served. The transport announces Produce and SaslHandshake
// from v0 on and refuses what is below: librdkafka would otherwise not compress, and
// not authenticate.
func (b *Broker) Versions() []kafka.ApiVersion {
	var versions []kafka.ApiVersion
	for _, a := range b.apis {
		versions = append(versions, kafka.ApiVersion{Key: a.key.Int16(), Min: a.min, Max: a.max})
	}
	slices.SortFunc(versions, func(a, b kafka.ApiVersion) int { return int(a.Key) - int(b.Key) })
	return versions
}

// Features returns the features that ApiVersions announces, which come with the
// version of rustmq and are always in effect. With version 2 of transactions, clients
// leave it to the broker to add the partitions that they write to, and take an epoch
// for each transaction (KIP-890).
func (b *Broker) Features() []kafka.Feature {
	return []kafka.Feature{
		{Name: "group.version", Min: 0, Max: 1, InUse: 1}, // KIP-848
		{Name: "transaction.version", Min: 0, Max: epochPerTransaction, InUse: epochPerTransaction},
	}
}

// unwaiting serves an API that is started without waiting.
func unwaiting(serve func(*Broker, *kafka.Request)) starter {
	return func(b *Broker, r *kafka.Request) time.Duration {
		serve(b, r)
		return 0
	}
}

// inline serves an API that only looks at memory, on the connection's goroutine.
func inline[Q kmsg.Request, P kmsg.Response](answer func(*Broker, *kafka.Request, Q) P, gates ...gate[Q, P]) starter {
	return unwaiting(func(b *Broker, r *kafka.Request) {
		q, ok := decode[Q](b, r)
		if !ok {
			return
		}
		if amend, ok := admitted(b, r, q, gates); ok {
			p := amend.to(answer(b, r, q))
			b.account(r, q, p)
			b.respond(r, p)
		}
	})
}

// background serves an API that waits for the controller or the disk, on a
// goroutine of its own. The context ends with the connection and the broker.
func background[Q kmsg.Request, P kmsg.Response](answer func(*Broker, context.Context, *kafka.Request, Q) P, gates ...gate[Q, P]) starter {
	return unwaiting(func(b *Broker, r *kafka.Request) {
		q, ok := decode[Q](b, r)
		if !ok {
			return
		}
		if amend, ok := admitted(b, r, q, gates); ok {
			b.spawn(r, func(ctx context.Context) {
				p := amend.to(answer(b, ctx, r, q))
				b.account(r, q, p)
				b.respond(r, p)
			})
		}
	})
}

// spawn runs work for a request on a goroutine of its own.
func (b *Broker) spawn(r *kafka.Request, work func(context.Context)) {
	b.requests.Go(func() {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		work(ctx)
	})
}

// decode returns the parsed request, or closes the connection. It waits for room for
// what is made of the body, and for an answer that may be large.
func decode[Q kmsg.Request](b *Broker, r *kafka.Request) (q Q, ok bool) {
	memory, err := wire.Check(r.Key, r.Version, r.Body)
	if err == nil {
		err = r.Expand(memory)
	}
	var decoded kmsg.Request
	if err == nil {
		decoded, err = r.Decode()
	}
	if err == nil {
		err = r.Reserve(b.answerMemory(decoded))
	}
	if err != nil {
		r.Close(err)
		return q, false
	}
	q, ok = decoded.(Q)
	if !ok {
		panic(fmt.Sprintf("broker: a request of key %d was decoded as %T", r.Key, decoded))
	}
	return q, true
}

func (b *Broker) respond(r *kafka.Request, p kmsg.Response) {
	now := b.opt.Now()
	took := now.Sub(r.Received)
	b.metrics.answered(r.Key, took)
	if !waitsByNature(r.Key) {
		b.metrics.slow.note(r, now, took, nothingMore)
	}
	b.holdBack(r, p, now)
	r.Respond(p)
}

// unservedError says that a request came whose version is not announced; the
// transport lets none through.
type unservedError struct{ key, version int16 }

func (e unservedError) Error() string {
	return fmt.Sprintf("%s v%d is not served", kmsg.NameForKey(e.key), e.version)
}

// controllerContext bounds what waits for the controller by the time that the
// client gave.
func controllerContext(ctx context.Context, timeoutMillis int32) (context.Context, context.CancelFunc) {
	wait := time.Duration(timeoutMillis) * time.Millisecond
	return context.WithTimeout(ctx, min(max(wait, minControllerWait), maxControllerWait))
}

// settle waits until what the controller has decided so far is carried out
// here, so that a client that was told of a topic finds it served.
func (b *Broker) settle(ctx context.Context) {
	if err := b.images.wait(ctx, b.opt.Controller.Image().Offset()); err != nil {
		b.log.Debug("answering before the change is carried out here", "error", err)
	}
}

// EarlyOK reports whether a request may be served before the handshake of its
// connection is complete, when it may be somebody's replay (RFC 9001 §9.2):
// these change nothing here while the connection says that it is early.
func EarlyOK(r *kafka.Request) bool {
	switch kmsg.Key(r.Key) {
	case kmsg.ApiVersions, kmsg.Metadata, kmsg.DescribeCluster, kmsg.FindCoordinator, kmsg.ListOffsets, kmsg.Fetch:
		return true
	}
	return false
}
