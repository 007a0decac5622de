package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

func TestProduceRequestReadsAsKmsgDoes(t *testing.T) {
	for version := int16(MinProduce); version <= MaxProduce; version++ {
		rng := rand.New(rand.NewPCG(1, uint64(version)))
		for range 200 {
			requireProduceEqual(t, version, randomProduce(rng, version).AppendTo(nil))
		}
	}
}

func TestFetchRequestReadsAsKmsgDoes(t *testing.T) {
	for version := int16(MinFetch); version <= MaxFetch; version++ {
		rng := rand.New(rand.NewPCG(1, uint64(version)))
		for range 200 {
			requireFetchEqual(t, version, randomFetch(rng, version).AppendTo(nil))
		}
	}
}

// A count that the body cannot hold costs neither memory nor time.
func TestCountsAreBoundedByTheBody(t *testing.T) {
	bodies := map[string][]byte{
		"tags":   append(bytes.Repeat([]byte{0}, 16), 0xff, 0xff, 0xff, 0xff, 0x0f),
		"topics": {0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
		"empty":  {},
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			for version := int16(MinFetch); version <= MaxFetch; version++ {
				var fetch FetchRequest
				var produce ProduceRequest
				allocs := testing.AllocsPerRun(1, func() {
					_ = fetch.Parse(version, body)
					_ = produce.Parse(min(version, MaxProduce), body)
				})
				if allocs > 2 {
					t.Errorf("version %d: %v allocations for a body of %d bytes", version, allocs, len(body))
				}
			}
		})
	}
}

