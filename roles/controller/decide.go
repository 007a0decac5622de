package controller

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// MaxDefaultReplicas is the replication factor of a topic that names none, as
// far as there are brokers.
const MaxDefaultReplicas = 3

// rules is what decisions depend on besides the image.
type rules struct {
	defaultPartitions int32
	topicConfig       func(key, value string) error
	topicConfigs      func(own, ofBrokers map[string]string) error
	brokerConfig      func(key, value string) error
	groupConfigs      func(values map[string]string) error
	clientMetrics     func(values map[string]string) error
	listConfig        func(key string) (defaultValue string, isList bool)
}

// decideTopic makes the command for a new topic under that id.
func (r rules) decideTopic(image *metadata.Image, t NewTopic, id storage.TopicID) (*pb.CreateTopic, error) {
	if refused := image.CheckNewTopic(t.Name); refused != nil {
		return nil, refused
	}
	command := &pb.CreateTopic{TopicId: id[:], Name: t.Name, Internal: t.Internal}
	for _, key := range slices.Sorted(maps.Keys(t.Configs)) {
		if err := r.topicConfig(key, t.Configs[key]); err != nil {
			return nil, metadata.Errorf(metadata.InvalidConfig, "%v", err)
		}
		command.Configs = append(command.Configs, &pb.ConfigEntry{Key: key, Value: t.Configs[key]})
	}
	if err := r.topicConfigs(t.Configs, ofAllBrokers(image)); err != nil {
		return nil, metadata.Errorf(metadata.InvalidConfig, "%v", err)
	}
	if configs.Durability(t.Configs) == configs.ObjectDurability && !t.Internal {
		// What is acknowledged is in the bucket, and nowhere else on purpose.
		if t.ReplicationFactor > 1 {
			return nil, metadata.Errorf(metadata.InvalidReplicationFactor, "replication factor %d: with %s = %s a partition is in the bucket when it is acknowledged, and has one replica, its leader; ask for 1, or leave it to the cluster", t.ReplicationFactor, configs.DurabilityKey, configs.ObjectDurability)
		}
		if len(t.Assignments) == 0 {
			t.ReplicationFactor = 1
		}
	}
	var replicas [][]int32
	var err error
	if len(t.Assignments) > 0 {
		replicas, err = ownAssignment(t)
	} else {
		replicas, err = r.defaultAssignment(image, t, id)
	}
	if err != nil {
		return nil, err
	}
	command.Assignments = assignments(replicas)
	command.ReplicasUnset = len(t.Assignments) == 0 && t.ReplicationFactor == -1 && image.FeatureLevel() >= metadata.ClusterFeatureLevel
	return command, nil
}

// partitionsOf is how many partitions a topic asks for.
func (r rules) partitionsOf(t NewTopic) int {
	switch {
	case len(t.Assignments) > 0:
		return len(t.Assignments)
	case t.Partitions == -1:
		return int(r.defaultPartitions)
	}
	return int(t.Partitions)
}

// defaultAssignment places the replicas of a topic that leaves it to us. The
// random id says where the round begins.
func (r rules) defaultAssignment(image *metadata.Image, t NewTopic, id storage.TopicID) ([][]int32, error) {
	count := r.partitionsOf(t)
	if count < 1 || count > metadata.MaxPartitionsPerTopic {
		return nil, metadata.Errorf(metadata.InvalidPartitions, "%d partitions: a topic has 1 to %d", count, metadata.MaxPartitionsPerTopic)
	}
	brokers := candidates(image)
	factor := int(t.ReplicationFactor)
	if factor == -1 {
		factor = min(MaxDefaultReplicas, max(1, len(brokers)))
	}
	if err := checkFactor(factor, len(brokers)); err != nil {
		return nil, err
	}
	return place(brokers, count, factor, startOf(id)), nil
}

func checkFactor(factor, brokers int) error {
	if factor < 1 || factor > metadata.MaxReplicas {
		return metadata.Errorf(metadata.InvalidReplicationFactor, "replication factor %d: 1 to %d are allowed", factor, metadata.MaxReplicas)
	}
	if factor > brokers {
		return metadata.Errorf(metadata.InvalidReplicationFactor, "replication factor %d is larger than the %d brokers in service", factor, brokers)
	}
	return nil
}

func startOf(id storage.TopicID) int { return int(binary.LittleEndian.Uint32(id[:])) }

