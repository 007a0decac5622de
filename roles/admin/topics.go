package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// PartitionState is what the leader of a partition holds.
type PartitionState struct {
	LogStart      storage.Offset `json:"log_start" doc:"first offset that can be read"`
	HighWatermark storage.Offset `json:"high_watermark" doc:"offset after the last record that can be read"`
	WALBytes      int64          `json:"wal_bytes" doc:"bytes of its batches in the write-ahead log of its leader"`
	MemoryBytes   int64          `json:"memory_bytes" doc:"those of them that are in memory too"`
	LocalStart    storage.Offset `json:"local_start" doc:"first offset that is in the write-ahead log; what lies before is read from the bucket"`
}

// BucketShare is what the bucket has of a partition.
type BucketShare struct {
	BucketBytes int64          `json:"bucket_bytes" doc:"bytes of its batches in the bucket"`
	BucketEnd   storage.Offset `json:"bucket_end" doc:"first offset that is to be uploaded"`
	CleanedEnd  storage.Offset `json:"cleaned_end,omitempty" doc:"first offset that compaction by key has not come to"`
}

// Topic is a topic as the API shows it.
type Topic struct {
	Name              string            `json:"name"`
	ID                string            `json:"id" doc:"KIP-516 topic id"`
	Internal          bool              `json:"internal,omitempty"`
	Partitions        int               `json:"partitions"`
	ReplicationFactor int               `json:"replication_factor"`
	Grows             bool              `json:"grows,omitempty" doc:"its replication factor was left to the cluster, and is 3 once there are so many brokers"`
	Records           int64             `json:"records" doc:"high watermarks less log starts: at most so many, for compaction takes some, and markers of transactions are none"`
	WALBytes          int64             `json:"wal_bytes"`
	MemoryBytes       int64             `json:"memory_bytes"`
	BucketBytes       int64             `json:"bucket_bytes"`
	Leaderless        int               `json:"leaderless,omitempty" doc:"partitions without a leader, of which nothing is served"`
	UnderReplicated   int               `json:"under_replicated,omitempty" doc:"partitions with fewer replicas in sync than they have"`
	Configs           map[string]string `json:"configs" doc:"what was set on the topic; the rest has defaults"`
	Durability        string            `json:"durability" doc:"what an ack means, in words"`
	PartitionList     []Partition       `json:"partition_list,omitempty"`
}

// Partition is one partition of a described topic.
type Partition struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Unknown     string  `json:"unknown,omitempty" doc:"why its leader does not say what it holds: the figures are at least what the process that answers knows"`
	PartitionState
	BucketShare
}

type (
	topicName struct {
		Name string `path:"name" maxLength:"249"`
	}
	topicOutput  struct{ Body Topic }
	topicsOutput struct {
		Body struct {
			Topics []Topic `json:"topics" doc:"in order of their names"`
			NextPage
		}
	}
	listInput struct {
		PageQuery
		Internal bool `query:"internal" doc:"internal topics too"`
	}
	// NewTopic is the body of a creation.
	NewTopic struct {
		Name              string            `json:"name" maxLength:"249"`
		Partitions        int32             `json:"partitions,omitempty" minimum:"0" doc:"0: the broker's default"`
		ReplicationFactor int16             `json:"replication_factor,omitempty" minimum:"0" doc:"0: min(3, brokers)"`
		Configs           map[string]string `json:"configs,omitempty"`
		DryRun            bool              `json:"dry_run,omitempty"`
	}
	createInput struct{ Body NewTopic }
	// ConfigPatch is the body of an alteration.
	ConfigPatch struct {
		Set    map[string]string `json:"set,omitempty"`
		Delete []string          `json:"delete,omitempty" doc:"keys that go back to their default"`

		DryRun bool `json:"dry_run,omitempty" doc:"change nothing: answer what would, or why it would not be taken"`
	}
	alterInput struct {
		Name string `path:"name" maxLength:"249"`
		Body ConfigPatch
	}
	// PartitionCount is the body of an addition of partitions.
	PartitionCount struct {
		Total int32 `json:"total" minimum:"1" doc:"partitions the topic has afterwards"`
	}
	partitionsInput struct {
		Name string `path:"name" maxLength:"249"`
		Body PartitionCount
	}
)