func FuzzProduceRequest(f *testing.F) {
	for version := int16(MinProduce); version <= MaxProduce; version++ {
		rng := rand.New(rand.NewPCG(2, uint64(version)))
		f.Add(uint8(version), randomProduce(rng, version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version uint8, body []byte) {
		if int16(version) < MinProduce || version > MaxProduce || longTags(body) {
			return
		}
		requireProduceEqual(t, int16(version), body)
	})
}

func FuzzFetchRequest(f *testing.F) {
	for version := int16(MinFetch); version <= MaxFetch; version++ {
		rng := rand.New(rand.NewPCG(2, uint64(version)))
		f.Add(uint8(version), randomFetch(rng, version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version uint8, body []byte) {
		if int16(version) < MinFetch || version > MaxFetch || longTags(body) {
			return
		}
		requireFetchEqual(t, int16(version), body)
	})
}

// longTags reports whether kmsg could read a count of tags in body that keeps
// it busy for seconds: it does not stop at the end of the body.
func longTags(body []byte) bool {
	run := 0
	for _, b := range body {
		if b < 0x80 {
			run = 0
		} else if run++; run >= 3 {
			return true
		}
	}
	return false
}

func requireProduceEqual(t *testing.T, version int16, body []byte) {
	t.Helper()
	want := kmsg.NewPtrProduceRequest()
	want.Version = version
	wantErr := want.ReadFrom(body)
	var got ProduceRequest
	err := got.Parse(version, body)
	if wantErr != nil {
		return // tags that kmsg knows and refuses are stepped over here
	}
	if err != nil {
		t.Fatalf("version %d: kmsg reads %x, we say %v", version, body, err)
	}
	txn := ""
	if want.TransactionID != nil {
		txn = *want.TransactionID
	}
	if got.Transactional != (want.TransactionID != nil) || string(got.TransactionalID) != txn ||
		got.Acks != want.Acks || got.TimeoutMillis != want.TimeoutMillis || len(got.Topics) != len(want.Topics) {
		t.Fatalf("version %d, %x:\n got %+v\nwant %+v", version, body, got, want)
	}
	next := 0
	for i, wt := range want.Topics {
		gt := got.Topics[i]
		if string(gt.Name) != wt.Topic || gt.ID != storage.TopicID(wt.TopicID) || gt.Partitions != len(wt.Partitions) {
			t.Fatalf("version %d, topic %d:\n got %+v\nwant %+v", version, i, gt, wt)
		}
		for _, wp := range wt.Partitions {
			gp := got.Partitions[next]
			next++
			if gp.Index != wp.Partition || !bytes.Equal(gp.Records, wp.Records) || (gp.Records == nil) != (wp.Records == nil) {
				t.Fatalf("version %d, topic %d:\n got %+v\nwant %+v", version, i, gp, wp)
			}
		}
	}
}

func requireFetchEqual(t *testing.T, version int16, body []byte) {
	t.Helper()
	want := kmsg.NewPtrFetchRequest()
	want.Version = version
	wantErr := want.ReadFrom(body)
	var got FetchRequest
	err := got.Parse(version, body)
	if wantErr != nil {
		return
	}
	if err != nil {
		t.Fatalf("version %d: kmsg reads %x, we say %v", version, body, err)
	}
	if got.MaxWaitMillis != want.MaxWaitMillis || got.MinBytes != want.MinBytes || got.MaxBytes != want.MaxBytes ||
		got.ReadCommitted != (want.IsolationLevel == 1) || got.SessionID != want.SessionID || got.SessionEpoch != want.SessionEpoch ||
		string(got.Rack) != want.Rack || len(got.Topics) != len(want.Topics) || len(got.Forgotten) != len(want.ForgottenTopics) {
		t.Fatalf("version %d, %x:\n got %+v\nwant %+v", version, body, got, want)
	}
	next := 0
	for i, wt := range want.Topics {
		gt := got.Topics[i]
		if string(gt.Name) != wt.Topic || gt.ID != storage.TopicID(wt.TopicID) || gt.Partitions != len(wt.Partitions) {
			t.Fatalf("version %d, topic %d:\n got %+v\nwant %+v", version, i, gt, wt)
		}
		for _, wp := range wt.Partitions {
			gp := got.Partitions[next]
			next++
			if gp.Index != wp.Partition || int32(gp.CurrentLeaderEpoch) != wp.CurrentLeaderEpoch || int64(gp.Offset) != wp.FetchOffset ||
				int32(gp.LastFetchedEpoch) != wp.LastFetchedEpoch || gp.MaxBytes != wp.PartitionMaxBytes {
				t.Fatalf("version %d, topic %d:\n got %+v\nwant %+v", version, i, gp, wp)
			}
		}
	}
	next = 0
	for i, wt := range want.ForgottenTopics {
		gt := got.Forgotten[i]
		if string(gt.Name) != wt.Topic || gt.ID != storage.TopicID(wt.TopicID) || gt.Partitions != len(wt.Partitions) {
			t.Fatalf("version %d, forgotten topic %d:\n got %+v\nwant %+v", version, i, gt, wt)
		}
		for _, wp := range wt.Partitions {
			if got.ForgottenList[next] != wp {
				t.Fatalf("version %d, forgotten topic %d: got %d, want %d", version, i, got.ForgottenList[next], wp)
			}
			next++
		}
	}
}

func randomProduce(rng *rand.Rand, version int16) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Version = version
	if rng.IntN(3) == 0 {
		q.TransactionID = kmsg.StringPtr(fmt.Sprint("txn", rng.IntN(3)))
	}
	q.Acks = int16(rng.IntN(3) - 1)
	q.TimeoutMillis = rng.Int32()
	for range rng.IntN(4) {
		topic := kmsg.NewProduceRequestTopic()
		if version <= 12 {
			topic.Topic = fmt.Sprint("topic-", rng.IntN(100))
		} else {
			topic.TopicID = randomID(rng)
		}
		for range rng.IntN(4) {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition = rng.Int32()
			if rng.IntN(4) != 0 {
				p.Records = bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(300))
			}
			if version >= 9 && rng.IntN(4) == 0 {
				p.UnknownTags.Set(uint32(rng.IntN(50)), []byte("unknown"))
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		q.Topics = append(q.Topics, topic)
	}
	return q
}

func randomFetch(rng *rand.Rand, version int16) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.Version = version
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes = rng.Int32(), rng.Int32(), rng.Int32()
	q.IsolationLevel = int8(rng.IntN(2))
	if version >= 7 {
		q.SessionID, q.SessionEpoch = rng.Int32(), rng.Int32()
	}
	for range rng.IntN(4) {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = randomName(rng, version)
		for range rng.IntN(4) {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.FetchOffset, p.PartitionMaxBytes = rng.Int32(), rng.Int64(), rng.Int32()
			p.LogStartOffset = rng.Int64()
			if version >= 9 {
				p.CurrentLeaderEpoch = rng.Int32()
			}
			if version >= 12 {
				p.LastFetchedEpoch = rng.Int32()
				p.ReplicaDirectoryID = randomID(rng)
				p.HighWatermark = rng.Int64()
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		q.Topics = append(q.Topics, topic)
	}
	if version >= 7 {
		for range rng.IntN(3) {
			topic := kmsg.NewFetchRequestForgottenTopic()
			topic.Topic, topic.TopicID = randomName(rng, version)
			topic.Partitions = []int32{rng.Int32(), rng.Int32()}
			q.ForgottenTopics = append(q.ForgottenTopics, topic)
		}
	}
	if version >= 11 {
		q.Rack = fmt.Sprint("rack-", rng.IntN(9))
	}
	if version >= 12 {
		q.ClusterID = kmsg.StringPtr("cluster")
	}
	return q
}

func randomName(rng *rand.Rand, version int16) (string, [16]byte) {
	if version <= 12 {
		return fmt.Sprint("topic-", rng.IntN(100)), [16]byte{}
	}
	return "", randomID(rng)
}

func randomID(rng *rand.Rand) (id [16]byte) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	return id
}

func TestProduceResponseIsWhatKmsgReads(t *testing.T) {
	endpoints := []Endpoint{{ID: 7, Host: "seven.example", Port: 9092, Rack: "r"}, {ID: 8, Host: "eight", Port: 1}}
	for version := int16(MinProduce); version <= MaxProduce; version++ {
		rng := rand.New(rand.NewPCG(3, uint64(version)))
		for range 100 {
			request := randomProduce(rng, version)
			var q ProduceRequest
			if err := q.Parse(version, request.AppendTo(nil)); err != nil {
				t.Fatal(err)
			}
			want := kmsg.NewPtrProduceResponse()
			want.Version = version
			want.ThrottleMillis = rng.Int32()
			var results []ProduceResult
			for _, topic := range request.Topics {
				wt := kmsg.NewProduceResponseTopic()
				wt.Topic, wt.TopicID = topic.Topic, topic.TopicID
				for _, p := range topic.Partitions {
					result := ProduceResult{
						ErrorCode: int16(rng.IntN(100)), BaseOffset: storage.Offset(rng.Int64()), LogAppendTime: rng.Int64(),
						LogStart: storage.Offset(rng.Int64()), Message: []string{"", "it says why"}[rng.IntN(2)],
					}
					wp := kmsg.NewProduceResponseTopicPartition()
					wp.Partition, wp.ErrorCode, wp.BaseOffset, wp.LogAppendTime = p.Partition, result.ErrorCode, int64(result.BaseOffset), result.LogAppendTime
					if version >= 5 {
						wp.LogStartOffset = int64(result.LogStart)
					}
					if version >= 8 {
						if result.Message != "" {
							wp.ErrorMessage = &result.Message
						}
						result.Records = []RecordError{{Index: 3, Message: "bad"}}
						wr := kmsg.NewProduceResponseTopicPartitionErrorRecord()
						wr.RelativeOffset, wr.ErrorMessage = 3, kmsg.StringPtr("bad")
						wp.ErrorRecords = append(wp.ErrorRecords, wr)
					}
					if version >= 10 && rng.IntN(2) == 0 {
						result.Leader = &Leader{ID: 7, Epoch: 11}
						wp.CurrentLeader.LeaderID, wp.CurrentLeader.LeaderEpoch = 7, 11
					}
					results = append(results, result)
					wt.Partitions = append(wt.Partitions, wp)
				}
				want.Topics = append(want.Topics, wt)
			}
			if version >= 10 {
				want.Brokers = []kmsg.ProduceResponseBroker{
					{NodeID: 7, Host: "seven.example", Port: 9092, Rack: kmsg.StringPtr("r")}, {NodeID: 8, Host: "eight", Port: 1},
				}
			}
			got := AppendProduceResponse(nil, &q, results, want.ThrottleMillis, endpoints)
			if !bytes.Equal(got, want.AppendTo(nil)) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, got, want.AppendTo(nil))
			}
		}
	}
}