// ownAssignment returns the replicas that the request itself names.
func ownAssignment(t NewTopic) ([][]int32, error) {
	if t.Partitions != -1 || t.ReplicationFactor != -1 {
		return nil, metadata.Errorf(metadata.InvalidRequest, "a topic with an assignment of its own has -1 for partitions and replication factor")
	}
	replicas := make([][]int32, len(t.Assignments))
	for _, a := range t.Assignments {
		if a.Partition < 0 || int(a.Partition) >= len(replicas) || replicas[a.Partition] != nil || len(a.Replicas) == 0 {
			return nil, metadata.Errorf(metadata.InvalidReplicaAssignment, "partitions must be 0 to %d, each once and with replicas; %d is not", len(replicas)-1, a.Partition)
		}
		replicas[a.Partition] = a.Replicas
	}
	return replicas, nil
}

func assignments(replicas [][]int32) []*pb.Assignment {
	list := make([]*pb.Assignment, len(replicas))
	for i, r := range replicas {
		list[i] = &pb.Assignment{Replicas: r}
	}
	return list
}

// decidePartitions makes the command that brings a topic to total partitions.
func (r rules) decidePartitions(image *metadata.Image, name string, total int32, own [][]int32) (*pb.CreatePartitions, error) {
	t, ok := image.Topic(name)
	if !ok {
		return nil, metadata.Errorf(metadata.UnknownTopicOrPartition, "there is no topic of that name")
	}
	existing := t.Partitions.Len()
	switch added := int(total) - existing; {
	case !guard.Check("controller.internal-partitions", !t.Internal): // nobody would look at the others
		return nil, internalTopic(name)
	case added == 0:
		return nil, metadata.Errorf(metadata.InvalidPartitions, "topic %q has %d partitions already", name, existing)
	case added < 0:
		return nil, metadata.Errorf(metadata.InvalidPartitions, "topic %q has %d partitions; their number cannot fall", name, existing)
	case total > metadata.MaxPartitionsPerTopic:
		return nil, metadata.Errorf(metadata.InvalidPartitions, "%d partitions: a topic has 1 to %d", total, metadata.MaxPartitionsPerTopic)
	case own != nil && len(own) != added:
		return nil, metadata.Errorf(metadata.InvalidReplicaAssignment, "%d partitions to add, %d assignments", added, len(own))
	}
	factor := len(t.Partitions.At(0).Replicas)
	replicas := own
	if own == nil {
		brokers := candidates(image)
		if err := checkFactor(factor, len(brokers)); err != nil {
			return nil, err
		}
		all := place(brokers, int(total), factor, startOf(t.ID)) // goes on where the topic's own round ended
		replicas = all[existing:]
	}
	for _, r := range replicas {
		if len(r) != factor {
			return nil, metadata.Errorf(metadata.InvalidReplicaAssignment, "topic %q has replication factor %d, an assignment names %d brokers", name, factor, len(r))
		}
	}
	return &pb.CreatePartitions{TopicId: t.ID[:], Existing: int32(existing), Assignments: assignments(replicas)}, nil
}

// judging is how the configuration of a resource is judged.
type judging struct {
	validate func(key, value string) error        // one value; nil: any will do
	together func(values map[string]string) error // all of them; nil likewise
	lists    func(key string) (string, bool)
}

// judging says how a change is judged; an error: there is no such resource.
func (r rules) judging(image *metadata.Image, change ConfigChange) (how judging, err error) {
	how.lists = r.listConfig
	switch change.Type {
	case metadata.TopicResource:
		if err := metadata.ValidTopicName(change.Name); err != nil {
			return how, err
		}
		if _, ok := image.Topic(change.Name); !ok {
			return how, metadata.Errorf(metadata.UnknownTopicOrPartition, "there is no topic %q", change.Name)
		}
		how.validate = r.topicConfig
		how.together = func(values map[string]string) error { return r.topicConfigs(values, ofAllBrokers(image)) }
	case metadata.BrokerResource:
		if err := checkBrokerName(image, change.Name); err != nil {
			return how, err
		}
		how.validate = func(key, value string) error {
			if err := r.brokerConfig(key, value); err != nil {
				return err
			}
			if _, live := configs.LiveKey(key); live && image.FeatureLevel() < metadata.ConfigHistoryFeatureLevel {
				return fmt.Errorf("%s can be set while brokers run from feature level %d on, and the cluster is at %d: the level rises by itself once every node runs a version that knows it", key, metadata.ConfigHistoryFeatureLevel, image.FeatureLevel())
			}
			if key == heldLevelKey {
				return checkHeldLevel(image, value)
			}
			return nil
		}
	case metadata.GroupResource:
		if change.Name == "" {
			return how, metadata.Errorf(metadata.InvalidRequest, "a group has a name")
		}
		how.together = r.groupConfigs
	case metadata.ClientMetricsResource:
		if change.Name == "" {
			return how, metadata.Errorf(metadata.InvalidRequest, "a client metrics subscription has a name")
		}
		how.together, how.lists = r.clientMetrics, configs.ListClientMetricsConfig
	default:
		return how, metadata.Errorf(metadata.InvalidRequest, "resource type %d has no configuration", change.Type)
	}
	return how, nil
}

