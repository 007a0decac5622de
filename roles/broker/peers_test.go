package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/transport/rpc"
)

// transactAt begins a transactional id at the broker that coordinates it.
func (c *cluster) transactAt(at int32, id string) *transactor {
	c.t.Helper()
	tx := &transactor{client: c.nodes[at].connect(), id: id}
	tx.findTransactions()
	tx.begin(5)
	c.settle() // the coordinators' topic may have been made for it: the others know of it
	return tx
}

// add has the coordinator add a partition to a transaction of a client of before KIP-890.
func (tx *transactor) add(topic string, partitions ...int32) {
	tx.t.Helper()
	q := kmsg.NewPtrAddPartitionsToTxnRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch = tx.id, tx.pid, tx.epoch
	q.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
	for _, t := range ask[*kmsg.AddPartitionsToTxnResponse](tx.client, 3, q).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				tx.t.Fatalf("add %s-%d: %v", topic, p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
}

// write writes a batch of a transaction at a partition's leader.
func (c *cluster) write(tx *transactor, version int16, topic string, partition, sequence int32, value string) int16 {
	c.t.Helper()
	q := produceTo(topic, partition, -1, transactional(c.t, tx.pid, tx.epoch, sequence, value))
	q.TransactionID = &tx.id
	t := &q.Topics[0]
	t.TopicID = c.topic(topic).ID
	return ask[*kmsg.ProduceResponse](c.nodes[c.topic(topic).Partition(partition).Leader].connect(), version, q).Topics[0].Partitions[0].ErrorCode
}

func (c *cluster) topic(name string) *metadata.Topic {
	c.t.Helper()
	t, ok := c.controller.Image().Topic(name)
	if !ok {
		c.t.Fatalf("no topic %s", name)
	}
	return t
}

// stable reports whether no transaction is open in a partition.
func (c *cluster) stable(topic string, partition int32) bool {
	c.t.Helper()
	l, _, err := c.nodes[c.topic(topic).Partition(partition).Leader].leaderOf(topic, partition, storage.NoEpoch)
	if err != nil {
		c.t.Fatal(err)
	}
	return l.LastStable() == l.HighWatermark()
}

// eventually waits, in simulated time.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 2000 {
		synctest.Wait()
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("in vain: %s", what)
}

// Before the first batch of a transaction is taken, its coordinator has confirmed it, on
// another broker; where that cannot be asked, the producer is to come again.
func TestTransactionsAreVerifiedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, false, nil)
		c.controller.createTopic("out", 3)
		c.settle()
		tx := c.transactAt(3, c.transactionAt(3))
		c.settle()
		if code := c.write(tx, 11, "out", 1, 0, "x"); code != kerr.TransactionAbortable.Code {
			t.Errorf("a partition that is not part of the transaction: %v", kerr.ErrorForCode(code))
		}
		tx.add("out", 1)
		if code := c.write(tx, 11, "out", 1, 0, "added"); code != 0 {
			t.Errorf("a partition that was added: %v", kerr.ErrorForCode(code))
		}
		if code := c.write(tx, 13, "out", 0, 0, "adding"); code != 0 {
			t.Errorf("a partition that is added by writing to it: %v", kerr.ErrorForCode(code))
		}
		tx.end(3, true)
		eventually(t, "the markers", func() bool { return c.stable("out", 0) && c.stable("out", 1) })
		tx.begin(5)
		stale := *tx
		stale.epoch--
		if code := c.write(&stale, 13, "out", 0, 1, "x"); code != kerr.InvalidProducerEpoch.Code {
			t.Errorf("an epoch that is over: %v", kerr.ErrorForCode(code))
		}
		c.sever(3, true)
		if code := c.write(tx, 13, "out", 0, 0, "x"); code != kerr.NotEnoughReplicas.Code {
			t.Errorf("a coordinator that cannot be asked: %v", kerr.ErrorForCode(code))
		}
		c.sever(3, false)
		eventually(t, "a write when the coordinator is back", func() bool { return c.write(tx, 13, "out", 0, 0, "back") == 0 })
		tx.end(3, false)
		eventually(t, "the marker", func() bool { return c.stable("out", 0) })
	})
}