func registerTopics(h *routes, a api, c Configuration) {
	topic := func(op acl.Operation) row[topicName] {
		return to(func(in *topicName) string { return in.Name }, need{op, acl.Topic}).tagged(imageOf(a.cluster), func(in *topicName) controller.Tagged { return topicNamed(in.Name) })
	}
	route(h, http.MethodGet, "/api/v1/topics", whoever[listInput]("topics that the caller may not describe are left out; configurations are shown of those of which it may describe them (DescribeConfigs)"), a.list)
	route(h, http.MethodPost, "/api/v1/topics", to(func(in *createInput) string { return in.Body.Name }, need{acl.Create, acl.Topic}).or(need{acl.Create, acl.Cluster}).act("topic.create").saying(toldTopic).unless(func(in *createInput) bool { return in.Body.DryRun }), a.create, withStatus(http.StatusCreated))
	route(h, http.MethodGet, "/api/v1/topics/{name}", topic(acl.Describe).noting("configurations are shown to who may describe them (DescribeConfigs)"), a.describe)
	route(h, http.MethodPatch, "/api/v1/topics/{name}", to(func(in *alterInput) string { return in.Name }, need{acl.AlterConfigs, acl.Topic}).act("topic.alter-configs").saying(toldPatch).unless(func(in *alterInput) bool { return in.Body.DryRun }).tagged(imageOf(a.cluster), func(in *alterInput) controller.Tagged { return topicNamed(in.Name) }), a.alter)
	route(h, http.MethodGet, "/api/v1/topics/{name}/configs", topic(acl.DescribeConfigs), topicConfigsAPI{a.cluster, c}.list)
	route(h, http.MethodDelete, "/api/v1/topics/{name}", topic(acl.Delete).act("topic.delete"), a.delete)
	route(h, http.MethodPost, "/api/v1/topics/{name}/partitions", to(func(in *partitionsInput) string { return in.Name }, need{acl.Alter, acl.Topic}).act("topic.create-partitions").saying(func(in *partitionsInput) string { return fmt.Sprintf("partitions=%d", in.Body.Total) }).tagged(imageOf(a.cluster), func(in *partitionsInput) controller.Tagged { return topicNamed(in.Name) }), a.addPartitions)
	route(h, http.MethodGet, "/api/v1/topics/{name}/partitions", to(func(in *partitionsQuery) string { return in.Name }, need{acl.Describe, acl.Topic}), a.listPartitions)
}

// toldTopic is a topic that is to be made as the audit log has it.
func toldTopic(in *createInput) string {
	t := &in.Body
	return fmt.Sprintf("partitions=%d replication_factor=%d configs=%s", t.Partitions, t.ReplicationFactor, strings.Join(slices.Sorted(maps.Keys(t.Configs)), ","))
}

// toldPatch is a change of configurations as the audit log has it, as of Kafka's requests.
func toldPatch(in *alterInput) string {
	var said []string
	for _, key := range slices.Sorted(maps.Keys(in.Body.Set)) {
		said = append(said, "set "+key)
	}
	for _, key := range in.Body.Delete {
		said = append(said, "delete "+key)
	}
	return strings.Join(said, ", ")
}

func (a api) list(ctx context.Context, in *listInput) (*topicsOutput, error) {
	who, out := subjectOf(ctx), &topicsOutput{}
	var topics []*metadata.Topic
	for t := range a.cluster.Image().Topics() {
		if (!t.Internal || in.Internal) && who.may(acl.Describe, acl.Topic, t.Name) {
			topics = append(topics, t)
		}
	}
	topics, next, err := partOf(in.PageQuery, topics, func(t *metadata.Topic) string { return t.Name })
	if err != nil {
		return nil, err
	}
	out.Body.Topics, out.Body.NextPage = a.shown(ctx, topics...), next
	for i := range out.Body.Topics {
		out.Body.Topics[i].PartitionList = nil
	}
	return out, nil
}

