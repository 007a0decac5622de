package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/transport/rpc"
)

// What operators send by hand goes the way of a client's record: the leader of the partition
// is a client of its own, by a connection from inside, so that modules, limits of the topic
// and acks=all hold as they do for producers.

const (
	// sendVersion of Produce names topics, and is taken by every version of rustmq.
	sendVersion = 11
	sendWait    = 8 * time.Second
	// maxSendAnswer bounds the answer to one record, which has a few errors in words.
	maxSendAnswer = 1 << 20
)

// NewRecord is a record that somebody sends by hand. A nil Key or Value is null.
type NewRecord struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Timestamp int64          `json:"timestamp"` // ms since 1970
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []PeekedHeader `json:"headers"`
}

// SentRecord is where a record is.
type SentRecord struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Timestamp int64 `json:"timestamp"` // ms since 1970: the broker's where the topic has that
}

// TrimRequest asks for records of a partition to be deleted: those before an offset.
type TrimRequest struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Before    int64  `json:"before"` // -1: all that there are
}

// PartitionFor is the partition of a topic with so many that a record by hand goes to, as
// Kafka's producers have it: by its key; of one without, to the one that is next.
func PartitionFor(key []byte, next, partitions int32) int32 {
	return pipeline.PartitionOf(key, next, partitions)
}

// SendRecord appends a record as a producer with acks=all does, wherever its partition is led.
// Errors about the record or the partition are [*GroupError]; after another the record may be
// there.
func (b *Broker) SendRecord(ctx context.Context, r NewRecord) (*SentRecord, error) {
	b.settle(ctx) // who asks may have made the topic
	return askLeader(b.images.image(), r.Topic, r.Partition, "be written to", func(at int32) (*SentRecord, error) {
		if at == b.opt.NodeID {
			return b.sendHere(ctx, r)
		}
		return askOwn[*SentRecord](ctx, b, at, peerOperatorSend, r)
	})
}

// TrimRecords deletes records of a partition, wherever it is led, and returns its log start.
// Errors about the request or the partition are [*GroupError].
func (b *Broker) TrimRecords(ctx context.Context, q TrimRequest) (int64, error) {
	b.settle(ctx)
	return askLeader(b.images.image(), q.Topic, q.Partition, "be trimmed", func(at int32) (int64, error) {
		if at == b.opt.NodeID {
			return b.trimHere(ctx, q)
		}
		return askOwn[int64](ctx, b, at, peerOperatorTrim, q)
	})
}

// SendRecord is as of [Broker.SendRecord].
func (f *Front) SendRecord(ctx context.Context, r NewRecord) (*SentRecord, error) {
	return askLeader(f.image(), r.Topic, r.Partition, "be written to", func(at int32) (*SentRecord, error) {
		return askFor[*SentRecord](ctx, f, at, peerOperatorSend, r)
	})
}

// TrimRecords is as of [Broker.TrimRecords].
func (f *Front) TrimRecords(ctx context.Context, q TrimRequest) (int64, error) {
	return askLeader(f.image(), q.Topic, q.Partition, "be trimmed", func(at int32) (int64, error) {
		return askFor[int64](ctx, f, at, peerOperatorTrim, q)
	})
}

// ledBy is the broker that leads a partition, or why there is none.
func ledBy(image *metadata.Image, topic string, index int32) (int32, error) {
	t, ok := image.Topic(topic)
	if !ok {
		return metadata.NoBroker, &GroupError{kerr.UnknownTopicOrPartition, fmt.Sprintf("there is no topic %s; `rustmq admin topics list` shows those there are", topic)}
	}
	p := t.Partition(index)
	if p == nil {
		return metadata.NoBroker, &GroupError{kerr.UnknownTopicOrPartition, fmt.Sprintf("topic %s has partitions 0 to %d", topic, t.Partitions.Len()-1)}
	}
	if p.Leader == metadata.NoLeader {
		return metadata.NoBroker, &GroupError{kerr.LeaderNotAvailable, fmt.Sprintf("%s-%d has no leader: `rustmq admin cluster health` says what it needs", topic, index)}
	}
	return p.Leader, nil
}

// askLeader has who leads a partition do something, once. What is not known to be done is said
// to be so.
func askLeader[P any](image *metadata.Image, topic string, index int32, to string, ask func(at int32) (P, error)) (is P, err error) {
	at, err := ledBy(image, topic, index)
	if err != nil {
		return is, err
	}
	is, err = ask(at)
	switch {
	case errors.Is(err, rpc.ErrPeerRefused):
		err = &GroupError{kerr.BrokerNotAvailable, fmt.Sprintf("%s-%d, which broker %d leads, cannot %s now, and nothing was done: %v", topic, index, at, to, err)}
	case errors.Is(err, rpc.ErrPeerUnreachable):
		err = &GroupError{kerr.RequestTimedOut, fmt.Sprintf("broker %d, which leads %s-%d, does not answer, and what was asked may be done all the same: look before you ask again: %v", at, topic, index, err)}
	}
	return is, err
}

