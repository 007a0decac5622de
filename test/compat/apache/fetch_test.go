//go:build suites

package apache

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchFrom is a request without a session for partition 0 of a topic.
func fetchFrom(r *run, topic string, offset int64) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes, q.SessionEpoch = 100, 1, 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.LogStartOffset, p.PartitionMaxBytes = offset, -1, -1, -1, 1<<20
	q.Topics = []kmsg.FetchRequestTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return q
}

// fetching reads without and with sessions, inside and outside of the log.
func fetching(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 2)
	for range 4 {
		r.silent(produceTo(r, topic, batch(5)))
	}
	fetch := func(label string, offset int64, change ...func(*kmsg.FetchRequest)) *kmsg.FetchResponse {
		q := fetchFrom(r, topic, offset)
		for _, c := range change {
			c(q)
		}
		return r.ask(label, q).(*kmsg.FetchResponse)
	}
	part := func(q *kmsg.FetchRequest) *kmsg.FetchRequestTopicPartition { return &q.Topics[0].Partitions[0] }
	fetch("from 0", 0)
	fetch("from inside a batch", 7)
	fetch("from the end", 20)
	fetch("beyond the end", 21)
	fetch("far beyond", 1<<40)
	fetch("before the start", -1)
	fetch("few bytes", 0, func(q *kmsg.FetchRequest) { part(q).PartitionMaxBytes = 10 })
	fetch("two batches", 0, func(q *kmsg.FetchRequest) { part(q).PartitionMaxBytes = int32(2 * len(batch(5))) })
	fetch("a batch and a half", 0, func(q *kmsg.FetchRequest) { part(q).PartitionMaxBytes = int32(3 * len(batch(5)) / 2) })
	fetch("few bytes in all", 0, func(q *kmsg.FetchRequest) { q.MaxBytes = 10 })
	fetch("no bytes in all", 0, func(q *kmsg.FetchRequest) { q.MaxBytes = 0 })
	fetch("no bytes", 0, func(q *kmsg.FetchRequest) { part(q).PartitionMaxBytes = 0 })
	fetch("committed", 0, func(q *kmsg.FetchRequest) { q.IsolationLevel = 1 })
	fetch("of no isolation", 0, func(q *kmsg.FetchRequest) { q.IsolationLevel = 7 })
	fetch("more than there", 0, func(q *kmsg.FetchRequest) { q.MinBytes = 1 << 19 })
	fetch("of this epoch", 0, func(q *kmsg.FetchRequest) { part(q).CurrentLeaderEpoch = 0 })
	fetch("of a later epoch", 0, func(q *kmsg.FetchRequest) { part(q).CurrentLeaderEpoch = 5 })
	fetch("last of this epoch", 5, func(q *kmsg.FetchRequest) { part(q).LastFetchedEpoch = 0 })
	fetch("last of a later epoch", 5, func(q *kmsg.FetchRequest) { part(q).LastFetchedEpoch = 5 })
	fetch("unknown topic", 0, func(q *kmsg.FetchRequest) {
		q.Topics[0].Topic, q.Topics[0].TopicID = r.tag+"-none", [16]byte{9}
	})
	fetch("no id", 0, func(q *kmsg.FetchRequest) { q.Topics[0].TopicID = [16]byte{} })
	fetch("unknown partition", 0, func(q *kmsg.FetchRequest) { part(q).Partition = 9 })
	fetch("no topics", 0, func(q *kmsg.FetchRequest) { q.Topics = nil })
	fetch("two partitions", 0, func(q *kmsg.FetchRequest) {
		second := *part(q)
		second.Partition = 1
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, second)
	})
	fetch("a partition twice", 0, func(q *kmsg.FetchRequest) {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, *part(q))
	})
	if r.version(int16(kmsg.Fetch)) < 7 {
		return
	}
	in := func(id, epoch int32) func(*kmsg.FetchRequest) {
		return func(q *kmsg.FetchRequest) { q.SessionID, q.SessionEpoch = id, epoch }
	}
	none := func(q *kmsg.FetchRequest) { q.Topics = nil }
	session := fetch("session", 0, in(0, 0)).SessionID
	fetch("session, changed", 20, in(session, 1))
	fetch("session, nothing new", 20, in(session, 2), none)
	r.silent(produceTo(r, topic, batch(1)))
	fetch("session, something new", 20, in(session, 3), none)
	fetch("session, a wrong epoch", 20, in(session, 9), none)
	fetch("session, another partition", 0, in(session, 4), func(q *kmsg.FetchRequest) { part(q).Partition = 1 })
	fetch("session, forgotten", 0, in(session, 5), none, func(q *kmsg.FetchRequest) {
		q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []int32{0}}}
	})
	fetch("session, unknown topic", 0, in(session, 6), func(q *kmsg.FetchRequest) {
		q.Topics[0].Topic, q.Topics[0].TopicID = r.tag+"-none", [16]byte{9}
	})
	fetch("session, closed", 0, in(session, -1))
	fetch("session, after its end", 0, in(session, 7), none)
	fetch("session nobody opened", 0, in(12345, 1), none)
	fetch("no session, but an epoch", 0, in(0, 5))
}