// decideConfigs makes the command for changes to one resource: the values that
// result from its operations on the image's.
func (r rules) decideConfigs(image *metadata.Image, change ConfigChange) (*pb.AlterConfigs, error) {
	resource := metadata.Resource{Type: change.Type, Name: change.Name}
	how, err := r.judging(image, change)
	if err != nil {
		return nil, err
	}
	values, version := image.Config(resource)
	command := &pb.AlterConfigs{ResourceType: int32(change.Type), Name: change.Name, Version: version}
	seen := map[string]bool{}
	for _, op := range change.Ops {
		if op.Key == "" || seen[op.Key] {
			return nil, metadata.Errorf(metadata.InvalidRequest, "key %q is empty or named twice", op.Key)
		}
		seen[op.Key] = true
		if op.Op == DeleteConfig {
			command.Remove = append(command.Remove, op.Key)
			continue
		}
		if change.Type == metadata.BrokerResource && change.Name != "" && configs.OfAllBrokers(op.Key) {
			return nil, metadata.Errorf(metadata.InvalidConfig, "%s is one for all brokers: alter the default of brokers", op.Key)
		}
		value, err := resultOf(op, values, how.lists)
		if err == nil && how.validate != nil {
			err = how.validate(op.Key, value)
		}
		if err != nil {
			return nil, metadata.Errorf(metadata.InvalidConfig, "%v", err)
		}
		command.Set = append(command.Set, &pb.ConfigEntry{Key: op.Key, Value: value})
	}
	if change.Type == metadata.TopicResource {
		was, is := configs.Durability(values), configs.Durability(resulting(values, command))
		if !guard.Check("controller.durability-fixed", is == was) {
			return nil, metadata.Errorf(metadata.InvalidConfig, "%s is fixed when a topic is made, and is %s here: make another topic for %s", configs.DurabilityKey, was, is)
		}
	}
	if how.together != nil {
		if err := how.together(resulting(values, command)); err != nil {
			return nil, metadata.Errorf(metadata.InvalidConfig, "%v", err)
		}
	}
	return command, nil
}

// ofAllBrokers returns what all brokers were given as defaults.
func ofAllBrokers(image *metadata.Image) map[string]string {
	values, _ := image.Config(metadata.Resource{Type: metadata.BrokerResource})
	return values
}

// resulting returns values as the command would leave them.
func resulting(values map[string]string, c *pb.AlterConfigs) map[string]string {
	left := maps.Clone(values)
	if left == nil {
		left = map[string]string{}
	}
	for _, key := range c.Remove {
		delete(left, key)
	}
	for _, e := range c.Set {
		left[e.Key] = e.Value
	}
	return left
}

// resultOf returns the value that an operation other than delete leaves; lists tells
// which keys are lists.
func resultOf(op ConfigOp, values map[string]string, lists func(key string) (defaultValue string, isList bool)) (string, error) {
	if op.Op == SetConfig {
		return op.Value, nil
	}
	now, isList := lists(op.Key)
	if op.Op != AppendConfig && op.Op != SubtractConfig || !isList {
		return "", fmt.Errorf("%s is no list: it can be set and deleted", op.Key)
	}
	if set, ok := values[op.Key]; ok {
		now = set
	}
	items := splitList(now)
	for _, item := range splitList(op.Value) {
		if op.Op == SubtractConfig {
			items = slices.DeleteFunc(items, func(s string) bool { return s == item })
		} else if !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return strings.Join(items, ","), nil
}

func splitList(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
