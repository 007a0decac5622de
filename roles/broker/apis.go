package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/transport/kafka"
)

// api is one API as it is served.
type api struct {
	key      kmsg.Key
	min, max int16
	serve    starter
}

// starter starts a request and returns how long it waited for room in doing so. The
// request may be gone then.
type starter func(*Broker, *kafka.Request) (waited time.Duration)

// servedAPIs lists what is announced. Versions begin where the oldest clients
// of today do (librdkafka 2.0, kafka-python 2.0) and end where what they say
// is no longer understood here.
func servedAPIs() []api {
	return []api{
		{kmsg.Produce, wire.MinProduce, wire.MaxProduce, (*Broker).produce},
		{kmsg.Fetch, wire.MinFetch, wire.MaxFetch, unwaiting((*Broker).fetch)},
		{kmsg.ListOffsets, 1, 11, background((*Broker).listOffsets)},
		{kmsg.Metadata, 0, 13, unwaiting((*Broker).metadata)},
		{kmsg.OffsetCommit, 2, 10, answered((*Broker).offsetCommit)},
		{kmsg.OffsetFetch, 1, 10, answered((*Broker).offsetFetch)},
		{kmsg.FindCoordinator, 0, 6, background((*Broker).findCoordinator)},
		{kmsg.JoinGroup, 0, 9, answered((*Broker).joinGroup)},
		{kmsg.Heartbeat, 0, 4, answered((*Broker).heartbeat)},
		{kmsg.LeaveGroup, 0, 5, answered((*Broker).leaveGroup)},
		{kmsg.SyncGroup, 0, 5, answered((*Broker).syncGroup)},
		{kmsg.DescribeGroups, 0, 6, answered((*Broker).describeGroups)},
		{kmsg.ListGroups, 0, 5, answered((*Broker).listGroups)},
		{kmsg.SASLHandshake, 1, 1, unwaiting((*Broker).saslHandshake)},
		{kmsg.SASLAuthenticate, 0, 2, unwaiting((*Broker).saslAuthenticate)},
		{kmsg.CreateTopics, 2, 7, background((*Broker).createTopics)},
		{kmsg.DeleteTopics, 1, 6, background((*Broker).deleteTopics)},
		{kmsg.DeleteRecords, 0, 2, background((*Broker).deleteRecords)},
		{kmsg.InitProducerID, 0, 5, unwaiting((*Broker).initProducerID)},
		{kmsg.OffsetForLeaderEpoch, 2, 4, inline((*Broker).offsetForLeaderEpoch)},
		{kmsg.AddPartitionsToTxn, 0, 5, answered((*Broker).addPartitionsToTxn)},
		{kmsg.AddOffsetsToTxn, 0, 4, answered((*Broker).addOffsetsToTxn)},
		{kmsg.EndTxn, 0, 5, answered((*Broker).endTxn)},
		{kmsg.WriteTxnMarkers, 1, 2, answered((*Broker).writeTxnMarkers)},
		{kmsg.TxnOffsetCommit, 0, 6, answered((*Broker).txnOffsetCommit)},
		{kmsg.DescribeConfigs, 1, 4, inline((*Broker).describeConfigs)},
		{kmsg.DescribeLogDirs, 1, 5, background((*Broker).describeLogDirs)},
		{kmsg.ElectLeaders, 0, 2, background((*Broker).electLeaders)},
		{kmsg.AlterPartitionAssignments, 0, 1, background((*Broker).alterPartitionAssignments)},
		{kmsg.ListPartitionReassignments, 0, 0, inline((*Broker).listPartitionReassignments)},
		{kmsg.DescribeClientQuotas, 0, 1, inline((*Broker).describeClientQuotas)},
		{kmsg.AlterClientQuotas, 0, 1, background((*Broker).alterClientQuotas)},
		{kmsg.DescribeUserSCRAMCredentials, 0, 0, inline((*Broker).describeUserScramCredentials)},
		{kmsg.AlterUserSCRAMCredentials, 0, 0, background((*Broker).alterUserScramCredentials)},
		{kmsg.ListConfigResources, 0, 1, inline((*Broker).listConfigResources)},
		{kmsg.UpdateFeatures, 0, 2, inline((*Broker).updateFeatures)},
		{kmsg.AlterConfigs, 0, 2, background((*Broker).alterConfigs)},
		{kmsg.CreatePartitions, 0, 3, background((*Broker).createPartitions)},
		{kmsg.DeleteGroups, 0, 3, answered((*Broker).deleteGroups)},
		{kmsg.IncrementalAlterConfigs, 0, 1, background((*Broker).incrementalAlterConfigs)},
		{kmsg.OffsetDelete, 0, 0, answered((*Broker).offsetDelete)},
		{kmsg.DescribeCluster, 0, 2, inline((*Broker).describeCluster)},
		{kmsg.DescribeTransactions, 0, 0, answered((*Broker).describeTransactions)},
		{kmsg.ListTransactions, 0, 2, answered((*Broker).listTransactions)},
		{kmsg.DescribeProducers, 0, 0, inline((*Broker).describeProducers)},
		{kmsg.ConsumerGroupHeartbeat, 0, 1, answered((*Broker).consumerGroupHeartbeat)},
		{kmsg.ConsumerGroupDescribe, 0, 1, answered((*Broker).consumerGroupDescribe)},
		{kmsg.GetTelemetrySubscriptions, 0, 0, inline((*Broker).getTelemetrySubscriptions)},
		{kmsg.PushTelemetry, 0, 0, background((*Broker).pushTelemetry)},
		{kmsg.DescribeTopicPartitions, 0, 0, inline((*Broker).describeTopicPartitions)},
	}
}

func apisByKey() map[int16]*api {
	byKey := map[int16]*api{}
	for _, a := range servedAPIs() {
		byKey[a.key.Int16()] = &a
	}
	return byKey
}

// Versions returns what ApiVersions announces. The transport advertises Produce
// from v0 on and refuses what is below: librdkafka before KAFKA-18659 would
// otherwise send every codec uncompressed.
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
func inline[Q kmsg.Request, P kmsg.Response](answer func(*Broker, *kafka.Request, Q) P) starter {
	return unwaiting(func(b *Broker, r *kafka.Request) {
		if q, ok := decode[Q](b, r); ok {
			b.respond(r, answer(b, r, q))
		}
	})
}

// background serves an API that waits for the controller or the disk, on a
// goroutine of its own. The context ends with the connection and the broker.
func background[Q kmsg.Request, P kmsg.Response](answer func(*Broker, context.Context, *kafka.Request, Q) P) starter {
	return unwaiting(func(b *Broker, r *kafka.Request) {
		q, ok := decode[Q](b, r)
		if !ok {
			return
		}
		b.spawn(r, func(ctx context.Context) { b.respond(r, answer(b, ctx, r, q)) })
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
	b.metrics.answered(r.Key, now.Sub(r.Received))
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
	if err := b.follower.wait(ctx, b.opt.Controller.Image().Offset()); err != nil {
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
