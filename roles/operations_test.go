package roles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/admin"
)

// post asks a node for something, and reads its answer.
func (c *processes) post(at int, path, body string, into any) {
	c.Helper()
	c.abreast(at)
	resp, err := c.client.Post("http://"+c.host(at)+":9642"+path, "application/json", bytes.NewBufferString(body))
	must(c.T, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(c.T, err)
	if resp.StatusCode >= http.StatusBadRequest {
		c.Fatalf("%s at node %d: %s %s", path, at, resp.Status, raw)
	}
	must(c.T, json.Unmarshal(raw, into))
}

// operation waits until one is as wanted, as a node tells of it.
func (c *processes) operation(at int, id, state string) (o admin.Operation) {
	c.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		if c.fetch(at, "/api/v1/operations/"+id, &o) == http.StatusOK && o.State == state {
			return o
		}
	}
	c.Fatalf("operation %s is never %s: %+v", id, state, o)
	return o
}

// Long work has an id by which any process tells how far it is, also one that was started
// after it began.
func TestOperationsSurviveWhoBeganThem(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "topics", "create", "t", "-p", "6", "-r", "2")
	c.front(7)
	if status := c.fetch(7, "/api/v1/operations/drain-3", nil); status != http.StatusNotFound {
		t.Errorf("an id that is none: %d", status)
	}
	var drained admin.Broker
	c.post(7, "/api/v1/brokers/3/drain", `{"draining":true}`, &drained)
	if !strings.HasPrefix(drained.Operation, "drain-3-") {
		t.Fatalf("%+v", drained)
	}
	c.end(7, syscall.SIGKILL) // who was asked is no more
	c.front(8)
	done := c.operation(8, drained.Operation, "done")
	if done.Kind != "drain" || done.Broker != 3 || done.Left != 0 || !strings.Contains(done.What, "it can be stopped") {
		t.Errorf("%+v", done)
	}

	var going admin.Decommission
	c.post(8, "/api/v1/brokers/3/decommission", "", &going)
	if going.Begun == 0 || !strings.HasPrefix(going.Operation, "decommission-3-") {
		t.Fatalf("%+v", going)
	}
	if text := c.admin(2, "operations", "describe", going.Operation, "--wait", "--timeout", "1m"); !strings.Contains(text, going.Operation) || !strings.Contains(text, "done") {
		t.Errorf("who waits for it is told %s", text)
	}
	done = c.operation(1, going.Operation, "done")
	if done.Total < going.Begun || done.Left != 0 || !strings.Contains(done.What, "unregistered") {
		t.Errorf("%+v", done)
	}
	var all struct{ Operations []admin.Operation }
	if c.fetch(2, "/api/v1/operations", &all); len(all.Operations) != 0 {
		t.Errorf("%+v", all)
	}
	// Another cannot go: nobody can take its place.
	c.post(1, "/api/v1/brokers/2/decommission", "", &going)
	stuck := c.operation(8, going.Operation, "stuck")
	if stuck.Left < 6 || !strings.Contains(stuck.What, "start another broker") || len(stuck.Partitions) == 0 || len(going.Refused) < 6 {
		t.Errorf("%+v, %+v", stuck, going)
	}
	if text := c.admin(1, "operations", "list"); !strings.HasPrefix(text, "OPERATION") || !strings.Contains(text, "drain-2-0") || !strings.Contains(text, "start another broker") {
		t.Errorf("what is under way is %s", text)
	}
	code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "operations", "describe", going.Operation, "--wait")
	if code != 1 || !strings.Contains(stderr, "is stuck: ") {
		t.Errorf("who waits for what is stuck is told %d, %s", code, stderr)
	}
	c.post(8, "/api/v1/brokers/2/drain", `{"draining":false}`, &drained)
	c.operation(1, going.Operation, "ended")
	c.post(8, "/api/v1/brokers/3/drain", `{"draining":false}`, &drained)

	// Replicas are spread again, over the broker that is back.
	c.brokers(8, "broker 3 in service again", func(by map[int32]admin.Broker) bool { return by[3].State == "serving" })
	var spread admin.Rebalance
	c.post(8, "/api/v1/cluster/rebalance", `{}`, &spread)
	if len(spread.Moves) == 0 || spread.Operation != fmt.Sprintf("reassignment-%d", len(spread.Moves)-len(spread.Refused)) {
		t.Fatalf("%+v", spread)
	}
	if done := c.operation(3, spread.Operation, "done"); done.Left != 0 || done.Total != len(spread.Moves) {
		t.Errorf("%+v", done)
	}
}