// ServeInside gives the broker the way to itself that records by hand take: serve serves a
// connection as of [InsideInfo] until it ends, and closes it.
func (b *Broker) ServeInside(serve func(net.Conn)) { b.inside.Store(&serve) }

// sendHere is SendRecord by the leader.
func (b *Broker) sendHere(ctx context.Context, r NewRecord) (*SentRecord, error) {
	serve := b.inside.Load()
	if serve == nil {
		return nil, &GroupError{kerr.BrokerNotAvailable, "the broker does not serve clients yet: try again"}
	}
	q, err := produceOf(&r)
	if err != nil {
		return nil, &GroupError{kerr.InvalidRecord, err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	client, server := rpc.PeerPipe(b.opt.NodeID)
	go (*serve)(server) // ends with the connection
	p, err := exchange(ctx, client, q)
	if err != nil {
		return nil, &GroupError{kerr.RequestTimedOut, fmt.Sprintf("send a record to %s-%d: %v", r.Topic, r.Partition, err)}
	}
	if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("send a record to %s-%d: an answer for other partitions", r.Topic, r.Partition)
	}
	is := &p.Topics[0].Partitions[0]
	if is.ErrorCode != 0 {
		detail := fmt.Sprintf("%s-%d does not take the record", r.Topic, r.Partition)
		if is.ErrorMessage != nil {
			detail += ": " + *is.ErrorMessage
		}
		for _, one := range is.ErrorRecords {
			if one.ErrorMessage != nil {
				detail += ": " + *one.ErrorMessage
			}
		}
		return nil, groupRefused(is.ErrorCode, detail)
	}
	at := r.Timestamp
	if is.LogAppendTime >= 0 {
		at = is.LogAppendTime
	}
	return &SentRecord{Partition: r.Partition, Offset: is.BaseOffset, Timestamp: at}, nil
}

// produceOf is the request of a producer that sends the record alone.
func produceOf(r *NewRecord) (*kmsg.ProduceRequest, error) {
	headers := make([]batch.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = batch.Header{Key: h.Key, Value: h.Value}
	}
	w := batch.NewBuilder(batch.BuilderOptions{})
	w.Add(r.Timestamp, r.Key, r.Value, headers...)
	built, err := w.Build()
	if err != nil {
		return nil, err
	}
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = r.Partition, built
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = r.Topic, append(topic.Partitions, part)
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = sendVersion, acksAll, int32(sendWait.Milliseconds())
	q.Topics = append(q.Topics, topic)
	return q, nil
}

// exchange sends a request over a connection of its own, which it closes, and reads the answer.
func exchange(ctx context.Context, conn net.Conn, q *kmsg.ProduceRequest) (*kmsg.ProduceResponse, error) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	failed := func(err error) error {
		if ended := context.Cause(ctx); ended != nil {
			err = ended
		}
		return fmt.Errorf("it may be there all the same, look before it is sent again: %w", err)
	}
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("rustmq-admin")).AppendRequest(nil, q, 1)); err != nil {
		return nil, failed(err)
	}
	const correlation, tags = 4, 1 // of the header of an answer
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, failed(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < correlation+tags || n > maxSendAnswer {
		return nil, failed(fmt.Errorf("an answer of %d bytes", n))
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, failed(err)
	}
	p := kmsg.NewPtrProduceResponse()
	p.Version = q.Version
	if err := p.ReadFrom(body[correlation+tags:]); err != nil {
		return nil, failed(err)
	}
	return p, nil
}

// trimHere is TrimRecords by the leader.
func (b *Broker) trimHere(ctx context.Context, q TrimRequest) (int64, error) {
	start, err := b.trim(ctx, q)
	if _, said := errors.AsType[*GroupError](err); err != nil && !said {
		err = &GroupError{kafkaError(err), err.Error()}
	}
	return start, err
}

// trim moves a log start as DeleteRecords does.
func (b *Broker) trim(ctx context.Context, q TrimRequest) (int64, error) {
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	start, l, err := b.logStartFor(q.Topic, kmsg.DeleteRecordsRequestTopicPartition{Partition: q.Partition, Offset: q.Before})
	if errors.Is(err, kerr.OffsetOutOfRange) {
		if at, _, unled := b.leaderOf(q.Topic, q.Partition, storage.NoEpoch); unled == nil {
			err = &GroupError{kerr.OffsetOutOfRange, fmt.Sprintf("offset %d: %s-%d has those from %d to %d", q.Before, q.Topic, q.Partition, at.LogStart(), at.HighWatermark())}
		}
	}
	if err != nil {
		return 0, err
	}
	if err := b.opt.Controller.AdvanceLogStart(ctx, b.opt.NodeID, b.registration.epoch.Load(), []controller.LogStart{start})[0]; err != nil {
		return 0, err
	}
	if err := l.SetLogStart(start.Offset); err != nil {
		return 0, err
	}
	return int64(l.LogStart()), nil
}
