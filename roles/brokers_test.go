package roles_test

import (
	"encoding/json"
	"strings"
	"testing"

	"rustmq.dev/rustmq/roles/admin"
)

// TestAdminBrokersAndControllers walks the commands at a node alone, which is a cluster of
// one of each: what cannot be is refused with what to do.
func TestAdminBrokersAndControllers(t *testing.T) {
	n := node(t)
	run := func(want int, line string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + n.HTTP()}, strings.Fields(line)...)...)
		if code != want {
			t.Fatalf("%s: exit %d, want %d: %s%s", line, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	run(0, "topics create t -p 3")
	var brokers []admin.Broker
	if err := json.Unmarshal([]byte(run(0, "brokers list -o json")), &brokers); err != nil || len(brokers) != 1 {
		t.Fatalf("%+v, %v", brokers, err)
	}
	if b := brokers[0]; b.ID != 1 || b.State != "serving" || b.Leads != 3 || b.Replicas != 3 || b.InSync != 3 || b.Listeners[0].Address != n.Kafka() || b.ReplicaList != nil {
		t.Errorf("%+v", b)
	}
	var broker admin.Broker
	if err := json.Unmarshal([]byte(run(0, "brokers describe 1 -o json")), &broker); err != nil || len(broker.ReplicaList) != 3 || broker.ReplicaList[2].Topic != "t" {
		t.Errorf("%+v, %v", broker, err)
	}
	for _, c := range []struct {
		code       int
		line, want string
	}{
		{0, "brokers list", "serving"},
		{0, "brokers drain 1", "no other replica in sync"},
		{0, "brokers describe 1", "draining"},
		{1, "topics create u", "brokers"}, // nobody may have it
		{0, "brokers undrain 1", "broker 1 is serving: it leads 3 partitions"},
		{1, "brokers decommission 1", "start another broker"},
		{0, "brokers undrain 1", "serving"},
		{0, "cluster rebalance --dry-run", "replicas are spread evenly"},
		{0, "cluster rebalance -o json", `"sent_bytes": 0`},
		{1, "brokers describe 9", "there is no broker 9"},
		{1, "brokers drain 9", "there is no broker 9"},
		{1, "brokers decommission 9", "there is no broker 9"},
		{2, "brokers describe one", "is no id of a broker"},
		{0, "controllers list", "voter"},
		{0, "controllers list -o yaml", "leads: true"},
		{0, "controllers snapshot", "there is a snapshot up to entry"},
		{1, "controllers add 7", "has not made itself known: start it"},
		{1, "controllers remove 7", "there is no controller 7"},
		{1, "controllers remove 1", "without a member that has a vote"},
		{2, "controllers add 0", "is no id of a controller"},
	} {
		if said := run(c.code, c.line); !strings.Contains(said, c.want) {
			t.Errorf("%s: %s, without %q", c.line, said, c.want)
		}
	}
}
