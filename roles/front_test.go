package roles_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/security/ca"
)

// fetch is an answer of the admin API of a node.
func (c *processes) fetch(at int, path string, into any) int {
	c.Helper()
	c.abreast(at)
	resp, err := c.client.Get("http://" + c.host(at) + ":9642" + path)
	must(c.T, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(c.T, err)
	if resp.StatusCode == http.StatusOK && into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			c.Fatalf("%s at node %d: %v: %s", path, at, err, raw)
		}
	}
	if resp.StatusCode != http.StatusOK {
		c.Logf("%s at node %d: %s %s", path, at, resp.Status, raw)
	}
	return resp.StatusCode
}

// front starts a process with the role admin alone, and waits for it.
func (c *processes) front(id int) {
	c.Helper()
	as := c.as
	c.as = "admin serve"
	c.start(id)
	c.as = as
	c.await(id)
}

// Any process answers anything: one with the role admin alone, a broker that hosts nothing of
// what it is asked, and a controller. It is one story, and as long as that.
func TestAFrontServesAllOfTheAdminAPI(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "topics", "create", "orders", "-p", "3", "-r", "1")
	c.refused(9, "name its controllers", "--peers", "", "--roles", "admin")
	c.front(7)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(1)+":9092"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	defer client.Close()
	for i := range 30 {
		must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Partition: int32(i % 3), Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "order %d", i)}).FirstErr())
	}
	for read := 0; read < 30; {
		fetches := client.PollFetches(t.Context())
		must(t, fetches.Err0())
		read += fetches.NumRecords()
	}
	must(t, client.CommitUncommittedOffsets(t.Context()))

	for at := range c.nodes {
		// What leaders alone know, of partitions that each has one replica of.
		var topic admin.Topic
		if c.fetch(at, "/api/v1/topics/orders", &topic); topic.Records != 30 || slices.ContainsFunc(topic.PartitionList, func(p admin.Partition) bool { return p.HighWatermark != 10 || p.Unknown != "" }) {
			t.Errorf("node %d: %+v", at, topic)
		}
		var groups struct {
			Groups []struct{ Group, State string }
		}
		if c.fetch(at, "/api/v1/groups", &groups); len(groups.Groups) != 1 || groups.Groups[0].Group != "readers" {
			t.Errorf("node %d: %+v", at, groups)
		}
		var group struct {
			PartitionList []struct {
				Committed *int64
				Lag       *int64 `json:"lag_records"`
			} `json:"partition_list"`
		}
		if c.fetch(at, "/api/v1/groups/readers", &group); len(group.PartitionList) != 3 || group.PartitionList[0].Lag == nil || *group.PartitionList[0].Lag != 0 {
			t.Errorf("node %d: %+v", at, group)
		}
		var look admin.PeekedMessages
		for p := range 3 {
			c.fetch(at, fmt.Sprintf("/api/v1/topics/orders/records?partition=%d&offset=3&limit=2", p), &look)
			if len(look.Records) != 2 || look.Next != 5 || look.Records[0].Offset != 3 || look.Records[0].Value == nil || *look.Records[0].Value != fmt.Sprintf("order %d", 9+p) {
				t.Errorf("node %d, partition %d: %+v", at, p, look)
			}
		}
		var storage admin.BucketState
		if c.fetch(at, "/api/v1/storage", &storage); storage.MetadataLog.Shipped == 0 || slices.ContainsFunc(storage.Warnings, func(w string) bool { return strings.Contains(w, "not told") }) {
			t.Errorf("node %d: %+v", at, storage)
		}
		var nodes struct{ Nodes []admin.NodeReport }
		if c.fetch(at, "/api/v1/nodes", &nodes); len(nodes.Nodes) != 3 || slices.ContainsFunc(nodes.Nodes, func(n admin.NodeReport) bool {
			return n.Figures == nil || n.Figures.Version == "" || n.Figures.DiskTotal == 0 || n.Figures.WAL == nil || n.Figures.Upload == nil
		}) {
			t.Errorf("node %d: %+v", at, nodes)
		}
		for _, path := range []string{
			"/api/v1/cluster", "/api/v1/etl/nodes", "/api/v1/brokers/2/decommission", "/api/v1/cluster/health", "/api/v1/brokers", "/api/v1/controllers", "/api/v1/acls", "/api/v1/users", "/api/v1/tokens", "/api/v1/quotas",
			"/api/v1/audit", "/api/v1/etl/modules", "/api/v1/etl/batteries", "/api/v1/storage/cost", "/api/v1/operations", "/api/v1/config", "/api/v1/node/certificates", "/api/v1/openapi.json", "/api/v1/topics/orders/partitions",
		} {
			if status := c.fetch(at, path, nil); status != http.StatusOK {
				t.Errorf("node %d: %s: %d", at, path, status)
			}
		}
		if status := c.fetch(at, "/api/v1/groups/nobody", nil); status != http.StatusNotFound {
			t.Errorf("node %d: a group that is not there: %d", at, status)
		}
	}
	// Changes go through it too: of the metadata, of records wherever they are led, and of what a broker has.
	for p := range 3 {
		topic := "http://" + c.host(7) + ":9642/api/v1/topics/orders"
		var sent admin.SentRecord
		if status, said := callBy(t, c.client, http.MethodPost, topic+"/records", fmt.Sprintf(`{"partition":%d,"value":"by hand"}`, p), &sent); status != http.StatusCreated || sent.Offset != 10 {
			t.Errorf("partition %d: %d %s", p, status, said)
		}
		var done admin.DeletedRecords
		if status, said := callBy(t, c.client, http.MethodPost, topic+"/delete-records", fmt.Sprintf(`{"partitions":[{"partition":%d,"before":4}]}`, p), &done); status != http.StatusOK || *done.Partitions[0].LogStart != 4 {
			t.Errorf("partition %d: %d %s", p, status, said)
		}
	}
	client.Close()
	c.admin(7, "topics", "create", "made", "-p", "2")
	c.admin(7, "topics", "alter", "made", "--set", "retention.ms=1000000")
	c.admin(7, "groups", "reset-offsets", "readers", "--all-topics", "--to-earliest", "--execute")
	c.admin(7, "groups", "delete", "readers")
	c.admin(7, "storage", "probe")
	c.admin(7, "storage", "check")

	// It keeps nothing: with another directory it is the same.
	c.end(7, syscall.SIGTERM)
	must(t, os.RemoveAll(c.data(7)))
	c.front(7)
	if entries, err := os.ReadDir(filepath.Join(c.data(7))); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "wal" || e.Name() == "raft" }) {
		t.Errorf("%v, %v", entries, err)
	}

	// A broker that is gone is asked no more once that is known, and what it led is said to be
	// not known until then.
	var topic admin.Topic
	c.fetch(7, "/api/v1/topics/orders", &topic)
	gone := int(topic.PartitionList[0].Leader)
	c.end(gone, syscall.SIGKILL)
	c.fetch(7, "/api/v1/topics/orders", &topic)
	for _, p := range topic.PartitionList {
		if (int(p.Leader) == gone) != (p.Unknown != "") && p.Leader > 0 {
			t.Errorf("broker %d is gone: %+v", gone, p)
		}
	}
	if status := c.fetch(7, "/api/v1/topics/orders/records?partition=0", nil); status != http.StatusServiceUnavailable {
		t.Errorf("a look at what nobody leads: %d", status)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		if c.fetch(7, "/api/v1/cluster/health", nil) == http.StatusOK && c.fetch(7, "/api/v1/groups", nil) == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("groups are not listed again")
		}
	}
}