func TestFetchResponseIsWhatKmsgReads(t *testing.T) {
	for version := int16(MinFetch); version <= MaxFetch; version++ {
		rng := rand.New(rand.NewPCG(4, uint64(version)))
		var w FetchResponse
		for range 100 {
			want := kmsg.NewPtrFetchResponse()
			want.Version = version
			want.ThrottleMillis = rng.Int32()
			if version >= 7 {
				want.ErrorCode, want.SessionID = int16(rng.IntN(100)), rng.Int32()
			}
			topics := rng.IntN(3)
			w.Begin(version, want.ThrottleMillis, want.ErrorCode, want.SessionID, topics)
			for range topics {
				wt := kmsg.NewFetchResponseTopic()
				wt.Topic, wt.TopicID = randomName(rng, version)
				partitions := rng.IntN(4)
				w.Topic(wt.Topic, wt.TopicID, partitions)
				for range partitions {
					p, wp := randomFetchResult(rng, version)
					w.Partition(&p)
					wt.Partitions = append(wt.Partitions, wp)
				}
				w.EndTopic()
				want.Topics = append(want.Topics, wt)
			}
			var endpoints []Endpoint
			if version >= 16 && rng.IntN(2) == 0 {
				endpoints = []Endpoint{{ID: 7, Host: "seven.example", Port: 9092, Rack: "r"}}
				want.Brokers = []kmsg.FetchResponseBroker{{NodeID: 7, Host: "seven.example", Port: 9092, Rack: kmsg.StringPtr("r")}}
			}
			bufs := w.Finish(endpoints)
			got := bytes.Join([][]byte(bufs), nil)
			if !bytes.Equal(got, want.AppendTo(nil)) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, got, want.AppendTo(nil))
			}
			if w.Size() != len(got) {
				t.Fatalf("version %d: Size is %d, it is %d bytes", version, w.Size(), len(got))
			}
			w.Reset()
		}
	}
}

