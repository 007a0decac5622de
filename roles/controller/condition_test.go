package controller

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
)

// taggedChange changes what has a tag; of two numbers one is another change.
type taggedChange struct {
	what string
	of   Tagged
	do   func(ctx context.Context, n int) error
}

func taggedChanges(c *Controller) []taggedChange {
	config := func(ctx context.Context, is metadata.ResourceType, name string, n int) error {
		op := ConfigOp{"k", SetConfig, string(rune('a' + n))}
		return c.AlterConfigs(ctx, []ConfigChange{{Type: is, Name: name, Ops: []ConfigOp{op}}}, false)[0]
	}
	return []taggedChange{
		{"config of a topic", Tagged{TaggedTopic, "t"}, func(ctx context.Context, n int) error { return config(ctx, metadata.TopicResource, "t", n) }},
		{"partitions", Tagged{TaggedTopic, "t"}, func(ctx context.Context, n int) error { return c.CreatePartitions(ctx, "t", int32(n+2), nil, false) }},
		{"config of a node", Tagged{Kind: TaggedNodes}, func(ctx context.Context, n int) error { return config(ctx, metadata.BrokerResource, "1", n) }},
		{"broker", Tagged{TaggedBroker, "1"}, func(ctx context.Context, n int) error { return c.DrainBroker(ctx, 1, n%2 == 0) }},
		{"quotas", Tagged{Kind: TaggedQuotas}, func(ctx context.Context, n int) error {
			alice := metadata.QuotaEntity{User: metadata.QuotaName{Scope: metadata.QuotaNamed, Name: "alice"}}
			return c.AlterClientQuotas(ctx, []QuotaChange{{Entity: alice, Set: map[string]float64{metadata.RequestPercentage: float64(n + 1)}}}, false)[0]
		}},
		{"acls", Tagged{Kind: TaggedACLs}, func(ctx context.Context, n int) error {
			rule := acl.Rule{Resource: acl.Topic, Pattern: acl.Literal, Name: "t", Principal: "User:" + string(rune('a'+n)), Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
			return c.AlterACLs(ctx, []ACLChange{{Rule: rule}})[0]
		}},
		{"users", Tagged{Kind: TaggedUsers}, func(ctx context.Context, n int) error {
			return c.AlterUsers(ctx, []metadata.UserChange{{User: string(rune('a' + n)), Set: []metadata.ScramCredential{scramOf(byte(n + 1))}}})[0]
		}},
	}
}

// A change that is made of what was seen is refused once that is another, and while it is the
// same, one of many is made.
func TestAChangeWithAConditionIsMadeOfWhatWasSeen(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	create(t, c, defaults("t"))
	for _, change := range taggedChanges(c) {
		seen := change.of.TagIn(c.Image())
		under := func(tags ...string) context.Context {
			return WithCondition(t.Context(), Condition{Of: change.of, Tags: tags})
		}
		if err := change.do(t.Context(), 0); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		if change.of.TagIn(c.Image()) == seen {
			t.Fatalf("%s: the change changes no tag", change.what)
		}
		wantCode(t, change.what+", as it was before", change.do(under(seen), 1), metadata.InvalidUpdateVersion)
		if change.of.TagIn(c.Image()) == seen {
			t.Errorf("%s: it is as it was", change.what)
		}
		if err := change.do(under(seen, change.of.TagIn(c.Image())), 1); err != nil {
			t.Errorf("%s, as it is: %v", change.what, err)
		}
		is := change.of.TagIn(c.Image())
		var made atomic.Int32
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				switch err := change.do(under(is), 2*n+2); {
				case err == nil:
					made.Add(1)
				case metadata.CodeOf(err) != metadata.InvalidUpdateVersion:
					t.Errorf("%s: %v", change.what, err)
				}
			})
		}
		if all.Wait(); made.Load() != 1 {
			t.Errorf("%s: %d of 8 that have seen the same have changed it", change.what, made.Load())
		}
		if err := change.do(under(AnyTag), 1); err != nil && change.what != "partitions" {
			t.Errorf("%s, whatever it is: %v", change.what, err)
		}
	}
	gone := Condition{Of: Tagged{TaggedTopic, "nobody"}, Tags: []string{AnyTag}}
	wantCode(t, "of what is not there", c.CreatePartitions(WithCondition(t.Context(), gone), "t", 50, nil, false), metadata.InvalidUpdateVersion)
	wantCode(t, "of no kind", c.DrainBroker(WithCondition(t.Context(), Condition{Of: Tagged{Kind: "nonsense"}, Tags: []string{""}}), 1, true), metadata.InvalidUpdateVersion)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = c.DrainBroker(WithCondition(ended, gone), 1, true) // whatever it says, it keeps no place
	if err := c.DrainBroker(WithoutCondition(WithCondition(t.Context(), gone)), 1, false); err != nil {
		t.Error(err)
	}
}