func (a api) create(ctx context.Context, in *createInput) (*topicOutput, error) {
	topic := controller.NewTopic{Name: in.Body.Name, Partitions: in.Body.Partitions, ReplicationFactor: in.Body.ReplicationFactor, Configs: in.Body.Configs}
	if topic.Partitions == 0 {
		topic.Partitions = -1
	}
	if topic.ReplicationFactor == 0 {
		topic.ReplicationFactor = -1
	}
	result := a.cluster.CreateTopics(ctx, []controller.NewTopic{topic}, in.Body.DryRun)[0]
	if result.Err != nil {
		return nil, problem(result.Err)
	}
	if in.Body.DryRun {
		would := Topic{Name: result.Name, Partitions: int(result.Partitions), ReplicationFactor: int(result.ReplicationFactor), Configs: map[string]string{}}
		maps.Copy(would.Configs, in.Body.Configs)
		return &topicOutput{would}, nil
	}
	return a.describe(ctx, &topicName{in.Body.Name})
}

func (a api) describe(ctx context.Context, in *topicName) (*topicOutput, error) {
	t, ok := a.cluster.Image().Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	return &topicOutput{a.shown(ctx, t)[0]}, nil
}

// shown are the views of topics, without what who calls may not see of them.
func (a api) shown(ctx context.Context, topics ...*metadata.Topic) []Topic {
	who, partitions := subjectOf(ctx), a.partitions(ctx, partitionsOf(topics...))
	views := []Topic{}
	for _, t := range topics {
		view := a.view(t, partitions[:t.Partitions.Len()])
		partitions = partitions[t.Partitions.Len():]
		if !who.may(acl.DescribeConfigs, acl.Topic, t.Name) {
			view.Configs = map[string]string{}
		}
		views = append(views, view)
	}
	return views
}

func (a api) alter(ctx context.Context, in *alterInput) (*topicOutput, error) {
	t, ok := a.cluster.Image().Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	if in.Name == broker.AuditTopic {
		return nil, problem(metadata.Errorf(metadata.PolicyViolation, "what is kept of the audit log is said by the configuration of the nodes: security.audit.retention_time and retention_bytes"))
	}
	// Kafka takes it when a request deletes what is not there, and its own tool does not.
	for _, key := range in.Body.Delete {
		if _, set := t.Configs[key]; set {
			continue
		}
		if err := configs.KnownTopicConfig(key); err != nil {
			return nil, problem(metadata.Errorf(metadata.InvalidConfig, "%v", err))
		}
	}
	change := topicChange(in.Name, in.Body)
	if err := a.cluster.AlterConfigs(ctx, []controller.ConfigChange{change}, in.Body.DryRun)[0]; err != nil {
		return nil, problem(err)
	}
	out, err := a.describe(ctx, &topicName{in.Name})
	if err == nil && in.Body.DryRun {
		out.Body.Configs = changed(out.Body.Configs, in.Body)
	}
	// Who may alter configurations may see them, and need not know more of the topic.
	if err == nil && !guard.Check("admin.altered-topic", subjectOf(ctx).may(acl.Describe, acl.Topic, in.Name)) {
		out.Body = Topic{Name: in.Name, Configs: out.Body.Configs}
	}
	return out, err
}

// changed is what a topic that has set would have set.
func changed(set map[string]string, p ConfigPatch) map[string]string {
	out := maps.Clone(set)
	maps.Copy(out, p.Set)
	for _, key := range p.Delete {
		delete(out, key)
	}
	return out
}

func (a api) delete(ctx context.Context, in *topicName) (*struct{}, error) {
	result := a.cluster.DeleteTopics(ctx, []controller.TopicRef{{Name: in.Name}})[0]
	if result.Err != nil {
		return nil, problem(result.Err)
	}
	return nil, nil
}