func randomFetchResult(rng *rand.Rand, version int16) (FetchResult, kmsg.FetchResponseTopicPartition) {
	p := FetchResult{
		Index: rng.Int32(), ErrorCode: int16(rng.IntN(100)),
		HighWatermark: storage.Offset(rng.Int64()), LastStable: storage.Offset(rng.Int64()), LogStart: storage.Offset(rng.Int64()),
	}
	for range rng.IntN(3) {
		batch := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(100))
		p.Batches = append(p.Batches, batch)
		p.Bytes += len(batch)
	}
	wp := kmsg.NewFetchResponseTopicPartition()
	wp.Partition, wp.ErrorCode, wp.HighWatermark, wp.LastStableOffset = p.Index, p.ErrorCode, int64(p.HighWatermark), int64(p.LastStable)
	wp.LogStartOffset = int64(p.LogStart)
	if p.Preferred = int32(rng.IntN(4)) - 1; version >= 11 {
		wp.PreferredReadReplica = p.Preferred
	}
	wp.AbortedTransactions = nil
	if rng.IntN(2) == 0 {
		p.Aborted, wp.AbortedTransactions = []AbortedTransaction{}, []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range rng.IntN(3) {
			a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			a.ProducerID, a.FirstOffset = rng.Int64(), rng.Int64()
			wp.AbortedTransactions = append(wp.AbortedTransactions, a)
			p.Aborted = append(p.Aborted, AbortedTransaction{a.ProducerID, storage.Offset(a.FirstOffset)})
		}
	}
	wp.RecordBatches = append([]byte{}, bytes.Join(p.Batches, nil)...)
	if version >= 12 && rng.IntN(2) == 0 {
		p.Diverging = &EpochEnd{Epoch: 3, End: 99}
		wp.DivergingEpoch.Epoch, wp.DivergingEpoch.EndOffset = 3, 99
	}
	if version >= 12 && rng.IntN(2) == 0 {
		p.Leader = &Leader{ID: 7, Epoch: 11}
		wp.CurrentLeader.LeaderID, wp.CurrentLeader.LeaderEpoch = 7, 11
	}
	return p, wp
}

