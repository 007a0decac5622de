package broker

import (
	"bytes"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// transactor is a transactional producer that speaks request by request.
type transactor struct {
	*client
	id    string
	pid   int64
	epoch int16
}

// transact finds the coordinators and begins.
func (n *node) transact(id string) *transactor {
	n.t.Helper()
	tx := &transactor{client: n.connect(), id: id}
	tx.findGroups("group")
	tx.findTransactions()
	tx.begin(5)
	return tx
}

func (tx *transactor) findTransactions() {
	tx.t.Helper()
	for {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys, find.CoordinatorType = []string{tx.id}, transactionCoordinator
		found := ask[*kmsg.FindCoordinatorResponse](tx.client, 4, find).Coordinators[0]
		if found.ErrorCode != 0 {
			tx.t.Fatalf("coordinator: %v", kerr.ErrorForCode(found.ErrorCode))
		}
		q := kmsg.NewPtrDescribeTransactionsRequest()
		q.TransactionalIDs = []string{tx.id}
		if ask[*kmsg.DescribeTransactionsResponse](tx.client, 0, q).TransactionStates[0].ErrorCode != kerr.CoordinatorLoadInProgress.Code {
			return
		}
		time.Sleep(time.Millisecond) // simulated time goes on only while nobody asks
	}
}

func (tx *transactor) begin(version int16) {
	tx.t.Helper()
	q := kmsg.NewPtrInitProducerIDRequest()
	q.TransactionalID, q.TransactionTimeoutMillis = &tx.id, 60_000
	p := ask[*kmsg.InitProducerIDResponse](tx.client, version, q)
	if p.ErrorCode != 0 {
		tx.t.Fatalf("init v%d: %v", version, kerr.ErrorForCode(p.ErrorCode))
	}
	tx.pid, tx.epoch = p.ProducerID, p.ProducerEpoch
}

func (tx *transactor) end(version int16, commit bool) {
	tx.t.Helper()
	q := kmsg.NewPtrEndTxnRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = tx.id, tx.pid, tx.epoch, commit
	p := ask[*kmsg.EndTxnResponse](tx.client, version, q)
	if p.ErrorCode != 0 {
		tx.t.Fatalf("end v%d: %v", version, kerr.ErrorForCode(p.ErrorCode))
	}
	if version >= 5 {
		tx.pid, tx.epoch = p.ProducerID, p.ProducerEpoch
	}
}

func (tx *transactor) commitOffset(version int16, topic storage.TopicID, offset int64) int16 {
	tx.t.Helper()
	q := kmsg.NewPtrTxnOffsetCommitRequest()
	q.TransactionalID, q.Group, q.ProducerID, q.ProducerEpoch = tx.id, "group", tx.pid, tx.epoch
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset = offset
	q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", TopicID: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{part}}}
	return ask[*kmsg.TxnOffsetCommitResponse](tx.client, version, q).Topics[0].Partitions[0].ErrorCode
}

func (tx *transactor) committedOffset() (int64, int16) {
	tx.t.Helper()
	q := kmsg.NewPtrOffsetFetchRequest()
	q.RequireStable = true
	q.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "group", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "in", Partitions: []int32{0}}}}}
	p := ask[*kmsg.OffsetFetchResponse](tx.client, 8, q).Groups[0].Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

// wantOffset waits until the marker of a transaction is written.
func (tx *transactor) wantOffset(want int64) {
	tx.t.Helper()
	for range 1000 {
		synctest.Wait()
		if got, code := tx.committedOffset(); code == 0 && got == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	got, code := tx.committedOffset()
	tx.t.Fatalf("offset %d, %v, want %d", got, kerr.ErrorForCode(code), want)
}

// The first who asks for a coordinator, whose topic is made then, waits for no second
// try of the coordinator to find its log.
func TestFirstCoordinatorLoadsAtOnce(t *testing.T) {
	for range 10 { // who is first is up to the scheduler
		synctest.Test(t, func(t *testing.T) {
			var lines bytes.Buffer
			n := startNode(t, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
			})
			n.transact("tx")
			synctest.Wait()
			if lines.Len() > 0 {
				t.Fatal(lines.String())
			}
		})
	}
}