// What a producer sends once it was refused is asked about anew: the coordinator's word on
// the batch before does not hold for it.
func TestARefusalIsOfWhatWasSentBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 100
		c := newCluster(t, 3, false, nil)
		c.controller.createTopic("out", partitions)
		c.settle()
		tx := c.transactAt(3, c.transactionAt(3))
		for p := range int32(partitions) {
			if code := c.write(tx, 11, "out", p, 0, "x"); code != kerr.TransactionAbortable.Code {
				t.Fatalf("partition %d, which is not part of the transaction: %v", p, kerr.ErrorForCode(code))
			}
			tx.add("out", p)
			if code := c.write(tx, 11, "out", p, 0, "added"); code != 0 {
				t.Fatalf("partition %d, which was added: %v", p, kerr.ErrorForCode(code))
			}
		}
	})
}

// A transaction that is decided gets its markers everywhere, however long a broker is
// away: the others do not wait, and the next transaction of the producer does.
func TestMarkersAwaitABrokerThatIsAway(t *testing.T) {
	for _, how := range []string{"unreachable", "closed"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, false, nil)
				c.controller.createTopic("out", 3)
				c.settle()
				tx := c.transactAt(1, c.transactionAt(1))
				tx.add("out", 0, 1, 2)
				for i := range int32(3) {
					if code := c.write(tx, 11, "out", i, 0, "x"); code != 0 {
						t.Fatalf("write: %v", kerr.ErrorForCode(code))
					}
				}
				if how == "closed" {
					c.close(2)
				} else {
					c.sever(2, true)
				}
				tx.end(3, true)
				eventually(t, "markers on those that are there", func() bool { return c.stable("out", 0) && c.stable("out", 2) })
				time.Sleep(time.Minute)
				describe := kmsg.NewPtrDescribeTransactionsRequest()
				describe.TransactionalIDs = []string{tx.id}
				state := func() string {
					return ask[*kmsg.DescribeTransactionsResponse](tx.client, 0, describe).TransactionStates[0].State
				}
				if got := state(); got != "PrepareCommit" {
					t.Errorf("without a marker, the transaction is %s", got)
				}
				if how == "closed" {
					c.reopen(2)
				} else {
					if c.stable("out", 1) {
						t.Error("a marker came through")
					}
					c.sever(2, false)
				}
				eventually(t, "the marker on the one that was away", func() bool { return c.stable("out", 1) && state() == "CompleteCommit" })
				tx.add("out", 1)
				if code := c.write(tx, 11, "out", 1, 1, "next"); code != 0 {
					t.Errorf("the next transaction: %v", kerr.ErrorForCode(code))
				}
				tx.end(3, false)
				eventually(t, "its marker", func() bool { return c.stable("out", 1) })
			})
		})
	}
}

// A coordinator that starts again, under a higher epoch, goes on with the markers that it
// owed, and with the transactions that were open: its own log tells it of both.
func TestMarkersGoOnWhenTheirCoordinatorIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, false, nil)
		c.controller.createTopic("out", 3)
		c.settle()
		id := c.transactionAt(1)
		tx := c.transactAt(1, id)
		open := c.transactAt(1, c.coordinated("other-", txn.PartitionOf, 1))
		for i, of := range []*transactor{tx, open} {
			of.add("out", 1, 2)
			for p := range int32(2) {
				if code := c.write(of, 11, "out", p+1, 0, fmt.Sprint("x", i)); code != 0 {
					t.Fatalf("write: %v", kerr.ErrorForCode(code))
				}
			}
		}
		c.sever(2, true)
		tx.end(3, true)
		c.close(1)
		c.sever(2, false)
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys, find.CoordinatorType = []string{id}, transactionCoordinator
		eventually(t, "others know that it is gone", func() bool {
			return ask[*kmsg.FindCoordinatorResponse](c.nodes[2].connect(), 4, find).Coordinators[0].ErrorCode == kerr.CoordinatorNotAvailable.Code
		})
		c.reopen(1)
		tx.client, open.client = c.nodes[1].connect(), c.nodes[1].connect()
		tx.findTransactions()
		describe := kmsg.NewPtrDescribeTransactionsRequest()
		describe.TransactionalIDs = []string{tx.id, open.id}
		states := func() (all []string) {
			for _, s := range ask[*kmsg.DescribeTransactionsResponse](tx.client, 0, describe).TransactionStates {
				all = append(all, s.State)
			}
			return all
		}
		eventually(t, "the markers that were owed", func() bool { return slices.Equal(states(), []string{"CompleteCommit", "Ongoing"}) })
		if c.stable("out", 1) || c.stable("out", 2) {
			t.Error("the other transaction is not open any more")
		}
		open.findTransactions()
		open.end(3, false)
		eventually(t, "the markers of the other", func() bool { return c.stable("out", 1) && c.stable("out", 2) })
	})
}

