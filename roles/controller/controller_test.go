package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
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
	t.Cleanup(func() { shut(t, c) })
	return c
}

func shut(t *testing.T, c *Controller) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// A controller whose disk fails as it opens says so, whenever that is: it waits for nothing
// that will not come.
func TestOpenEndsWithItsDisk(t *testing.T) {
	var opened, failed int
	for from := 1; opened == 0; from++ {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			fs := disk.NewFaulty(disk.NewMem(disk.MemOptions{}), disk.Rule{Op: disk.OpChange, From: from, Err: syscall.EIO})
			c, err := Open(ctx, Options{NodeID: 1, FS: fs, LogCapacity: memoryLogCapacity, Log: slog.New(slog.DiscardHandler)})
			if ctx.Err() != nil {
				t.Fatalf("the change of the disk that is the first to fail is number %d: it waits", from)
			}
			if err != nil {
				failed++
				return
			}
			opened++
			_ = c.Close() // what it writes then fails
		})
	}
	if failed < 5 {
		t.Errorf("the disk failed in %d places", failed)
	}
}

// register makes one start of a broker known and puts it into service.
func register(t *testing.T, c *Controller, id int32, start byte) (epoch int64) {
	t.Helper()
	epoch, err := c.RegisterBroker(t.Context(), Registration{BrokerID: id, Incarnation: [16]byte{start}, Directory: [16]byte{byte(id)}})
	if err != nil {
		t.Fatalf("register broker %d: %v", id, err)
	}
	if err := c.Heartbeat(t.Context(), id, epoch); err != nil {
		t.Fatalf("heartbeat of broker %d: %v", id, err)
	}
	return epoch
}

func create(t *testing.T, c *Controller, topic NewTopic) TopicResult {
	t.Helper()
	return c.CreateTopics(t.Context(), []NewTopic{topic}, false)[0]
}

func wantCode(t *testing.T, what string, err error, want metadata.Code) {
	t.Helper()
	if err == nil || metadata.CodeOf(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// defaults is a topic that leaves everything to the controller.
func defaults(name string) NewTopic {
	return NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
}

func TestTopicIsMadeWithDefaults(t *testing.T) {
	c := open(t, Options{DefaultPartitions: 4})
	for id := range int32(5) {
		register(t, c, id, 1)
	}
	got := create(t, c, defaults("t"))
	if got.Err != nil || got.Partitions != 4 || got.ReplicationFactor != 3 {
		t.Fatalf("create: %+v", got)
	}
	topic, ok := c.Image().Topic("t")
	if !ok || topic.ID != got.ID || topic.Partitions.Len() != 4 || len(topic.Partition(3).ISR) != 3 {
		t.Fatalf("topic %+v", topic)
	}
	wantCode(t, "the same again", create(t, c, defaults("t")).Err, metadata.TopicAlreadyExists)
}

func TestCreateTopicsRefuses(t *testing.T) {
	refuseOdd := func(key, value string) error {
		if key == "odd" {
			return errors.New("odd is no key")
		}
		return nil
	}
	c := open(t, Options{ValidateTopicConfig: refuseOdd})
	wantCode(t, "without a broker", create(t, c, defaults("t")).Err, metadata.InvalidReplicationFactor)
	register(t, c, 1, 1)
	for name, try := range map[string]struct {
		topic NewTopic
		want  metadata.Code
	}{
		"bad name":              {defaults("a/b"), metadata.InvalidTopic},
		"no partitions":         {NewTopic{Name: "t", ReplicationFactor: 1}, metadata.InvalidPartitions},
		"absurd partitions":     {NewTopic{Name: "t", Partitions: 1 << 30, ReplicationFactor: 1}, metadata.InvalidPartitions},
		"no replicas":           {NewTopic{Name: "t", Partitions: 1}, metadata.InvalidReplicationFactor},
		"too many replicas":     {NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 2}, metadata.InvalidReplicationFactor},
		"bad config":            {NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"odd": "1"}}, metadata.InvalidConfig},
		"assignment and number": {NewTopic{Name: "t", Partitions: 1, ReplicationFactor: -1, Assignments: []Assignment{{0, []int32{1}}}}, metadata.InvalidRequest},
		"assignment with gap":   {NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{1, []int32{1}}}}, metadata.InvalidReplicaAssignment},
		"unknown broker":        {NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{0, []int32{7}}}}, metadata.InvalidReplicaAssignment},
		"not UTF-8":             {NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"k": "\xff"}}, metadata.InvalidRequest},
	} {
		offset := c.Image().Offset()
		wantCode(t, name, create(t, c, try.topic).Err, try.want)
		if c.Image().Offset() != offset {
			t.Errorf("%s: it reached the log", name)
		}
	}
	twice := c.CreateTopics(t.Context(), []NewTopic{defaults("t"), defaults("u"), defaults("t")}, false)
	wantCode(t, "first of two", twice[0].Err, metadata.InvalidRequest)
	wantCode(t, "second of two", twice[2].Err, metadata.InvalidRequest)
	if twice[1].Err != nil {
		t.Errorf("the other topic of the request: %v", twice[1].Err)
	}
}

