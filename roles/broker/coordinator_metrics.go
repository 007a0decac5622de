package broker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/roles/metric"
)

// coordinatorMetrics export what the coordinators of groups and transactions hold.
type coordinatorMetrics struct {
	metric.Descs
	b *Broker

	partitions, groups, groupBytes      *prometheus.Desc
	ids, open, oldest, transactionBytes *prometheus.Desc
}

func newCoordinatorMetrics(b *Broker) *coordinatorMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New(name, help, labels...)
	}
	m := &coordinatorMetrics{
		b:          b,
		partitions: desc("coordinator_partitions", "Partitions of the coordinators' topics that are coordinated here: loaded, or loading.", "topic", "state"),
		groups:     desc("groups", "Groups that are coordinated here, empty ones included."),
		groupBytes: desc("group_state_bytes", "Estimated memory of the members and offsets of groups that are coordinated here."),
		ids:        desc("transactional_ids", "Transactional ids that are coordinated here, by Kafka's names of their states.", "state"),
		open:       desc("transactions_open", "Transactions that are not complete: ongoing, or their markers are being written."),
		oldest:     desc("transaction_oldest_open_seconds", "Time since the transaction that is open for longest got its first partition; 0: none is open."),

		transactionBytes: desc("transaction_state_bytes", "Estimated memory of the transactional ids that are coordinated here."),
	}
	m.Descs = descs
	return m
}

// shownStates are those that an id is recorded in.
var shownStates = [...]txn.State{txn.Empty, txn.Ongoing, txn.PrepareCommit, txn.PrepareAbort, txn.CompleteCommit, txn.CompleteAbort}

func (m *coordinatorMetrics) collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	groups, transactions := m.b.groups.Stats(), m.b.transactions.Stats()
	gauge(m.partitions, float64(groups.Loaded), offsetsTopic, "loaded")
	gauge(m.partitions, float64(groups.Loading), offsetsTopic, "loading")
	gauge(m.partitions, float64(transactions.Loaded), transactionsTopic, "loaded")
	gauge(m.partitions, float64(transactions.Loading), transactionsTopic, "loading")
	gauge(m.groups, float64(groups.Groups))
	gauge(m.groupBytes, float64(groups.Bytes))
	gauge(m.open, float64(transactions.Open))
	gauge(m.transactionBytes, float64(transactions.Bytes))
	ids, oldest, ok := m.survey()
	if !ok {
		return
	}
	for _, state := range shownStates {
		gauge(m.ids, float64(ids[state]), state.String())
	}
	age := time.Duration(0)
	if oldest >= 0 {
		age = max(0, m.b.opt.Now().Sub(time.UnixMilli(oldest)))
	}
	gauge(m.oldest, age.Seconds())
}

// survey adds up the partitions of transactions; those that cannot answer are
// missing. Not ok: they took too long.
func (m *coordinatorMetrics) survey() (ids map[txn.State]int, oldest int64, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), surveyWait)
	defer cancel()
	ids, oldest = map[txn.State]int{}, -1
	for i := range int32(txn.Partitions) {
		s, err := await(ctx, func(answer func(txn.Survey)) { m.b.transactions.Survey(ctx, i, answer) })
		if err != nil {
			return nil, -1, false
		}
		if s.Code != 0 {
			continue
		}
		for state, n := range s.States {
			ids[state] += n
		}
		if s.Oldest >= 0 && (oldest < 0 || s.Oldest < oldest) {
			oldest = s.Oldest
		}
	}
	return ids, oldest, true
}