// A front proves by its certificate that it is one: brokers answer it what operators may ask,
// and whoever else has a certificate of the cluster gets nothing so.
func TestAFrontProvesItsRole(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	c := &processes{T: t, first: 1, dir: t.TempDir(), nodes: map[int]*clusterNode{}, client: newHTTP(), net: newNet()}
	t.Cleanup(func() {
		for id := range maps.Clone(c.nodes) {
			c.end(id, syscall.SIGKILL)
		}
		c.client.CloseIdleConnections()
	})
	s.node(1, c.host(1))
	issue := func(id int, profile string) {
		s.put(s.Issue(ca.Request{Name: fmt.Sprintf("node-%d", id), Profile: profile, Cluster: "prod", Node: int32(id), Hosts: []string{c.host(id)}}))
	}
	issue(7, "admin")
	issue(8, "broker")
	c.start(1, "--certs", s.certs)
	c.await(1)
	c.admin(1, "topics", "create", "orders", "--partitions", "2")
	c.as = "admin serve"
	c.refused(9, "--profile admin --cluster NAME --node 9", "--certs", s.certs)
	c.refused(8, "with the roles admin", "--certs", s.certs) // its certificate is a broker's
	c.start(7, "--certs", s.certs)
	c.await(7)
	for _, args := range [][]string{
		{"topics", "describe", "orders"}, {"groups", "list"}, {"audit", "list"}, {"brokers", "list"}, {"cluster", "health"}, {"storage", "probe"}, {"controllers", "snapshot"}, {"topics", "create", "more"},
	} {
		if said := c.admin(7, args...); strings.Contains(said, "does not say") {
			t.Errorf("%v: %s", args, said)
		}
	}
	if status := c.fetch(7, "/api/v1/brokers", nil); status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", status)
	}
	// What was done through it is in the audit log, and its chain is whole.
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		var log admin.AuditEvents
		must(t, json.Unmarshal([]byte(c.admin(1, "audit", "list", "--action", "topic.create", "-o", "json")), &log))
		if slices.ContainsFunc(log.Events, func(e admin.AuditEvent) bool { return e.Node == 7 && e.Resource == "more" }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not in the audit log: %+v; %s", log, c.nodes[7].stderr.String())
		}
	}
	c.admin(1, "audit", "verify")
	c.end(7, syscall.SIGTERM)
	c.start(7, "--certs", s.certs)
	c.await(7)
	c.admin(7, "topics", "delete", "more")
	c.admin(7, "audit", "verify")
}
