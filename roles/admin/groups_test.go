package admin

import (
	"errors"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker"
)

func TestGroupsAreShown(t *testing.T) {
	empty := broker.GroupSummary{Group: "billing", Kind: "classic", State: "Empty", Partitions: 2, Lag: 130}
	busy := broker.GroupSummary{Group: "search", Kind: "consumer", ProtocolType: "consumer", State: "Stable", Members: 1, Partitions: 1, Lag: 1}
	golden(t, "groups", func(e *env) { e.showGroups([]broker.GroupSummary{empty, busy}) })
	golden(t, "group-empty", func(e *env) {
		e.showGroup(broker.GroupDescription{GroupSummary: empty, PartitionList: []broker.GroupPartition{
			{Topic: "orders", Committed: new(int64(70)), Start: 10, End: 200, Lag: new(int64(130)), Behind: new(3661.4)},
			{Topic: "orders", Partition: 1, Committed: new(int64(900)), End: 200, Lag: new(int64(0)), Behind: new(0.0), Note: "committed beyond the end"},
		}})
	})
	golden(t, "group", func(e *env) {
		e.showGroup(broker.GroupDescription{
			GroupSummary:  busy,
			MemberList:    []broker.GroupMember{{ID: "m-1", ClientID: "app", Host: "/127.0.0.1", Assigned: []broker.PartitionsTaken{{Topic: "orders", Partitions: []int32{0, 1}}}}, {ID: "m-2", InstanceID: "static", ClientID: "app", Host: "/127.0.0.1"}},
			PartitionList: []broker.GroupPartition{{Topic: "orders", Committed: new(int64(1)), End: 2, Lag: new(int64(1)), MemberID: "m-1"}, {Topic: "orders", Partition: 1, End: 5, MemberID: "m-1"}},
		})
	})
}

func TestPlansAreShown(t *testing.T) {
	plan := broker.OffsetPlan{Group: "billing", Partitions: []broker.OffsetMove{
		{Topic: "orders", From: new(int64(70)), To: new(int64(10)), Start: 10, End: 200, Note: "0 lies outside of the log: the log start"},
		{Topic: "orders", Partition: 1, To: new(int64(5)), End: 200},
		{Topic: "orders", Partition: 2, From: new(int64(5)), To: new(int64(5)), End: 200},
		{Topic: "orders", Partition: 3, End: 200, Note: "nothing is committed that could be shifted"},
	}}
	golden(t, "reset-preview", func(e *env) { e.showPlan(plan) })
	plan.New = true
	golden(t, "reset-preview-new", func(e *env) { e.showPlan(plan) })
	plan.Executed = true
	golden(t, "reset-done", func(e *env) { e.showPlan(plan) })
	plan.Partitions = plan.Partitions[3:]
	golden(t, "reset-of-nothing", func(e *env) { e.showPlan(plan) })
}

func TestResetFlags(t *testing.T) {
	now := time.UnixMilli(5_000_000)
	for text, want := range map[string]int64{"@1500": 1500, "1970-01-02": 86_400_000, "@1970-01-02": 86_400_000, "-1h": 1_400_000, "@-1h": 1_400_000, "1970-01-01T00:00:02.5Z": 2500, "1970-01-01T01:00:01+01:00": 1000} {
		if got, err := resetTime(text, now); got != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "@", "@-1", "now", "1500", "-2h", "1969-12-31T23:59:59Z"} {
		if _, err := resetTime(text, now); !errors.As(err, new(*UsageError)) {
			t.Errorf("%q: %v, want wrong usage", text, err)
		}
	}
	got, err := resetTopics([]string{"a", "b:0,3"})
	if err != nil || len(got) != 2 || got[0].Topic != "a" || got[0].Partitions != nil || len(got[1].Partitions) != 2 || got[1].Partitions[1] != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", ":1", "a:", "a:x", "a:1,", "a:-1", "a:99999999999"} {
		if _, err := resetTopics([]string{text}); !errors.As(err, new(*UsageError)) {
			t.Errorf("%q: %v, want wrong usage", text, err)
		}
	}
}
