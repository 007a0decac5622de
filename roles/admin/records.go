package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker"
)

// maxSentHeaders bounds those of a record that is sent by hand.
const maxSentHeaders = 100

// RecordToSend is the body of a record by hand: as `rustmq produce -f json` takes it.
type RecordToSend struct {
	ETLRecord
	Partition *int32 `json:"partition,omitempty" minimum:"0" nullable:"true" doc:"left out: as producers choose it, by the key; without key each in turn"`
}

// SentRecord is where a record is that was sent by hand. It is committed.
type SentRecord struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp string `json:"timestamp"`
}

// RecordsToDelete is the body of a deletion of records.
type RecordsToDelete struct {
	Partitions []PartitionBefore `json:"partitions" minItems:"1" maxItems:"10000"`
}

// PartitionBefore is which records of a partition are to be deleted.
type PartitionBefore struct {
	Partition int32 `json:"partition" minimum:"0"`
	Before    int64 `json:"before" minimum:"-1" doc:"offset before which they go; -1: all that are there"`
}

// DeletedRecords is what became of that.
type DeletedRecords struct {
	Partitions []DeletedBefore `json:"partitions" doc:"in the order of the request"`
}

// DeletedBefore is what became of a partition.
type DeletedBefore struct {
	Partition int32  `json:"partition"`
	LogStart  *int64 `json:"log_start,omitempty" doc:"first offset that can be read from now on; left out: nothing is known to be deleted"`
	Error     string `json:"error,omitempty"`
}

type (
	sendInput struct {
		Name string `path:"name" maxLength:"249"`
		Body RecordToSend
	}
	sendOutput struct{ Body SentRecord }
	trimInput  struct {
		Name string `path:"name" maxLength:"249"`
		Body RecordsToDelete
	}
	trimOutput struct{ Body DeletedRecords }
)

// toldRecord is a record by hand as the audit log has it: nothing of what is in it.
func toldRecord(in *sendInput) string {
	r := &in.Body
	where := "by its key"
	if r.Partition != nil {
		where = fmt.Sprint(*r.Partition)
	}
	return fmt.Sprintf("partition=%s key_bytes=%d value_bytes=%d headers=%d", where, len(orBytes(r.Key, r.KeyBase64)), len(orBytes(r.Value, r.ValueBase64)), len(r.Headers))
}

// toldTrim is a deletion of records as the audit log has it.
func toldTrim(in *trimInput) string { return toldBefore(in.Body.Partitions) }

func toldBefore(all []PartitionBefore) string {
	const most = 20
	var said []string
	for i, p := range all {
		if i == most {
			said = append(said, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		said = append(said, fmt.Sprintf("partition=%d before=%d", p.Partition, p.Before))
	}
	return strings.Join(said, ", ")
}

func (a messagesAPI) produce(ctx context.Context, in *sendInput) (*sendOutput, error) {
	r := &in.Body
	t, ok := a.cluster.Image().Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	if r.Key != nil && len(r.KeyBase64) > 0 || r.Value != nil && len(r.ValueBase64) > 0 {
		return nil, badRequest(errors.New("a key, or a value, is given as text or as base64, not as both"))
	}
	if len(r.Headers) > maxSentHeaders {
		return nil, badRequest(fmt.Errorf("%d headers: a record that is sent by hand has %d at most", len(r.Headers), maxSentHeaders))
	}
	record := broker.NewRecord{Topic: in.Name, Timestamp: time.Now().UnixMilli(), Key: orBytes(r.Key, r.KeyBase64), Value: orBytes(r.Value, r.ValueBase64)}
	if r.Timestamp != "" {
		at, err := time.Parse(time.RFC3339Nano, r.Timestamp)
		if err != nil {
			return nil, badRequest(fmt.Errorf("timestamp %.50q is not RFC 3339", r.Timestamp))
		}
		record.Timestamp = at.UnixMilli()
	}
	for _, h := range r.Headers {
		if h.Value != nil && len(h.ValueBase64) > 0 {
			return nil, badRequest(fmt.Errorf("header %.50q: its value is given as text or as base64, not as both", h.Key))
		}
		record.Headers = append(record.Headers, broker.PeekedHeader{Key: []byte(h.Key), Value: orBytes(h.Value, h.ValueBase64)})
	}
	if r.Partition != nil {
		record.Partition = *r.Partition
	} else {
		record.Partition = broker.PartitionFor(record.Key, int32(a.next.Add(1)&0x7fffffff), int32(t.Partitions.Len()))
	}
	is, err := a.messages.SendRecord(ctx, record)
	if err != nil {
		return nil, messagesProblem(err)
	}
	return &sendOutput{SentRecord{in.Name, is.Partition, is.Offset, time.UnixMilli(is.Timestamp).UTC().Format(messagesClock)}}, nil
}

// trim deletes records of one partition after the other. What fails of one keeps nothing from
// the others; where all fail the call does.
func (a messagesAPI) trim(ctx context.Context, in *trimInput) (*trimOutput, error) {
	out := &trimOutput{DeletedRecords{[]DeletedBefore{}}}
	named := map[int32]bool{}
	for _, p := range in.Body.Partitions { // each costs the controllers a commit
		if named[p.Partition] {
			return nil, badRequest(fmt.Errorf("partition %d is named twice", p.Partition))
		}
		named[p.Partition] = true
	}
	var first error
	var done, failed []PartitionBefore
	for _, p := range in.Body.Partitions {
		is := DeletedBefore{Partition: p.Partition}
		start, err := a.messages.TrimRecords(ctx, broker.TrimRequest{Topic: in.Name, Partition: p.Partition, Before: p.Before})
		if err != nil {
			is.Error = err.Error()
			if failed = append(failed, p); first == nil {
				first = messagesProblem(err)
			}
		} else {
			is.LogStart = &start
			done = append(done, p)
		}
		out.Body.Partitions = append(out.Body.Partitions, is)
	}
	if len(done) == 0 {
		return nil, first
	}
	if len(failed) > 0 {
		tell(ctx, "topic", in.Name, toldBefore(done), nil)
		tell(ctx, "topic", in.Name, toldBefore(failed), first)
	}
	return out, nil
}

// messagesProblem turns an error of records into an HTTP one: of 400 and the like what the
// request is to blame for, of 500 and the like what the server is.
func messagesProblem(err error) error {
	if refused, ok := errors.AsType[*broker.GroupError](err); ok {
		switch refused.Code {
		case kerr.OffsetOutOfRange:
			return huma.NewError(http.StatusRequestedRangeNotSatisfiable, err.Error())
		case kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.PolicyViolation, kerr.InvalidTopicException:
			return huma.NewError(http.StatusUnprocessableEntity, err.Error())
		case kerr.RequestTimedOut: // it may happen still
			return huma.NewError(http.StatusGatewayTimeout, err.Error())
		}
	}
	return groupProblem(err)
}
