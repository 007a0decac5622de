//go:build suites

package apache

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// createTopic is a request for one topic that change may adapt.
func createTopic(name string, change ...func(*kmsg.CreateTopicsRequestTopic)) *kmsg.CreateTopicsRequest {
	q := kmsg.NewPtrCreateTopicsRequest()
	q.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
	for _, c := range change {
		c(&t)
	}
	q.Topics = append(q.Topics, t)
	return q
}

func topicConfig(key string, value *string) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: key, Value: value})
	}
}

func assigned(partitions ...[]int32) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		for i, replicas := range partitions {
			t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(i), Replicas: replicas})
		}
	}
}

// creating asks for topics that may, and that may not be made.
func creating(r *run) {
	text := kmsg.StringPtr
	name := func(s string) string { return r.tag + "-" + s }
	ask := func(label, topic string, change ...func(*kmsg.CreateTopicsRequestTopic)) {
		r.ask(label, createTopic(topic, change...))
	}
	dry := createTopic(name("dry"))
	dry.ValidateOnly = true
	r.ask("validate only", dry)
	ask("plain", name("a"))
	ask("exists", name("a"))
	ask("broker's defaults", name("b"), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions, t.ReplicationFactor = -1, -1 })
	ask("no partitions", name("c"), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 0 })
	ask("negative partitions", name("c"), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = -2 })
	ask("no replicas", name("c"), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 0 })
	ask("negative replicas", name("c"), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = -2 })
	ask("too many replicas", name("c"), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 3 })
	ask("no name", "")
	ask("dot", ".")
	ask("two dots", "..")
	ask("bad character", name("a/b"))
	ask("space", name("a b"))
	ask("not ASCII", name("ä"))
	ask("249 characters", name(strings.Repeat("x", 249-len(name("")))))
	ask("250 characters", name(strings.Repeat("x", 250-len(name("")))))
	ask("underscore", name("d_e"))
	ask("collides with underscore", name("d.e"))
	ask("internal name", "__consumer_offsets")
	ask("cluster metadata", "__cluster_metadata")
	ask("assigned", name("f"), assigned([]int32{1}, []int32{1}))
	ask("assigned to nobody", name("g"), assigned([]int32{}))
	ask("assigned to a stranger", name("g"), assigned([]int32{77}))
	ask("assigned twice", name("g"), assigned([]int32{1, 1}))
	ask("assigned unevenly", name("g"), assigned([]int32{1}, []int32{}))
	ask("assigned with a gap", name("g"), func(t *kmsg.CreateTopicsRequestTopic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 1, Replicas: []int32{1}}}
	})
	ask("assigned a partition twice", name("g"), func(t *kmsg.CreateTopicsRequestTopic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{1}}, {Partition: 0, Replicas: []int32{1}}}
	})
	ask("assigned and counted", name("g"), assigned([]int32{1}), func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 1 })
	ask("assigned and replicated", name("g"), assigned([]int32{1}), func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 1 })
	ask("config", name("h"), topicConfig("retention.ms", text("1000")), topicConfig("cleanup.policy", text("compact,delete")))
	ask("unknown config", name("i"), topicConfig("no.such.key", text("1")))
	ask("config of no number", name("i"), topicConfig("retention.ms", text("soon")))
	ask("config out of range", name("i"), topicConfig("retention.ms", text("-5")))
	ask("config of a file out of range", name("seg"), topicConfig("segment.bytes", text("1")))
	ask("config of no such value", name("i"), topicConfig("cleanup.policy", text("burn")))
	ask("config null", name("i"), topicConfig("retention.ms", nil))
	ask("config empty", name("i"), topicConfig("retention.ms", text("")))
	ask("config twice", name("j"), topicConfig("retention.ms", text("1")), topicConfig("retention.ms", text("2")))
	ask("two configs that do not fit", name("k"), topicConfig("min.compaction.lag.ms", text("2000")), topicConfig("max.compaction.lag.ms", text("1000")))
	two := createTopic(name("m"))
	two.Topics = append(two.Topics, two.Topics[0])
	r.ask("named twice", two)
	mixed := createTopic(name("n"))
	mixed.Topics = append(mixed.Topics, createTopic("bad name").Topics...)
	r.ask("one good, one bad", mixed)
	r.ask("none", &kmsg.CreateTopicsRequest{TimeoutMillis: 1000})
}