// Offsets that are committed in a transaction go to the coordinator of the group, which
// asks that of the transaction, and hears from it how that ended.
func TestOffsetsOfTransactionsAreCommittedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, func(topic string, _ int32) int32 {
			return map[string]int32{offsetsTopic: 2, transactionsTopic: 1}[topic]
		})
		in := c.controller.createTopic("in", 1)
		c.settle()
		tx := c.transactAt(1, "tx")
		at2 := &transactor{client: c.nodes[2].connect(), id: tx.id, pid: tx.pid, epoch: tx.epoch}
		at2.findGroups("group")
		c.settle()
		for i, commit := range []bool{true, false, true} {
			offset := int64(i + 1)
			if code := at2.commitOffset(5, in, offset); code != 0 {
				t.Fatalf("commit in the transaction: %v", kerr.ErrorForCode(code))
			}
			tx.end(5, commit)
			at2.epoch = tx.epoch
			want := offset
			if !commit {
				want = offset - 1
			}
			at2.wantOffset(want)
		}
		c.sever(1, true)
		if code := at2.commitOffset(5, in, 9); code != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("the coordinator of the transaction cannot be asked: %v", kerr.ErrorForCode(code))
		}
		q := commitOf("group", 1)
		q.Topics[0].Topic = "in"
		if got := ask[*kmsg.OffsetCommitResponse](tx.client, 8, q).Topics[0].Partitions[0].ErrorCode; got != kerr.NotCoordinator.Code {
			t.Errorf("a broker that does not coordinate the group: %v", kerr.ErrorForCode(got))
		}
	})
}

// Whoever is no broker, or not any more, or means another, is refused.
func TestStrangersAreNotServedAsPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, nil)
		epochOf := func(id int32) int64 {
			b, _ := c.controller.Image().Broker(id)
			return b.Epoch
		}
		was := epochOf(1)
		c.close(1)
		c.reopen(1)
		is, two := epochOf(1), epochOf(2)
		for _, q := range []struct {
			what     string
			from, to rpc.PeerBroker
			offset   uint64
			refused  bool
		}{
			{"a broker", rpc.PeerBroker{ID: 1, Epoch: is}, rpc.PeerBroker{ID: 2, Epoch: two}, uint64(is), false},
			{"one that asks whoever has the id", rpc.PeerBroker{ID: 1, Epoch: is}, rpc.PeerBroker{ID: 2}, 0, false},
			{"its former self", rpc.PeerBroker{ID: 1, Epoch: was}, rpc.PeerBroker{ID: 2, Epoch: two}, 0, true},
			{"one that nobody knows", rpc.PeerBroker{ID: 3, Epoch: is}, rpc.PeerBroker{ID: 2, Epoch: two}, 0, true},
			{"one that means another", rpc.PeerBroker{ID: 1, Epoch: is}, rpc.PeerBroker{ID: 3, Epoch: two}, 0, true},
			{"one that means another start of it", rpc.PeerBroker{ID: 1, Epoch: is}, rpc.PeerBroker{ID: 2, Epoch: two - 1}, 0, true},
		} {
			err := c.nodes[2].AdmitPeer(t.Context(), &rpc.PeerCall{From: q.from, To: q.to, MetadataOffset: q.offset})
			if refused := errors.Is(err, rpc.ErrPeerRefused); refused != q.refused || !refused && err != nil {
				t.Errorf("%s: %v", q.what, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ahead := &rpc.PeerCall{From: rpc.PeerBroker{ID: 1, Epoch: is}, To: rpc.PeerBroker{ID: 2}, MetadataOffset: c.controller.Image().Offset() + 1000}
		if err := c.nodes[2].AdmitPeer(ctx, ahead); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one whose metadata is newer: %v", err)
		}
	})
}