func TestValidateOnlyChangesNothing(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	create(t, c, defaults("there"))
	offset := c.Image().Offset()
	got := c.CreateTopics(t.Context(), []NewTopic{defaults("t"), defaults("there")}, true)
	if got[0].Err != nil || got[0].Partitions != 1 || !got[0].ID.IsZero() {
		t.Errorf("create: %+v", got[0])
	}
	wantCode(t, "create what is there", got[1].Err, metadata.TopicAlreadyExists)
	if err := c.CreatePartitions(t.Context(), "there", 3, nil, true); err != nil {
		t.Errorf("create partitions: %v", err)
	}
	if err := c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.TopicResource, Name: "there", Ops: []ConfigOp{{"k", SetConfig, "v"}}}}, true)[0]; err != nil {
		t.Errorf("alter: %v", err)
	}
	if c.Image().Offset() != offset {
		t.Error("something was proposed")
	}
}

func TestDeleteTopics(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	id := create(t, c, defaults("a")).ID
	create(t, c, defaults("b"))
	got := c.DeleteTopics(t.Context(), []TopicRef{{Name: "b"}, {ID: id}, {Name: "b"}, {Name: "c"}, {ID: storage.TopicID{9}}})
	if got[0].Err != nil || got[1].Err != nil || got[1].Name != "a" || got[0].ID.IsZero() {
		t.Errorf("delete: %+v", got[:2])
	}
	wantCode(t, "twice in one request", got[2].Err, metadata.InvalidRequest)
	wantCode(t, "by unknown name", got[3].Err, metadata.UnknownTopicOrPartition)
	wantCode(t, "by unknown id", got[4].Err, metadata.UnknownTopicID)
	if n := c.Image().NumTopics(); n != 0 {
		t.Errorf("%d topics are left", n)
	}
}

// Who comes second with a name is told what it asked for: that there is no such topic.
func TestOneOfManyDeletesATopic(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	for n := range 20 {
		create(t, c, defaults("a"))
		answers, grown := make(chan error, 4), make(chan error, 1)
		go func() { grown <- c.CreatePartitions(t.Context(), "a", int32(n)+2, nil, false) }()
		for range cap(answers) {
			go func() { answers <- c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}})[0].Err }()
		}
		deleted := 0
		for range cap(answers) {
			if err := <-answers; err == nil {
				deleted++
			} else {
				wantCode(t, "second", err, metadata.UnknownTopicOrPartition)
			}
		}
		if deleted != 1 {
			t.Fatalf("%d have deleted it", deleted)
		}
		if err := <-grown; err != nil {
			wantCode(t, "grow", err, metadata.UnknownTopicOrPartition)
		}
	}
}