func (a api) addPartitions(ctx context.Context, in *partitionsInput) (*topicOutput, error) {
	if err := a.cluster.CreatePartitions(ctx, in.Name, in.Body.Total, nil, false); err != nil {
		return nil, problem(err)
	}
	return a.describe(ctx, &topicName{in.Name})
}

// view shows a topic with its partitions.
func (a api) view(t *metadata.Topic, partitions []Partition) Topic {
	out := Topic{Name: t.Name, ID: t.ID.String(), Internal: t.Internal, Partitions: len(partitions), Configs: t.Configs, PartitionList: partitions}
	if out.Configs == nil {
		out.Configs = map[string]string{}
	}
	for _, p := range partitions {
		out.Records += int64(p.HighWatermark - p.LogStart)
		out.WALBytes += p.WALBytes
		out.MemoryBytes += p.MemoryBytes
		out.BucketBytes += p.BucketBytes
		if p.Leader == metadata.NoLeader {
			out.Leaderless++
		}
		if len(p.ISR) < len(p.Replicas) {
			out.UnderReplicated++
		}
		out.ReplicationFactor = max(out.ReplicationFactor, len(p.Replicas))
	}
	out.Grows = (t.Internal || t.ReplicasUnset) && out.ReplicationFactor < controller.MaxDefaultReplicas
	out.Durability = durability(configs.Durability(t.Configs), out.ReplicationFactor, a.ackBeforeSync)
	return out
}

// durability says what an ack of a topic of that rustmq.durability means, where it comes so
// long before the disk; 0: after it.
func durability(kind string, replicas int, before time.Duration) string {
	switch {
	case kind == configs.ObjectDurability:
		return "an ack (acks=1 or all) means: in the bucket, and committed there (rustmq.durability = object); it survives the loss of every machine and disk, and takes wal.ack_interval longer; one broker leads a partition, any other can go on from the bucket, and without the bucket or the controllers nothing is acked"
	case kind == configs.MemoryDurability && replicas <= 1:
		return "an ack (acks=1 or all) means: in this node's memory (rustmq.durability = memory); kill -9 or a power cut can lose the last records, also such as were consumed"
	case kind == configs.MemoryDurability:
		return "acks=all means: in the memory of every in-sync replica (rustmq.durability = memory), so that the loss of some of them loses nothing, and a power cut of all can lose the last records, also such as were consumed; acks=1 means: in the leader's memory, and can be lost with it"
	case replicas <= 1 && before > 0:
		return fmt.Sprintf("an ack (acks=1 or all) means: written, and not yet synced to this node's disk (wal.sync = interval); it survives kill -9, and a power cut can lose the last %v", before)
	case before > 0:
		return fmt.Sprintf("acks=all means: written by every in-sync replica, and acks=1: by the leader, and not yet synced to a disk (wal.sync = interval); a power cut of all of them can lose the last %v", before)
	case replicas <= 1:
		return "an ack (acks=1 or all) means: synced to this node's disk; it survives kill -9 and power loss, not the loss of the disk"
	}
	return "acks=all means: synced to the disk of every in-sync replica; acks=1 means: synced to the leader's disk, and can be lost when leadership moves"
}

func unknownTopic(name string) error {
	return huma.NewError(http.StatusNotFound, "UNKNOWN_TOPIC_OR_PARTITION: there is no topic "+name+
		"; `rustmq admin topics list` shows those there are")
}

// topicChange turns a patch into operations.
func topicChange(name string, patch ConfigPatch) controller.ConfigChange {
	change := controller.ConfigChange{Type: metadata.TopicResource, Name: name}
	for _, key := range slices.Sorted(maps.Keys(patch.Set)) {
		change.Ops = append(change.Ops, controller.ConfigOp{Key: key, Op: controller.SetConfig, Value: patch.Set[key]})
	}
	for _, key := range patch.Delete {
		change.Ops = append(change.Ops, controller.ConfigOp{Key: key, Op: controller.DeleteConfig})
	}
	return change
}
