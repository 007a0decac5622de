//go:build suites

package apache

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	ofTopic  = kmsg.ConfigResourceTypeTopic
	ofBroker = kmsg.ConfigResourceTypeBroker
)

// configuring reads and changes configs.
func configuring(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 1, "retention.ms", "5000")
	text := kmsg.StringPtr
	describe := func(label string, kind kmsg.ConfigResourceType, name string, keys []string, full bool) {
		q := kmsg.NewPtrDescribeConfigsRequest()
		q.IncludeSynonyms, q.IncludeDocumentation = full, full
		q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}}
		r.ask(label, q)
	}
	describe("topic", ofTopic, topic, nil, true)
	describe("topic, brief", ofTopic, topic, nil, false)
	describe("topic, two keys", ofTopic, topic, []string{"retention.ms", "cleanup.policy"}, true)
	describe("topic, no keys", ofTopic, topic, []string{}, true)
	describe("topic, unknown key", ofTopic, topic, []string{"no.such.key"}, true)
	describe("unknown topic", ofTopic, r.tag+"-none", nil, true)
	describe("no topic", ofTopic, "", nil, true)
	describe("bad topic", ofTopic, "a b", nil, true)
	describe("unknown broker", ofBroker, "77", nil, true)
	describe("bad broker", ofBroker, "one", nil, true)
	describe("cluster default", ofBroker, "", nil, true)
	describe("a resource of no type", 99, "x", nil, true)
	describe("a group", kmsg.ConfigResourceTypeGroupConfig, r.tag+"-g", nil, true)
	describe("logger of an unknown broker", kmsg.ConfigResourceTypeBrokerLogger, "77", nil, false)

	alter := func(label string, kind kmsg.ConfigResourceType, name string, ops ...kmsg.IncrementalAlterConfigsRequestResourceConfig) {
		q := kmsg.NewPtrIncrementalAlterConfigsRequest()
		q.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: ops}}
		r.ask(label, q)
	}
	op := func(key string, o kmsg.IncrementalAlterConfigOp, value *string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
		return kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Op: o, Value: value}
	}
	// Brokers follow the controller: what it has taken is theirs a moment later.
	applied := func(key, value string) {
		r.until(key+" of "+value, func() bool {
			q := kmsg.NewPtrDescribeConfigsRequest()
			q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: ofTopic, ResourceName: topic, ConfigNames: []string{key}}}
			p := r.silent(q).(*kmsg.DescribeConfigsResponse)
			return *p.Resources[0].Configs[0].Value == value
		})
	}
	const set, del, app, sub = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	alter("set", ofTopic, topic, op("retention.ms", set, text("7000")))
	alter("delete", ofTopic, topic, op("retention.ms", del, nil))
	alter("delete what is not set", ofTopic, topic, op("retention.bytes", del, nil))
	alter("append", ofTopic, topic, op("cleanup.policy", app, text("compact")))
	applied("cleanup.policy", "delete,compact")
	describe("after append", ofTopic, topic, []string{"cleanup.policy"}, true)
	alter("append what is there", ofTopic, topic, op("cleanup.policy", app, text("compact")))
	alter("subtract", ofTopic, topic, op("cleanup.policy", sub, text("delete")))
	applied("cleanup.policy", "compact")
	describe("after subtract", ofTopic, topic, []string{"cleanup.policy"}, true)
	alter("append to a number", ofTopic, topic, op("retention.ms", app, text("1")))
	alter("set null", ofTopic, topic, op("retention.ms", set, nil))
	alter("set empty", ofTopic, topic, op("retention.ms", set, text("")))
	alter("set no number", ofTopic, topic, op("retention.ms", set, text("soon")))
	alter("set unknown", ofTopic, topic, op("no.such.key", set, text("1")))
	alter("set twice", ofTopic, topic, op("retention.ms", set, text("1")), op("retention.ms", set, text("2")))
	alter("an operation of no kind", ofTopic, topic, op("retention.ms", 9, text("1")))
	alter("unknown topic", ofTopic, r.tag+"-none", op("retention.ms", set, text("1")))
	alter("no topic", ofTopic, "", op("retention.ms", set, text("1")))
	alter("unknown broker", ofBroker, "77", op("log.retention.ms", set, text("1")))
	alter("broker, read only", ofBroker, "1", op("broker.rack", set, text("r")))
	alter("of no type", 99, "x", op("retention.ms", set, text("1")))
	alter("nothing", ofTopic, topic)
	twice := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for range 2 {
		twice.Resources = append(twice.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: ofTopic, ResourceName: topic,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", set, text("1"))}})
	}
	r.ask("a topic twice", twice)
	dry := kmsg.NewPtrIncrementalAlterConfigsRequest()
	dry.ValidateOnly = true
	dry.Resources = twice.Resources[:1]
	r.ask("validate only", dry)
	describe("after validation", ofTopic, topic, []string{"retention.ms"}, true)

	whole := func(label string, kind kmsg.ConfigResourceType, name string, configs ...kmsg.AlterConfigsRequestResourceConfig) {
		q := kmsg.NewPtrAlterConfigsRequest()
		q.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: configs}}
		r.ask(label, q)
	}
	config := func(key string, value *string) kmsg.AlterConfigsRequestResourceConfig {
		return kmsg.AlterConfigsRequestResourceConfig{Name: key, Value: value}
	}
	whole("whole", ofTopic, topic, config("retention.bytes", text("100")))
	applied("retention.bytes", "100")
	describe("after whole", ofTopic, topic, []string{"retention.ms", "retention.bytes", "cleanup.policy"}, true)
	whole("whole, unknown key", ofTopic, topic, config("no.such.key", text("1")))
	whole("whole, null", ofTopic, topic, config("retention.ms", nil))
	whole("whole, unknown topic", ofTopic, r.tag+"-none", config("retention.ms", text("1")))
	whole("whole, nothing", ofTopic, topic)
	applied("retention.bytes", "-1")
	const ofClients = kmsg.ConfigResourceTypeClientMetrics
	clients := r.tag + "-s"
	describe("client metrics, none", ofClients, clients, nil, true)
	describe("client metrics of no name", ofClients, "", nil, true)
	alter("client metrics", ofClients, clients, op("metrics", set, text("org.apache.kafka.producer.")), op("interval.ms", set, text("1000")), op("match", set, text("client_id=a.*")))
	r.until("a subscription", func() bool {
		q := kmsg.NewPtrDescribeConfigsRequest()
		q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: ofClients, ResourceName: clients, ConfigNames: []string{"interval.ms"}}}
		p := r.silent(q).(*kmsg.DescribeConfigsResponse).Resources[0]
		return len(p.Configs) > 0 && *p.Configs[0].Value == "1000"
	})
	describe("client metrics, set", ofClients, clients, nil, true)
	alter("client metrics too often", ofClients, clients, op("interval.ms", set, text("99")))
	alter("client metrics of no key", ofClients, clients, op("metric", set, text("a")))
	alter("client metrics by a bad pattern", ofClients, clients, op("match", set, text("client_id=(")))
	alter("client metrics by what is not known", ofClients, clients, op("match", set, text("client=a")))
	alter("client metrics of no name", ofClients, "", op("metrics", set, text("*")))
	list := kmsg.NewPtrListConfigResourcesRequest()
	if r.version(list.Key()) >= 1 {
		list.ResourceTypes = []int8{int8(ofBroker)}
	}
	listed := r.silent(list).(*kmsg.ListConfigResourcesResponse)
	listed.ConfigResources = slices.DeleteFunc(listed.ConfigResources, func(c kmsg.ListConfigResourcesResponseConfigResource) bool {
		return c.Type == int8(ofClients) && c.Name != clients // of other laps
	})
	r.note("resources", listed)
	if r.version(list.Key()) >= 1 {
		list.ResourceTypes = []int8{99}
		r.ask("resources of no type", list)
	}
}