// Bodies of any shape are errors, or answers, within the memory that is for them.
func TestHostilePeersAreRefused(t *testing.T) {
	n := startNode(t)
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	keys := []int16{kmsg.WriteTxnMarkers.Int16(), kmsg.AddPartitionsToTxn.Int16(), peerListGroups, peerDescribeGroup, peerDeleteGroup, peerResetOffsets, peerGroupPartitions, peerOffsetMoves, 0, 20_100}
	for range 2000 {
		body := make([]byte, rng.IntN(60))
		for i := range body {
			body[i] = byte(rng.Uint32())
		}
		c := &rpc.PeerCall{Key: keys[rng.IntN(len(keys))], Version: int16(rng.IntN(8)), Body: body}
		if _, err := n.ServePeer(t.Context(), c); err == nil && c.Key >= peerListGroups && len(body) > 4 {
			t.Errorf("key %d took % x", c.Key, body)
		}
	}
	large := &rpc.PeerCall{Key: peerGroupPartitions, Body: []byte("[" + strings.Repeat("{},", maxPeerMemory/ownMemory/3) + "{}]")}
	if _, err := n.ServePeer(t.Context(), large); !errors.Is(err, rpc.ErrPeerRefused) {
		t.Errorf("a request that takes more memory than there is: %v", err)
	}
	if held := n.peerMemory.Load(); held != 0 {
		t.Errorf("%d bytes are held when nothing is served", held)
	}
}

// A leader that answers for fewer partitions than it was asked about has not written the
// others' markers.
func TestMarkersThatAreNotToldAreWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forgetful := &forgetfulPeers{}
		c := newCluster(t, 2, false, func(topic string, _ int32) int32 { return map[string]int32{"out": 2, transactionsTopic: 1}[topic] })
		c.controller.createTopic("out", 2)
		c.settle()
		forgetful.Peers = c.peers[1]
		c.nodes[1].Broker.opt.Peers = forgetful
		tx := c.transactAt(1, "tx")
		tx.add("out", 0, 1)
		for i := range int32(2) {
			if code := c.write(tx, 11, "out", i, 0, "x"); code != 0 {
				t.Fatalf("write: %v", kerr.ErrorForCode(code))
			}
		}
		forgetful.forget = true
		tx.end(3, true)
		eventually(t, "both markers", func() bool { return c.stable("out", 0) && c.stable("out", 1) })
	})
}

// forgetfulPeers leave the last partition out of what they ask another to mark, once.
type forgetfulPeers struct {
	Peers
	forget bool
}

func (f *forgetfulPeers) Call(ctx context.Context, address string, c *rpc.PeerCall) ([]byte, error) {
	if f.forget && c.Key == kmsg.WriteTxnMarkers.Int16() {
		f.forget = false
		q := kmsg.NewPtrWriteTxnMarkersRequest()
		q.Version = c.Version
		if err := q.ReadFrom(c.Body); err != nil {
			return nil, err
		}
		t := &q.Markers[0].Topics[0]
		t.Partitions = t.Partitions[:1]
		c.Body = q.AppendTo(nil)
	}
	return f.Peers.Call(ctx, address, c)
}

// countedPeers count the requests to other brokers, and the most partitions of one that
// has them marked, which they answer themselves if they are to.
type countedPeers struct {
	Peers
	answer bool

	mu             sync.Mutex
	calls, largest int
}

func (p *countedPeers) Call(ctx context.Context, address string, c *rpc.PeerCall) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if c.Key != kmsg.WriteTxnMarkers.Int16() || !p.answer {
		return p.Peers.Call(ctx, address, c)
	}
	q := kmsg.NewPtrWriteTxnMarkersRequest()
	q.Version = c.Version
	if err := q.ReadFrom(c.Body); err != nil {
		return nil, err
	}
	var errs [][]error
	all := 0
	for i := range q.Markers {
		n := len(markedPartitions(&q.Markers[i]))
		errs, all = append(errs, make([]error, n)), all+n
	}
	p.largest = max(p.largest, all)
	answer := markedBy(q, errs)
	answer.SetVersion(c.Version)
	return answer.AppendTo(nil), nil
}

