package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// testController is the controller's state machine without a log: every command
// is applied at once, in memory. Subscribers are called on the caller's
// goroutine, which shows that none of them waits.
type testController struct {
	t testing.TB

	givenUp     atomic.Int64 // replicas that were to be given up
	giveUpFails atomic.Int64 // how many calls of GiveUpReplicas fail

	mu          sync.Mutex
	state       *metadata.State
	subscribers map[int]func(*metadata.Image)
	nextID      int
	replicas    []int32                                     // of topics to be made
	place       func(topic string, partition int32) []int32 // what has them instead; nil: nothing
	refuse      error                                       // what every change is answered with, when not nil
	heard       int                                         // heartbeats
	loads       []controller.PartitionLoad                  // of the last report
	syncs       time.Duration                               // of it
	reports     int                                         // of load
}

// mostPartitions keeps hostile requests from making the test slow.
const mostPartitions = 1000

func newTestController(t testing.TB) *testController {
	c := &testController{t: t, state: metadata.NewState(), subscribers: map[int]func(*metadata.Image){}, replicas: []int32{1}}
	c.propose(&pb.InitCluster{ClusterId: "test-cluster", FeatureLevel: metadata.LatestFeatureLevel})
	return c
}

func (c *testController) propose(body proto.Message) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return nil, c.refuse
	}
	image := c.state.Image()
	command, err := metadata.Encode(image, body)
	if err != nil {
		return nil, err
	}
	result, err := c.state.Apply(image.Offset()+1, command)
	if err != nil {
		c.t.Errorf("apply: %v", err)
		return nil, err
	}
	for _, call := range c.subscribers {
		call(c.state.Image())
	}
	return result, metadata.Refused(result)
}

func (c *testController) BelievedTime() (time.Time, bool) { return time.Now(), true }

func (c *testController) Image() *metadata.Image { return c.state.Image() }

func (c *testController) Subscribe(f func(*metadata.Image)) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	c.subscribers[id] = f
	f(c.state.Image())
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, id)
	}
}

func (c *testController) RegisterBroker(_ context.Context, r controller.Registration) (int64, error) {
	command := &pb.RegisterBroker{BrokerId: r.BrokerID, Incarnation: r.Incarnation[:], Directory: r.Directory[:], Rack: r.Rack, UncleanEnd: r.UncleanEnd, AcksBeforeSync: r.AcksBeforeSync, CutTail: r.CutTail}
	if is, set := c.Image().Bucket(); set {
		command.BucketNonce = is.Nonce[:] // all brokers reach the one
	}
	for _, l := range r.Listeners {
		command.Listeners = append(command.Listeners, &pb.Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol})
	}
	result, err := c.propose(command)
	if err != nil {
		return 0, err
	}
	return int64(result.(metadata.BrokerEpoch)), nil
}

func (c *testController) Heartbeat(_ context.Context, id int32, epoch int64) error {
	c.mu.Lock()
	c.heard++
	c.mu.Unlock()
	_, err := c.propose(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epoch})
	return err
}

func (c *testController) FenceBroker(_ context.Context, id int32, epoch int64) error {
	_, err := c.propose(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epoch, Fenced: true})
	return err
}

func (c *testController) CreateTopics(_ context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	results := make([]controller.TopicResult, len(topics))
	for i, t := range topics {
		var id storage.TopicID
		rand.Read(id[:])
		n := min(max(1, t.Partitions), mostPartitions)
		command := &pb.CreateTopic{TopicId: id[:], Name: t.Name, Internal: t.Internal}
		for i := range n {
			replicas := c.replicas
			if c.place != nil {
				replicas = c.place(t.Name, i)
			}
			command.Assignments = append(command.Assignments, &pb.Assignment{Replicas: slices.Clone(replicas)})
		}
		for key, value := range t.Configs {
			command.Configs = append(command.Configs, &pb.ConfigEntry{Key: key, Value: value})
		}
		results[i] = controller.TopicResult{Name: t.Name, ID: id, Partitions: n, ReplicationFactor: int16(len(c.replicas)), Configs: t.Configs}
		if refused := c.Image().CheckNewTopic(t.Name); refused != nil {
			results[i].Err = refused
		} else if !validateOnly {
			_, results[i].Err = c.propose(command)
		}
	}
	return results
}