// The way of a produce and of a fetch through this package allocates nothing.
func TestHotPathAllocatesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	produce := randomProduce(rng, 9)
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte("records")}}}}
	body := produce.AppendTo(nil)
	fetch := kmsg.NewPtrFetchRequest()
	fetch.Version = 12
	fetch.Topics = []kmsg.FetchRequestTopic{{Topic: "t", Partitions: []kmsg.FetchRequestTopicPartition{{Partition: 1}}}}
	fetchBody := fetch.AppendTo(nil)

	var pq ProduceRequest
	var fq FetchRequest
	var fw FetchResponse
	results := make([]ProduceResult, 1)
	batches := [][]byte{[]byte("one"), []byte("two")}
	var out []byte
	var bufs net.Buffers
	run := func() {
		if pq.Parse(9, body) != nil || fq.Parse(12, fetchBody) != nil {
			t.Fatal("refused")
		}
		out = AppendProduceResponse(out[:0], &pq, results, 0, nil)
		fw.Begin(12, 0, 0, 0, 1)
		fw.Topic("t", storage.TopicID{}, 1)
		fw.Partition(&FetchResult{Batches: batches, Bytes: 6})
		fw.EndTopic()
		bufs = fw.Finish(nil)
		fw.Reset()
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = bufs
}

// A request of very many tiny partitions is refused before it costs memory.
func TestPartitionsOfARequestAreBounded(t *testing.T) {
	fetch := kmsg.NewPtrFetchRequest()
	fetch.Version = 4
	fetch.Topics = []kmsg.FetchRequestTopic{{Topic: "t", Partitions: make([]kmsg.FetchRequestTopicPartition, MaxPartitions+1)}}
	var f FetchRequest
	if err := f.Parse(4, fetch.AppendTo(nil)); err != ErrTooMany {
		t.Errorf("fetch: %v", err)
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 3
	produce.Topics = make([]kmsg.ProduceRequestTopic, MaxPartitions+1)
	var p ProduceRequest
	if err := p.Parse(3, produce.AppendTo(nil)); err != ErrTooMany {
		t.Errorf("produce: %v", err)
	}
	describe := kmsg.NewPtrDescribeProducersRequest()
	describe.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: make([]int32, MaxPartitions)}}
	if _, err := Check(describe.Key(), 0, describe.AppendTo(nil)); err != ErrTooMany {
		t.Errorf("describe producers: %v", err)
	}
	topics := kmsg.NewPtrDescribeTopicPartitionsRequest()
	topics.Topics = make([]kmsg.DescribeTopicPartitionsRequestTopic, MaxPartitions+1)
	if _, err := Check(topics.Key(), 0, topics.AppendTo(nil)); err != ErrTooMany {
		t.Errorf("describe topics: %v", err)
	}
}