// Every version of what a transactional producer asks is answered: to add, to
// commit offsets, and to end.
func TestTransactionalRequestsInEveryVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("out", 1)
		in := n.controller.createTopic("in", 1)
		tx := n.transact("tx")
		offset := int64(0)
		for version := range int16(6) {
			tx.begin(version)
			add := kmsg.NewPtrAddPartitionsToTxnRequest()
			add.TransactionalID, add.ProducerID, add.ProducerEpoch = tx.id, tx.pid, tx.epoch
			add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "out", Partitions: []int32{0}}}
			add.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{
				TransactionalID: tx.id, ProducerID: tx.pid, ProducerEpoch: tx.epoch,
				Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "out", Partitions: []int32{0}}},
			}}
			added := ask[*kmsg.AddPartitionsToTxnResponse](tx.client, version, add)
			if version < 4 && added.Topics[0].Partitions[0].ErrorCode != 0 || version >= 4 && added.Transactions[0].Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("add v%d: %+v", version, added)
			}
			tx.end(version, true)
		}
		for version := range int16(7) {
			if version < 5 {
				if code := tx.commitOffset(version, in, 99); code != kerr.InvalidTxnState.Code && (version < 4 || code != kerr.TransactionAbortable.Code) {
					t.Fatalf("offsets v%d, not added: %v", version, kerr.ErrorForCode(code))
				}
				q := kmsg.NewPtrAddOffsetsToTxnRequest()
				q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = tx.id, tx.pid, tx.epoch, "group"
				if p := ask[*kmsg.AddOffsetsToTxnResponse](tx.client, version, q); p.ErrorCode != 0 {
					t.Fatalf("add offsets v%d: %v", version, kerr.ErrorForCode(p.ErrorCode))
				}
			}
			offset++
			for range 2 {
				if code := tx.commitOffset(version, in, offset); code != 0 {
					t.Fatalf("offsets v%d: %v", version, kerr.ErrorForCode(code))
				}
			}
			if _, code := tx.committedOffset(); code != kerr.UnstableOffsetCommit.Code {
				t.Fatalf("offsets v%d in a transaction: %v", version, kerr.ErrorForCode(code))
			}
			if version%2 == 0 {
				tx.end(5, true)
				tx.wantOffset(offset)
			} else {
				tx.end(5, false)
				tx.wantOffset(offset - 1)
			}
		}
		tx.epoch--
		if code := tx.commitOffset(5, in, 1); code != kerr.InvalidProducerEpoch.Code {
			t.Fatalf("of an epoch that is over: %v", kerr.ErrorForCode(code))
		}
		for version := range int16(7) {
			find := kmsg.NewPtrFindCoordinatorRequest()
			find.CoordinatorType, find.CoordinatorKey, find.CoordinatorKeys = transactionCoordinator, "tx", []string{"tx", "other"}
			p := ask[*kmsg.FindCoordinatorResponse](tx.client, version, find)
			if version >= 4 {
				if len(p.Coordinators) != 2 || p.Coordinators[1].ErrorCode != 0 || p.Coordinators[1].NodeID != 1 {
					t.Errorf("v%d: %+v", version, p)
				}
			} else if version > 0 && (p.ErrorCode != 0 || p.NodeID != 1) {
				t.Errorf("v%d: %+v", version, p)
			}
		}
		for version := range int16(3) {
			p := ask[*kmsg.ListTransactionsResponse](tx.client, version, kmsg.NewPtrListTransactionsRequest())
			if len(p.TransactionStates) != 1 || p.TransactionStates[0].TransactionalID != "tx" || p.TransactionStates[0].ProducerID != tx.pid {
				t.Errorf("list v%d: %+v", version, p)
			}
		}
	})
}

