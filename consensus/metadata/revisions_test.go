package metadata

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

func brokerConfigs(name string, version uint64, set map[string]string, remove ...string) *pb.AlterConfigs {
	return &pb.AlterConfigs{
		ResourceType: int32(BrokerResource), Name: name, Version: version, Set: configEntries(set), Remove: remove,
		By: "User:alice", At: 1_700_000_000_123,
	}
}

// Who changed what of which broker, and when, is kept: through snapshots and in what
// brokers are shown. What changes nothing, and what is not of brokers, is no part of it.
func TestConfigsOfBrokersHaveAHistory(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: ConfigHistoryFeatureLevel - 1})
	before := brokerConfigs("", 0, map[string]string{"k": "0"})
	if _, err := Encode(l.state.Image(), before); CodeOf(err) != UnsupportedVersion {
		t.Fatalf("below its feature level: %v", err)
	}
	before.By, before.At = "", 0
	l.accepted(before)
	l.accepted(&pb.SetFeatureLevel{Level: ConfigHistoryFeatureLevel})
	l.accepted(brokerConfigs("", 2, map[string]string{"k": "1", "l": "2"}))
	l.accepted(brokerConfigs("", l.index, map[string]string{"k": "1"}))
	l.accepted(brokerConfigs("", l.index, map[string]string{"k": "3"}, "l"))
	l.accepted(brokerConfigs("7", 0, map[string]string{"k": "4"}))
	l.accepted(groupConfig("g", 0, map[string]string{"k": "5"}))

	restored, err := decodeSnapshot(l.state.Image().Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	view := NewView()
	if err := view.Apply(EncodeDelta(nil, l.state.Image(), NoBroker)); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	value := func(s string) *string { return &s }
	want := []ConfigRevision{
		{Index: 4, By: "User:alice", At: at, Keys: []ConfigKeyChange{{"k", value("0"), value("1")}, {"l", nil, value("2")}}},
		{Index: 6, By: "User:alice", At: at, Keys: []ConfigKeyChange{{"k", value("1"), value("3")}, {"l", value("2"), nil}}},
		{Index: 7, Broker: "7", By: "User:alice", At: at, Keys: []ConfigKeyChange{{"k", nil, value("4")}}},
	}
	for of, m := range map[string]*Image{"the image": l.state.Image(), "a snapshot": restored, "a view": view.Image()} {
		got := slices.Collect(m.ConfigRevisions())
		if len(got) != len(want) {
			t.Fatalf("%s: %d changes, want %d", of, len(got), len(want))
		}
		for i, w := range want {
			if g := got[i]; g.Index != w.Index || g.Broker != w.Broker || g.By != w.By || !g.At.Equal(w.At) || shownKeys(g.Keys) != shownKeys(w.Keys) {
				t.Errorf("%s: change %d is %+v (%s), want %+v (%s)", of, i, *g, shownKeys(g.Keys), w, shownKeys(w.Keys))
			}
		}
	}
}

func shownKeys(keys []ConfigKeyChange) string {
	var b strings.Builder
	show := func(v *string) string {
		if v == nil {
			return "-"
		}
		return "=" + *v
	}
	for _, k := range keys {
		b.WriteString(k.Key + show(k.Old) + show(k.New) + " ")
	}
	return b.String()
}

// The history has room for so many changes, and the oldest give way.
func TestHistoryOfConfigsIsBounded(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: ConfigHistoryFeatureLevel})
	version := uint64(0)
	var images []*Image
	for i := range maxConfigRevisions + 5 {
		l.accepted(brokerConfigs("", version, map[string]string{"k": string(rune('a' + i%7))}))
		version = l.index
		images = append(images, l.state.Image())
	}
	got := slices.Collect(l.state.Image().ConfigRevisions())
	if len(got) != maxConfigRevisions || got[0].Index != 7 || got[len(got)-1].Index != version {
		t.Fatalf("%d changes, from %d to %d; want %d, from 7 to %d", len(got), got[0].Index, got[len(got)-1].Index, maxConfigRevisions, version)
	}
	view := NewView()
	for i, before := range []*Image{nil, images[250]} {
		after := []*Image{images[250], l.state.Image()}[i]
		if err := view.Apply(EncodeDelta(before, after, NoBroker)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(slices.Collect(view.Image().ConfigRevisions())); n != maxConfigRevisions {
		t.Errorf("a view has %d", n)
	}
	keys := map[string]string{}
	for i := range maxRevisionKeys + 1 {
		keys[strings.Repeat("x", i+1)] = "1"
	}
	large, err := Encode(l.state.Image(), brokerConfigs("", version, keys))
	if err == nil {
		err = l.state.Image().Check(large)
	}
	if CodeOf(err) != InvalidRequest {
		t.Errorf("%d keys at once: %v", len(keys), err)
	}
}