// With the brokers' own topics would go what is acknowledged: offsets, and the outcome of
// transactions that are not ended everywhere.
func TestInternalTopicsAreNotDeleted(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	id := create(t, c, NewTopic{Name: "__internal", Partitions: 1, ReplicationFactor: 1, Internal: true}).ID
	for _, ref := range []TopicRef{{Name: "__internal"}, {ID: id}} {
		got := c.DeleteTopics(t.Context(), []TopicRef{ref})[0]
		wantCode(t, "delete", got.Err, metadata.InvalidTopic)
		if got.Name != "__internal" || got.ID != id {
			t.Errorf("%+v", got)
		}
	}
	if n := c.Image().NumTopics(); n != 1 {
		t.Errorf("%d topics are left", n)
	}
}

// What a client makes by the name of a topic of the brokers would be another than they need,
// and could be deleted.
func TestInternalTopicsAreMadeByBrokers(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	for _, name := range []string{"__consumer_offsets", "__transaction_state", "__audit"} {
		asked := NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1}
		wantCode(t, "create "+name, c.CreateTopics(t.Context(), []NewTopic{asked}, false)[0].Err, metadata.InvalidTopic)
		asked.Internal = true
		create(t, c, asked)
		wantCode(t, "more partitions of "+name, c.CreatePartitions(t.Context(), name, 2, nil, false), metadata.InvalidTopic)
		if topic, _ := c.Image().Topic(name); !topic.Internal || topic.Partitions.Len() != 1 {
			t.Errorf("%+v", topic)
		}
	}
}

func TestCreatePartitions(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	create(t, c, defaults("t"))
	if err := c.CreatePartitions(t.Context(), "t", 3, nil, false); err != nil {
		t.Fatal(err)
	}
	if err := c.CreatePartitions(t.Context(), "t", 4, [][]int32{{1}}, false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "no more", c.CreatePartitions(t.Context(), "t", 4, nil, false), metadata.InvalidPartitions)
	wantCode(t, "fewer", c.CreatePartitions(t.Context(), "t", 2, nil, false), metadata.InvalidPartitions)
	wantCode(t, "unknown topic", c.CreatePartitions(t.Context(), "u", 2, nil, false), metadata.UnknownTopicOrPartition)
	wantCode(t, "assignments too few", c.CreatePartitions(t.Context(), "t", 6, [][]int32{{1}}, false), metadata.InvalidReplicaAssignment)
	wantCode(t, "assignment too long", c.CreatePartitions(t.Context(), "t", 5, [][]int32{{1, 2}}, false), metadata.InvalidReplicaAssignment)
	if topic, _ := c.Image().Topic("t"); topic.Partitions.Len() != 4 {
		t.Errorf("%d partitions", topic.Partitions.Len())
	}
}

// The cluster has so many partitions and no more, in whatever way they are asked
// for: one by one, many in a request, by many requests at once.
func TestPartitionsOfTheClusterAreBounded(t *testing.T) {
	c := open(t, Options{MaxPartitions: 10})
	register(t, c, 1, 1)
	topic := func(name string, partitions int32) NewTopic {
		return NewTopic{Name: name, Partitions: partitions, ReplicationFactor: 1}
	}
	results := c.CreateTopics(t.Context(), []NewTopic{topic("a", 4), topic("b", 4), topic("c", 4), topic("d", 1)}, false)
	for i, want := range []bool{true, true, false, true} {
		if got := results[i].Err == nil; got != want {
			t.Errorf("%s: %v", results[i].Name, results[i].Err)
		}
	}
	wantCode(t, "a topic too many", results[2].Err, metadata.PolicyViolation)
	wantCode(t, "validated", c.CreateTopics(t.Context(), []NewTopic{topic("c", 2)}, true)[0].Err, metadata.PolicyViolation)
	wantCode(t, "one that is there", create(t, c, topic("a", 4)).Err, metadata.TopicAlreadyExists)
	wantCode(t, "partitions too many", c.CreatePartitions(t.Context(), "a", 6, nil, false), metadata.PolicyViolation)
	if err := c.CreatePartitions(t.Context(), "a", 5, nil, false); err != nil {
		t.Error(err)
	}
	own := NewTopic{Name: "own", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{0, []int32{1}}}}
	wantCode(t, "an assignment of its own", create(t, c, own).Err, metadata.PolicyViolation)
	if err := create(t, c, NewTopic{Name: "__internal", Partitions: 5, ReplicationFactor: 1, Internal: true}).Err; err != nil {
		t.Error(err)
	}
	c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}, {Name: "b"}, {Name: "d"}})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { create(t, c, topic(fmt.Sprintf("t%d", i), 3)) })
	}
	all.Wait()
	if got := c.Image().NumPartitions(); got > 10 || got <= 5 {
		t.Errorf("%d partitions", got)
	}
}

