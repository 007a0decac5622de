package controller

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/consensus/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts a controller that lives as long as the test.
func open(t *testing.T, opt Options) *Controller {
	t.Helper()
	if opt.NodeID == 0 {
		opt.NodeID = 1
	}
	c, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// register puts a broker into service.
func register(t *testing.T, c *Controller, id int32, incarnation byte) int64 {
	t.Helper()
	epoch, err := c.RegisterBroker(t.Context(), Registration{BrokerID: id, Incarnation: [16]byte{incarnation}, Directory: [16]byte{byte(id)}})
	if err != nil {
		t.Fatalf("register broker %d: %v", id, err)
	}
	if err := c.Heartbeat(t.Context(), id, epoch); err != nil {
		t.Fatalf("heartbeat of broker %d: %v", id, err)
	}
	return epoch
}

func TestTopicIsMadeWithDefaults(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	got := c.CreateTopics(context.Background(), []NewTopic{{Name: "t", Partitions: -1, ReplicationFactor: -1}}, false)
	if got[0].Err != nil || got[0].Partitions != 1 || got[0].ReplicationFactor != 1 {
		t.Fatalf("create: %+v", got[0])
	}
	topic, ok := c.Image().Topic("t")
	if !ok || topic.ID != got[0].ID || topic.Partition(0).Leader != 1 {
		t.Fatalf("topic %+v", topic)
	}
	again := c.CreateTopics(context.Background(), []NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}, false)
	if metadata.CodeOf(again[0].Err) != metadata.TopicAlreadyExists {
		t.Fatalf("second creation: %v", again[0].Err)
	}
}