// listing asks for offsets by time and by epoch, and deletes records.
func listing(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 2)
	for range 3 {
		r.silent(produceTo(r, topic, batch(5)))
	}
	list := func(label string, at int64, change ...func(*kmsg.ListOffsetsRequest)) {
		q := kmsg.NewPtrListOffsetsRequest()
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp, p.CurrentLeaderEpoch = at, -1
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		q.TimeoutMillis = 5000
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	part := func(q *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsRequestTopicPartition {
		return &q.Topics[0].Partitions[0]
	}
	all := func(when string) {
		list("latest, "+when, -1)
		list("earliest, "+when, -2)
		list("max timestamp, "+when, -3)
		list("earliest local, "+when, -4)
		list("latest tiered, "+when, -5)
		list("earliest pending, "+when, -6)
		list("at 0, "+when, 0)
		list("at the first, "+when, sentAt)
		list("at the third, "+when, sentAt+2)
		list("after all, "+when, sentAt+100_000)
		list("committed, "+when, -1, func(q *kmsg.ListOffsetsRequest) { q.IsolationLevel = 1 })
	}
	all("of fifteen")
	list("of no isolation", -1, func(q *kmsg.ListOffsetsRequest) { q.IsolationLevel = 7 })
	list("of no such time", -7)
	list("of no such time either", -100)
	list("of an empty one", -1, func(q *kmsg.ListOffsetsRequest) { part(q).Partition = 1 })
	list("max timestamp of an empty one", -3, func(q *kmsg.ListOffsetsRequest) { part(q).Partition = 1 })
	list("by time in an empty one", 5, func(q *kmsg.ListOffsetsRequest) { part(q).Partition = 1 })
	list("unknown topic", -1, func(q *kmsg.ListOffsetsRequest) { q.Topics[0].Topic = r.tag + "-none" })
	list("unknown partition", -1, func(q *kmsg.ListOffsetsRequest) { part(q).Partition = 9 })
	list("a partition twice", -1, func(q *kmsg.ListOffsetsRequest) { q.Topics[0].Partitions = append(q.Topics[0].Partitions, *part(q)) })
	list("of this epoch", -1, func(q *kmsg.ListOffsetsRequest) { part(q).CurrentLeaderEpoch = 0 })
	list("of a later epoch", -1, func(q *kmsg.ListOffsetsRequest) { part(q).CurrentLeaderEpoch = 3 })
	list("as a follower", -1, func(q *kmsg.ListOffsetsRequest) { q.ReplicaID = 1 })
	list("as a debugger", -1, func(q *kmsg.ListOffsetsRequest) { q.ReplicaID = -2 })
	list("none", -1, func(q *kmsg.ListOffsetsRequest) { q.Topics = nil })

	epoch := func(label string, current, of int32, change ...func(*kmsg.OffsetForLeaderEpochRequest)) {
		q := kmsg.NewPtrOffsetForLeaderEpochRequest()
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = current, of
		q.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	epoch("end of epoch 0", -1, 0)
	epoch("end of epoch 0, of this epoch", 0, 0)
	epoch("end of a later epoch", -1, 5)
	epoch("end of no epoch", -1, -1)
	epoch("end, of a later current epoch", 5, 0)
	epoch("end of an unknown topic", -1, 0, func(q *kmsg.OffsetForLeaderEpochRequest) { q.Topics[0].Topic = r.tag + "-none" })
	epoch("end of an unknown partition", -1, 0, func(q *kmsg.OffsetForLeaderEpochRequest) { q.Topics[0].Partitions[0].Partition = 9 })
	epoch("end of an empty one", -1, 0, func(q *kmsg.OffsetForLeaderEpochRequest) { q.Topics[0].Partitions[0].Partition = 1 })

	cut := func(label string, topic string, partition int32, to int64) {
		q := kmsg.NewPtrDeleteRecordsRequest()
		q.TimeoutMillis = 5000
		q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: to}}}}
		r.ask(label, q)
	}
	cut("cut to 7", topic, 0, 7)
	cut("cut to 3", topic, 0, 3)
	cut("cut to -5", topic, 0, -5)
	cut("cut beyond the end", topic, 0, 100)
	cut("cut an unknown topic", r.tag+"-none", 0, 1)
	cut("cut an unknown partition", topic, 9, 1)
	all("from 7")
	r.ask("fetch what was cut", fetchFrom(r, topic, 3))
	r.ask("fetch what is left", fetchFrom(r, topic, 7))
	cut("cut all", topic, 0, -1)
	all("of none")
	epoch("end of epoch 0, cut", -1, 0)
	compact := r.tag + "-compact"
	r.topic(compact, 1, "cleanup.policy", "compact")
	r.silent(produceTo(r, compact, batch(3)))
	cut("cut a compacted one", compact, 0, 1)
}