func TestPartitionsOfARequestAreBounded(t *testing.T) {
	c := open(t, Options{MaxPartitions: 10 * maxPerRequest})
	register(t, c, 1, 1)
	var topics []NewTopic
	for i := range 3 {
		topics = append(topics, NewTopic{Name: fmt.Sprintf("t%d", i), Partitions: maxPerRequest / 2, ReplicationFactor: 1})
	}
	results := c.CreateTopics(t.Context(), topics, true)
	if results[1].Err != nil {
		t.Error(results[1].Err)
	}
	wantCode(t, "too many", results[2].Err, metadata.PolicyViolation)
}

func TestAlterConfigs(t *testing.T) {
	c := open(t, Options{
		ListConfig: func(key string) (string, bool) { return "delete", key == "list" },
		ValidateTopicConfig: func(key, value string) error {
			if value == "bad" {
				return errors.New("bad is no value")
			}
			return nil
		},
	})
	register(t, c, 1, 1)
	create(t, c, defaults("t"))
	topic := func(ops ...ConfigOp) error {
		return c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.TopicResource, Name: "t", Ops: ops}}, false)[0]
	}
	for _, step := range []struct {
		op   ConfigOp
		want string
	}{
		{ConfigOp{"k", SetConfig, "v"}, "map[k:v]"},
		{ConfigOp{"list", AppendConfig, "compact"}, "map[k:v list:delete,compact]"},
		{ConfigOp{"list", AppendConfig, "compact"}, "map[k:v list:delete,compact]"},
		{ConfigOp{"list", SubtractConfig, "delete"}, "map[k:v list:compact]"},
		{ConfigOp{"k", DeleteConfig, ""}, "map[list:compact]"},
	} {
		if err := topic(step.op); err != nil {
			t.Fatalf("%+v: %v", step.op, err)
		}
		if values, _ := c.Image().Config(metadata.Resource{Type: metadata.TopicResource, Name: "t"}); fmt.Sprint(values) != step.want {
			t.Fatalf("%+v gave %v, want %s", step.op, values, step.want)
		}
	}
	wantCode(t, "append to what is no list", topic(ConfigOp{"k", AppendConfig, "v"}), metadata.InvalidConfig)
	wantCode(t, "refused value", topic(ConfigOp{"k", SetConfig, "bad"}), metadata.InvalidConfig)
	wantCode(t, "key twice", topic(ConfigOp{"k", SetConfig, "1"}, ConfigOp{"k", SetConfig, "2"}), metadata.InvalidRequest)
	for name, change := range map[string]ConfigChange{
		"unknown topic":  {Type: metadata.TopicResource, Name: "u"},
		"unknown broker": {Type: metadata.BrokerResource, Name: "9"},
		"no broker":      {Type: metadata.BrokerResource, Name: "01"},
		"unknown type":   {Type: 99, Name: "x"},
	} {
		if err := c.AlterConfigs(t.Context(), []ConfigChange{change}, false)[0]; err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, name := range []string{"1", ""} {
		if err := c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.BrokerResource, Name: name, Ops: []ConfigOp{{"k", SetConfig, "v"}}}}, false)[0]; err != nil {
			t.Errorf("broker %q: %v", name, err)
		}
	}
}

