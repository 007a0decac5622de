package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lags returns the lag metrics of a node, by name and labels.
func (n *node) lags() map[string]float64 {
	n.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(n.Metrics())
	families, err := r.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		name, is := strings.CutPrefix(f.GetName(), "rustmq_group_lag_")
		if !is {
			continue
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			found[key] = m.GetGauge().GetValue()
		}
	}
	return found
}

func wantLags(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for key, v := range want {
		if is, ok := got[key]; !ok || is != v {
			t.Errorf("%s is %v (%t), want %v", key, is, ok, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d metrics, want %d: %v", len(got), len(want), got)
	}
}

// commitTo commits offsets for a group without members.
func commitTo(t *testing.T, adm *kadm.Client, id string, offsets ...kadm.Offset) {
	t.Helper()
	all := kadm.Offsets{}
	for _, o := range offsets {
		o.LeaderEpoch = -1
		all.Add(o)
	}
	if err := adm.CommitAllOffsets(within(t, 30*time.Second), id, all); err != nil {
		t.Fatal(err)
	}
}

// TestLagIsExportedOfEmptyGroups: in records and seconds, of what nobody consumes
// now; nothing is behind at the end or beyond it, and what the log start has passed is
// no lag any more. More than may be is left out, and counted.
func TestLagIsExportedOfEmptyGroups(t *testing.T) {
	begun := time.Now().Truncate(time.Millisecond)
	clock := begun.Add(time.Minute)
	n, addr := startCluster(t, func(o *Options) { o.LagPartitions, o.Now = 4, func() time.Time { return clock } })
	ctx := within(t, 30*time.Second)
	cl := newClient(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopics(ctx, 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // a batch each, ten seconds apart
		r := &kgo.Record{Topic: "t", Value: []byte{byte(i)}, Timestamp: begun.Add(time.Duration(i) * 10 * time.Second)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	wantLags(t, n.lags(), map[string]float64{"left_out_partitions limit": 0, "left_out_partitions name": 0, "left_out_partitions not_led": 0})

	commitTo(t, adm, "g", kadm.Offset{Topic: "t", At: 1}, kadm.Offset{Topic: "t", Partition: 1, At: 0})
	commitTo(t, adm, "beyond", kadm.Offset{Topic: "t", At: 9})
	want := map[string]float64{
		"records g 0 t": 3, "seconds g 0 t": 50, "records g 1 t": 0, "seconds g 1 t": 0,
		"records beyond 0 t": 0, "seconds beyond 0 t": 0,
		"left_out_partitions limit": 0, "left_out_partitions name": 0, "left_out_partitions not_led": 0,
	}
	wantLags(t, n.lags(), want)

	if _, err := adm.DeleteRecords(ctx, func() kadm.Offsets {
		o := kadm.Offsets{}
		o.AddOffset("t", 0, 3, -1)
		return o
	}()); err != nil {
		t.Fatal(err)
	}
	want["records g 0 t"], want["seconds g 0 t"] = 1, 30
	wantLags(t, n.lags(), want)

	// A clock ahead of this one is no negative lag.
	clock = begun
	want["seconds g 0 t"] = 0
	wantLags(t, n.lags(), want)

	// A name that no label can have spoils nothing.
	commitTo(t, adm, "\xff", kadm.Offset{Topic: "t", At: 1})
	want["left_out_partitions name"] = 1
	wantLags(t, n.lags(), want)

	for i := range 3 {
		commitTo(t, adm, fmt.Sprintf("more-%d", i), kadm.Offset{Topic: "t", At: 1})
	}
	var exported int
	got := n.lags()
	for key := range got {
		if strings.HasPrefix(key, "records ") {
			exported++
		}
	}
	if all := float64(exported) + got["left_out_partitions limit"] + got["left_out_partitions name"]; got["left_out_partitions limit"] != 3 || all != 7 {
		t.Errorf("%d of 7 exported: %v", exported, got)
	}
}
