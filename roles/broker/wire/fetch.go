package wire

import (
	"net"

	"rustmq.dev/rustmq/storage"
)

// Versions of Fetch that are read and written here: v4 is the first whose
// readers know record batches v2; topic ids came with v13.
const (
	MinFetch = 4
	MaxFetch = 18
)

// FetchRequest is a parsed Fetch request.
type FetchRequest struct {
	Version       int16
	MaxWaitMillis int32
	MinBytes      int32
	MaxBytes      int32
	Isolation     int8  // as it was sent
	ReadCommitted bool  // what it says
	SessionID     int32 // 0 before v7
	SessionEpoch  int32 // -1 before v7
	Topics        []FetchTopic
	Partitions    []FetchPartition // of all topics, in order
	Forgotten     []FetchTopic
	ForgottenList []int32 // partition indexes of all forgotten topics, in order
	Rack          []byte
}

// FetchTopic is a topic of a request: by id from v13 on, by name before.
type FetchTopic struct {
	Name       []byte
	ID         storage.TopicID
	Partitions int // how many of the request's partitions are this topic's
}

// FetchPartition is what a request wants of one partition.
type FetchPartition struct {
	Index              int32
	CurrentLeaderEpoch storage.Epoch // NoEpoch: not checked
	Offset             storage.Offset
	LastFetchedEpoch   storage.Epoch // NoEpoch: not checked
	MaxBytes           int32
}

// Parse reads a body of version, replacing what the request held.
func (q *FetchRequest) Parse(version int16, body []byte) error {
	r := reader{rest: body, flex: version >= 12}
	*q = FetchRequest{
		Version: version, SessionEpoch: -1,
		Topics: q.Topics[:0], Partitions: q.Partitions[:0],
		Forgotten: q.Forgotten[:0], ForgottenList: q.ForgottenList[:0],
	}
	if version <= 14 {
		r.int32() // replica id: brokers of rustmq do not fetch from each other
	}
	q.MaxWaitMillis = r.int32()
	q.MinBytes = r.int32()
	q.MaxBytes = r.int32()
	q.Isolation = r.int8()
	q.ReadCommitted = q.Isolation == 1
	if version >= 7 {
		q.SessionID = r.int32()
		q.SessionEpoch = r.int32()
	}
	for n := r.count(); n > 0 && r.name(); n-- {
		t := r.fetchTopic(version)
		for left := r.count(); left > 0 && r.name(); left-- {
			q.Partitions = append(q.Partitions, r.fetchPartition(version))
			t.Partitions++
		}
		r.tags()
		q.Topics = append(q.Topics, t)
	}
	if version >= 7 {
		for n := r.count(); n > 0 && r.name(); n-- {
			t := r.fetchTopic(version)
			for left := r.count(); left > 0 && r.name(); left-- {
				q.ForgottenList = append(q.ForgottenList, r.int32())
				t.Partitions++
			}
			r.tags()
			q.Forgotten = append(q.Forgotten, t)
		}
	}
	if version >= 11 {
		q.Rack = r.string()
	}
	r.tags()
	return r.err()
}

// Release lets go of what the request names, and of the body that names share. Small
// arrays stay for the next request.
func (q *FetchRequest) Release() {
	q.Topics, q.Partitions = emptied(q.Topics), emptied(q.Partitions)
	q.Forgotten, q.ForgottenList = emptied(q.Forgotten), emptied(q.ForgottenList)
	q.Rack = nil
}

// keptNames is the largest array of a request that is used again.
const keptNames = 16

func emptied[T any](s []T) []T {
	if cap(s) > keptNames {
		return nil
	}
	clear(s)
	return s[:0]
}

func (r *reader) fetchTopic(version int16) (t FetchTopic) {
	if version <= 12 {
		t.Name = r.string()
	} else {
		t.ID = r.topicID()
	}
	return t
}

func (r *reader) fetchPartition(version int16) FetchPartition {
	p := FetchPartition{CurrentLeaderEpoch: storage.NoEpoch, LastFetchedEpoch: storage.NoEpoch}
	p.Index = r.int32()
	if version >= 9 {
		p.CurrentLeaderEpoch = storage.Epoch(r.int32())
	}
	p.Offset = storage.Offset(r.int64())
	if version >= 12 {
		p.LastFetchedEpoch = storage.Epoch(r.int32())
	}
	if version >= 5 {
		r.int64() // log start of a follower
	}
	p.MaxBytes = r.int32()
	r.tags()
	return p
}

// FetchResult is the answer for one partition; Batches are its records.
type FetchResult struct {
	Index         int32
	ErrorCode     int16
	HighWatermark storage.Offset
	LastStable    storage.Offset
	LogStart      storage.Offset
	// Aborted are the transactions whose records a reader of what is committed has
	// to leave out; nil: it did not ask for that.
	Aborted   []AbortedTransaction
	Batches   [][]byte
	Bytes     int       // the sum of their lengths
	Preferred int32     // broker to read from instead, -1: this one; v11 and later (KIP-392)
	Leader    *Leader   // v12 and later
	Diverging *EpochEnd // v12 and later (KIP-595)
}

