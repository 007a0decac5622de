package async

import (
	"slices"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/etl/abi"
)

// maxReason bytes of a reason go into a header.
const maxReason = 1 << 10

// deadLetter is a record as it goes to the dead-letter topic: as it was read, with headers
// behind its own that say whose it is.
func deadLetter(r *abi.Record, t *Task, of source, reason string) *abi.Record {
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	is := *r
	is.Headers = slices.Clip(slices.Clone(r.Headers))
	for _, h := range [][2]string{
		{"rustmq.dlt.module", t.Name},
		{"rustmq.dlt.version", strconv.Itoa(t.Version)},
		{"rustmq.dlt.reason", reason},
		{"rustmq.dlt.topic", of.topic},
		{"rustmq.dlt.partition", strconv.Itoa(int(of.partition))},
		{"rustmq.dlt.offset", strconv.FormatInt(r.Offset, 10)},
		{"rustmq.dlt.timestamp", strconv.FormatInt(r.Timestamp, 10)},
	} {
		is.Headers = append(is.Headers, abi.Header{Name: h[0], Value: []byte(h[1])})
	}
	return &is
}
