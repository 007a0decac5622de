//go:build seeds

package seeds

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// answerTime is how long a speaker waits for one answer. What was asked may still happen.
const answerTime = 3 * time.Second

// speaker sends requests to nodes by hand: none is sent twice unless its owner says so, and
// nothing waits behind a lock. It is for one goroutine.
type speaker struct {
	w      *world
	client *kgo.Client
	nodes  []*kgo.Broker
	leader map[int32]int // by partition of the topic it was asked for; what was heard last
	knows  map[string]int
}

// speak has a client of Kafka 3.7 if old, and of the newest else. Topics are named by name.
func (w *world) speak(old bool) *speaker {
	versions := kversion.Stable()
	if old {
		versions = kversion.V3_7_0()
	}
	versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 12)
	versions.SetMaxKeyVersion(kmsg.Fetch.Int16(), 12)
	versions.SetMaxKeyVersion(kmsg.AddPartitionsToTxn.Int16(), 3)
	versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 8)
	versions.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 7)
	if old {
		versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 10)
	}
	client := w.newClient(kgo.MaxVersions(versions))
	return &speaker{w: w, client: client, nodes: client.SeedBrokers(), knows: map[string]int{}}
}

func (s *speaker) close() { s.client.Close() }

// ask sends one request to a node, once. An error says that it may have happened.
func ask[R kmsg.Response](ctx context.Context, s *speaker, node int, q kmsg.Request) (r R, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answer, err := s.nodes[node].Request(ctx, q)
	if err != nil {
		return r, err
	}
	return answer.(R), nil
}

// coordinator is the node that has a group (kind 0) or a transactional id (1).
func (s *speaker) coordinator(ctx context.Context, kind int8, key string) (node int, err error) {
	name := fmt.Sprint(kind, key)
	if node, ok := s.knows[name]; ok {
		return node, nil
	}
	q := kmsg.NewPtrFindCoordinatorRequest()
	q.CoordinatorType, q.CoordinatorKey, q.CoordinatorKeys = kind, key, []string{key}
	r, err := ask[*kmsg.FindCoordinatorResponse](ctx, s, s.any(), q)
	if err != nil {
		return 0, err
	}
	code, id := r.ErrorCode, r.NodeID
	if len(r.Coordinators) > 0 {
		code, id = r.Coordinators[0].ErrorCode, r.Coordinators[0].NodeID
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return 0, err
	}
	s.knows[name] = int(id) - 1
	return int(id) - 1, nil
}

// toCoordinator sends one request to where a group or a transactional id is thought to be.
func toCoordinator[R kmsg.Response](ctx context.Context, s *speaker, kind int8, key string, q kmsg.Request) (r R, err error) {
	node, err := s.coordinator(ctx, kind, key)
	if err != nil {
		return r, &unsentError{err}
	}
	if r, err = ask[R](ctx, s, node, q); err != nil {
		s.forget(kind, key)
	}
	return r, err
}

// unsentError is of a request that was not sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// forget has the coordinator looked for anew.
func (s *speaker) forget(kind int8, key string) { delete(s.knows, fmt.Sprint(kind, key)) }

// any is one of the nodes.
func (s *speaker) any() int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.chances.IntN(size)
}

// leads is the node that leads a partition, as far as one is told.
func (s *speaker) leads(ctx context.Context, topic string, partition int32) (node int, err error) {
	name := fmt.Sprint("leader ", topic, partition)
	if node, ok := s.knows[name]; ok {
		return node, nil
	}
	q := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	q.Topics = append(q.Topics, t)
	r, err := ask[*kmsg.MetadataResponse](ctx, s, s.any(), q)
	if err != nil {
		return 0, err
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if p.Partition == partition && p.Leader > 0 {
				s.knows[name] = int(p.Leader) - 1
				return int(p.Leader) - 1, nil
			}
		}
	}
	return 0, kerr.LeaderNotAvailable
}

