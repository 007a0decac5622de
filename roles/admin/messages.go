package admin

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
)

// Messages shows records of partitions, sends some, and deletes them, wherever they are led.
// Errors about the request or the partition are [*broker.GroupError].
type Messages interface {
	Peek(context.Context, broker.PeekRequest) (*broker.Peeked, error)
	SendRecord(context.Context, broker.NewRecord) (*broker.SentRecord, error)
	TrimRecords(context.Context, broker.TrimRequest) (logStart int64, err error)
}

// messagesClock is what times of messages are written in.
const messagesClock = time.RFC3339Nano

// Message is a record as the API shows it: as `rustmq consume -f json` prints it, and as much
// of it as there is room for.
type Message struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	ETLRecord
	KeyBytes      int  `json:"key_bytes" doc:"of the whole key"`
	ValueBytes    int  `json:"value_bytes" doc:"of the whole value"`
	HeaderCount   int  `json:"header_count" doc:"headers that it has"`
	Cut           bool `json:"cut,omitempty" doc:"its key, its value or its headers are longer than is shown: rustmq consume prints all of it"`
	Transactional bool `json:"transactional,omitempty" doc:"it is of a transaction, which may have been aborted: who reads what is committed does not see it then"`
}

// PeekedMessages is a look into a partition.
type PeekedMessages struct {
	Topic         string    `json:"topic"`
	Partition     int32     `json:"partition"`
	LogStart      int64     `json:"log_start"`
	HighWatermark int64     `json:"high_watermark"`
	Next          int64     `json:"next" doc:"offset for the next look; high_watermark: there is nothing behind these"`
	Looked        int       `json:"looked" doc:"records that were read for it, shown or not: one look reads 32 MiB at most"`
	Records       []Message `json:"records" doc:"in order of their offsets"`
}

type (
	messagesInput struct {
		Name      string    `path:"name" maxLength:"249"`
		Partition int32     `query:"partition" minimum:"0" maximum:"2147483647" default:"0"`
		From      string    `query:"from" enum:"start,end" default:"end" doc:"where to begin: at the log start, or limit records before the end; offset and time go before it"`
		Offset    int64     `query:"offset" minimum:"-1" default:"-1" doc:"offset to begin at; -1: as from says"`
		Time      time.Time `query:"time" doc:"RFC 3339: the first record that is not older"`
		Limit     int       `query:"limit" minimum:"1" maximum:"1000" default:"20" doc:"records at most"`
		MaxBytes  int       `query:"max_bytes" minimum:"1" maximum:"1048576" default:"262144" doc:"bytes of keys, values and headers at most, of which the first record takes what it needs up to 64 KiB each"`
		MatchQuery
	}
	messagesOutput struct{ Body PeekedMessages }
)

type messagesAPI struct {
	cluster  Cluster
	messages Messages
	next     *atomic.Uint32 // of records without key, which go to each partition in turn
}

func registerMessages(h *routes, a messagesAPI) {
	route(h, http.MethodGet, "/api/v1/topics/{name}/records", to(func(in *messagesInput) string { return in.Name }, need{acl.Read, acl.Topic}).noting("some records of one partition; no offset is committed"), a.peek)
	route(h, http.MethodPost, "/api/v1/topics/{name}/records", to(func(in *sendInput) string { return in.Name }, need{acl.Write, acl.Topic}).act("topic.produce").saying(toldRecord), a.produce, withStatus(http.StatusCreated))
	route(h, http.MethodPost, "/api/v1/topics/{name}/delete-records", to(func(in *trimInput) string { return in.Name }, need{acl.Delete, acl.Topic}).act("topic.delete-records").saying(toldTrim), a.trim)
}

func (a messagesAPI) peek(ctx context.Context, in *messagesInput) (*messagesOutput, error) {
	q := broker.PeekRequest{Topic: in.Name, Partition: in.Partition, From: in.From, Limit: in.Limit, Bytes: in.MaxBytes, Match: in.match()}
	switch timed := !in.Time.IsZero(); {
	case timed && in.Offset >= 0:
		return nil, badRequest(errors.New("offset and time: give one of them"))
	case timed:
		q.From, q.Value = "time", in.Time.UnixMilli()
	case in.Offset >= 0:
		q.From, q.Value = "offset", in.Offset
	}
	is, err := a.messages.Peek(ctx, q)
	if err != nil {
		return nil, messagesProblem(err)
	}
	out := &messagesOutput{PeekedMessages{
		Topic: in.Name, Partition: in.Partition, LogStart: is.LogStart, HighWatermark: is.HighWatermark, Next: is.Next, Looked: is.Looked, Records: []Message{},
	}}
	for i := range is.Records {
		out.Body.Records = append(out.Body.Records, shownMessage(in.Partition, &is.Records[i]))
	}
	return out, nil
}

func shownMessage(partition int32, r *broker.PeekedRecord) Message {
	m := Message{Partition: partition, Offset: r.Offset, KeyBytes: r.KeyBytes, ValueBytes: r.ValueBytes, HeaderCount: r.HeaderCount, Transactional: r.Transactional}
	m.Cut = len(r.Key) < r.KeyBytes || len(r.Value) < r.ValueBytes || len(r.Headers) < r.HeaderCount
	if r.Timestamp >= 0 {
		m.Timestamp = time.UnixMilli(r.Timestamp).UTC().Format(messagesClock)
	}
	m.Key, m.KeyBase64 = textOrBytes(wholeRunes(r.Key, r.KeyBytes))
	m.Value, m.ValueBase64 = textOrBytes(wholeRunes(r.Value, r.ValueBytes))
	for _, h := range r.Headers {
		shown := ETLHeader{Key: string(bytes.ToValidUTF8(h.Key, []byte("\uFFFD")))}
		shown.Value, shown.ValueBase64 = textOrBytes(h.Value)
		m.Headers = append(m.Headers, shown)
	}
	return m
}

// wholeRunes takes the part of a character off the end of text that was cut.
func wholeRunes(b []byte, whole int) []byte {
	if len(b) == whole {
		return b
	}
	for n := 1; n <= min(len(b), utf8.UTFMax-1); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n]
			}
			break
		}
	}
	return b
}
