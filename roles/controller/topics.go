package controller

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// NewTopic asks for a topic. With Assignments, Partitions and
// ReplicationFactor are -1.
type NewTopic struct {
	Name              string
	Partitions        int32 // -1: the default
	ReplicationFactor int16 // -1: three, or as many as there are brokers
	Assignments       []Assignment
	Configs           map[string]string
	Internal          bool
}

// Assignment names the brokers of one partition, the preferred leader first.
type Assignment struct {
	Partition int32
	Replicas  []int32
}

// TopicRef names a topic, by id or, when that is zero, by name.
type TopicRef struct {
	Name string
	ID   storage.TopicID
}

// TopicResult is what became of one topic of a request. All but Name and Err
// are zero when Err is not nil; ID is zero where only validation was asked for.
type TopicResult struct {
	Name              string
	ID                storage.TopicID
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string
	Err               error
}

// CreateTopics makes topics, each on its own; results are in order of the
// request. With validateOnly it says what would happen.
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []TopicResult {
	results := make([]TopicResult, len(topics))
	end, err := c.change(ctx)
	if err != nil {
		for i, t := range topics {
			results[i] = TopicResult{Name: t.Name, Err: err}
		}
		return results
	}
	defer end()
	proposals := make([]*consensus.Proposal, len(topics))
	asked := ask{quota: &c.quota, image: c.state.Image}
	defer asked.end()
	times := map[string]int{}
	for _, t := range topics {
		times[t.Name]++
	}
	for i, t := range topics {
		results[i].Name = t.Name
		if times[t.Name] > 1 {
			results[i].Err = metadata.Errorf(metadata.InvalidRequest, "the request names this topic %d times", times[t.Name])
			continue
		}
		proposals[i], results[i].Err = c.startTopic(t, &results[i], &asked, validateOnly)
	}
	for i, pending := range proposals {
		if pending == nil {
			continue
		}
		if _, err := c.finish(ctx, pending); err != nil {
			results[i] = TopicResult{Name: results[i].Name, Err: err}
		} else if !topics[i].Internal {
			asked.made += int(results[i].Partitions)
		}
	}
	if !validateOnly {
		c.HurryLog() // records without a topic would be of no use to whoever has the bucket alone
	}
	return results
}

// ownTopics are those that brokers make, for what they keep themselves.
var ownTopics = map[string]bool{"__consumer_offsets": true, "__transaction_state": true, "__audit": true}

// OwnTopics are the names of topics that brokers make, whether they are made yet or not.
func OwnTopics() iter.Seq[string] { return maps.Keys(ownTopics) }

func internalTopic(name string) error {
	return metadata.Errorf(metadata.InvalidTopic, "topic %q is the broker's own", name)
}

// startTopic decides and proposes one topic; the proposal is nil if only
// validation was asked for.
func (c *Controller) startTopic(t NewTopic, result *TopicResult, asked *ask, validateOnly bool) (*consensus.Proposal, error) {
	if err := c.leads(); err != nil {
		return nil, err
	}
	if refused := c.state.Image().CheckNewTopic(t.Name); refused != nil {
		return nil, refused // whatever room there is
	}
	if !guard.Check("controller.internal-made", t.Internal || !ownTopics[t.Name]) { // another than brokers need
		return nil, internalTopic(t.Name)
	}
	// The broker's own topics are few, and it cannot do without them.
	if !t.Internal {
		if err := asked.take(c.ruled().partitionsOf(t)); err != nil {
			return nil, err
		}
	}
	id, err := c.newTopicID()
	if err != nil {
		return nil, err
	}
	image := c.state.Image()
	command, err := c.ruled().decideTopic(image, t, id)
	if err != nil {
		return nil, err
	}
	encoded, err := encode(image, command)
	if err != nil {
		return nil, err
	}
	*result = TopicResult{
		Name: t.Name, ID: id,
		Partitions:        int32(len(command.Assignments)),
		ReplicationFactor: int16(len(command.Assignments[0].Replicas)),
		Configs:           t.Configs,
	}
	if validateOnly {
		result.ID = storage.TopicID{}
		return nil, nil
	}
	return c.node.Start(encoded), nil
}