// AbortedTransaction is a transaction that has records in a response, or before.
type AbortedTransaction struct {
	ProducerID int64
	First      storage.Offset
}

// EpochEnd is the end of the largest epoch that is not above the one asked for.
type EpochEnd struct {
	Epoch storage.Epoch
	End   storage.Offset
}

// FetchResponse writes the body of a response piece by piece: what surrounds
// the records goes into one buffer, the records stay where they are. Its order
// of calls: Begin, then Topic and its Partitions, in the numbers promised, then
// Finish. Reset makes it ready for another one.
type FetchResponse struct {
	version int16
	flex    bool
	head    []byte // everything but the records
	cuts    []cut  // where records go in between
	bufs    net.Buffers
	bytes   int // of records
}

// cut says that batches go behind head[:at].
type cut struct {
	at      int
	batches [][]byte
}

// Bytes returns how many bytes of records the response holds so far.
func (w *FetchResponse) Bytes() int { return w.bytes }

// Begin starts a response that will hold so many topics.
func (w *FetchResponse) Begin(version int16, throttleMillis int32, errorCode int16, sessionID int32, topics int) {
	w.version, w.flex = version, version >= 12
	w.head = appendInt32(w.head[:0], throttleMillis)
	if version >= 7 {
		w.head = appendInt16(w.head, errorCode)
		w.head = appendInt32(w.head, sessionID)
	}
	w.head = appendCount(w.head, w.flex, topics)
}

// Topic starts a topic that will hold so many partitions. The first one follows
// Begin; EndTopic ends each.
func (w *FetchResponse) Topic(name string, id storage.TopicID, partitions int) {
	if w.version <= 12 {
		w.head = appendString(w.head, w.flex, name)
	} else {
		w.head = append(w.head, id[:]...)
	}
	w.head = appendCount(w.head, w.flex, partitions)
}

// EndTopic ends the topic that Topic began.
func (w *FetchResponse) EndTopic() { w.head = appendNoTags(w.head, w.flex) }

// Partition adds a partition to the topic. The batches must stay as they are
// until the response is written.
func (w *FetchResponse) Partition(p *FetchResult) {
	b := appendInt32(w.head, p.Index)
	b = appendInt16(b, p.ErrorCode)
	b = appendInt64(b, int64(p.HighWatermark))
	b = appendInt64(b, int64(p.LastStable))
	if w.version >= 5 {
		b = appendInt64(b, int64(p.LogStart))
	}
	b = w.appendAborted(b, p.Aborted)
	if w.version >= 11 {
		b = appendInt32(b, p.Preferred)
	}
	if w.flex {
		b = appendUvarint(b, uint32(p.Bytes)+1)
	} else {
		b = appendInt32(b, int32(p.Bytes))
	}
	if p.Bytes > 0 {
		w.cuts = append(w.cuts, cut{len(b), p.Batches})
		w.bytes += p.Bytes
	}
	if !w.flex {
		w.head = b
		return
	}
	tags := byte(0)
	if p.Diverging != nil {
		tags++
	}
	if p.Leader != nil {
		tags++
	}
	b = append(b, tags)
	if p.Diverging != nil {
		b = append(b, 0, 4+8+1)
		b = appendInt32(b, int32(p.Diverging.Epoch))
		b = appendInt64(b, int64(p.Diverging.End))
		b = append(b, 0)
	}
	if p.Leader != nil {
		b = appendCurrentLeader(b, 1, p.Leader)
	}
	w.head = b
}

func (w *FetchResponse) appendAborted(b []byte, aborted []AbortedTransaction) []byte {
	if aborted == nil {
		if w.flex {
			return append(b, 0)
		}
		return appendInt32(b, -1)
	}
	b = appendCount(b, w.flex, len(aborted))
	for i := range aborted {
		b = appendInt64(b, aborted[i].ProducerID)
		b = appendInt64(b, int64(aborted[i].First))
		b = appendNoTags(b, w.flex)
	}
	return b
}

// Finish ends the response and returns it as buffers, to be written in order.
// They alias the FetchResponse and the batches.
func (w *FetchResponse) Finish(endpoints []Endpoint) net.Buffers {
	if w.version >= 16 {
		w.head = appendEndpoints(w.head, endpoints)
	} else {
		w.head = appendNoTags(w.head, w.flex)
	}
	w.bufs = w.bufs[:0]
	from := 0
	for _, c := range w.cuts {
		w.bufs = append(w.bufs, w.head[from:c.at:c.at])
		w.bufs = append(w.bufs, c.batches...)
		from = c.at
	}
	w.bufs = append(w.bufs, w.head[from:])
	return w.bufs
}

// Size returns how many bytes Finish returned.
func (w *FetchResponse) Size() int { return len(w.head) + w.bytes }

// Reset forgets the response, so that it keeps no batch alive.
func (w *FetchResponse) Reset() {
	clear(w.cuts)
	clear(w.bufs[:cap(w.bufs)])
	w.head, w.cuts, w.bufs, w.bytes = w.head[:0], w.cuts[:0], w.bufs[:0], 0
}