// TestDurabilityIsFixed: what an ack means to those who got one does not change behind them.
func TestDurabilityIsFixed(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	memory := defaults("memory")
	memory.Configs = map[string]string{"rustmq.durability": "memory"}
	create(t, c, memory)
	create(t, c, defaults("wal"))
	alter := func(name string, ops ...ConfigOp) error {
		return c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.TopicResource, Name: name, Ops: ops}}, false)[0]
	}
	wantCode(t, "to wal", alter("memory", ConfigOp{"rustmq.durability", SetConfig, "wal"}), metadata.InvalidConfig)
	wantCode(t, "to the default", alter("memory", ConfigOp{"k", SetConfig, "v"}, ConfigOp{"rustmq.durability", DeleteConfig, ""}), metadata.InvalidConfig)
	wantCode(t, "to memory", alter("wal", ConfigOp{"rustmq.durability", SetConfig, "memory"}), metadata.InvalidConfig)
	for name, is := range map[string]string{"memory": "memory", "wal": "wal"} {
		if err := alter(name, ConfigOp{"k", SetConfig, "v"}, ConfigOp{"rustmq.durability", SetConfig, is}); err != nil {
			t.Errorf("%s, as it is: %v", name, err)
		}
	}
}

// TestAnObjectTopicHasOneReplica, whatever is left to the cluster, and is refused more: what
// it acknowledges is in the bucket.
func TestAnObjectTopicHasOneReplica(t *testing.T) {
	c := open(t, Options{})
	for id := range int32(3) {
		register(t, c, id+1, byte(id+1))
	}
	object := func(name string, factor int16, own ...Assignment) NewTopic {
		n := defaults(name)
		n.Configs, n.ReplicationFactor, n.Assignments = map[string]string{"rustmq.durability": "object"}, factor, own
		if len(own) > 0 {
			n.Partitions = -1
		}
		return n
	}
	create(t, c, object("unset", -1))
	create(t, c, object("one", 1))
	create(t, c, object("own", -1, Assignment{0, []int32{2}}))
	for _, name := range []string{"unset", "one", "own"} {
		if topic, _ := c.Image().Topic(name); len(topic.Partition(0).Replicas) != 1 || topic.ReplicasUnset {
			t.Errorf("%s: replicas %v, left to the cluster: %v", name, topic.Partition(0).Replicas, topic.ReplicasUnset)
		}
	}
	for _, n := range []NewTopic{object("three", 3), object("two", -1, Assignment{0, []int32{2, 3}})} {
		wantCode(t, n.Name, c.CreateTopics(t.Context(), []NewTopic{n}, false)[0].Err, metadata.InvalidReplicationFactor)
	}
}

// A topic's configs are checked as they would be together: those that a change leaves
// as they are, too, and what all brokers were given.
func TestTopicConfigsAreCheckedTogether(t *testing.T) {
	c := open(t, Options{ValidateTopicConfigs: func(own, ofBrokers map[string]string) error {
		if (own["a"] != "" || ofBrokers["a"] != "") && own["b"] != "" {
			return errors.New("a and b are no pair")
		}
		return nil
	}})
	register(t, c, 1, 1)
	topic := defaults("t")
	topic.Configs = map[string]string{"a": "1", "b": "1"}
	wantCode(t, "made", c.CreateTopics(t.Context(), []NewTopic{topic}, false)[0].Err, metadata.InvalidConfig)
	create(t, c, defaults("t"))
	alter := func(kind metadata.ResourceType, name string, ops ...ConfigOp) error {
		return c.AlterConfigs(t.Context(), []ConfigChange{{Type: kind, Name: name, Ops: ops}}, false)[0]
	}
	if err := alter(metadata.TopicResource, "t", ConfigOp{"a", SetConfig, "1"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "set beside one there", alter(metadata.TopicResource, "t", ConfigOp{"b", SetConfig, "1"}), metadata.InvalidConfig)
	if err := alter(metadata.TopicResource, "t", ConfigOp{"a", DeleteConfig, ""}, ConfigOp{"b", SetConfig, "1"}); err != nil {
		t.Errorf("one in the other's place: %v", err)
	}
	if err := alter(metadata.BrokerResource, "", ConfigOp{"a", SetConfig, "1"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "set beside a default", alter(metadata.TopicResource, "t", ConfigOp{"b", SetConfig, "2"}), metadata.InvalidConfig)
}

// TestConcurrentAppendsAllCount: each decision was taken on a version of the
// configuration that it replaces, or was taken again.
func TestConcurrentAppendsAllCount(t *testing.T) {
	c := open(t, Options{ListConfig: func(string) (string, bool) { return "", true }})
	register(t, c, 1, 1)
	create(t, c, defaults("t"))
	var done sync.WaitGroup
	for i := range 20 {
		done.Go(func() {
			if err := c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.TopicResource, Name: "t", Ops: []ConfigOp{{"list", AppendConfig, fmt.Sprint(i)}}}}, false)[0]; err != nil {
				t.Errorf("append %d: %v", i, err)
			}
		})
	}
	done.Wait()
	values, _ := c.Image().Config(metadata.Resource{Type: metadata.TopicResource, Name: "t"})
	if n := len(strings.Split(values["list"], ",")); n != 20 {
		t.Errorf("%d of 20 are in the list: %s", n, values["list"])
	}
}