// metadata asks about topics and the cluster.
func metadata(r *run) {
	text := kmsg.StringPtr
	r.topic(r.tag+"-a", 2)
	id := r.topic(r.tag+"-b", 1)
	of := func(names ...string) *kmsg.MetadataRequest {
		q := kmsg.NewPtrMetadataRequest()
		q.Topics = []kmsg.MetadataRequestTopic{}
		for _, n := range names {
			q.Topics = append(q.Topics, kmsg.MetadataRequestTopic{Topic: text(n)})
		}
		return q
	}
	byID := func(ids ...[16]byte) *kmsg.MetadataRequest {
		q := of()
		for _, id := range ids {
			q.Topics = append(q.Topics, kmsg.MetadataRequestTopic{TopicID: id})
		}
		return q
	}
	r.ask("of two", of(r.tag+"-a", r.tag+"-b"))
	r.ask("of one twice", of(r.tag+"-a", r.tag+"-a"))
	r.ask("unknown", of(r.tag+"-nobody"))
	r.ask("bad name", of("a b"))
	r.ask("no name", of(""))
	if r.version(int16(kmsg.Metadata)) > 0 {
		r.ask("of no topic", of())
	}
	ops := of(r.tag + "-a")
	ops.IncludeClusterAuthorizedOperations, ops.IncludeTopicAuthorizedOperations = true, true
	r.ask("operations", ops)
	auto := of(r.tag + "-auto")
	auto.AllowAutoTopicCreation = true
	r.ask("made at the first question", auto)
	autoBad := of("bad name")
	autoBad.AllowAutoTopicCreation = true
	r.ask("not made of a bad name", autoBad)
	if r.version(int16(kmsg.Metadata)) >= 12 {
		r.ask("by id", byID(id))
		r.ask("unknown id", byID([16]byte{7}))
		r.ask("two ids", byID(id, [16]byte{7}))
	}
	if r.version(int16(kmsg.Metadata)) >= 10 {
		both := of(r.tag + "-b")
		both.Topics[0].TopicID = id
		r.ask("by name and id", both)
	}
	cluster := kmsg.NewPtrDescribeClusterRequest()
	cluster.EndpointType = 1
	r.ask("cluster", cluster)
	cluster.IncludeClusterAuthorizedOperations = true
	r.ask("cluster operations", cluster)
	if r.version(int16(kmsg.DescribeCluster)) >= 1 {
		cluster.EndpointType = 2
		r.ask("controllers, of a broker", cluster)
		cluster.EndpointType = 9
		r.ask("endpoints of no type", cluster)
	}
	parts := kmsg.NewPtrDescribeTopicPartitionsRequest()
	parts.ResponsePartitionLimit = 10
	parts.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: r.tag + "-a"}, {Topic: r.tag + "-b"}, {Topic: r.tag + "-none"}}
	r.ask("partitions", parts)
	parts.ResponsePartitionLimit = 1
	r.ask("partitions, a page", parts)
	parts.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: r.tag + "-a", Partition: 1}
	r.ask("partitions, from a cursor", parts)
	parts.ResponsePartitionLimit = 0
	r.ask("partitions, no limit", parts)
	parts.ResponsePartitionLimit, parts.Cursor.Partition = 10, -1
	r.ask("partitions, a bad cursor", parts)
}

// deleting asks to delete topics, by name and by id.
func deleting(r *run) {
	r.topic(r.tag+"-a", 1)
	id := r.topic(r.tag+"-b", 1)
	of := func(names ...string) *kmsg.DeleteTopicsRequest {
		q := kmsg.NewPtrDeleteTopicsRequest()
		q.TimeoutMillis = 10_000
		for _, n := range names {
			q.TopicNames = append(q.TopicNames, n)
			q.Topics = append(q.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &n})
		}
		return q
	}
	r.ask("one", of(r.tag+"-a"))
	r.ask("again", of(r.tag+"-a"))
	r.ask("unknown", of(r.tag+"-none"))
	r.ask("no name", of(""))
	r.ask("bad name", of("a b"))
	r.ask("none", of())
	r.topic(r.tag+"-c", 1)
	r.ask("twice", of(r.tag+"-c", r.tag+"-c"))
	if r.version(int16(kmsg.DeleteTopics)) >= 6 {
		byID := kmsg.NewPtrDeleteTopicsRequest()
		byID.TimeoutMillis = 10_000
		byID.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}
		r.ask("by id", byID)
		r.ask("by id again", byID)
		byID.Topics = []kmsg.DeleteTopicsRequestTopic{{}}
		r.ask("by nothing", byID)
		name := r.tag + "-d"
		id := r.topic(name, 1)
		byID.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name, TopicID: id}}
		r.ask("by both", byID)
	}
	parts := func(topic string, count int32, assignment ...[]int32) *kmsg.CreatePartitionsRequest {
		q := kmsg.NewPtrCreatePartitionsRequest()
		q.TimeoutMillis = 10_000
		t := kmsg.CreatePartitionsRequestTopic{Topic: topic, Count: count}
		for _, a := range assignment {
			t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: a})
		}
		q.Topics = append(q.Topics, t)
		return q
	}
	grown := r.tag + "-grown"
	r.topic(grown, 1)
	dry := parts(grown, 2)
	dry.ValidateOnly = true
	r.ask("grow, validate only", dry)
	r.ask("grow", parts(grown, 2))
	r.ask("grow to the same", parts(grown, 2))
	r.ask("grow to fewer", parts(grown, 1))
	r.ask("grow to none", parts(grown, 0))
	r.ask("grow to negative", parts(grown, -1))
	r.ask("grow nothing", parts(r.tag+"-none", 2))
	r.ask("grow, assigned", parts(grown, 3, []int32{1}))
	r.ask("grow, assigned too few", parts(grown, 5, []int32{1}))
	r.ask("grow, assigned to a stranger", parts(grown, 4, []int32{77}))
	r.ask("grow, assigned to nobody", parts(grown, 4, []int32{}))
	r.ask("grow, assigned twice", parts(grown, 4, []int32{1, 1}))
	double := parts(grown, 4)
	double.Topics = append(double.Topics, double.Topics[0])
	r.ask("grow twice", double)
}
