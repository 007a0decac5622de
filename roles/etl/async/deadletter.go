package async

import (
	"slices"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/batch"
)

// DeadLetterOffset is the header that says where in its partition a record was, beside
// those that all dead letters have.
const DeadLetterOffset = "rustmq.dlt.offset"

// maxReason bytes of a reason go into a header.
const maxReason = 1 << 10

// maxStubKey bytes of a key stay in a stub.
const maxStubKey = 1 << 10

// stub is what is left of a record that is too much for the dead-letter topic: where it was is
// said by the headers that come to it.
func stub(r *abi.Record) *abi.Record {
	is := &abi.Record{Timestamp: r.Timestamp, Offset: r.Offset}
	if len(r.Key) <= maxStubKey {
		is.Key = r.Key
	}
	return is
}

// deadLetter is a record as it goes to the dead-letter topic: as it was read, with headers
// behind its own that say whose it is. A timestamp that no topic takes, which may be among what
// is compressed, is brought within what there is until now; a header has it as it was.
func deadLetter(r *abi.Record, t *Task, of source, reason string, now int64) *abi.Record {
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	is := *r
	is.Timestamp = min(max(r.Timestamp, batch.NoTimestamp), now)
	is.Headers = slices.Clip(slices.Clone(r.Headers))
	for _, h := range [][2]string{
		{pipeline.DeadLetterModule, t.Name},
		{pipeline.DeadLetterVersion, strconv.Itoa(t.Version)},
		{pipeline.DeadLetterReason, reason},
		{pipeline.DeadLetterTopic, of.topic},
		{pipeline.DeadLetterPartition, strconv.Itoa(int(of.partition))},
		{DeadLetterOffset, strconv.FormatInt(r.Offset, 10)},
		{pipeline.DeadLetterTimestamp, strconv.FormatInt(r.Timestamp, 10)},
	} {
		is.Headers = append(is.Headers, abi.Header{Name: h[0], Value: []byte(h[1])})
	}
	return &is
}
