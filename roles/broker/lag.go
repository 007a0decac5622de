package broker

import (
	"context"
	"sort"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

const (
	// DefaultLagPartitions is room for 1,000 groups that consume ten partitions each:
	// some 4 MB of text at each scrape.
	DefaultLagPartitions = 10_000

	// A scrape waits no longer for the coordinators; then it does without lag.
	surveyWait = 2 * time.Second
)

// Why a partition of a group is left out of the lag metrics.
const (
	leftForLimit = "limit"   // there are more than may be exported
	leftForName  = "name"    // the group's id is no UTF-8, which labels must be
	leftUnled    = "not_led" // the partition's leader cannot be asked, or it is gone
)

// lag is how far a group is behind in a partition.
type lag struct {
	records int64
	behind  time.Duration
	timed   bool // behind is known
}

// seconds returns how far behind that is in time; nil: it is not known.
func (l lag) seconds() *float64 {
	if !l.timed {
		return nil
	}
	return new(l.behind.Seconds())
}

// lagOf says how far who has committed an offset is behind. What the log start has
// passed is no longer to be read, and an offset beyond the end is not behind. It
// reads neither disk nor bucket.
func (b *Broker) lagOf(l *log.Log, committed int64) lag {
	end := l.HighWatermark()
	at := max(storage.Offset(committed), l.LogStart())
	if at >= end {
		return lag{timed: true}
	}
	is := lag{records: int64(end - at)}
	millis, ok := l.TimestampAt(at)
	if !ok {
		millis, ok = b.timestampInBucket(l.ID(), at)
	}
	if ok {
		is.behind, is.timed = max(0, b.opt.Now().Sub(time.UnixMilli(millis))), true
	}
	return is
}

// timestampInBucket returns the largest timestamp of the range that holds an offset,
// or, where the metadata does not list ranges any more, of the manifest that does:
// so much is known without the bucket. What is committed there is at least as old.
func (b *Broker) timestampInBucket(id storage.PartitionID, at storage.Offset) (millis int64, ok bool) {
	_, p := b.inBucket(id)
	if p == nil {
		return 0, false
	}
	if r, ok := p.Ranges().Find(at); ok {
		return r.MaxTimestamp, r.MaxTimestamp >= 0
	}
	filed := p.Filed()
	i := sort.Search(len(filed), func(i int) bool { return filed[i].End > at })
	if i == len(filed) || at < filed[i].Base {
		return 0, false
	}
	return filed[i].MaxTimestamp, filed[i].MaxTimestamp >= 0
}

// survey asks one partition of the coordinators' topic, and waits for its answer.
func (b *Broker) survey(ctx context.Context, partition int32, most int) (group.Survey, error) {
	return await(ctx, func(answer func(group.Survey)) { b.groups.Survey(ctx, partition, most, answer) })
}

// await asks what is answered later, and waits for it as long as ctx allows.
func await[T any](ctx context.Context, ask func(answer func(T))) (T, error) {
	answers := make(chan T, 1)
	ask(func(v T) { answers <- v })
	select {
	case v := <-answers:
		return v, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// lagMetrics exports how far groups are behind.
type lagMetrics struct {
	metric.Descs
	b                      *Broker
	records, seconds, left *prometheus.Desc
}

func newLagMetrics(b *Broker) *lagMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New("group_lag_"+name, help, labels...)
	}
	m := &lagMetrics{
		b: b,
		records: desc("records", "Offsets from what a group has committed, or the log start behind it, to the high watermark; "+
			"of groups without members too. The marker of a transaction is one.", "group", "topic", "partition"),
		seconds: desc("seconds", "Time since the first record behind what a group has committed was appended, by the largest timestamp in its batch: the producer's clock, "+
			"unless the topic has message.timestamp.type=LogAppendTime. Of what only the bucket has, by the largest of its range there, or of the "+
			"manifest that lists it: then it is at least that long. 0: nothing is left to consume.", "group", "topic", "partition"),
		left: desc("left_out_partitions", "Partitions of groups whose lag is not exported: beyond broker.groups.lag_partitions, "+
			"of a group whose id is no UTF-8, or in a partition whose leader cannot be asked.", "reason"),
	}
	m.Descs = descs
	return m
}

// lagSum adds up lags that are not told apart.
type lagSum struct {
	records int64
	seconds *float64 // the largest; nil: none is known
}

func (s *lagSum) add(records int64, seconds *float64) {
	s.records += records
	if seconds != nil && (s.seconds == nil || *seconds > *s.seconds) {
		s.seconds = seconds
	}
}

// lagSums are those of a scrape, by group and topic; of groups alone, topic is "".
type lagSums map[[2]string]*lagSum

// collect asks one coordinator after the other, so that none is asked for more than
// is exported, and then the brokers that lead what is not led here. While a coordinator
// cannot answer, its groups are missing.
func (m *lagMetrics) collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), surveyWait)
	defer cancel()
	room := m.b.opt.LagPartitions
	left := map[string]int{leftForLimit: 0, leftForName: 0, leftUnled: 0}
	sums := lagSums{}
	var elsewhere []partitionAsked
	var groups []string // of those
	for i := range int32(group.Partitions) {
		s, err := m.b.survey(ctx, i, room)
		if err != nil {
			return
		}
		left[leftForLimit] += s.Left
		for _, g := range s.Groups {
			room -= len(g.Offsets)
			if !utf8.ValidString(g.ID) {
				left[leftForName] += len(g.Offsets)
				continue
			}
			for _, o := range g.Offsets {
				if l, _, err := m.b.leaderOf(o.Topic, o.Partition, storage.NoEpoch); err == nil {
					is := m.b.lagOf(l, o.Offset)
					m.tell(out, sums, g.ID, o.Topic, o.Partition, is.records, is.seconds())
				} else {
					elsewhere, groups = append(elsewhere, partitionAsked{o.Topic, o.Partition, &o.Offset}), append(groups, g.ID)
				}
			}
		}
	}
	for i, p := range m.b.groupPartitions(ctx, elsewhere) {
		if p.Lag == nil {
			left[leftUnled]++
			continue
		}
		m.tell(out, sums, groups[i], p.Topic, p.Partition, *p.Lag, p.Behind)
	}
	for of, s := range sums {
		m.export(out, s.records, s.seconds, of[0], of[1], "")
	}
	for reason, n := range left {
		out <- prometheus.MustNewConstMetric(m.left, prometheus.GaugeValue, float64(n), reason)
	}
}

// tell exports the lag of a partition, or adds it to what it is not told apart from.
func (m *lagMetrics) tell(out chan<- prometheus.Metric, sums lagSums, id, topic string, partition int32, records int64, seconds *float64) {
	switch m.b.opt.MetricDetail {
	case PerPartition:
		m.export(out, records, seconds, id, topic, strconv.Itoa(int(partition)))
		return
	case PerNode:
		topic = ""
	}
	of := [2]string{id, topic}
	if sums[of] == nil {
		sums[of] = new(lagSum)
	}
	sums[of].add(records, seconds)
}

// export tells a lag; seconds is nil where it is not known. An empty label is none.
func (m *lagMetrics) export(out chan<- prometheus.Metric, records int64, seconds *float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(m.records, prometheus.GaugeValue, float64(records), labels...)
	if seconds != nil {
		out <- prometheus.MustNewConstMetric(m.seconds, prometheus.GaugeValue, *seconds, labels...)
	}
}
