package roles_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
)

// TestAdminACL: a client that has not said who it is gets nowhere until an operator says
// otherwise, keeps its connections, and is stopped on them as soon as a rule says so. It
// is one story, on one node.
func TestAdminACL(t *testing.T) {
	start, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	n, err := embed.Start(start, embed.Options{Set: map[string]string{
		"security.authorization.mode": "on", "security.authorization.super_users": "root; CN=operator,O=example", "broker.auto_create_topics": "false",
	}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	cli := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + n.HTTP()}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	list := func(args ...string) (out []admin.ACL) {
		t.Helper()
		must(t, json.Unmarshal([]byte(cli(0, append(append([]string{"acl"}, args...), "-o", "json")...)), &out))
		return out
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cli(0, "topics", "create", "events.clicks")
	cli(0, "topics", "create", "secrets")
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.ConsumeTopics("events.clicks"), kgo.ConsumerGroup("readers"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordRetries(0), kgo.FetchMaxWait(100*time.Millisecond))
	must(t, err)
	defer client.Close()
	produce := func(topic string) error {
		return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
	}
	denied := func(what string, err error, with *kerr.Error) {
		t.Helper()
		if !errors.Is(err, with) {
			t.Errorf("%s: %v, not %v", what, err, with)
		}
	}
	// A rule that the admin API has made is in force a moment later.
	becomes := func(what string, do func() error, want *kerr.Error) {
		t.Helper()
		var err error
		for ctx.Err() == nil {
			if err = do(); want == nil && err == nil || want != nil && errors.Is(err, want) {
				return
			}
		}
		t.Fatalf("%s: %v, not %v", what, err, want)
	}
	a := kadm.NewClient(client)
	denied("produce", produce("events.clicks"), kerr.TopicAuthorizationFailed)
	_, err = a.CreateTopic(ctx, 1, 1, nil, "mine")
	denied("create a topic", err, kerr.TopicAuthorizationFailed)
	refused, err := a.DescribeACLs(ctx, kadm.NewACLs().AnyResource().Allow().AllowHosts().Operations())
	must(t, err)
	denied("describe ACLs", refused[0].Err, kerr.ClusterAuthorizationFailed)
	seen := func() (names []string) {
		p, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
		must(t, err)
		for _, topic := range p.Topics {
			names = append(names, *topic.Topic)
		}
		return names
	}
	if got := seen(); len(got) != 0 {
		t.Errorf("topics that are seen: %v", got)
	}

	// The seed project's form, as it stands.
	out := cli(0, "acl", "create", "--principal", "user@domain.com", "--resource", "topic.events.*", "--permissions", "read,write", "--effect", "allow")
	if !strings.Contains(out, "User:user@domain.com") || !strings.Contains(out, "topic.events.*") {
		t.Error(out)
	}
	denied("produce by another", produce("events.clicks"), kerr.TopicAuthorizationFailed)
	cli(0, "acl", "create", "--principal", "ANONYMOUS", "--resource", "topic.events.*", "--permissions", "read,write", "--host", "127.0.0.0/8")
	cli(0, "acl", "create", "--principal", "ANONYMOUS", "--resource", "group.readers", "--permissions", "read")
	becomes("produce", func() error { return produce("events.clicks") }, nil)
	denied("produce to another topic", produce("secrets"), kerr.TopicAuthorizationFailed)
	for records := 0; records == 0; {
		fetches := client.PollFetches(ctx)
		must(t, ctx.Err())
		records = fetches.NumRecords()
	}
	if got := seen(); len(got) != 1 || got[0] != "events.clicks" {
		t.Errorf("topics that are seen: %v", got)
	}

	cli(0, "acl", "create", "--principal", "*", "--resource", "topic.events.clicks", "--permissions", "write", "--effect", "deny")
	becomes("produce on a connection that is open", func() error { return produce("events.clicks") }, kerr.TopicAuthorizationFailed)
	out = cli(1, "acl", "check", "--principal", "ANONYMOUS", "--resource", "topic.events.clicks", "--permissions", "write", "--host", "127.0.0.1")
	for _, part := range []string{"denied: a rule denies it, and that wins", "it allows", "it denies", "to allow read is not to allow write"} {
		if !strings.Contains(out, part) {
			t.Errorf("check does not say %q: %s", part, out)
		}
	}
	if out = cli(0, "acl", "check", "--principal", "CN=operator,O=example", "--resource", "cluster", "--permissions", "alter"); !strings.Contains(out, "allowed: User:CN=operator,O=example is a super user") {
		t.Error(out)
	}
	if got := list("list", "--resource", "topic.events.clicks", "--matching"); len(got) != 5 {
		t.Errorf("rules that a topic falls under: %+v", got)
	}
	if got := list("delete", "--principal", "*"); len(got) != 1 || got[0].Permission != "deny" {
		t.Errorf("deleted: %+v", got)
	}
	becomes("produce again", func() error { return produce("events.clicks") }, nil)
	for _, wrong := range [][]string{
		{"create", "--principal", "a", "--resource", "topic.x"}, {"create", "--resource", "topic.x", "--permissions", "read"}, {"delete"},
		{"create", "--principal", "a", "--resource", "topic.x", "--permissions", "fly"}, {"create", "--principal", "a", "--resource", "orders", "--permissions", "read"},
		{"check", "--principal", "a", "--resource", "topic.x.*", "--permissions", "read"}, {"create", "--principal", "a", "--resource", "topic.x", "--permissions", "read", "--host", "example.com"},
	} {
		cli(2, append([]string{"acl"}, wrong...)...)
	}

	// By Kafka's protocol, for who may alter the cluster.
	cli(0, "acl", "create", "--principal", "ANONYMOUS", "--resource", "cluster", "--permissions", "alter")
	var created kadm.CreateACLsResults
	becomes("create ACLs", func() (err error) {
		created, err = a.CreateACLs(ctx, kadm.NewACLs().Groups("g").ResourcePatternType(kmsg.ACLResourcePatternTypePrefixed).Allow("User:bob").AllowHosts("*").Operations(kadm.OpRead, kadm.OpDelete))
		return errors.Join(err, created[0].Err)
	}, nil)
	described, err := a.DescribeACLs(ctx, kadm.NewACLs().Groups("g").ResourcePatternType(kmsg.ACLResourcePatternTypePrefixed).Allow().AllowHosts().Operations())
	must(t, err)
	if len(described) == 0 || len(described[0].Described) != 2 {
		t.Errorf("%+v", described)
	}
	deleted, err := a.DeleteACLs(ctx, kadm.NewACLs().Groups("g").ResourcePatternType(kmsg.ACLResourcePatternTypePrefixed).Allow().AllowHosts().Operations(kadm.OpDelete))
	must(t, err)
	if len(deleted) == 0 || len(deleted[0].Deleted) != 1 {
		t.Errorf("%+v", deleted)
	}
	if got := list("list", "--principal", "bob"); len(got) != 1 || got[0].Operation != "read" {
		t.Errorf("%+v", got)
	}
}
