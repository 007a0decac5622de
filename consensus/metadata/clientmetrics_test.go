package metadata

import (
	"maps"
	"strconv"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

func clientMetrics(name string, version uint64, set map[string]string, remove ...string) *pb.AlterConfigs {
	return &pb.AlterConfigs{ResourceType: int32(ClientMetricsResource), Name: name, Version: version, Set: configEntries(set), Remove: remove}
}

// A subscription is there by being named: with its last value it goes, and what is kept
// comes back from a snapshot, apart from groups and brokers.
func TestSubscriptionsToClientMetrics(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: GroupConfigsFeatureLevel})
	change := clientMetrics("s", 0, map[string]string{"metrics": "*"})
	if _, err := Encode(l.state.Image(), change); CodeOf(err) != UnsupportedVersion {
		t.Fatalf("below its feature level: %v", err)
	}
	l.accepted(&pb.SetFeatureLevel{Level: ClientMetricsFeatureLevel})
	l.accepted(groupConfig("g", 0, map[string]string{"a": "1"}))
	before := l.state.Image()
	l.accepted(change)
	if l.state.Image().SameConfigs(before) || !before.SameConfigs(before) {
		t.Error("a subscription leaves the configurations as they were")
	}
	l.accepted(clientMetrics("t", 0, map[string]string{"metrics": "a"}))
	l.accepted(clientMetrics("t", l.index, nil, "metrics"))
	restored, err := decodeSnapshot(l.state.Image().Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for c := range restored.ClientMetrics() {
		if n++; c.Resource.Name != "s" || !maps.Equal(c.Values, map[string]string{"metrics": "*"}) {
			t.Errorf("%+v", c)
		}
	}
	for c := range restored.GroupConfigs() {
		if n++; c.Resource.Name != "g" {
			t.Errorf("%+v", c)
		}
	}
	if n != 2 {
		t.Errorf("%d configurations, want one subscription and one group", n)
	}
	nameless, err := Encode(l.state.Image(), clientMetrics("", 0, map[string]string{"metrics": "*"}))
	if err == nil {
		err = l.state.Image().Check(nameless)
	}
	if CodeOf(err) != InvalidRequest {
		t.Errorf("a subscription without a name: %v", err)
	}
}

// There is room for so many, whatever groups have; those that are there can be altered.
func TestSubscriptionsToClientMetricsAreBounded(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: ClientMetricsFeatureLevel})
	for i := range 2 * maxClientMetrics {
		l.accepted(groupConfig(strconv.Itoa(i), 0, map[string]string{"a": "1"}))
	}
	for i := range maxClientMetrics {
		l.accepted(clientMetrics(strconv.Itoa(i), 0, map[string]string{"metrics": "*"}))
	}
	last := l.index
	change := func(i int, version uint64) error {
		command, err := Encode(l.state.Image(), clientMetrics(strconv.Itoa(i), version, map[string]string{"metrics": "a"}))
		if err != nil {
			return err
		}
		return l.state.Image().Check(command)
	}
	if err := change(maxClientMetrics, 0); CodeOf(err) != PolicyViolation {
		t.Errorf("one more: %v", err)
	}
	if err := change(maxClientMetrics-1, last); err != nil {
		t.Errorf("one of them: %v", err)
	}
}
