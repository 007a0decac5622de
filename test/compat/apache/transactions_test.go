//go:build suites

package apache

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transacting is the life of transactions, and who is refused in them.
func transacting(r *run) {
	topic, group := r.tag+"-a", r.tag+"-g"
	r.topic(topic, 2)
	text := kmsg.StringPtr
	tx := r.tag + "-t"
	init := func(label, tx string, id int64, epoch int16, timeout int32) *kmsg.InitProducerIDResponse {
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionalID, q.TransactionTimeoutMillis, q.ProducerID, q.ProducerEpoch = &tx, timeout, id, epoch
		return r.ask(label, q).(*kmsg.InitProducerIDResponse)
	}
	add := func(label, tx string, id int64, epoch int16, topic string, partitions ...int32) {
		q := kmsg.NewPtrAddPartitionsToTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch = tx, id, epoch
		q.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
		// From version 4 on these are asked by brokers: clients stay at 3.
		version := min(3, r.version(q.Key()))
		r.askV(label, version, q)
	}
	end := func(label, tx string, id int64, epoch int16, commit bool) *kmsg.EndTxnResponse {
		q := kmsg.NewPtrEndTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = tx, id, epoch, commit
		return r.ask(label, q).(*kmsg.EndTxnResponse)
	}
	offsets := func(label, tx string, id int64, epoch int16, group string) {
		q := kmsg.NewPtrAddOffsetsToTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = tx, id, epoch, group
		r.ask(label, q)
	}
	commit := func(label, tx string, id int64, epoch int16, change ...func(*kmsg.TxnOffsetCommitRequest)) {
		q := kmsg.NewPtrTxnOffsetCommitRequest()
		q.TransactionalID, q.Group, q.ProducerID, q.ProducerEpoch, q.Generation = tx, group, id, epoch, -1
		q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 5, LeaderEpoch: -1}}}}
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	send := func(label, tx string, id int64, epoch int16, sequence int32) {
		q := produceTo(r, topic, batch(1, by(id, epoch, sequence), transactional))
		q.TransactionID = &tx
		r.ask(label, q)
	}
	describe := func(label string, names ...string) {
		q := kmsg.NewPtrDescribeTransactionsRequest()
		q.TransactionalIDs = names
		r.ask(label, q)
	}
	list := func(label string, states []string, change ...func(*kmsg.ListTransactionsRequest)) {
		q := kmsg.NewPtrListTransactionsRequest()
		q.StateFilters, q.DurationFilterMillis = states, -1
		for _, c := range change {
			c(q)
		}
		p := r.silent(q).(*kmsg.ListTransactionsResponse)
		var mine []kmsg.ListTransactionsResponseTransactionState
		for _, s := range p.TransactionStates { // other laps' are there too
			if s.TransactionalID == tx {
				mine = append(mine, s)
			}
		}
		p.TransactionStates = mine
		r.note(label, p)
	}
	producers := func(label string) {
		q := kmsg.NewPtrDescribeProducersRequest()
		q.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		r.ask(label, q)
	}
	settled := func() {
		r.until("end of the transaction", func() bool {
			q := kmsg.NewPtrDescribeTransactionsRequest()
			q.TransactionalIDs = []string{tx}
			s := r.silent(q).(*kmsg.DescribeTransactionsResponse).TransactionStates[0].State
			return s == "CompleteCommit" || s == "CompleteAbort" || s == "Empty"
		})
	}
	read := func(label string, isolation int8) {
		r.readAll(label, topic, isolation)
	}
	describe("describe, unknown", tx)
	describe("describe, no name", "")
	add("add, unknown", tx, 5, 0, topic, 0)
	end("end, unknown", tx, 5, 0, true)
	offsets("offsets, unknown", tx, 5, 0, group)
	init("no name", "", -1, -1, 60_000)
	init("no time", tx, -1, -1, 0)
	init("negative time", tx, -1, -1, -1)
	init("too much time", tx, -1, -1, 1<<30)
	init("unknown, with an id", tx, 5, 0, 60_000)
	p := init("init", tx, -1, -1, 60_000)
	id, epoch := p.ProducerID, p.ProducerEpoch
	describe("describe, empty", tx)
	list("list, empty", nil)
	end("commit nothing", tx, id, epoch, true)
	if r.version(int16(kmsg.EndTxn)) >= 5 {
		p = init("init once more", tx, -1, -1, 60_000)
		id, epoch = p.ProducerID, p.ProducerEpoch
	}
	end("abort of a stranger", tx, id+1000, epoch, false)
	end("abort of a later epoch", tx, id, epoch+1, false)
	add("add", tx, id, epoch, topic, 0)
	add("add again", tx, id, epoch, topic, 0)
	add("add a topic there is not", tx, id, epoch, r.tag+"-none", 0)
	add("add a partition there is not", tx, id, epoch, topic, 0, 9)
	add("add of a stranger", tx, id+1000, epoch, topic, 0)
	add("add of a later epoch", tx, id, epoch+1, topic, 0)
	describe("describe, ongoing", tx)
	list("list, ongoing", []string{"Ongoing"})
	list("list, of no such state", []string{"Burning"})
	list("list, of a producer", nil, func(q *kmsg.ListTransactionsRequest) { q.ProducerIDFilters = []int64{id} })
	list("list, of another producer", nil, func(q *kmsg.ListTransactionsRequest) { q.ProducerIDFilters = []int64{id + 1000} })
	list("list, that last long", nil, func(q *kmsg.ListTransactionsRequest) { q.DurationFilterMillis = 1_000_000 })
	list("list, by a pattern", nil, func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = text(".*-t") })
	list("list, by a bad pattern", nil, func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = text("(") })
	send("produce", tx, id, epoch, 0)
	send("produce again", tx, id, epoch, 0)
	send("produce of a later epoch, not from 0", tx, id, epoch+5, 5)
	producers("producers, ongoing")
	read("read, uncommitted", 0)
	read("read, committed", 1)
	offsets("offsets", tx, id, epoch, group)
	offsets("offsets of a stranger", tx, id+1000, epoch, group)
	offsets("offsets of no group", tx, id, epoch, "")
	commit("commit an offset", tx, id, epoch)
	commit("commit an offset of a later epoch", tx, id, epoch+1)
	commit("commit an offset of a member, no such", tx, id, epoch, func(q *kmsg.TxnOffsetCommitRequest) { q.MemberID, q.Generation = "nobody", 3 })
	commit("commit an offset of no group", tx, id, epoch, func(q *kmsg.TxnOffsetCommitRequest) { q.Group = "" })
	commit("commit an offset of a topic there is not", tx, id, epoch, func(q *kmsg.TxnOffsetCommitRequest) { q.Topics[0].Topic = r.tag + "-none" })
	fetched := func(label string, stable bool) {
		q := kmsg.NewPtrOffsetFetchRequest()
		q.Group, q.RequireStable = group, stable
		q.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		q.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []int32{0}}}}}
		r.ask(label, q)
	}
	fetched("offset, pending", false)
	fetched("offset, pending and stable", true)
	done := end("commit", tx, id, epoch, true)
	if r.version(int16(kmsg.EndTxn)) >= 5 {
		id, epoch = done.ProducerID, done.ProducerEpoch
	}
	settled()
	r.until("the offset", func() bool {
		q := kmsg.NewPtrOffsetFetchRequest()
		q.Version, q.Group = 7, group
		q.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		p, err := r.conn(0).exchange(q)
		return err == nil && p.(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0].Offset == 5
	})
	fetched("offset, committed", true)
	describe("describe, committed", tx)
	producers("producers, committed")
	read("read after commit", 1)
	if r.version(int16(kmsg.EndTxn)) < 5 {
		end("commit again", tx, id, epoch, true)
		end("abort after commit", tx, id, epoch, false)
	}
	send("produce outside of a transaction", tx, id, epoch, 1)
	if r.version(int16(kmsg.EndTxn)) >= 5 { // a producer of KIP-890 has begun one so
		send("produce in the next", tx, id, epoch, 0)
	} else {
		add("add in the next", tx, id, epoch, topic, 0)
		send("produce in the next", tx, id, epoch, 1)
	}
	done = end("abort", tx, id, epoch, false)
	if r.version(int16(kmsg.EndTxn)) >= 5 {
		id, epoch = done.ProducerID, done.ProducerEpoch
	}
	settled()
	describe("describe, aborted", tx)
	read("read after abort", 1)
	newer := init("a newer instance", tx, -1, -1, 60_000)
	add("add, fenced", tx, id, epoch, topic, 0)
	end("end, fenced", tx, id, epoch, true)
	offsets("offsets, fenced", tx, id, epoch, group)
	init("init, fenced", tx, id, epoch, 60_000)
	bumped := init("init, bumped", tx, newer.ProducerID, newer.ProducerEpoch, 60_000)
	init("init, bumped again", tx, newer.ProducerID, newer.ProducerEpoch, 60_000)
	init("init, of another id", tx, newer.ProducerID+1000, newer.ProducerEpoch, 60_000)
	add("add for a newer one", tx, bumped.ProducerID, bumped.ProducerEpoch, topic, 1)
	r.until("abort by init", func() bool { // Kafka has the producer ask again until the abort is done
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionalID, q.TransactionTimeoutMillis = &tx, 60_000
		p = r.silent(q).(*kmsg.InitProducerIDResponse)
		return p.ErrorCode != kerr.ConcurrentTransactions.Code
	})
	r.note("init in a transaction", p)
	settled()
	describe("describe, aborted by init", tx)

	// What brokers ask each other for a batch of partitions.
	if v := r.version(int16(kmsg.AddPartitionsToTxn)); v >= 4 {
		q := kmsg.NewPtrAddPartitionsToTxnRequest()
		q.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: tx, ProducerID: id, VerifyOnly: true, Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: []int32{0}}}}}
		r.askV("verify", v, q)
	}
	marker := kmsg.NewPtrWriteTxnMarkersRequest()
	marker.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 1 << 40, Committed: true, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: []int32{0}}, {Topic: r.tag + "-none", Partitions: []int32{0}}}}}
	r.ask("markers", marker)
}