// TestRestartIntoOldEpoch (RULES 3.1): whatever an earlier start of a broker
// sends is refused once the next one is registered.
func TestRestartIntoOldEpoch(t *testing.T) {
	c := open(t, Options{})
	old := register(t, c, 1, 1)
	id := create(t, c, defaults("t")).ID
	now := register(t, c, 1, 2)
	_, p := c.Image().Partition(storage.PartitionID{Topic: id})
	if p.Leader != 1 || p.LeaderEpoch < 1 {
		t.Fatalf("after the restart: %+v", p)
	}
	wantCode(t, "heartbeat", c.Heartbeat(t.Context(), 1, old), metadata.StaleBrokerEpoch)
	wantCode(t, "fence", c.FenceBroker(t.Context(), 1, old), metadata.StaleBrokerEpoch)
	_, _, err := c.AllocateProducerIDs(t.Context(), 1, old)
	wantCode(t, "producer ids", err, metadata.StaleBrokerEpoch)
	start := []LogStart{{storage.PartitionID{Topic: id}, p.LeaderEpoch, 5}}
	wantCode(t, "log start", c.AdvanceLogStart(t.Context(), 1, old, start)[0], metadata.StaleBrokerEpoch)
	start[0].LeaderEpoch = 0
	wantCode(t, "log start under the old leader epoch", c.AdvanceLogStart(t.Context(), 1, now, start)[0], metadata.FencedLeaderEpoch)
	start[0].LeaderEpoch = p.LeaderEpoch
	if err := c.AdvanceLogStart(t.Context(), 1, now, start)[0]; err != nil {
		t.Error(err)
	}
	first, count, err := c.AllocateProducerIDs(t.Context(), 1, now)
	second, _, _ := c.AllocateProducerIDs(t.Context(), 1, now)
	if err != nil || count != 1000 || second != first+1000 {
		t.Errorf("blocks %d, %d of %d: %v", first, second, count, err)
	}
}

func TestRegistrationAnsweredAgain(t *testing.T) {
	c := open(t, Options{})
	r := Registration{BrokerID: 1, Incarnation: [16]byte{1}, ClusterID: c.Image().ClusterID()}
	first, err := c.RegisterBroker(t.Context(), r)
	again, errAgain := c.RegisterBroker(t.Context(), r)
	if err != nil || errAgain != nil || first != again {
		t.Fatalf("%d, %v and %d, %v", first, err, again, errAgain)
	}
	r.ClusterID = "another"
	_, err = c.RegisterBroker(t.Context(), r)
	wantCode(t, "broker of another cluster", err, metadata.InconsistentClusterID)
	wantCode(t, "heartbeat of an unknown broker", c.Heartbeat(t.Context(), 2, 1), metadata.BrokerIDNotRegistered)
}