// A transaction in more partitions of one broker than one request may name, which would
// be refused for ever, is ended by several.
func TestMarkersOfALargeTransactionGoInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, func(string, int32) int32 { return 2 })
		const topics = 2*markedAtOnce/mostPartitions + 1
		for i := range topics {
			c.controller.createTopic(fmt.Sprint("out-", i), mostPartitions)
		}
		c.settle()
		counted := &countedPeers{Peers: c.peers[1], answer: true}
		c.nodes[1].Broker.opt.Peers = counted
		of := txn.Marker{ProducerID: 1, Commit: true}
		for i := range topics * mostPartitions {
			of.Partitions = append(of.Partitions, txn.Partition{Topic: fmt.Sprint("out-", i/mostPartitions), Index: int32(i % mostPartitions)})
		}
		done := make(chan []txn.Partition, 2)
		newMarkers(c.nodes[1].Broker).WriteMarkers(of, func(left []txn.Partition) { done <- left })
		if left := <-done; len(left) != 0 {
			t.Errorf("%d markers are left", len(left))
		}
		synctest.Wait()
		if len(done) > 0 || counted.largest != markedAtOnce || counted.calls != 3 {
			t.Errorf("%d partitions in %d requests of up to %d, want %d at once, and one outcome", len(of.Partitions), counted.calls, counted.largest, markedAtOnce)
		}
	})
}

// To list many groups takes no more requests than to list a few: each is a round trip, and
// who lists waits for all of them.
func TestGroupsAreListedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, func(topic string, _ int32) int32 { return map[string]int32{offsetsTopic: 1, "events": 2}[topic] })
		c.controller.createTopic("events", 1)
		c.settle()
		cl := c.nodes[1].connect()
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{"group"}
		ask[*kmsg.FindCoordinatorResponse](cl, 4, find)
		c.settle()
		counted := &countedPeers{Peers: c.peers[1]}
		c.nodes[1].Broker.opt.Peers = counted
		const groups = 4 * group.Partitions
		for i := range groups {
			eventually(t, "a commit", func() bool {
				return ask[*kmsg.OffsetCommitResponse](cl, 8, commitOf(fmt.Sprint("group-", i), 0)).Topics[0].Partitions[0].ErrorCode == 0
			})
		}
		listed, err := c.nodes[1].ListGroups(t.Context())
		if err != nil || len(listed) != groups {
			t.Fatalf("%d groups are listed, want %d: %v", len(listed), groups, err)
		}
		if counted.calls > group.Partitions {
			t.Errorf("%d requests for %d groups, want one for each of %d partitions at most", counted.calls, groups, group.Partitions)
		}
	})
}

// Groups whose partition nobody leads are there: a list without them would say they are not.
func TestGroupsThatNobodyCoordinatesAreNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, nil)
		cl := c.nodes[1].connect()
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{"group"}
		ask[*kmsg.FindCoordinatorResponse](cl, 4, find)
		c.settle()
		eventually(t, "all are listed", func() bool { _, err := c.nodes[1].ListGroups(t.Context()); return err == nil })
		c.close(2)
		eventually(t, "that not all can be listed is said", func() bool {
			groups, err := c.nodes[1].ListGroups(t.Context())
			return len(groups) == 0 && errors.Is(err, kerr.CoordinatorNotAvailable) && strings.Contains(err.Error(), "have no leader")
		})
	})
}

// A request for which there is no memory left is refused before it is decoded.
func TestPeerRequestsAreWeighedBeforeTheyAreDecoded(t *testing.T) {
	n := startNode(t)
	q := kmsg.NewPtrWriteTxnMarkersRequest()
	q.Version = peerMarkers
	q.Markers = []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: make([]int32, 90_000)}}}}
	c := &rpc.PeerCall{Key: q.Key(), Version: q.Version, Body: q.AppendTo(nil)}
	n.peerMemory.Add(maxPeerMemory) // of others
	least, few := uint64(math.MaxUint64), uint64(len(c.Body))/2
	for deadline := time.Now().Add(5 * time.Second); least > few && time.Now().Before(deadline); { // others allocate too, at times
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := n.ServePeer(t.Context(), c); !errors.Is(err, rpc.ErrPeerRefused) || !strings.Contains(err.Error(), "at most") {
			t.Fatalf("a request without memory for it: %v", err)
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > few {
		t.Errorf("%d bytes were taken to refuse %d", least, len(c.Body))
	}
}
