package rustmqtest_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

func TestServersAreIndependent(t *testing.T) {
	t.Parallel()
	one, other := rustmqtest.Start(t), rustmqtest.Start(t)
	if one.Addr() == other.Addr() {
		t.Fatal("two servers have one address")
	}
	topic(t, one.Client(t), rustmq.Topic{Name: "t"})
	topics, err := other.Client(t).Admin().Topics(within(t, moments))
	if err != nil || len(topics) != 0 {
		t.Errorf("%v, %v", topics, err)
	}
}

func TestClientsOutliveARestart(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	client := server.Client(t)
	fill(t, client, "t", 1, 10, 1)
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", CommitEvery: 10 * time.Millisecond})
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	ended := make(chan error, 1)
	seen := make(chan int, 100)
	go func() {
		ended <- c.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error { seen <- m.Value; return nil })
	}()
	for i := range 10 {
		if v := <-seen; v != i {
			t.Fatalf("%d, want %d", v, i)
		}
	}
	eventually(t, "what was read is committed", func() bool { return lag(t, client, "g") == 0 })
	server.Restart(t)
	if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("10")}).Err(); err != nil {
		t.Fatal(err)
	}
	if v := <-seen; v != 10 {
		t.Errorf("after the restart comes %d", v)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	admin, ctx := client.Admin(), within(t, moments)
	fill(t, client, "t", 2, 10, 10)
	if err := admin.AddPartitions(ctx, "t", 1); err != nil {
		t.Fatal(err)
	}
	if err := admin.SetTopicConfig(ctx, "t", map[string]string{"retention.ms": "1000000"}); err != nil {
		t.Fatal(err)
	}
	if topics, err := admin.Topics(ctx); err != nil || len(topics) != 1 || topics[0].Partitions != 3 || topics[0].Replicas != 1 {
		t.Errorf("%+v, %v", topics, err)
	}
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", Classic: true, Manual: true})
	if _, err := c.Poll(ctx); err != nil {
		t.Fatal(err)
	}
	if groups, err := admin.Groups(ctx); err != nil || len(groups) != 1 || groups[0].Members != 1 || groups[0].Lag != 10 {
		t.Errorf("%+v, %v", groups, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := admin.ResetGroup(ctx, "g", time.Now().Add(time.Hour), "t"); err != nil {
		t.Fatal(err)
	}
	if groups, err := admin.Groups(ctx, "g"); err != nil || groups[0].Lag != 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	if err := admin.DeleteGroup(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	if err := admin.DeleteTopic(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	if err := admin.DeleteTopic(ctx, "t"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("%v", err)
	}
	cluster, err := admin.Cluster(ctx)
	if err != nil || cluster.ID == "" || len(cluster.Nodes) != 1 {
		t.Errorf("%+v, %v", cluster, err)
	}
	if problems, err := admin.ClusterHealth(ctx); err != nil || len(problems) != 0 {
		t.Errorf("%+v, %v", problems, err)
	}
	var refused *rustmq.APIError
	if err := admin.Call(ctx, http.MethodGet, "/topics/not-there", nil, nil); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || refused.Detail == "" {
		t.Errorf("%v", err)
	}
}

func TestRulesAreMadeListedAndDeleted(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"security.authorization.mode": "on", "security.authorization.super_users": "User:ANONYMOUS"}}).Client(t)
	admin, ctx := client.Admin(), within(t, moments)
	rules := []rustmq.ACL{
		{Principal: "User:alice", Resource: "topic", Pattern: "prefixed", Name: "events.", Operation: "read"},
		{Principal: "User:alice", Resource: "transactional-id", Name: "*", Operation: "describe", Permission: "deny", Host: "10.0.0.1"},
	}
	if err := admin.CreateACLs(ctx, rules...); err != nil {
		t.Fatal(err)
	}
	listed, err := admin.ACLs(ctx, rustmq.ACL{Principal: "User:alice"})
	if err != nil || len(listed) != 2 {
		t.Fatalf("%+v, %v", listed, err)
	}
	want := rules[0]
	want.Host, want.Permission = "*", "allow"
	got, err := admin.ACLs(ctx, rustmq.ACL{Resource: "topic"})
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
	if n, err := admin.DeleteACLs(ctx, rustmq.ACL{Principal: "User:alice"}); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := admin.DeleteACLs(ctx, rustmq.ACL{}); err == nil {
		t.Error("an empty filter deletes all")
	}
	if err := admin.CreateACLs(ctx, rustmq.ACL{Principal: "User:a", Resource: "tropic", Name: "t", Operation: "read"}); err == nil {
		t.Error("a resource that is none")
	}
}

func TestUsersProveWhoTheyAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := rustmqtest.Start(t, rustmqtest.Options{DataDir: dir, Set: map[string]string{
		"network.tls": "on", "security.sasl.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN", "security.authorization.super_users": "User:alice",
	}})
	ctx := within(t, moments)
	trust := rustmq.WithTLS(rustmq.TLS{CAFile: server.CAFile()})
	// The server's own token makes the first user.
	operator := server.Client(t, trust, rustmq.WithAdmin(server.AdminURL(), func(context.Context) (string, error) {
		token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		return strings.TrimSpace(string(token)), err
	}, nil))
	if err := operator.Admin().Call(ctx, http.MethodPost, "/users", map[string]string{"name": "alice", "password": "correct horse"}, nil); err != nil {
		t.Fatal(err)
	}
	for name, login := range map[string]rustmq.Option{
		"SCRAM-SHA-512": rustmq.WithSCRAM("alice", "correct horse"),
		"SCRAM-SHA-256": rustmq.WithSCRAM256("alice", "correct horse"),
		"PLAIN":         rustmq.WithPlain("alice", "correct horse"),
	} {
		if err := server.Client(t, trust, login).ProduceSync(ctx, &rustmq.Record{Topic: "t"}).Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := server.Client(t, trust, rustmq.WithSCRAM("alice", "wrong")).Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) || rustmq.IsRetriable(err) {
		t.Errorf("%v", err)
	}
}
