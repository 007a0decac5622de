package broker

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/metric"
)

// refusedCodes is more than Kafka's error codes, from -1 on, will be for long.
const refusedCodes = 512

// refusedCounts counts the batches that producers were refused, by error, without a
// lock.
type refusedCounts struct {
	metric.Descs
	batches [refusedCodes]atomic.Int64 // by code, from -1 on

	desc, spells, seconds *prometheus.Desc
}

func newRefusedCounts() *refusedCounts {
	var descs metric.Descs
	desc := func(name, help, label string) *prometheus.Desc {
		return descs.New("broker_"+name, help, label)
	}
	m := &refusedCounts{
		desc: desc("refused_total", "Batches of producers that were not appended, by the error that these were told; a try of the same is another.", "error"),
		spells: desc("full_spells_total", "How often it began that producers are refused for want of room: of the whole log, "+
			"or of partitions of which too much waits for its upload.", "of"),
		seconds: desc("full_seconds_total", "How long producers were refused for want of room, each time from the first batch that was refused to the last.", "of"),
	}
	m.Descs = descs
	return m
}

func (c *refusedCounts) count(err *kerr.Error) {
	at := int(err.Code) + 1
	if at < 0 || at >= refusedCodes {
		at = 0 // UNKNOWN_SERVER_ERROR
	}
	c.batches[at].Add(1)
}

// collect tells of the errors that there were, and of the spells of a full log.
func (c *refusedCounts) collect(out chan<- prometheus.Metric, f *fullLog) {
	for at := range c.batches {
		n := c.batches[at].Load()
		if n == 0 {
			continue
		}
		name := kerr.UnknownServerError.Message
		if known := kerr.TypedErrorForCode(int16(at - 1)); known != nil {
			name = known.Message
		}
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n), name)
	}
	for kind, name := range fullNames {
		s, _ := f.of(fullKind(kind))
		t := s.total()
		out <- prometheus.MustNewConstMetric(c.spells, prometheus.CounterValue, float64(t.Spells), name)
		out <- prometheus.MustNewConstMetric(c.seconds, prometheus.CounterValue, t.Lasted.Seconds(), name)
	}
}
