package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/txn"
)

// Of transactions it is told how many there are in which state, and for how long the
// longest has been open: what keeps readers of what is committed waiting.
func TestTransactionsAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("out", 1)
		in := n.controller.createTopic("in", 1)
		first, second := n.transact("first"), n.transact("second")
		n.transact("idle")
		began := time.Now()
		for _, tx := range []*transactor{first, second} {
			if code := tx.commitOffset(5, in, 7); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			<-time.After(10 * time.Second)
		}
		figures := n.figures()
		for name, want := range map[string]float64{
			"rustmq_transactions_open":                                  2,
			"rustmq_transactional_ids/Ongoing":                          2,
			"rustmq_transactional_ids/Empty":                            1,
			"rustmq_transactional_ids/CompleteCommit":                   0,
			"rustmq_transaction_oldest_open_seconds":                    time.Since(began).Seconds(),
			"rustmq_groups":                                             1,
			"rustmq_coordinator_partitions/loaded/__transaction_state":  txn.Partitions,
			"rustmq_coordinator_partitions/loading/__transaction_state": 0,
			"rustmq_coordinator_partitions/loaded/__consumer_offsets":   coordinatorPartitions,
		} {
			if got, ok := figures[name]; !ok || got < want-0.01 || got > want+0.01 {
				t.Errorf("%s: %v (there: %v), want %v", name, got, ok, want)
			}
		}
		if figures["rustmq_transaction_state_bytes"] <= 0 || figures["rustmq_group_state_bytes"] <= 0 {
			t.Errorf("memory: %v", figures)
		}
		for _, q := range []kmsg.Request{
			kmsg.NewPtrListTransactionsRequest(), kmsg.NewPtrListGroupsRequest(), kmsg.NewPtrDescribeTransactionsRequest(), kmsg.NewPtrDescribeProducersRequest(),
		} {
			if n.answerMemory(q) <= 0 {
				t.Errorf("%T takes no memory, whatever there is to tell", q)
			}
		}
		first.end(5, true)
		second.end(5, false)
		<-time.After(time.Second)
		figures = n.figures()
		for name, want := range map[string]float64{
			"rustmq_transactions_open": 0, "rustmq_transaction_oldest_open_seconds": 0,
			"rustmq_transactional_ids/CompleteCommit": 1, "rustmq_transactional_ids/CompleteAbort": 1, "rustmq_transactional_ids/Empty": 1,
		} {
			if figures[name] != want {
				t.Errorf("at the end, %s: %v, want %v", name, figures[name], want)
			}
		}
		n.server.Close()
		n.Close()
	})
}

// figures returns what the coordinators' metrics are, by name and values of labels.
func (n *node) figures() map[string]float64 {
	n.t.Helper()
	out := make(chan prometheus.Metric, 100)
	n.Broker.metrics.coordinators.collect(out)
	close(out)
	registry := prometheus.NewRegistry()
	var all []prometheus.Metric
	for m := range out {
		all = append(all, m)
	}
	registry.MustRegister(collected(all))
	families, err := registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label { // in order of their names
				name += "/" + l.GetValue()
			}
			figures[name] = m.Gauge.GetValue()
		}
	}
	return figures
}

// collected are metrics as a collector.
type collected []prometheus.Metric

func (c collected) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

func (c collected) Collect(out chan<- prometheus.Metric) {
	for _, m := range c {
		out <- m
	}
}
