package metadata

import (
	"maps"
	"strconv"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

func groupConfig(name string, version uint64, set map[string]string, remove ...string) *pb.AlterConfigs {
	return &pb.AlterConfigs{ResourceType: int32(GroupResource), Name: name, Version: version, Set: configEntries(set), Remove: remove}
}

// A group is there by being named: with its last value goes the configuration, and
// what is kept comes back from a snapshot.
func TestGroupsHaveConfigs(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: QuotasFeatureLevel})
	change := groupConfig("g", 0, map[string]string{"a": "1", "b": "2"})
	if _, err := Encode(l.state.Image(), change); CodeOf(err) != UnsupportedVersion {
		t.Fatalf("below its feature level: %v", err)
	}
	l.accepted(&pb.SetFeatureLevel{Level: GroupConfigsFeatureLevel})
	l.accepted(change)
	l.accepted(groupConfig("h", 0, map[string]string{"a": "1"}))
	l.accepted(groupConfig("h", l.index, nil, "a"))
	restored, err := decodeSnapshot(l.state.Image().Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for c := range restored.GroupConfigs() {
		if n++; c.Resource.Name != "g" || !maps.Equal(c.Values, map[string]string{"a": "1", "b": "2"}) {
			t.Errorf("%+v", c)
		}
	}
	if n != 1 {
		t.Errorf("%d groups have a configuration, want 1", n)
	}
	nameless, err := Encode(l.state.Image(), groupConfig("", 0, map[string]string{"a": "1"}))
	if err == nil {
		err = l.state.Image().Check(nameless)
	}
	if CodeOf(err) != InvalidRequest {
		t.Errorf("a group without a name: %v", err)
	}
}

// The image has room for so many; those that are there can always be altered.
func TestGroupsWithConfigsAreBounded(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: GroupConfigsFeatureLevel})
	m := *l.state.Image()
	for i := range maxGroupConfigs {
		r := Resource{GroupResource, strconv.Itoa(i)}
		m.configs = m.configs.put(r, &ResourceConfig{Resource: r, Version: 1, Values: map[string]string{"a": "1"}})
	}
	l.state.image.Store(&m)
	change := func(i int, version uint64) error {
		command, err := Encode(l.state.Image(), groupConfig(strconv.Itoa(i), version, map[string]string{"a": "2"}))
		if err != nil {
			return err
		}
		return l.state.Image().Check(command)
	}
	if err := change(maxGroupConfigs, 0); CodeOf(err) != PolicyViolation {
		t.Errorf("one more: %v", err)
	}
	if err := change(7, 1); err != nil {
		t.Errorf("one of them: %v", err)
	}
}