// readAll reads partition 0 of a topic to its end, fetch after fetch: how much one
// brings is up to the server. The answers are recorded as one.
func (r *run) readAll(label, topic string, isolation int8) {
	var all *kmsg.FetchResponse
	for offset, end := int64(0), int64(1); offset < end; {
		q := fetchFrom(r, topic, offset)
		q.IsolationLevel = isolation
		p := r.silent(q).(*kmsg.FetchResponse)
		if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 1 || len(p.Topics[0].Partitions[0].RecordBatches) == 0 {
			if all == nil {
				all = p
			}
			break
		}
		part := &p.Topics[0].Partitions[0]
		next := offset
		for raw := part.RecordBatches; len(raw) > 0; {
			var b kmsg.RecordBatch
			if err := b.ReadFrom(raw); err != nil {
				panic(err)
			}
			next, raw = b.FirstOffset+int64(b.LastOffsetDelta)+1, raw[12+b.Length:]
		}
		if end = part.HighWatermark; isolation == 1 {
			end = part.LastStableOffset
		}
		offset = next
		if all == nil {
			all = p
			continue
		}
		first := &all.Topics[0].Partitions[0]
		first.RecordBatches = append(first.RecordBatches, part.RecordBatches...)
		for _, a := range part.AbortedTransactions {
			if !slices.ContainsFunc(first.AbortedTransactions, func(b kmsg.FetchResponseTopicPartitionAbortedTransaction) bool {
				return a.ProducerID == b.ProducerID && a.FirstOffset == b.FirstOffset
			}) {
				first.AbortedTransactions = append(first.AbortedTransactions, a)
			}
		}
	}
	r.note(label, all)
}
