package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
)

// pages reads a list in parts, and returns the names of its entries in order.
func (a *asking) pages(path, list string, limit int, name func(map[string]any) string, between func()) (names []string) {
	a.t.Helper()
	for cursor := ""; ; {
		w := a.do(http.MethodGet, fmt.Sprintf("%s?limit=%d&cursor=%s", path, limit, url.QueryEscape(cursor)), "", "Authorization", "Bearer "+a.local)
		if w.Code != http.StatusOK {
			a.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		var all map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
			a.t.Fatal(err)
		}
		part := all[list].([]any)
		if len(part) > limit {
			a.t.Errorf("%s: %d entries, %d are wanted", path, len(part), limit)
		}
		for _, one := range part {
			names = append(names, name(one.(map[string]any)))
		}
		next, more := all["next"].(string)
		if !more {
			return names
		}
		cursor = next
		between()
	}
}

// Every list comes in parts that together are all of it, each entry once, though what lies at
// the end of a part goes meanwhile.
func TestListsComeInParts(t *testing.T) {
	a := newAsking(t)
	var topics []controller.NewTopic
	var users []metadata.UserChange
	for i := range 23 {
		name := fmt.Sprintf("t%02d", (i*7)%23)
		topics = append(topics, controller.NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1})
		users = append(users, metadata.UserChange{User: name, Set: []metadata.ScramCredential{{Mechanism: metadata.ScramSHA256, Iterations: 4096, Salt: make([]byte, 16), StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}}})
		a.allow(name, acl.Read, acl.Topic, "x")
		a.token(name, name, true, time.Time{})
	}
	for _, r := range a.c.CreateTopics(t.Context(), topics, false) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, err := range a.c.AlterUsers(t.Context(), users) {
		if err != nil {
			t.Fatal(err)
		}
	}
	field := func(key string) func(map[string]any) string {
		return func(one map[string]any) string { return fmt.Sprint(one[key]) }
	}
	for _, c := range []struct {
		path, list string
		name       func(map[string]any) string
		want       int
	}{
		{"/api/v1/topics", "topics", field("name"), 25}, {"/api/v1/users", "users", field("name"), 23}, {"/api/v1/tokens", "tokens", field("name"), 23},
		{"/api/v1/acls", "acls", field("principal"), 23}, {"/api/v1/brokers", "brokers", field("id"), 3}, {"/api/v1/groups", "groups", field("group"), 2},
		{"/api/v1/topics/orders/partitions", "partitions", field("partition"), 12}, {"/api/v1/brokers/3/replicas", "replicas", func(one map[string]any) string { return fmt.Sprint(one["topic"], one["partition"]) }, -1},
	} {
		for _, limit := range []int{1, 4, 1000} {
			names := a.pages(c.path, c.list, limit, c.name, func() {})
			sorted := slices.Compact(slices.Sorted(slices.Values(names)))
			if len(sorted) != len(names) || c.want >= 0 && len(names) != c.want || len(names) == 0 {
				t.Errorf("%s by %d: %q", c.path, limit, names)
			}
		}
	}
	// The last of a part is deleted before the next is asked for.
	first := true
	names := a.pages("/api/v1/topics", "topics", 5, field("name"), func() {
		if first {
			a.want("delete", http.StatusNoContent, a.do(http.MethodDelete, "/api/v1/topics/t02", "", "Authorization", "Bearer "+a.local))
		}
		first = false
	})
	if len(names) != 25 || names[5] != "t03" {
		t.Errorf("%q", names)
	}
	for query, status := range map[string]int{"cursor=!": http.StatusBadRequest, "limit=-1": http.StatusUnprocessableEntity, "limit=10001": http.StatusUnprocessableEntity, "limit=x": http.StatusUnprocessableEntity} {
		a.want(query, status, a.do(http.MethodGet, "/api/v1/topics?"+query, "", "Authorization", "Bearer "+a.local))
	}
}

// countedHoldings counts the partitions whose leaders were asked.
type countedHoldings struct{ asked int }

func (h *countedHoldings) Holdings(_ context.Context, wanted []broker.PartitionNamed) []broker.Holding {
	h.asked += len(wanted)
	return make([]broker.Holding, len(wanted))
}

// Of a part of the partitions of a topic, only the leaders of that part are asked.
func TestAPartAsksForWhatIsInIt(t *testing.T) {
	h := &countedHoldings{}
	a := newAsking(t, func(o *Options) { o.Holdings = h })
	names := a.pages("/api/v1/topics/orders/partitions", "partitions", 5, func(one map[string]any) string { return fmt.Sprint(one["partition"]) }, func() {})
	if want := strings.Fields("0 1 2 3 4 5 6 7 8 9 10 11"); !slices.Equal(names, want) || h.asked != len(want) {
		t.Errorf("%q by asking for %d", names, h.asked)
	}
}
