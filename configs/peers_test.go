package configs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
)

const bucket = "object_storage.url=file:///shared"

func TestPeersAreRead(t *testing.T) {
	c, err := configs.Load(configs.Sources{Set: []string{
		"controller.peers=1@127.0.0.1, 2@a.example:19094 ,3@[2001:db8::3]:1:2,4@[2001:db8::4]", "controller.port=9999", bucket,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ raft, controller string }{
		{"127.0.0.1:9094", "127.0.0.1:9999"}, {"a.example:19094", "a.example:9999"}, {"[2001:db8::3]:1", "[2001:db8::3]:2"}, {"[2001:db8::4]:9094", "[2001:db8::4]:9999"},
	} {
		if p := c.Peers()[i]; p.ID != int32(i+1) || p.Raft() != want.raft || p.Controller() != want.controller {
			t.Errorf("peer %d is %+v", i+1, p)
		}
	}
	if self, ok := c.Self(); !ok || self.ID != 1 || !c.Clustered() {
		t.Errorf("this node is %+v, %v", self, ok)
	}
}

// TestPeersThatCannotBeAreTold holds that what is wrong is said with what to write.
func TestPeersThatCannotBeAreTold(t *testing.T) {
	three := "controller.peers=1@127.0.0.1,2@127.0.0.2,3@127.0.0.3"
	for _, c := range []struct {
		set  []string
		want string
	}{
		{[]string{"controller.peers=127.0.0.1"}, "names no node: write 1@host,2@host,3@host"},
		{[]string{"controller.peers=0@a"}, "does not begin with a node id of 1 or more"},
		{[]string{"controller.peers=99999999999@a"}, "does not begin with a node id of 1 or more"},
		{[]string{"controller.peers=1@a,"}, "names no node"},
		{[]string{"controller.peers=1@"}, "no host that others could dial"},
		{[]string{"controller.peers=1@0.0.0.0"}, "no host that others could dial"},
		{[]string{"controller.peers=1@::1"}, "no host that others could dial"},
		{[]string{"controller.peers=1@[::1"}, "no host that others could dial"},
		{[]string{"controller.peers=1@[a]"}, "no address of IPv6"},
		{[]string{"controller.peers=1@[::1]9094"}, "behind its brackets"},
		{[]string{"controller.peers=1@a:0"}, "1 to 65535"},
		{[]string{"controller.peers=1@a:1:2:3"}, "more than two ports"},
		{[]string{"controller.peers=1@a:5:5"}, "one port twice"},
		{[]string{"controller.peers=1@a,1@b"}, "names node 1 twice"},
		{[]string{"controller.peers=1@a,2@a"}, "would have the same port of a"},
		{[]string{"controller.peers=1@a:1:2,2@a:2:3"}, "would have the same port of a"},
		{[]string{"controller.peers=1@a,2@b,3@c,4@d,5@e,6@f,7@g,8@h,9@i,10@j"}, "1, 3 or 5 keep the metadata"},
		{[]string{three, bucket, "broker.roles=broker"}, "names node 1, this one, as a controller"},
		{[]string{"controller.peers=1@10.0.0.1,2@10.0.0.2,3@10.0.0.3", bucket}, "takes connections of this machine only"},
		{[]string{three, bucket, "network.bind=0.0.0.0", "security.allow_insecure=true"}, "which is each machine itself"},
		{[]string{three}, "a cluster has one bucket, which all its nodes reach"},
		{[]string{three, "object_storage.url=mem://"}, "is within one process"},
		{[]string{three, bucket, "network.kafka_port=9094"}, "port 9094 of node 1 is network.kafka_port too"},
		{[]string{three, bucket, "network.broker_port=9092"}, "9092 is network.kafka_port too"},
		{[]string{"controller.port=9094"}, "9094 is controller.raft_port too"},
		{[]string{"controller.raft_port=0"}, "1 to 65535"},
		{[]string{"security.cluster.ca_file=a.pem"}, "or none of them"},
		{[]string{three, bucket, "replication.heartbeat_timeout=200ms"}, "not more than replication.heartbeat_interval, 200ms"},
	} {
		_, err := configs.Load(configs.Sources{Set: c.set})
		if _, is := errors.AsType[*configs.Error](err); !is || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v gave %v, want …%s", c.set, err, c.want)
		}
	}
	for _, set := range [][]string{
		{three, bucket},
		{three, bucket, "broker.id=4", "network.bind=127.0.0.4"},
		{three, bucket, "broker.id=4", "broker.roles=broker"},
		{"controller.peers=1@10.0.0.1,2@10.0.0.2,3@10.0.0.3", bucket, "network.bind=0.0.0.0", "security.allow_insecure=true"},
		{"controller.peers=1@127.0.0.1", bucket},
	} {
		if _, err := configs.Load(configs.Sources{Set: set}); err != nil {
			t.Errorf("%v: %v", set, err)
		}
	}
}

// TestNodeAloneHasALongSession holds that the session by which others come to lead does
// not interrupt a node that nobody could follow, unless it was asked for.
func TestNodeAloneHasALongSession(t *testing.T) {
	for _, c := range []struct {
		set              []string
		interval, length time.Duration
	}{
		{nil, 2 * time.Second, 10 * time.Second},
		{[]string{"replication.heartbeat_timeout=3s"}, 2 * time.Second, 3 * time.Second},
		{[]string{"replication.heartbeat_interval=100ms"}, 100 * time.Millisecond, 10 * time.Second},
		{[]string{"controller.peers=1@127.0.0.1,2@127.0.0.2,3@127.0.0.3", bucket}, 200 * time.Millisecond, time.Second},
	} {
		config, err := configs.Load(configs.Sources{Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		if is := config.Liveness(); time.Duration(is.HeartbeatInterval) != c.interval || time.Duration(is.HeartbeatTimeout) != c.length {
			t.Errorf("%v: %+v", c.set, is)
		}
	}
}