// administering asks for what an operator does.
func administering(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 2)
	r.silent(produceTo(r, topic, batch(3)))
	text := kmsg.StringPtr
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: topic, Partitions: []int32{0, 1, 9}}, {Topic: r.tag + "-none", Partitions: []int32{0}}}
	r.ask("directories", dirs)
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{}
	r.ask("directories of none", dirs)

	elect := func(label string, kind int8, topic string, partitions ...int32) {
		q := kmsg.NewPtrElectLeadersRequest()
		q.TimeoutMillis, q.ElectionType = 5000, kind
		q.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: partitions}}
		r.ask(label, q)
	}
	elect("elect the preferred", 0, topic, 0, 1)
	elect("elect of an unknown partition", 0, topic, 9)
	elect("elect of an unknown topic", 0, r.tag+"-none", 0)
	if r.version(int16(kmsg.ElectLeaders)) >= 1 {
		elect("elect anyone", 1, topic, 0)
		elect("elect by no way", 9, topic, 0)
	}
	everywhere := kmsg.NewPtrElectLeadersRequest()
	everywhere.TimeoutMillis = 5000
	r.ask("elect everywhere", everywhere)

	move := func(label, topic string, partition int32, replicas []int32, change ...func(*kmsg.AlterPartitionAssignmentsRequest)) {
		q := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		q.TimeoutMillis = 5000
		q.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: partition, Replicas: replicas}}}}
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	move("move to where it is", topic, 0, []int32{1})
	move("move to a stranger", topic, 0, []int32{77})
	move("move to nobody", topic, 0, []int32{})
	move("move to one twice", topic, 0, []int32{1, 1})
	move("move to a negative one", topic, 0, []int32{-1})
	move("cancel none", topic, 0, nil)
	move("move of an unknown partition", topic, 9, []int32{1})
	move("move of an unknown topic", r.tag+"-none", 0, []int32{1})
	moves := kmsg.NewPtrListPartitionReassignmentsRequest()
	moves.TimeoutMillis = 5000
	r.ask("moves", moves)
	moves.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: topic, Partitions: []int32{0}}, {Topic: r.tag + "-none", Partitions: []int32{0}}}
	r.ask("moves of a topic", moves)

	user := r.tag + "-u"
	entity := func(kind string, name *string) kmsg.AlterClientQuotasRequestEntryEntity {
		return kmsg.AlterClientQuotasRequestEntryEntity{Type: kind, Name: name}
	}
	quota := func(label string, ops []kmsg.AlterClientQuotasRequestEntryOp, of ...kmsg.AlterClientQuotasRequestEntryEntity) {
		q := kmsg.NewPtrAlterClientQuotasRequest()
		q.Entries = []kmsg.AlterClientQuotasRequestEntry{{Entity: of, Ops: ops}}
		r.ask(label, q)
	}
	limit := func(key string, value float64) []kmsg.AlterClientQuotasRequestEntryOp {
		return []kmsg.AlterClientQuotasRequestEntryOp{{Key: key, Value: value}}
	}
	quota("limit", limit("producer_byte_rate", 1000), entity("user", &user))
	quota("limit both", limit("consumer_byte_rate", 2000), entity("user", &user), entity("client-id", text("c")))
	quota("limit in halves", limit("request_percentage", 0.5), entity("user", &user))
	quota("limit bytes in halves", limit("producer_byte_rate", 0.5), entity("user", &user))
	quota("limit to nothing", limit("producer_byte_rate", 0), entity("user", &user))
	quota("limit to less", limit("producer_byte_rate", -1), entity("user", &user))
	quota("limit what is not", limit("no_such_rate", 1), entity("user", &user))
	quota("limit nobody", limit("producer_byte_rate", 1))
	quota("limit what is no entity", limit("producer_byte_rate", 1), entity("planet", text("x")))
	quota("limit a user twice", limit("producer_byte_rate", 1), entity("user", text(r.tag+"-v")), entity("user", text(r.tag+"-v")))
	quota("limit no name", limit("producer_byte_rate", 1), entity("user", text("")))
	quota("limit connections of a user", limit("connection_creation_rate", 1), entity("user", &user))
	quota("remove what is not", []kmsg.AlterClientQuotasRequestEntryOp{{Key: "controller_mutation_rate", Remove: true}}, entity("user", &user))
	dry := kmsg.NewPtrAlterClientQuotasRequest()
	dry.ValidateOnly = true
	dry.Entries = []kmsg.AlterClientQuotasRequestEntry{{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{entity("user", &user)}, Ops: limit("producer_byte_rate", 5)}}
	r.ask("limit, validate only", dry)
	quotas := func(label string, strict bool, of ...kmsg.DescribeClientQuotasRequestComponent) {
		q := kmsg.NewPtrDescribeClientQuotasRequest()
		q.Strict, q.Components = strict, of
		r.ask(label, q)
	}
	exact := func(kind string, name *string) kmsg.DescribeClientQuotasRequestComponent {
		return kmsg.DescribeClientQuotasRequestComponent{EntityType: kind, MatchType: kmsg.QuotasMatchTypeExact, Match: name}
	}
	quotas("limits of the user", true, exact("user", &user))
	quotas("limits of the user, and more", false, exact("user", &user))
	quotas("limits of both", true, exact("user", &user), exact("client-id", text("c")))
	quotas("limits of nobody", true, exact("user", text(r.tag+"-none")))
	quotas("limits of no entity", true, exact("planet", text("x")))
	quotas("limits of a user twice", true, exact("user", &user), exact("user", &user))
	quotas("limits of a match of no kind", true, kmsg.DescribeClientQuotasRequestComponent{EntityType: "user", MatchType: 9})
	quotas("limits, null", true, exact("user", nil))
	quotas("limits of no type", true, exact("", &user))
	quota("unlimited", []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Remove: true}, {Key: "request_percentage", Remove: true}}, entity("user", &user))
	quota("unlimited, both", []kmsg.AlterClientQuotasRequestEntryOp{{Key: "consumer_byte_rate", Remove: true}}, entity("user", &user), entity("client-id", text("c")))
	r.until("no limits", func() bool {
		q := kmsg.NewPtrDescribeClientQuotasRequest()
		q.Components = []kmsg.DescribeClientQuotasRequestComponent{exact("user", &user)}
		return len(r.silent(q).(*kmsg.DescribeClientQuotasResponse).Entries) == 0
	})
	quotas("no limits", false, exact("user", &user))

	credentials := func(label string, of ...string) {
		q := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		for _, user := range of {
			q.Users = append(q.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: user})
		}
		r.ask(label, q)
	}
	credentials("credentials of all")
	credentials("credentials of a user", user)
	credentials("credentials of a user twice", user, user)
	credentials("credentials of no name", "")

	features := func(label string, name string, level int16, kind int8, dry bool) {
		q := kmsg.NewPtrUpdateFeaturesRequest()
		q.TimeoutMillis, q.ValidateOnly = 5000, dry
		q.FeatureUpdates = []kmsg.UpdateFeaturesRequestFeatureUpdate{{Feature: name, MaxVersionLevel: level, UpgradeType: kind, AllowDowngrade: kind > 1}}
		r.ask(label, q)
	}
	features("feature there is not", "no.such.feature", 1, 1, true)
	features("feature of no name", "", 1, 1, true)
	features("feature too high", "group.version", 99, 1, true)
	features("feature as it is", "group.version", 1, 1, true)
	features("feature below none", "group.version", -1, 1, true)
	r.ask("no feature", &kmsg.UpdateFeaturesRequest{TimeoutMillis: 5000})
}

// versions asks which versions there are, and in one that there is not.
func versions(r *run) {
	q := kmsg.NewPtrApiVersionsRequest()
	q.ClientSoftwareName, q.ClientSoftwareVersion = "differ", "1"
	ask := func(label string, q *kmsg.ApiVersionsRequest) {
		p := r.silent(q).(*kmsg.ApiVersionsResponse)
		p.ApiKeys = nil // docs/kafka-compatibility.md compares the lists
		r.note(label, p)
	}
	ask("versions", q)
	q.ClientSoftwareName = ""
	ask("no name of the client", q)
	q.ClientSoftwareName = "a b"
	ask("bad name of the client", q)
}