// produce sends a batch, once, to who is thought to lead a partition, to be answered within a
// time once all in sync have it. An error that no server has answered with says that it may
// be there.
func (s *speaker) produce(ctx context.Context, topic string, partition int32, transaction *string, within time.Duration, data []byte) (base int64, err error) {
	node, err := s.leads(ctx, topic, partition)
	if err != nil {
		return 0, err
	}
	q := kmsg.NewPtrProduceRequest()
	q.TransactionID, q.Acks, q.TimeoutMillis = transaction, -1, int32(within.Milliseconds())
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, data
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	r, err := ask[*kmsg.ProduceResponse](ctx, s, node, q)
	if err == nil && (len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1) {
		err = fmt.Errorf("a batch is answered with %d topics", len(r.Topics))
	}
	if err == nil {
		base, err = r.Topics[0].Partitions[0].BaseOffset, kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		s.forgetLeader(topic, partition)
	}
	return base, err
}

func (s *speaker) forgetLeader(topic string, partition int32) {
	delete(s.knows, fmt.Sprint("leader ", topic, partition))
}

// spoken is a record as a fetch gives it.
type spoken struct {
	offset int64
	value  []byte
}

// fetch reads some records of a partition, which may be none, and where to go on. What was
// aborted is left out if committed.
func (s *speaker) fetch(ctx context.Context, topic string, partition int32, from int64, committed bool) (records []spoken, next int64, err error) {
	node, err := s.leads(ctx, topic, partition)
	if err != nil {
		return nil, from, err
	}
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis, q.MinBytes = 200, 1
	if committed {
		q.IsolationLevel = 1
	}
	r, err := s.fetchFrom(ctx, node, q, topic, partition, from)
	if err != nil {
		s.forgetLeader(topic, partition)
		return nil, from, err
	}
	return decode(r, from)
}

// fetchFrom asks a node once for what is in a partition from an offset on.
func (s *speaker) fetchFrom(ctx context.Context, node int, q *kmsg.FetchRequest, topic string, partition int32, from int64) (*kmsg.FetchResponseTopicPartition, error) {
	q.MaxBytes, q.SessionEpoch, q.ReplicaID = 64<<10, -1, -1
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, from, 64<<10, -1
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	r, err := ask[*kmsg.FetchResponse](ctx, s, node, q)
	if err == nil {
		err = kerr.ErrorForCode(r.ErrorCode)
	}
	if err == nil && (len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1) {
		err = fmt.Errorf("a fetch of one partition is answered with %d topics", len(r.Topics))
	}
	if err == nil {
		err = kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	return &r.Topics[0].Partitions[0], nil
}

// decode reads the batches of an answer, without those of transactions it names as aborted.
func decode(p *kmsg.FetchResponseTopicPartition, from int64) (records []spoken, next int64, err error) {
	next = from
	aborted := map[int64]bool{} // producers with a transaction that is
	ahead := p.AbortedTransactions
	for rest := p.RecordBatches; len(rest) > 0; {
		b, after, err := batch.Next(rest)
		if err != nil {
			return nil, from, err
		}
		if b.CRC() != b.ComputeCRC() {
			return nil, from, fmt.Errorf("the batch at offset %d has a wrong CRC", b.BaseOffset())
		}
		rest = after
		for len(ahead) > 0 && ahead[0].FirstOffset <= int64(b.LastOffset()) {
			aborted[ahead[0].ProducerID] = true
			ahead = ahead[1:]
		}
		next = int64(b.NextOffset())
		if b.IsControl() {
			delete(aborted, b.ProducerID()) // whatever the marker says, it ends the transaction
			continue
		}
		if b.IsTransactional() && aborted[b.ProducerID()] {
			continue
		}
		it := b.Records(1 << 20)
		for it.Next() {
			if r := it.Record(); r.Offset >= storage.Offset(from) {
				records = append(records, spoken{int64(r.Offset), append([]byte(nil), r.Value...)})
			}
		}
		if err := it.Err(); err != nil {
			return nil, from, err
		}
	}
	return records, next, nil
}