func (c *testController) DeleteTopics(_ context.Context, topics []controller.TopicRef) []controller.TopicResult {
	results := make([]controller.TopicResult, len(topics))
	for i, ref := range topics {
		results[i] = controller.TopicResult{Name: ref.Name, ID: ref.ID}
		t, ok := c.Image().Topic(ref.Name)
		if !ref.ID.IsZero() {
			t, ok = c.Image().TopicByID(ref.ID)
		}
		if !ok {
			results[i].Err = metadata.Errorf(metadata.UnknownTopicOrPartition, "no such topic")
			continue
		}
		results[i].Name, results[i].ID = t.Name, t.ID
		_, results[i].Err = c.propose(&pb.DeleteTopic{TopicId: t.ID[:]})
	}
	return results
}

func (c *testController) CreatePartitions(_ context.Context, name string, total int32, _ [][]int32, validateOnly bool) error {
	t, ok := c.Image().Topic(name)
	switch {
	case !ok:
		return metadata.Errorf(metadata.UnknownTopicOrPartition, "no such topic")
	case int(total) <= t.Partitions.Len() || total > mostPartitions:
		return metadata.Errorf(metadata.InvalidPartitions, "it has %d, and can have %d", t.Partitions.Len(), mostPartitions)
	case validateOnly:
		return nil
	}
	command := &pb.CreatePartitions{TopicId: t.ID[:], Existing: int32(t.Partitions.Len())}
	for range int(total) - t.Partitions.Len() {
		command.Assignments = append(command.Assignments, &pb.Assignment{Replicas: slices.Clone(c.replicas)})
	}
	_, err := c.propose(command)
	return err
}

func (c *testController) AlterConfigs(_ context.Context, changes []controller.ConfigChange, validateOnly bool) []error {
	errs := make([]error, len(changes))
	for i, change := range changes {
		_, version := c.Image().Config(metadata.Resource{Type: change.Type, Name: change.Name})
		command := &pb.AlterConfigs{ResourceType: int32(change.Type), Name: change.Name, Version: version}
		for _, op := range change.Ops {
			if op.Op == controller.DeleteConfig {
				command.Remove = append(command.Remove, op.Key)
			} else {
				command.Set = append(command.Set, &pb.ConfigEntry{Key: op.Key, Value: op.Value})
			}
		}
		if !validateOnly {
			_, errs[i] = c.propose(command)
		}
	}
	return errs
}

func (c *testController) AlterClientQuotas(_ context.Context, changes []controller.QuotaChange, validateOnly bool) []error {
	errs := make([]error, len(changes))
	for i, change := range changes {
		if !validateOnly {
			_, errs[i] = c.propose(metadata.NewAlterClientQuotas(change.Entity, change.Set, change.Remove))
		}
	}
	return errs
}

func (c *testController) AlterACLs(_ context.Context, changes []controller.ACLChange) []error {
	errs := make([]error, len(changes))
	for i, change := range changes {
		rule, err := change.Rule.Canonical()
		switch {
		case err != nil:
			errs[i] = metadata.Errorf(metadata.InvalidRequest, "%v", err)
		case change.Delete:
			_, errs[i] = c.propose(metadata.NewDeleteACLs([]acl.Rule{rule}))
		default:
			_, errs[i] = c.propose(metadata.NewCreateACLs([]acl.Rule{rule}))
		}
	}
	return errs
}

