package broker

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/metric"
)

// replicationMetrics show what goes to other brokers and comes from them.
type replicationMetrics struct {
	metric.Descs
	sent, received, changes, under, lag, unconfirmed, healing, givenUp, parted *prometheus.Desc
}

func newReplicationMetrics() *replicationMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New("broker_"+name, help, labels...)
	}
	m := &replicationMetrics{
		sent:        desc("replication_sent_bytes_total", "Bytes of record batches pushed to followers."),
		received:    desc("replication_received_bytes_total", "Bytes of record batches taken from leaders."),
		changes:     desc("isr_changes_total", "Changes of the set of replicas in sync that this broker had made, by their kind.", "change"),
		under:       desc("under_replicated_partitions", "Partitions led here of which fewer replicas are in sync than there are."),
		lag:         desc("replication_lag_records", "Records that a follower has not confirmed, of all partitions that it follows this broker in.", "follower"),
		healing:     desc("healing_replicas", "Replicas that the disk could not give back whole, that began anew from their leaders and are not in sync yet."),
		givenUp:     desc("given_up_replicas_total", "Replicas that the disk could not give back whole, and that the controller was told to count upon no more."),
		parted:      desc("parted_replicas", "Replicas that are held to have all that was acknowledged, and are fed nothing: what is committed here is not in their leader's log."),
		unconfirmed: desc("replication_unconfirmed_bytes", "Bytes that a follower was sent and has not confirmed.", "follower"),
	}
	m.Descs = descs
	return m
}

func (m *replicationMetrics) collect(out chan<- prometheus.Metric, r *replicas, h Healing) {
	if r == nil {
		return
	}
	s := r.leader.Stats()
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	emit(m.sent, prometheus.CounterValue, float64(s.Bytes))
	emit(m.received, prometheus.CounterValue, float64(r.follower.Bytes()))
	emit(m.changes, prometheus.CounterValue, float64(s.Shrinks), "shrink")
	emit(m.changes, prometheus.CounterValue, float64(s.Growths), "growth")
	emit(m.under, prometheus.GaugeValue, float64(s.UnderReplicated))
	emit(m.healing, prometheus.GaugeValue, float64(h.Now))
	emit(m.givenUp, prometheus.CounterValue, float64(h.GivenUp))
	emit(m.parted, prometheus.GaugeValue, float64(r.follower.Parted()))
	for _, f := range s.Followers {
		id := strconv.Itoa(int(f.Broker))
		emit(m.lag, prometheus.GaugeValue, float64(f.Lag), id)
		emit(m.unconfirmed, prometheus.GaugeValue, float64(f.Unconfirmed), id)
	}
}
