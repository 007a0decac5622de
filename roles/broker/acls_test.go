package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func creation(change func(*kmsg.CreateACLsRequestCreation)) kmsg.CreateACLsRequestCreation {
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = 2, "events.x", 3
	c.Principal, c.Host, c.Operation, c.PermissionType = "User:alice", "*", 3, 3
	change(&c)
	return c
}

// Rules are made, listed and deleted as Kafka's tools do it; each is taken or refused on
// its own.
func TestACLsByKafkasProtocol(t *testing.T) {
	n := startAuthorising(t)
	root := n.as("root")
	create := &kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{
		creation(func(*kmsg.CreateACLsRequestCreation) {}),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Operation, c.Host = 4, "10.1.2.3/8" }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName, c.ResourcePatternType = "events.", 4 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "*" }),
		creation(func(c *kmsg.CreateACLsRequestCreation) {
			c.ResourceType, c.ResourceName, c.Operation = 4, "kafka-cluster", 8
		}),
	}}
	for i, r := range ask[*kmsg.CreateACLsResponse](root, 3, create).Results {
		if r.ErrorCode != 0 {
			t.Errorf("rule %d: %v", i, kerr.ErrorForCode(r.ErrorCode))
		}
	}
	bad := &kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = 1 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType, c.Operation = 4, 8 }), // no kafka-cluster
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "" }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.ResourcePatternType = 2 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "alice" }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Host = "example.com" }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Operation = 1 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Operation = -1 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.PermissionType = 0 }),
		creation(func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "User:bob" }), // a good one
	}}
	results := ask[*kmsg.CreateACLsResponse](root, 2, bad).Results
	for i, r := range results {
		if last := i == len(results)-1; (r.ErrorCode == 0) != last || !last && (r.ErrorCode != kerr.InvalidRequest.Code || r.ErrorMessage == nil) {
			t.Errorf("rule %d: %+v", i, r)
		}
	}

	all := ask[*kmsg.DescribeACLsResponse](root, 3, describeACLs())
	if len(all.Resources) != 4 || len(all.Resources[2].ACLs) != 3 || len(all.Resources[0].ACLs)+len(all.Resources[1].ACLs)+len(all.Resources[2].ACLs)+len(all.Resources[3].ACLs) != 6 {
		t.Errorf("%+v", all.Resources)
	}
	match := describeACLs()
	match.ResourceType, match.ResourcePatternType, match.ResourceName = 2, 2, kmsg.StringPtr("events.x")
	if got := ask[*kmsg.DescribeACLsResponse](root, 1, match); len(got.Resources) != 3 {
		t.Errorf("%+v", got.Resources)
	}
	unknown := describeACLs()
	unknown.ResourceType = 99
	if got := ask[*kmsg.DescribeACLsResponse](root, 3, unknown); got.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%+v", got)
	}

	alice := kmsg.DeleteACLsRequestFilter{ResourceType: 2, ResourcePatternType: 1, Principal: kmsg.StringPtr("User:alice"), Operation: 3, PermissionType: 1}
	topics := kmsg.DeleteACLsRequestFilter{ResourceType: 2, ResourcePatternType: 1, Operation: 1, PermissionType: 1}
	gone := ask[*kmsg.DeleteACLsResponse](root, 3, &kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{alice, {}, topics}}).Results
	if len(gone[0].MatchingACLs) != 3 || gone[1].ErrorCode != kerr.InvalidRequest.Code || len(gone[2].MatchingACLs) != 2 {
		t.Errorf("%+v", gone)
	}
	if all = ask[*kmsg.DescribeACLsResponse](root, 3, describeACLs()); len(all.Resources) != 1 || all.Resources[0].ResourceName != "kafka-cluster" {
		t.Errorf("%+v", all.Resources)
	}
	many := &kmsg.DeleteACLsRequest{Filters: make([]kmsg.DeleteACLsRequestFilter, maxACLFilters+1)}
	for i := range many.Filters {
		many.Filters[i] = topics
		many.Filters[i].ResourceType = 1
	}
	if got := ask[*kmsg.DeleteACLsResponse](root, 3, many).Results; got[0].ErrorCode != kerr.InvalidRequest.Code || len(got[0].MatchingACLs) > 0 {
		t.Errorf("%+v", got[0])
	}
	if all = ask[*kmsg.DescribeACLsResponse](root, 3, describeACLs()); len(all.Resources) != 1 {
		t.Errorf("%+v", all.Resources)
	}
}
