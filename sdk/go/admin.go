package rustmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Admin administers a cluster: topics and groups by Kafka's protocol, the rest by the
// admin API ([WithAdmin]).
type Admin struct {
	kafka    *kadm.Client
	requests *kgo.Client
	target   adminTarget
}

// Kafka is the client of all of Kafka's administration: ACLs, configs, quotas, users.
func (a *Admin) Kafka() *kadm.Client { return a.kafka }

// Topic is what a topic is made as, and what it is.
type Topic struct {
	Name       string
	Partitions int32             // default: the cluster's
	Replicas   int16             // default: the cluster's
	Config     map[string]string // what is not the cluster's default; not told by Topics
}

// CreateTopic makes a topic. One that is there already is left as it is, whatever
// it is: kerr.TopicAlreadyExists.
func (a *Admin) CreateTopic(ctx context.Context, t Topic) error {
	partitions, replicas := t.Partitions, t.Replicas
	if partitions == 0 {
		partitions = -1
	}
	if replicas == 0 {
		replicas = -1
	}
	configs := map[string]*string{}
	for k, v := range t.Config {
		configs[k] = &v
	}
	resp, err := a.kafka.CreateTopic(ctx, partitions, replicas, configs, t.Name)
	if err != nil {
		if resp.ErrMessage != "" {
			return fmt.Errorf("rustmq: create topic %s: %w: %s", t.Name, err, resp.ErrMessage)
		}
		return fmt.Errorf("rustmq: create topic %s: %w", t.Name, err)
	}
	return nil
}

// EnsureTopic makes a topic unless it is there.
func (a *Admin) EnsureTopic(ctx context.Context, t Topic) error {
	if err := a.CreateTopic(ctx, t); !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return nil
}

// DeleteTopic deletes a topic and all its records.
func (a *Admin) DeleteTopic(ctx context.Context, name string) error {
	if _, err := a.kafka.DeleteTopic(ctx, name); err != nil {
		return fmt.Errorf("rustmq: delete topic %s: %w", name, err)
	}
	return nil
}

// AddPartitions gives a topic n partitions more. Keys go to other partitions from then on.
func (a *Admin) AddPartitions(ctx context.Context, topic string, n int) error {
	responses, err := a.kafka.CreatePartitions(ctx, n, topic)
	if err == nil {
		_, err = responses.On(topic, nil)
	}
	if err != nil {
		return fmt.Errorf("rustmq: add partitions to %s: %w", topic, err)
	}
	return nil
}

// SetTopicConfig sets keys of a topic's configuration.
func (a *Admin) SetTopicConfig(ctx context.Context, topic string, config map[string]string) error {
	var changes []kadm.AlterConfig
	for k, v := range config {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
	}
	responses, err := a.kafka.AlterTopicConfigs(ctx, changes, topic)
	if err == nil {
		_, err = responses.On(topic, nil)
	}
	if err != nil {
		return fmt.Errorf("rustmq: configure topic %s: %w", topic, err)
	}
	return nil
}

// Topics lists the topics that the user may describe, without the brokers' own.
func (a *Admin) Topics(ctx context.Context) ([]Topic, error) {
	listed, err := a.kafka.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("rustmq: list topics: %w", err)
	}
	var topics []Topic
	for _, t := range listed.Sorted() {
		topics = append(topics, Topic{Name: t.Topic, Partitions: int32(len(t.Partitions)), Replicas: int16(t.Partitions.NumReplicas())})
	}
	return topics, nil
}

// Group is a consumer group.
type Group struct {
	Name    string
	State   string // Stable, Empty, …
	Members int
	Lag     int64 // records behind what it has committed, of all partitions
}

// Groups describes groups, classic ones and those of KIP-848; without names, all.
func (a *Admin) Groups(ctx context.Context, names ...string) ([]Group, error) {
	if len(names) == 0 {
		listed, err := a.kafka.ListGroups(ctx)
		if err != nil {
			return nil, fmt.Errorf("rustmq: list groups: %w", err)
		}
		if names = listed.Groups(); len(names) == 0 {
			return nil, nil
		}
	}
	var groups []Group
	for _, name := range names {
		g, err := a.group(ctx, name)
		if err != nil {
			return groups, fmt.Errorf("rustmq: describe group %s: %w", name, err)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

func (a *Admin) group(ctx context.Context, name string) (Group, error) {
	g := Group{Name: name}
	topics := kadm.TopicsSet{}
	classic, err := a.kafka.DescribeGroups(ctx, name)
	if err != nil {
		return g, err
	}
	described := classic[name]
	switch {
	case errors.Is(described.Err, kerr.GroupIDNotFound):
		modern, err := a.kafka.DescribeConsumerGroups(ctx, name)
		if err == nil {
			err = modern.Error()
		}
		if err != nil {
			return g, err
		}
		is := modern[name]
		g.State, g.Members, topics = is.State, len(is.Members), is.AssignedPartitions()
	case described.Err != nil:
		return g, described.Err
	default:
		g.State, g.Members, topics = described.State, len(described.Members), described.AssignedPartitions()
	}
	committed, err := a.kafka.FetchOffsets(ctx, name)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return g, err
	}
	committed.Each(func(o kadm.OffsetResponse) { topics.Add(o.Topic, o.Partition) })
	if len(topics) == 0 {
		return g, nil
	}
	starts, err1 := a.kafka.ListStartOffsets(ctx, topics.Topics()...)
	ends, err2 := a.kafka.ListEndOffsets(ctx, topics.Topics()...)
	if err := errors.Join(err1, err2); err != nil {
		return g, err
	}
	ends.Each(func(end kadm.ListedOffset) {
		if !topics.Lookup(end.Topic, end.Partition) || end.Err != nil {
			return
		}
		var from int64
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok && start.Err == nil {
			from = start.Offset
		}
		if o, ok := committed.Lookup(end.Topic, end.Partition); ok {
			from = max(from, o.At)
		}
		g.Lag += max(0, end.Offset-from)
	})
	return g, nil
}

// ResetGroup sets what a group without members has committed of topics to the first record
// of a time or later; the zero time is the start.
func (a *Admin) ResetGroup(ctx context.Context, group string, to time.Time, topics ...string) error {
	var listed kadm.ListedOffsets
	var err error
	if to.IsZero() {
		listed, err = a.kafka.ListStartOffsets(ctx, topics...)
	} else {
		listed, err = a.kafka.ListOffsetsAfterMilli(ctx, to.UnixMilli(), topics...)
	}
	if err == nil {
		err = listed.Error()
	}
	if err == nil {
		err = a.kafka.CommitAllOffsets(ctx, group, listed.Offsets())
	}
	if err != nil {
		return fmt.Errorf("rustmq: reset group %s: %w", group, err)
	}
	return nil
}

// DeleteGroup deletes a group without members, and what it has committed.
func (a *Admin) DeleteGroup(ctx context.Context, group string) error {
	if _, err := a.kafka.DeleteGroup(ctx, group); err != nil {
		return fmt.Errorf("rustmq: delete group %s: %w", group, err)
	}
	return nil
}
