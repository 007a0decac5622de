package roles_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/broker"
)

// TestAdminGroups: a real group, while it works and when it is gone. A reset is shown
// and not done, then done, and the next consumer begins there.
func TestAdminGroups(t *testing.T) {
	n := node(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	admin := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + n.HTTP(), "groups"}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	read := func(out any, args ...string) {
		t.Helper()
		must(t, json.Unmarshal([]byte(admin(0, append(args, "-o", "json")...)), out))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var groups []broker.GroupSummary
	if read(&groups, "list"); len(groups) != 0 {
		t.Errorf("groups of a new node: %+v", groups)
	}
	if out := admin(1, "describe", "g"); !strings.Contains(out, "GROUP_ID_NOT_FOUND: there is no group g") {
		t.Errorf("describe: %s", out)
	}
	if code, _, stderr := rustmq(t, "a\nb\nc\nd\n", "produce", "t", "-b", n.Kafka()); code != 0 {
		t.Fatal(stderr)
	}

	consumer, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.ConsumerGroup("g/1"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID("app"))
	must(t, err)
	defer consumer.Close()
	var records []*kgo.Record
	for len(records) < 4 {
		fetches := consumer.PollFetches(ctx)
		must(t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	must(t, consumer.CommitRecords(ctx, records[2]))
	var d broker.GroupDescription
	read(&d, "describe", "g/1")
	if d.State != "Stable" || d.Lag != 1 || len(d.MemberList) != 1 || d.MemberList[0].ClientID != "app" || len(d.PartitionList) != 1 {
		t.Fatalf("described as %+v", d)
	}
	if p := d.PartitionList[0]; *p.Committed != 3 || p.End != 4 || *p.Lag != 1 || *p.Behind < 0 || *p.Behind > 60 || p.MemberID != d.MemberList[0].ID {
		t.Errorf("its partition: %+v", p)
	}
	for _, args := range [][]string{{"reset-offsets", "g/1", "--all-topics", "--to-earliest"}, {"delete", "g/1"}} {
		if out := admin(1, args...); !strings.Contains(out, "NON_EMPTY_GROUP") || !strings.Contains(out, "stop its consumers") {
			t.Errorf("%v: %s", args, out)
		}
	}
	consumer.Close()

	if read(&groups, "list"); len(groups) != 1 || groups[0].Group != "g/1" || groups[0].State != "Empty" || groups[0].Members != 0 || groups[0].Lag != 1 {
		t.Errorf("listed as %+v", groups)
	}
	resp, err := http.Get("http://" + n.HTTP() + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{`rustmq_group_lag_records{group="g/1",partition="",topic="t"} 1`, `rustmq_group_lag_seconds{group="g/1",partition="",topic="t"} `} {
		if !strings.Contains(string(text), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	committed := func() int64 {
		t.Helper()
		var d broker.GroupDescription
		read(&d, "describe", "g/1")
		return *d.PartitionList[0].Committed
	}
	reset := func(execute bool, want int64, args ...string) {
		t.Helper()
		before := committed()
		args = append([]string{"reset-offsets", "g/1"}, args...)
		if execute {
			args = append(args, "--execute")
		}
		var plan broker.OffsetPlan
		read(&plan, args...)
		if len(plan.Partitions) != 1 || *plan.Partitions[0].From != before || *plan.Partitions[0].To != want || plan.Executed != execute {
			t.Errorf("%v: %+v, want from %d to %d", args, plan, before, want)
		}
		if execute {
			before = want
		}
		if is := committed(); is != before {
			t.Errorf("%v: committed is %d, want %d", args, is, before)
		}
	}
	reset(false, 1, "--all-topics", "--shift-by", "-2")
	reset(true, 1, "--all-topics", "--shift-by=-2")
	reset(true, 4, "--topic", "t", "--to-latest")
	reset(true, 4, "--topic", "t:0", "--to-offset", "9")
	reset(true, 0, "--topic", "t:0,0", "--to-time", "@0")
	reset(false, 4, "--topic", "t", "--to-time", "2999-01-01T00:00:00Z")
	reset(true, 2, "--topic", "t", "--to-offset", "2")
	if code, stdout, stderr := rustmq(t, "", "consume", "t", "-b", n.Kafka(), "-g", "g/1", "-n", "1", "-f", `%o\n`); code != 0 || stdout != "2\n" {
		t.Errorf("the next consumer read at %q, %s", stdout, stderr)
	}
	if out := admin(0, "reset-offsets", "new", "--topic", "t", "--to-latest", "--execute"); !strings.Contains(out, "the group is new") {
		t.Errorf("a new group: %s", out)
	}
	for _, args := range [][]string{
		{"reset-offsets", "g"}, {"reset-offsets", "g", "--all-topics"}, {"reset-offsets", "g", "--to-latest"},
		{"reset-offsets", "g", "--all-topics", "--topic", "t", "--to-latest"}, {"reset-offsets", "g", "--all-topics", "--to-latest", "--to-earliest"},
		{"reset-offsets", "g", "--all-topics", "--to-offset", "-1"}, {"reset-offsets", "g", "--all-topics", "--to-time", "noon"},
		{"reset-offsets", "g", "--topic", "t:x", "--to-latest"},
	} {
		admin(2, args...)
	}
	admin(0, "delete", "g/1", "--dry-run")
	admin(0, "delete", "g/1")
	if out := admin(1, "delete", "g/1"); !strings.Contains(out, "GROUP_ID_NOT_FOUND") {
		t.Errorf("delete again: %s", out)
	}
}
