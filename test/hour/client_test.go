package hour

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is how long a client waits for an answer.
const patience = 20 * time.Second

// client asks a process, one request after the other.
type client struct {
	w      *world
	life   *life
	conn   net.Conn
	format *kmsg.RequestFormatter
	next   int32
}

var errNobody = errors.New("there is no process to ask")

// ask sends a request to the process that there is.
func (c *client) ask(version int16, q kmsg.Request) (p kmsg.Response, err error) {
	if now := c.w.alive(); now == nil || now != c.life {
		c.drop()
		if now == nil {
			return nil, errNobody
		}
		c.life, c.conn, c.format = now, now.dial(), kmsg.NewRequestFormatter()
	}
	if c.conn == nil {
		c.conn = c.life.dial()
	}
	defer func() {
		if err != nil {
			c.drop()
		}
	}()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	q.SetVersion(version)
	c.next++
	if _, err := c.conn.Write(c.format.AppendRequest(nil, q, c.next)); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(c.conn, length[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, err
	}
	if len(body) < 5 || int32(binary.BigEndian.Uint32(body)) != c.next {
		return nil, fmt.Errorf("another answer: %x", body[:min(len(body), 5)])
	}
	body = body[4:]
	if q.IsFlexible() {
		body = body[1:] // no tags
	}
	p = q.ResponseKind()
	return p, p.ReadFrom(body)
}

func (c *client) drop() {
	if c.conn != nil {
		_ = c.conn.Close() // a pipe
		c.conn = nil
	}
}

// produce sends a batch; the answer is where it lies.
func (c *client) produce(topic string, partition int32, records []byte) (base int64, err error) {
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis = -1, int32(patience.Milliseconds())
	t := kmsg.NewProduceRequestTopic()
	p := kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Partition, p.Records = topic, partition, records
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	answer, err := c.ask(9, q)
	if err != nil {
		return 0, err
	}
	got := answer.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return got.BaseOffset, kerr.ErrorForCode(got.ErrorCode)
}

// fetch reads from an offset on.
func (c *client) fetch(topic string, partition int32, offset int64) (records []byte, highWatermark int64, err error) {
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes, q.SessionEpoch = 5000, 1, 256<<10, -1
	t := kmsg.NewFetchRequestTopic()
	p := kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.Partition, p.FetchOffset, p.PartitionMaxBytes = topic, partition, offset, 256<<10
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	answer, err := c.ask(12, q)
	if err != nil {
		return nil, 0, err
	}
	r := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil || len(r.Topics) == 0 {
		return nil, 0, err
	}
	got := r.Topics[0].Partitions[0]
	return got.RecordBatches, got.HighWatermark, kerr.ErrorForCode(got.ErrorCode)
}

// deleteRecords gives up what lies before an offset.
func (c *client) deleteRecords(topic string, partition int32, before int64) error {
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.TimeoutMillis = int32(patience.Milliseconds())
	t := kmsg.NewDeleteRecordsRequestTopic()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	t.Topic, p.Partition, p.Offset = topic, partition, before
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	answer, err := c.ask(2, q)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
}
