package broker

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// TestResetsStayWithinTheLog: whatever is asked for, the new offset is one that can be
// read, and what was not done as asked for is said.
func TestResetsStayWithinTheLog(t *testing.T) {
	for _, c := range []struct {
		to    string
		value int64
		from  *int64
		found *int64
		want  int64 // -1: left as it is
		note  string
	}{
		{ResetToEarliest, 0, new(int64(50)), nil, 10, ""},
		{ResetToLatest, 0, nil, nil, 100, ""},
		{ResetToOffset, 42, nil, nil, 42, ""},
		{ResetToOffset, 9, nil, nil, 10, "9 lies outside of the log: the log start"},
		{ResetToOffset, 101, nil, nil, 100, "101 lies outside of the log: the end"},
		{ResetToTime, 1, nil, new(int64(17)), 17, ""},
		{ResetToTime, 1, nil, nil, 100, "no record is that young"},
		{ResetByShift, -5, new(int64(50)), nil, 45, ""},
		{ResetByShift, 5, new(int64(100)), nil, 100, "105 lies outside"},
		{ResetByShift, math.MaxInt64, new(int64(50)), nil, 100, ""},
		{ResetByShift, math.MinInt64, new(int64(50)), nil, 10, "the log start"},
		{ResetByShift, -5, nil, nil, -1, "nothing is committed"},
		// Committed beyond the end: reported, not obeyed.
		{ResetByShift, -5, new(int64(1000)), nil, 95, "1000 lies outside of the log: shifted from 100"},
		{ResetByShift, 5, new(int64(0)), nil, 15, "0 lies outside of the log: shifted from 10"},
	} {
		m := OffsetMove{From: c.from, Start: 10, End: 100}
		m.aim(OffsetReset{To: c.to, Value: c.value}, c.found)
		got := int64(-1)
		if m.To != nil {
			got = *m.To
		}
		if got != c.want || !strings.Contains(m.Note, c.note) || c.note == "" && m.Note != "" {
			t.Errorf("%s %d: to %d, %q; want %d, %q", c.to, c.value, got, m.Note, c.want, c.note)
		}
	}
}

// TestResetsAreRefused: what cannot be meant, and groups with members, change nothing.
func TestResetsAreRefused(t *testing.T) {
	n, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	adm := kadm.NewClient(newClient(t, addr))
	if _, err := adm.CreateTopics(ctx, 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	topic := []ResetTopic{{Topic: "t"}}
	refused := func(id string, r OffsetReset, want *kerr.Error) {
		t.Helper()
		r.Execute = true
		if _, err := n.ResetOffsets(ctx, id, r); !errors.Is(err, want) || !errors.As(err, new(*GroupError)) {
			t.Errorf("%+v: %v, want %v", r, err, want)
		}
	}
	refused("g", OffsetReset{AllTopics: true, To: ResetToEarliest}, kerr.GroupIDNotFound)
	refused("g", OffsetReset{To: ResetToEarliest}, kerr.InvalidRequest)
	refused("g", OffsetReset{Topics: topic, AllTopics: true, To: ResetToEarliest}, kerr.InvalidRequest)
	refused("g", OffsetReset{Topics: topic, To: "there"}, kerr.InvalidRequest)
	refused("g", OffsetReset{Topics: topic, To: ResetToOffset, Value: -1}, kerr.InvalidRequest)
	refused("g", OffsetReset{Topics: []ResetTopic{{Topic: "u"}}, To: ResetToEarliest}, kerr.UnknownTopicOrPartition)
	refused("g", OffsetReset{Topics: []ResetTopic{{"t", []int32{2}}}, To: ResetToEarliest}, kerr.UnknownTopicOrPartition)
	refused("g", OffsetReset{Topics: []ResetTopic{{"t", []int32{-1}}}, To: ResetToEarliest}, kerr.UnknownTopicOrPartition)
	if err := n.DeleteGroup(ctx, "g"); !errors.Is(err, kerr.GroupIDNotFound) {
		t.Errorf("a group that is not there was deleted: %v", err)
	}

	commitTo(t, adm, "g", kadm.Offset{Topic: "t", At: 0})
	c := newCrew(ctx, t, addr)
	c.hire("worker", kgo.ConsumeTopics("t"))
	c.until(2)
	d, err := n.DescribeGroup(ctx, "crew")
	if err != nil || len(d.MemberList) != 1 || len(d.PartitionList) != 2 || d.PartitionList[0].MemberID == "" {
		t.Fatalf("%+v, %v", d, err)
	}
	refused("crew", OffsetReset{Topics: topic, To: ResetToEarliest}, kerr.NonEmptyGroup)
	if err := n.DeleteGroup(ctx, "crew"); !errors.Is(err, kerr.NonEmptyGroup) {
		t.Errorf("a group with members was deleted: %v", err)
	}
	// The preview was of an empty group, and members have come since.
	err = n.commitMoves(ctx, &OffsetPlan{Group: "crew", Partitions: []OffsetMove{{Topic: "t", To: new(int64(0))}}})
	if !errors.Is(err, kerr.NonEmptyGroup) {
		t.Errorf("offsets were taken from members: %v", err)
	}
	for _, end := range c.running {
		end()
	}
}

// slowLog is a topic of groups that takes longer to read than anybody waits.
type slowLog struct{ group.Log }

func (slowLog) Read(ctx context.Context, _ int32, _ storage.Epoch, _ func(batch.Batch) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestListOfGroupsWaitsOnceForAllThatLoad: not once for each partition.
func TestListOfGroupsWaitsOnceForAllThatLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups, err := group.Open(group.Options{Log: slowLog{}})
		if err != nil {
			t.Fatal(err)
		}
		defer groups.Close()
		for i := range int32(group.Partitions) {
			groups.Load(i, 1)
		}
		b := &Broker{groups: groups}
		begun := time.Now()
		if _, err := b.ListGroups(t.Context()); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != loadWait {
			t.Fatalf("it took %v", took)
		}
	})
}
