package wire

import "rustmq.dev/rustmq/storage"

// Versions of Produce that are read and written here: record batches v2 came
// with v3, topic ids with v13.
const (
	MinProduce = 3
	MaxProduce = 13
)

// ProduceRequest is a parsed Produce request.
type ProduceRequest struct {
	Version         int16
	Transactional   bool // a transactional id was given
	TransactionalID []byte
	Acks            int16
	TimeoutMillis   int32
	Topics          []ProduceTopic
	Partitions      []ProducePartition // of all topics, in order
}

// ProduceTopic is a topic of a request: by id from v13 on, by name before.
type ProduceTopic struct {
	Name       []byte
	ID         storage.TopicID
	Partitions int // how many of the request's partitions are this topic's
}

// ProducePartition is what a request brings for one partition.
type ProducePartition struct {
	Index   int32
	Records []byte // nil when null
}

// Parse reads a body of version, replacing what the request held.
func (q *ProduceRequest) Parse(version int16, body []byte) error {
	r := reader{rest: body, flex: version >= 9}
	q.Version = version
	q.Topics, q.Partitions = q.Topics[:0], q.Partitions[:0]
	q.TransactionalID = r.nullableString()
	q.Transactional = q.TransactionalID != nil
	q.Acks = r.int16()
	q.TimeoutMillis = r.int32()
	for n := r.count(); n > 0 && r.name(); n-- {
		var t ProduceTopic
		if version <= 12 {
			t.Name = r.string()
		} else {
			t.ID = r.topicID()
		}
		for left := r.count(); left > 0 && r.name(); left-- {
			p := ProducePartition{Index: r.int32(), Records: r.nullableBytes()}
			r.tags()
			q.Partitions = append(q.Partitions, p)
			t.Partitions++
		}
		r.tags()
		q.Topics = append(q.Topics, t)
	}
	r.tags()
	return r.err()
}

// ProduceResult is the answer for one partition.
type ProduceResult struct {
	ErrorCode     int16
	BaseOffset    storage.Offset
	LogAppendTime int64 // milliseconds, -1 when the records keep their own time
	LogStart      storage.Offset
	Message       string        // of the error; empty is none
	Records       []RecordError // v8 and later
	Leader        *Leader       // v10 and later
}

// RecordError says which record of a batch was refused, and why (KIP-467).
type RecordError struct {
	Index   int32 // in the batch
	Message string
}

// AppendProduceResponse appends the body of the response to q; results are in
// the order of its partitions.
func AppendProduceResponse(b []byte, q *ProduceRequest, results []ProduceResult, throttleMillis int32, endpoints []Endpoint) []byte {
	flex := q.Version >= 9
	b = appendCount(b, flex, len(q.Topics))
	next := 0
	for i := range q.Topics {
		t := &q.Topics[i]
		if q.Version <= 12 {
			b = appendString(b, flex, t.Name)
		} else {
			b = append(b, t.ID[:]...)
		}
		b = appendCount(b, flex, t.Partitions)
		for range t.Partitions {
			b = appendProduceResult(b, q.Version, q.Partitions[next].Index, &results[next])
			next++
		}
		b = appendNoTags(b, flex)
	}
	b = appendInt32(b, throttleMillis)
	if q.Version >= 10 {
		return appendEndpoints(b, endpoints)
	}
	return appendNoTags(b, flex)
}

func appendProduceResult(b []byte, version int16, index int32, p *ProduceResult) []byte {
	flex := version >= 9
	b = appendInt32(b, index)
	b = appendInt16(b, p.ErrorCode)
	b = appendInt64(b, int64(p.BaseOffset))
	b = appendInt64(b, p.LogAppendTime)
	if version >= 5 {
		b = appendInt64(b, int64(p.LogStart))
	}
	if version >= 8 {
		b = appendCount(b, flex, len(p.Records))
		for _, e := range p.Records {
			b = appendInt32(b, e.Index)
			b = appendMessage(b, flex, e.Message)
			b = appendNoTags(b, flex)
		}
		b = appendMessage(b, flex, p.Message)
	}
	if version >= 10 && p.Leader != nil {
		return appendCurrentLeader(append(b, 1), 0, p.Leader)
	}
	return appendNoTags(b, flex)
}