func (c *testController) AlterUsers(_ context.Context, changes []metadata.UserChange) []error {
	result, err := c.propose(metadata.NewAlterUsers(changes, bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		return slices.Repeat([]error{err}, len(changes))
	}
	return result.(metadata.UserResults)
}

func (c *testController) AdvanceLogStart(_ context.Context, brokerID int32, epoch int64, starts []controller.LogStart) []error {
	command := &pb.AdvanceLogStart{BrokerId: brokerID, BrokerEpoch: epoch}
	for _, s := range starts {
		command.Entries = append(command.Entries, &pb.AdvanceLogStart_Entry{
			TopicId: s.Partition.Topic[:], Partition: s.Partition.Index, LeaderEpoch: int32(s.LeaderEpoch), Offset: int64(s.Offset),
		})
	}
	result, err := c.propose(command)
	if err == nil {
		return result.(metadata.LogStarts)
	}
	return slices.Repeat([]error{err}, len(starts))
}

func (c *testController) PrepareObjects(_ context.Context, brokerID int32, epoch int64, count int) (storage.ObjectID, error) {
	result, err := c.propose(&pb.PrepareObjects{BrokerId: brokerID, BrokerEpoch: epoch, Count: uint32(count)})
	if err != nil {
		return 0, err
	}
	return result.(metadata.ObjectIDs).First, nil
}

func (c *testController) CommitObject(_ context.Context, brokerID int32, epoch int64, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) ([]error, error) {
	result, err := c.propose(metadata.NewCommitObject(brokerID, epoch, id, size, ranges))
	if err != nil {
		return nil, err
	}
	return result.(metadata.RangeResults), nil
}

func (c *testController) ReplaceRanges(_ context.Context, brokerID int32, epoch int64, id storage.ObjectID, size int64, replacements []metadata.Replacement) ([]error, error) {
	result, err := c.propose(metadata.NewReplaceRanges(brokerID, epoch, id, size, replacements))
	if err != nil {
		return nil, err
	}
	return result.(metadata.RangeResults), nil
}

func (c *testController) FileRanges(_ context.Context, brokerID int32, epoch int64, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	_, err := c.propose(metadata.NewFileRanges(brokerID, epoch, id, ref, f))
	return err
}

func (c *testController) RecordCleaning(_ context.Context, brokerID int32, epoch int64, p storage.PartitionID, leader storage.Epoch, is metadata.Cleaning) error {
	_, err := c.propose(metadata.NewRecordCleaning(brokerID, epoch, p, leader, is))
	return err
}

func (c *testController) ElectLeaders(_ context.Context, elections []controller.LeaderElection) []error {
	command := &pb.ElectLeaders{}
	for _, e := range elections {
		command.Entries = append(command.Entries, &pb.ElectLeaders_Entry{TopicId: e.Partition.Topic[:], Partition: e.Partition.Index, Leader: e.Leader, Unclean: e.Unclean})
	}
	return c.proposeEach(command, len(elections))
}

func (c *testController) ReassignPartitions(_ context.Context, moves []controller.Reassignment) []error {
	command := &pb.ReassignPartitions{}
	for _, r := range moves {
		command.Entries = append(command.Entries, &pb.ReassignPartitions_Entry{TopicId: r.Partition.Topic[:], Partition: r.Partition.Index, Replicas: r.Replicas})
	}
	return c.proposeEach(command, len(moves))
}

func (c *testController) proposeEach(command proto.Message, n int) []error {
	result, err := c.propose(command)
	if err == nil {
		return result.(metadata.PartitionResults)
	}
	return slices.Repeat([]error{err}, n)
}

func (c *testController) AllocateProducerIDs(_ context.Context, brokerID int32, epoch int64) (int64, int32, error) {
	result, err := c.propose(&pb.AllocateProducerIds{BrokerId: brokerID, BrokerEpoch: epoch, Count: 10})
	if err != nil {
		return 0, 0, err
	}
	block := result.(metadata.ProducerIDs)
	return block.First, block.Count, nil
}

// createTopic makes a topic as an operator would, elsewhere.
func (c *testController) createTopic(name string, partitions int32, configs ...string) storage.TopicID {
	c.t.Helper()
	set := map[string]string{}
	for i := 0; i < len(configs); i += 2 {
		set[configs[i]] = configs[i+1]
	}
	result := c.CreateTopics(context.Background(), []controller.NewTopic{{Name: name, Partitions: partitions, Configs: set}}, false)[0]
	if result.Err != nil {
		c.t.Fatalf("create topic %s with %s partitions: %v", name, strconv.Itoa(int(partitions)), result.Err)
	}
	return result.ID
}