// Offsets under an epoch that is not the producer's are refused, and do not keep out
// the producer's own.
func TestOffsetsOfAForeignEpochKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		in := n.controller.createTopic("in", 1)
		n.settle(t.Context())
		tx := n.transact("txn")
		tx.epoch += 7
		if code := tx.commitOffset(5, in, 1); code != kerr.InvalidProducerEpoch.Code {
			t.Fatalf("under a foreign epoch: %v", kerr.ErrorForCode(code))
		}
		tx.epoch -= 7
		if code := tx.commitOffset(5, in, 2); code != 0 {
			t.Fatalf("under its own: %v", kerr.ErrorForCode(code))
		}
		tx.end(5, true)
		tx.wantOffset(2)
	})
}

// WriteTxnMarkers ends what hangs in a partition, of records and of offsets, and is
// refused by what is newer.
func TestWriteTxnMarkersEndsTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("out", 1)
		in := n.controller.createTopic("in", 1)
		tx := n.transact("tx")
		for version := int16(1); version <= 2; version++ {
			if code := tx.commitOffset(5, in, int64(version)); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			write := func(epoch int16) []kmsg.WriteTxnMarkersResponseMarkerTopic {
				q := kmsg.NewPtrWriteTxnMarkersRequest()
				q.Markers = []kmsg.WriteTxnMarkersRequestMarker{{
					ProducerID: tx.pid, ProducerEpoch: epoch, Committed: true, CoordinatorEpoch: n.coordinatorEpoch(),
					Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{
						{Topic: "out", Partitions: []int32{0, 1}}, {Topic: offsetsTopic, Partitions: []int32{group.Partition("group")}},
					},
				}}
				return ask[*kmsg.WriteTxnMarkersResponse](tx.client, version, q).Markers[0].Topics
			}
			p := write(tx.epoch)
			if p[0].Partitions[0].ErrorCode != 0 || p[0].Partitions[1].ErrorCode != kerr.UnknownTopicOrPartition.Code || p[1].Partitions[0].ErrorCode != 0 {
				t.Fatalf("%+v", p)
			}
			if tx.epoch > 0 {
				if p := write(tx.epoch - 1); p[0].Partitions[0].ErrorCode != kerr.InvalidProducerEpoch.Code {
					t.Fatalf("%+v", p)
				}
			}
			tx.begin(5)
		}
	})
}

// coordinatorEpoch is the highest that a coordinator of transactions has.
func (n *node) coordinatorEpoch() int32 {
	highest := storage.Epoch(0)
	t, _ := n.controller.Image().Topic(transactionsTopic)
	for i := range t.Partitions.Len() {
		highest = max(highest, t.Partitions.At(i).LeaderEpoch)
	}
	return int32(highest)
}

// A marker under an epoch that no coordinator has had yet does not keep those of the
// true one out of the partitions.
func TestMarkersOfInventedCoordinatorsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("out", 1)
		in := n.controller.createTopic("in", 1)
		tx := n.transact("tx")
		if code := tx.commitOffset(5, in, 3); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		for _, epoch := range []int32{n.coordinatorEpoch() + 1, math.MaxInt32} {
			q := kmsg.NewPtrWriteTxnMarkersRequest()
			q.Markers = []kmsg.WriteTxnMarkersRequestMarker{{
				ProducerID: tx.pid, ProducerEpoch: tx.epoch, CoordinatorEpoch: epoch,
				Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{
					{Topic: "out", Partitions: []int32{0}}, {Topic: offsetsTopic, Partitions: []int32{group.Partition("group")}},
				},
			}}
			for _, topic := range ask[*kmsg.WriteTxnMarkersResponse](tx.client, 1, q).Markers[0].Topics {
				if code := topic.Partitions[0].ErrorCode; code != kerr.InvalidRequest.Code {
					t.Errorf("epoch %d, %s: %v", epoch, topic.Topic, kerr.ErrorForCode(code))
				}
			}
		}
		tx.end(5, true)
		tx.wantOffset(3)
	})
}

