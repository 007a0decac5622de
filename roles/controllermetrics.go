package roles

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/metric"
)

// controllerMetrics exports where a controller stands in its group.
type controllerMetrics struct {
	metric.Descs
	status  func() consensus.Status
	members func(context.Context) (*controller.Group, error) // of the one that leads
	id      uint64

	leader, leads, member, term            *prometheus.Desc
	committed, applied, unapplied, snapped *prometheus.Desc
	behind, heard                          *prometheus.Desc
}

// membersWait is how long a scrape waits for where the others stand.
const membersWait = time.Second

func newControllerMetrics(id uint64, status func() consensus.Status, members func(context.Context) (*controller.Group, error)) *controllerMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New("controller_"+name, help, labels...)
	}
	m := &controllerMetrics{
		status: status, members: members, id: id,
		leader:    desc("leader", "Node id of the controller that leads, as this one knows; 0: none."),
		leads:     desc("leads", "1 while this controller leads, else 0."),
		member:    desc("member", "1 while this controller is a member of the group, else 0."),
		term:      desc("term", "Term of the metadata log: it grows with every election."),
		committed: desc("committed_index", "Index up to which this controller knows that a majority has the metadata log."),
		applied:   desc("applied_index", "Index up to which the metadata log is applied here."),
		unapplied: desc("commit_lag_entries", "Entries of the metadata log that are committed and not applied here yet."),
		behind:    desc("member_lag_entries", "Entries of the metadata log that another member of the group has not confirmed, as the one that leads knows; it alone tells.", "member"),
		heard:     desc("member_heard", "1 while another member was heard of within the last election timeout, else 0; the one that leads alone tells.", "member"),
		snapped:   desc("snapshot_index", "Index of the newest snapshot of the metadata here."),
	}
	m.Descs = descs
	return m
}

// Collect implements prometheus.Collector.
func (m *controllerMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
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
	if s.Leader != m.id {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), membersWait)
	defer cancel()
	group, err := m.members(ctx)
	if err != nil {
		return // it leads no more
	}
	told := map[uint64]bool{m.id: true}
	for _, other := range group.Members {
		if told[other.ID] || other.Role == controller.Waiting { // of two directories with one id the member is first
			continue
		}
		told[other.ID] = true
		id := strconv.FormatUint(other.ID, 10)
		gauge(m.behind, float64(max(group.Committed, other.Match)-other.Match), id)
		gauge(m.heard, is(other.Active), id)
	}
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
