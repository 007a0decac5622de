package roles

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus"
)

// controllerMetrics exports where a controller stands in its group.
type controllerMetrics struct {
	status func() consensus.Status
	id     uint64

	leader, leads, member, term            *prometheus.Desc
	committed, applied, unapplied, snapped *prometheus.Desc
}

func newControllerMetrics(id uint64, status func() consensus.Status) *controllerMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("rustmq_controller_"+name, help, nil, nil)
	}
	return &controllerMetrics{
		status: status, id: id,
		leader:    desc("leader", "Node id of the controller that leads, as this one knows; 0: none."),
		leads:     desc("leads", "1 while this controller leads, else 0."),
		member:    desc("member", "1 while this controller is a member of the group, else 0."),
		term:      desc("term", "Term of the metadata log: it grows with every election."),
		committed: desc("committed_index", "Index up to which this controller knows that a majority has the metadata log."),
		applied:   desc("applied_index", "Index up to which the metadata log is applied here."),
		unapplied: desc("commit_lag_entries", "Entries of the metadata log that are committed and not applied here yet."),
		snapped:   desc("snapshot_index", "Index of the newest snapshot of the metadata here."),
	}
}

// Describe implements prometheus.Collector.
func (m *controllerMetrics) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(m, out)
}

// Collect implements prometheus.Collector.
func (m *controllerMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	s := m.status()
	gauge(m.leader, float64(s.Leader))
	gauge(m.leads, is(s.Leader == m.id))
	gauge(m.member, is(s.Member))
	gauge(m.term, float64(s.Term))
	gauge(m.committed, float64(s.Committed))
	gauge(m.applied, float64(s.Applied))
	gauge(m.unapplied, float64(max(s.Committed, s.Applied)-s.Applied))
	gauge(m.snapped, float64(s.Snapshot))
}

// groupLine says in a line where a controller of a cluster stands.
func groupLine(s consensus.Status) string {
	return fmt.Sprintf("controller: term %d, leader %d, committed %d, applied %d, snapshot %d", s.Term, s.Leader, s.Committed, s.Applied, s.Snapshot)
}

// groupWarnings says what is wrong with it, in words.
func groupWarnings(id uint64, s consensus.Status) (warnings []string) {
	if s.Leader == 0 {
		warnings = append(warnings, "no controller leads, as far as this one knows: metadata does not change, and brokers that fall silent are not replaced; a majority of the controllers has to run and reach each other")
	}
	if !s.Member {
		warnings = append(warnings, fmt.Sprintf("controller %d is no member of the group: `rustmq admin controllers add %d`", id, id))
	}
	return warnings
}