func TestSubscribersSeeImagesInOrder(t *testing.T) {
	c := open(t, Options{})
	var mu sync.Mutex
	var offsets []uint64
	seen := make(chan struct{}, 1)
	cancel := c.Subscribe(func(m *metadata.Image) {
		mu.Lock()
		defer mu.Unlock()
		offsets = append(offsets, m.Offset())
		if m.ControllerID() != 1 {
			t.Errorf("controller %d", m.ControllerID())
		}
		select {
		case seen <- struct{}{}:
		default:
		}
	})
	<-seen // the present one, without any change
	register(t, c, 1, 1)
	for i := range 20 {
		create(t, c, defaults(fmt.Sprintf("t%d", i)))
	}
	last := func() uint64 { mu.Lock(); defer mu.Unlock(); return offsets[len(offsets)-1] }
	for last() < c.Image().Offset() {
		<-seen
	}
	cancel()
	mu.Lock()
	defer mu.Unlock()
	if !slices.IsSorted(offsets) || len(slices.Compact(slices.Clone(offsets))) != len(offsets) {
		t.Errorf("offsets %v", offsets)
	}
}

// TestRestartKeepsTheCluster closes a controller and opens it on the same disk.
func TestRestartKeepsTheCluster(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	c, err := Open(t.Context(), Options{NodeID: 1, FS: fs, SnapshotEntries: 7})
	if err != nil {
		t.Fatal(err)
	}
	register(t, c, 1, 1)
	for i := range 20 {
		create(t, c, defaults(fmt.Sprintf("t%d", i)))
	}
	before := c.Image()
	shut(t, c)
	c = open(t, Options{NodeID: 1, FS: fs, SnapshotEntries: 7, ClusterID: before.ClusterID()})
	after := c.Image()
	if string(after.Snapshot()) != string(before.Snapshot()) {
		t.Fatalf("offset %d and %d, %d and %d topics", before.Offset(), after.Offset(), before.NumTopics(), after.NumTopics())
	}
	if epoch := register(t, c, 1, 2); epoch <= int64(before.Offset()) {
		t.Fatalf("broker epoch %d", epoch)
	}
}

func TestAnotherClustersLogIsRefused(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	c, err := Open(t.Context(), Options{NodeID: 1, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	_, err = Open(t.Context(), Options{NodeID: 1, FS: fs, ClusterID: "another"})
	wantCode(t, "open", err, metadata.InconsistentClusterID)
}

// TestSilentBrokerLosesItsLeaderships in simulated time, and gets them back
// with a heartbeat.
func TestSilentBrokerLosesItsLeaderships(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(t.Context(), Options{NodeID: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, c)
		epoch := register(t, c, 1, 1)
		id := create(t, c, defaults("t")).ID
		leader := func() int32 {
			_, p := c.Image().Partition(storage.PartitionID{Topic: id})
			return p.Leader
		}
		for range 20 {
			time.Sleep(DefaultBrokerSession / 4)
			if err := c.Heartbeat(t.Context(), 1, epoch); err != nil {
				t.Fatal(err)
			}
		}
		if leader() != 1 {
			t.Fatal("a broker with a heartbeat was fenced")
		}
		time.Sleep(2 * DefaultBrokerSession)
		synctest.Wait()
		if leader() != metadata.NoLeader {
			t.Fatal("a silent broker still leads")
		}
		if err := c.Heartbeat(t.Context(), 1, epoch); err != nil || leader() != 1 {
			t.Fatalf("after its heartbeat: leader %d, %v", leader(), err)
		}
	})
}

// TestCodesAreKafkas compares names and numbers with a client library's.
func TestCodesAreKafkas(t *testing.T) {
	named := 0
	for code := metadata.Code(1); code < 150; code++ {
		name := code.String()
		if strings.HasPrefix(name, "code ") {
			continue
		}
		named++
		theirs := kerr.TypedErrorForCode(int16(code))
		want := strings.NewReplacer("_exception", "", "_", " ").Replace(strings.ToLower(theirs.Message))
		if name != want && code != metadata.NotLeaderOrFollower { // renamed by KIP-392, there not yet
			t.Errorf("code %d is %q here, %q there", code, name, want)
		}
	}
	if named < 20 {
		t.Errorf("%d codes have names", named)
	}
}
