package roles_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/etl/async"
)

// TestAsyncDoor: where clients may do what rules say alone, transforms reach topics that
// nobody else does, by a door that is not theirs to administer through.
func TestAsyncDoor(t *testing.T) {
	node := startNode(t, "security.authorization.mode=on", "security.authorization.super_users=root", "network.max_connections_per_ip=20")
	admin := func(args ...string) {
		t.Helper()
		if code, _, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + node.HTTP()}, args...)...); code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
	}
	for _, topic := range []string{"in", "out"} {
		admin("topics", "create", topic, "--partitions", "40") // each takes a connection of the door
	}
	admin("acl", "create", "--principal", "ANONYMOUS", "--resource", "topic.in", "--permissions", "write")
	admin("acl", "create", "--principal", "ANONYMOUS", "--resource", "topic.out", "--permissions", "read")
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	t.Cleanup(cl.Close)
	c := asyncClient{t, cl, kadm.NewClient(cl)}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "out", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("a stranger writes to the output: %v", err)
	}
	node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass"}`)}})
	for p := range int32(40) {
		c.produce(&kgo.Record{Topic: "in", Partition: p, Value: []byte("upper x")})
	}
	if got := c.committed(node, number(40), "out"); string(got[0].Value) != "X" {
		t.Errorf("%q came out", got[0].Value)
	}

	o := node.AsyncOptions()
	inside, err := kgo.NewClient(kgo.SeedBrokers("broker-"+strconv.Itoa(int(o.NodeID))+":1"), kgo.RequestRetries(0), kgo.RetryTimeout(5*time.Second),
		kgo.Dialer(func(ctx context.Context, _, host string) (net.Conn, error) {
			id, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(host, "broker-"), ":1"), 10, 32)
			if err != nil {
				return nil, err
			}
			return o.Dial(ctx, int32(id))
		}))
	must(t, err)
	t.Cleanup(inside.Close)
	if err := inside.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte("drop")}).FirstErr(); err != nil {
		t.Errorf("a client that comes by the door cannot produce: %v", err)
	}
	if err := inside.ProduceSync(t.Context(), &kgo.Record{Topic: "__consumer_offsets", Value: []byte("x")}).FirstErr(); err == nil {
		t.Error("a topic of the brokers' own is written to")
	}
	for _, q := range []kmsg.Request{kmsg.NewPtrCreateTopicsRequest(), kmsg.NewPtrDeleteTopicsRequest(), kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrAlterConfigsRequest(), kmsg.NewPtrWriteTxnMarkersRequest(), kmsg.NewPtrAlterUserSCRAMCredentialsRequest()} {
		if p, err := inside.Request(t.Context(), q); err == nil {
			t.Errorf("%s is answered: %+v", kmsg.NameForKey(q.Key()), p)
		}
	}
}