// While the log has no room, who sends markers to a partition of the groups stops waiting,
// and sends them again: it is told to come again, and no more of them are kept than may be.
func TestMarkersToTheGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		in := n.controller.createTopic("in", 1)
		tx := n.transact("tx")
		if code := tx.commitOffset(5, in, 3); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		held := 16 << 20 // all memory of the log
		if err := n.store.AdmitCoordinator(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		const others = 100 // transactions whose markers come with the one
		q := kmsg.NewPtrWriteTxnMarkersRequest()
		for i := range int64(others + 1) {
			m := kmsg.WriteTxnMarkersRequestMarker{
				ProducerID: 1_000_000 + i, CoordinatorEpoch: n.coordinatorEpoch(), Committed: true,
				Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: offsetsTopic, Partitions: []int32{group.Partition("group")}}},
			}
			if i == others {
				m.ProducerID, m.ProducerEpoch = tx.pid, tx.epoch+1
			}
			q.Markers = append(q.Markers, m)
		}
		told := map[int16]int{}
		for range 2 * maxGroupMarkers / others {
			for _, m := range n.markersFor(t.Context(), q).Markers {
				told[m.Topics[0].Partitions[0].ErrorCode]++
			}
		}
		if kept := n.groupMarkers[group.Partition("group")].Load(); kept > maxGroupMarkers {
			t.Errorf("%d markers are kept, at most %d may", kept, maxGroupMarkers)
		}
		if told[kerr.KafkaStorageError.Code] < maxGroupMarkers/2 || told[kerr.RequestTimedOut.Code] != maxGroupMarkers || len(told) != 2 {
			t.Errorf("the answers were, by code, %v", told)
		}
		n.store.Unadmit(held)
		eventually(t, "there is room again", func() bool { return n.groupMarkers[group.Partition("group")].Load() == 0 })
		for _, m := range n.markersFor(t.Context(), q).Markers {
			if code := m.Topics[0].Partitions[0].ErrorCode; code != 0 {
				t.Fatalf("when there is room again: %v", kerr.ErrorForCode(code))
			}
		}
		tx.wantOffset(3)
	})
}

// A marker whose partition is not ready yet is written later; only what does not
// exist any more needs none.
func TestMarkersOfWhatExistsAreKept(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("out", 1)
	gone := txn.Partition{Topic: "gone"}
	here := txn.Partition{Topic: "out"}
	for name, tc := range map[string]struct {
		of   txn.Partition
		err  error
		want bool
	}{
		"written":        {here, nil, false},
		"not ready":      {here, errUnknownTopic, true},
		"not led":        {here, errNotLeader, true},
		"no room":        {here, log.ErrFull, true},
		"deleted":        {gone, errUnknownTopic, false},
		"deleted since":  {gone, errNotLeader, false},
		"no coordinator": {txn.Partition{Topic: "out"}, kerr.NotCoordinator, true},
		"late":           {here, log.ErrInvalidProducerEpoch, false},
	} {
		if got := n.again(tc.of, tc.err); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The topic of transactions is the broker's own.
func TestTransactionTopicIsTheBrokersOwn(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = transactionsTopic, 1, 1
	create.Topics = append(create.Topics, topic)
	if p := ask[*kmsg.CreateTopicsResponse](c, 5, create); p.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("made by a client: %v", kerr.ErrorForCode(p.Topics[0].ErrorCode))
	}
	(&transactor{client: c, id: "tx"}).findTransactions()
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo(transactionsTopic, txn.PartitionOf("tx"), -1, batchOf(t, "x"))), kerr.InvalidTopicException, -1)
}