// newTopicID returns a random id; none begins with '-' when printed, so that
// it can be pasted behind a flag.
func (c *Controller) newTopicID() (id storage.TopicID, err error) {
	for id.IsZero() || id.String()[0] == '-' {
		if _, err := io.ReadFull(c.opt.Rand, id[:]); err != nil {
			return id, fmt.Errorf("make a topic id: %w", err)
		}
	}
	return id, nil
}

// DeleteTopics deletes topics, each on its own, but none of the brokers' own: with theirs
// would go what groups have committed, and which transactions are to be ended. Results are in order of the
// request and name the topic by both name and id where they could be resolved.
func (c *Controller) DeleteTopics(ctx context.Context, topics []TopicRef) []TopicResult {
	results := make([]TopicResult, len(topics))
	end, err := c.change(ctx)
	if err != nil {
		for i, ref := range topics {
			results[i] = TopicResult{Name: ref.Name, ID: ref.ID, Err: err}
		}
		return results
	}
	defer end()
	proposals := make([]*consensus.Proposal, len(topics))
	seen := map[storage.TopicID]bool{}
	image := c.state.Image() // a topic that is named twice may be gone before its second turn
	led := c.leads()
	for i, ref := range topics {
		results[i] = TopicResult{Name: ref.Name, ID: ref.ID}
		if led != nil {
			results[i].Err = led // what this one does not know may be there
			continue
		}
		t, err := resolve(image, ref)
		if err == nil && seen[t.ID] {
			err = metadata.Errorf(metadata.InvalidRequest, "the request names topic %q twice", t.Name)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		seen[t.ID] = true
		results[i] = TopicResult{Name: t.Name, ID: t.ID}
		if !guard.Check("controller.internal-kept", !t.Internal) {
			results[i].Err = internalTopic(t.Name)
			continue
		}
		proposals[i], results[i].Err = c.start(&pb.DeleteTopic{TopicId: t.ID[:]})
	}
	for i, pending := range proposals {
		if pending != nil {
			_, results[i].Err = c.finish(ctx, pending)
		}
		if topics[i].ID.IsZero() {
			results[i].Err = asNamed(topics[i].Name, results[i].Err)
		}
	}
	return results
}

func resolve(image *metadata.Image, ref TopicRef) (*metadata.Topic, error) {
	if ref.ID.IsZero() {
		if t, ok := image.Topic(ref.Name); ok {
			return t, nil
		}
		return nil, metadata.Errorf(metadata.UnknownTopicOrPartition, "there is no topic of that name")
	}
	if t, ok := image.TopicByID(ref.ID); ok {
		return t, nil
	}
	return nil, metadata.Errorf(metadata.UnknownTopicID, "topic id %s", ref.ID)
}

// CreatePartitions brings a topic to total partitions. Assignments, one for
// each new partition, may be nil.
func (c *Controller) CreatePartitions(ctx context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	asked := ask{quota: &c.quota, image: c.state.Image}
	defer asked.end()
	if err := c.leads(); err != nil {
		return err
	}
	if t, ok := c.state.Image().Topic(name); ok && total <= metadata.MaxPartitionsPerTopic {
		if err := asked.take(int(total) - t.Partitions.Len()); err != nil {
			return err
		}
	}
	err = c.retryConflicts(ctx, func(image *metadata.Image) ([]byte, error) {
		command, err := c.ruled().decidePartitions(image, name, total, assignments)
		if err != nil {
			return nil, err
		}
		return encode(image, command)
	}, validateOnly)
	if err == nil && !validateOnly {
		asked.made = asked.taken
	}
	return asNamed(name, err)
}

// asNamed has an error of a topic that went between its name was looked up and now say what
// was asked for: the client knows no id.
func asNamed(name string, err error) error {
	if metadata.CodeOf(err) == metadata.UnknownTopicID {
		return metadata.Errorf(metadata.UnknownTopicOrPartition, "topic %q was deleted meanwhile", name)
	}
	return err
}
