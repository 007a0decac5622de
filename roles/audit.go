package roles

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/security/audit"
)

// openAudit begins to take note of events. They are written once there is a broker here, or a
// way to those of the cluster; a process that has neither tells its own log.
func (n *Node) openAudit() {
	var classes []audit.Class
	for _, name := range n.config.AuditClasses() {
		classes = append(classes, audit.Class(name))
	}
	policy := audit.NewPolicy(classes...)
	switch {
	case policy.Empty():
		n.audit = audit.Discard
	case !n.has("broker") && !n.config.Clustered():
		n.audit = loggedAudit{policy, n.log.With("room", "audit")}
	default:
		n.account = audit.New(audit.Options{
			Node: n.config.Broker.ID, Before: n.id.now().Audit, Policy: policy, Block: n.config.Security.Audit.OnFull == "block",
			Remember: func(h audit.Head) error { return n.id.change(func(id *identity) { id.Audit = &h }) },
			Log:      n.log.With("room", "audit"),
		})
		n.audit = n.account
		n.metrics.MustRegister(newAuditMetrics(n.account))
	}
}

// auditHead is how the broker tells others how far the account has come.
func (n *Node) auditHead() func() (audit.Head, bool) {
	if n.account == nil {
		return nil
	}
	return n.account.Head
}

// writeAudit begins to write what is noted. It ends before the broker leaves the cluster, in
// which it may be the one that leads the topic.
func (n *Node) writeAudit() {
	if n.account == nil {
		return
	}
	n.startAudit(n.broker.AuditSink(n.auditRetention()))
}

func (n *Node) auditRetention() broker.AuditRetention {
	keeps := n.config.Security.Audit
	return broker.AuditRetention{Time: time.Duration(keeps.RetentionTime), Bytes: int64(keeps.RetentionBytes)}
}

func (n *Node) startAudit(sink audit.Sink) {
	n.account.Start(sink)
	n.opened("audit log", func(ctx context.Context) error {
		ctx, cancel := share(ctx, auditShare)
		defer cancel()
		if err := n.account.Close(ctx); err != nil {
			n.log.Error("the audit log has not all that happened", "error", err)
		}
		return nil
	})
}

// auditWarnings says why the account is not what it should be.
func (n *Node) auditWarnings() []string {
	if n.account == nil {
		return nil
	}
	s := n.account.Stats()
	if s.Failing == 0 && (s.Err == nil) {
		return nil
	}
	said := fmt.Sprintf("the audit log cannot be written for %v: %v; %d records wait, %d events were not recorded", s.Failing.Round(time.Second), s.Err, s.Queued, s.Lost)
	if n.config.Security.Audit.OnFull == "block" {
		said += "; administrative acts and logins are refused until it can"
	}
	return []string{said}
}

// recordLocal records what somebody at the machine has had the node do.
func (n *Node) recordLocal(action, kind, name string, err error) {
	e := audit.Event{Door: audit.DoorLocal, Action: action, ResourceType: kind, Resource: name, Outcome: audit.Allowed}
	if err != nil {
		e.Outcome, e.Reason = audit.Failed, err.Error()
	}
	n.audit.Record(e)
}

// loggedAudit tells events to the log of a process that reaches no broker. It is never full.
type loggedAudit struct {
	policy audit.Policy
	log    *slog.Logger
}

// Record implements [audit.Recorder].
func (l loggedAudit) Record(e audit.Event) {
	if e, wanted := l.policy.Filter(e); wanted {
		l.log.Info("audit", "action", e.Action, "outcome", e.Outcome.String(), "principal", e.Principal, "source", e.Source, "door", e.Door,
			"resource_type", e.ResourceType, "resource", e.Resource, "reason", e.Reason, "detail", e.Detail, "request", e.Request)
	}
}

// Admit implements [audit.Recorder].
func (l loggedAudit) Admit() error { return nil }

// auditMetrics are the figures of the account.
type auditMetrics struct {
	metric.Descs
	of                                     *audit.Log
	events, written, lost, queued, failing *prometheus.Desc
}

func newAuditMetrics(of *audit.Log) *auditMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New("audit_"+name, help, labels...)
	}
	m := &auditMetrics{
		of:      of,
		events:  desc("events_total", "Events that the policy has recorded, by outcome; several alike may be told as one.", "outcome"),
		written: desc("records_written_total", "Records written to the audit log."),
		lost:    desc("events_lost_total", "Events that could not be recorded, for too many waited to be written."),
		queued:  desc("queued_records", "Records that wait to be written."),
		failing: desc("failing_seconds", "For how long the audit log cannot be written; 0: it can."),
	}
	m.Descs = descs
	return m
}

// Collect implements prometheus.Collector.
func (m *auditMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.of.Stats()
	for _, o := range audit.Outcomes() {
		out <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(s.Events[o]), o.String())
	}
	out <- prometheus.MustNewConstMetric(m.written, prometheus.CounterValue, float64(s.Written))
	out <- prometheus.MustNewConstMetric(m.lost, prometheus.CounterValue, float64(s.Lost))
	out <- prometheus.MustNewConstMetric(m.queued, prometheus.GaugeValue, float64(s.Queued))
	out <- prometheus.MustNewConstMetric(m.failing, prometheus.GaugeValue, s.Failing.Seconds())
}
