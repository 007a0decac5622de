package configs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BrokerValue is a config of a broker under Kafka's name, with the value that it
// has by the configuration.
type BrokerValue struct {
	Name, Type, Value string
	Static            bool // the configuration sets it; else it is the default
	Dynamic           bool // it can be altered while the broker runs
	Doc               string
}

// brokerKey is a config of Kafka's brokers that is served.
type brokerKey struct {
	name  string
	from  string               // key of rustmq that it is read from; empty: fixed, or of topics
	value func(*Config) string // nil: that of the topics' config
}

func millisOf(d Duration) string { return strconv.FormatInt(time.Duration(d).Milliseconds(), 10) }

func fixed(value string) func(*Config) string { return func(*Config) string { return value } }

// brokerKeys lists them by name.
func brokerKeys() []brokerKey {
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []brokerKey{
		{name: "auto.create.topics.enable", from: "broker.auto_create_topics", value: func(c *Config) string {
			if v := c.Broker.AutoCreateTopics; v != "auto" {
				return v
			}
			return strconv.FormatBool(c.Loopback())
		}},
		{name: "broker.heartbeat.interval.ms", from: "replication.heartbeat_interval", value: func(c *Config) string { return millisOf(c.Liveness().HeartbeatInterval) }},
		{name: "broker.id", from: "broker.id", value: func(c *Config) string { return whole(int64(c.Broker.ID)) }},
		{name: "broker.rack", from: "broker.rack", value: func(c *Config) string { return c.Broker.Rack }},
		{name: "broker.session.timeout.ms", from: "replication.heartbeat_timeout", value: func(c *Config) string { return millisOf(c.Liveness().HeartbeatTimeout) }},
		{name: "compression.type"},
		{name: "connections.max.idle.ms", from: "network.idle_timeout", value: func(c *Config) string { return millisOf(c.Network.IdleTimeout) }},
		{name: "delete.topic.enable", value: fixed("true")},
		{name: "fetch.max.bytes", value: fixed("57671680")},
		{name: "group.consumer.assignors", from: "broker.groups.consumer_assignors", value: func(c *Config) string { return strings.Join(c.Broker.Groups.AssignorList(), ",") }},
		{name: "group.consumer.heartbeat.interval.ms", from: "broker.groups.consumer_heartbeat_interval", value: func(c *Config) string { return millisOf(c.Broker.Groups.ConsumerHeartbeatInterval) }},
		{name: "group.consumer.max.heartbeat.interval.ms", value: fixed(millisOf(Duration(maxGroupHeartbeat)))},
		{name: "group.consumer.max.session.timeout.ms", from: "broker.groups.max_session_timeout", value: func(c *Config) string { return millisOf(c.Broker.Groups.MaxSessionTimeout) }},
		{name: "group.consumer.max.size", from: "broker.groups.consumer_max_size", value: func(c *Config) string { return whole(int64(c.Broker.Groups.ConsumerMaxSize)) }},
		{name: "group.consumer.migration.policy", from: "broker.groups.consumer_migration_policy", value: func(c *Config) string { return c.Broker.Groups.ConsumerMigrationPolicy }},
		{name: "group.consumer.min.heartbeat.interval.ms", value: fixed(millisOf(Duration(minGroupHeartbeat)))},
		{name: "group.consumer.min.session.timeout.ms", from: "broker.groups.min_session_timeout", value: func(c *Config) string { return millisOf(c.Broker.Groups.MinSessionTimeout) }},
		{name: "group.consumer.session.timeout.ms", from: "broker.groups.consumer_session_timeout", value: func(c *Config) string { return millisOf(c.Broker.Groups.ConsumerSessionTimeout) }},
		{name: "group.coordinator.rebalance.protocols", value: fixed("classic,consumer")},
		{name: "group.initial.rebalance.delay.ms", from: "broker.groups.initial_rebalance_delay", value: func(c *Config) string { return millisOf(c.Broker.Groups.InitialRebalanceDelay) }},
		{name: "group.max.session.timeout.ms", from: "broker.groups.max_session_timeout", value: func(c *Config) string { return millisOf(c.Broker.Groups.MaxSessionTimeout) }},
		{name: "group.max.size", from: "broker.groups.max_size", value: func(c *Config) string { return whole(int64(c.Broker.Groups.MaxSize)) }},
		{name: "group.min.session.timeout.ms", from: "broker.groups.min_session_timeout", value: func(c *Config) string { return millisOf(c.Broker.Groups.MinSessionTimeout) }},
		{name: "log.cleaner.backoff.ms", from: "compaction.key_interval", value: func(c *Config) string { return millisOf(c.Compaction.KeyInterval) }},
		{name: "log.cleaner.dedupe.buffer.size", from: "compaction.key_memory", value: func(c *Config) string { return whole(int64(c.Compaction.KeyMemory)) }},
		{name: "log.dir", from: "broker.data_dir", value: func(c *Config) string { return c.Broker.DataDir }},
		{name: "log.dirs", from: "broker.data_dir", value: func(c *Config) string { return c.Broker.DataDir }},
		{name: "log.message.timestamp.after.max.ms"},
		{name: "log.message.timestamp.before.max.ms"},
		{name: "log.message.timestamp.type"},
		{name: "log.retention.bytes"},
		{name: "log.retention.check.interval.ms", from: "object_storage.retention_interval", value: func(c *Config) string { return millisOf(c.Storage.RetentionInterval) }},
		{name: "log.retention.ms"},
		{name: "max.connection.creation.rate", from: "network.max_connection_rate", value: func(c *Config) string {
			if c.Network.MaxConnectionRate == 0 {
				return whole(math.MaxInt32) // Kafka's word for any
			}
			return whole(int64(c.Network.MaxConnectionRate))
		}},
		{name: "max.connections", from: "network.max_connections", value: func(c *Config) string { return whole(int64(c.Network.MaxConnections)) }},
		{name: "max.connections.per.ip", from: "network.max_connections_per_ip", value: func(c *Config) string { return whole(int64(c.Network.MaxConnectionsPerIP)) }},
		{name: "max.request.partition.size.limit", value: fixed("2000")},
		{name: "message.max.bytes", from: "broker.message_max_bytes", value: func(c *Config) string { return whole(int64(c.Broker.MessageMaxBytes)) }},
		{name: "node.id", from: "broker.id", value: func(c *Config) string { return whole(int64(c.Broker.ID)) }},
		{name: "num.partitions", from: "broker.num_partitions", value: func(c *Config) string { return whole(int64(c.Broker.NumPartitions)) }},
		{name: "offset.metadata.max.bytes", value: fixed("4096")},
		{name: "offsets.retention.check.interval.ms", value: fixed("600000")},
		{name: "offsets.retention.minutes", from: "broker.groups.offsets_retention", value: func(c *Config) string {
			return whole(int64(time.Duration(c.Broker.Groups.OffsetsRetention).Minutes()))
		}},
		{name: "offsets.topic.num.partitions", value: fixed("50")},
		{name: "process.roles", from: "broker.roles", value: func(c *Config) string { return strings.Join(c.RoleList(), ",") }},
		{name: "queued.max.request.bytes", from: "network.request_memory", value: func(c *Config) string { return whole(int64(c.Network.RequestMemory)) }},
		{name: "socket.request.max.bytes", from: "network.max_frame", value: func(c *Config) string { return whole(int64(c.Network.MaxFrame)) }},
		{name: "telemetry.max.bytes", value: fixed(strconv.Itoa(TelemetryMaxBytes))},
		{name: "transaction.max.timeout.ms", from: "broker.transactions.max_timeout", value: func(c *Config) string { return millisOf(c.Broker.Transactions.MaxTimeout) }},
		{name: "transaction.state.log.num.partitions", value: fixed("50")},
		{name: "transactional.id.expiration.ms", from: "broker.transactions.id_expiration", value: func(c *Config) string { return millisOf(c.Broker.Transactions.IDExpiration) }},
		{name: "unclean.leader.election.enable", value: fixed("false")},
	}
}

// BrokerValues lists the configs of a broker that Kafka's clients and tools can ask
// for, in order of name.
func BrokerValues(c *Config) []BrokerValue {
	documented := documentedKeys(kafkaBrokerKeys)
	var values []BrokerValue
	for _, k := range brokerKeys() {
		kafka, _ := findKafkaKey(documented, k.name)
		topicKey, dynamic := DefaultOf(k.name)
		v := BrokerValue{Name: k.name, Type: kafka.Type, Dynamic: dynamic, Doc: k.doc()}
		if k.value != nil {
			v.Value = k.value(c)
		} else if topic, ok := FindTopicKey(topicKey); ok {
			v.Value = topic.Default
		}
		v.Static = k.from != "" && c.Origin(k.from) != fromDefault
		if _, live := LiveKey(k.name); live {
			v.Dynamic = true
		}
		values = append(values, v)
	}
	for _, name := range liveNames() {
		k, _ := findKey(name)
		values = append(values, BrokerValue{
			Name: name, Type: kafkaTypes[k.Type], Value: c.Value(k), Dynamic: true, Static: c.Origin(name) != fromDefault, Doc: k.Doc,
		})
	}
	return values
}

// kafkaTypes are how Kafka has the types of keys.
var kafkaTypes = map[string]string{"bool": "boolean", "int": "long", "string": "string", "size": "string", "duration": "string", "price": "string"}

func (k brokerKey) doc() string {
	topicKey, dynamic := DefaultOf(k.name)
	switch {
	case dynamic && k.from != "":
		return fmt.Sprintf("default of the topics' %s; %s, until it is altered", topicKey, k.from)
	case dynamic:
		return fmt.Sprintf("default of the topics' %s", topicKey)
	case k.from != "":
		if _, live := LiveKey(k.name); live {
			return k.from + " of rustmq's configuration, until it is altered"
		}
		return k.from + " of rustmq's configuration"
	}
	return "fixed"
}

// defaultsOfTopics are the configs of brokers that can be altered while they run,
// and of which config of topics each is the default.
var defaultsOfTopics = map[string]string{
	"compression.type":                    "compression.type",
	"log.message.timestamp.after.max.ms":  "message.timestamp.after.max.ms",
	"log.message.timestamp.before.max.ms": "message.timestamp.before.max.ms",
	"log.message.timestamp.type":          "message.timestamp.type",
	"log.retention.bytes":                 "retention.bytes",
	"log.retention.ms":                    "retention.ms",
	"message.max.bytes":                   "max.message.bytes",
}

// DefaultOf returns the config of topics that a broker's is the default of, where
// that can be altered while the broker runs.
func DefaultOf(brokerKey string) (topicKey string, ok bool) {
	topicKey, ok = defaultsOfTopics[brokerKey]
	return topicKey, ok
}

// OfAllBrokers reports whether a config of brokers is not one broker's to have:
// retention is the controller's, as are keys that it obeys.
func OfAllBrokers(key string) bool {
	k, live := LiveKey(key)
	return key == "log.retention.ms" || key == "log.retention.bytes" || live && k.Live == LiveCluster
}

// ignoredBrokerKeys are set by Kafka's tools on the way, and have nothing to act
// upon.
var ignoredBrokerKeys = map[string]string{
	"follower.replication.throttled.rate":            noReplication,
	"leader.replication.throttled.rate":              noReplication,
	"replica.alter.log.dirs.io.max.bytes.per.second": "a node has one data directory",
}

// refusedBrokerKeys say, by the beginning of a name, what there is instead; the
// first that fits counts.
var refusedBrokerKeys = []struct{ prefix, why string }{
	{"add.partitions.to.txn.", "producers wait inside the request while their partitions are added"},
	{"advertised.listeners", "network.advertised_host, network.external"},
	{"alter.config.policy.class.name", noClasses},
	{"alter.log.dirs.", "a node has one data directory"},
	{"authorizer.class.name", noAuthorisation},
	{"auto.leader.rebalance.enable", ownBalance},
	{"background.threads", noThreads},
	{"client.quota.callback.class", noClasses},
	{"compression.", "what the broker compresses itself, it does at the codec's own level"},
	{"connection.failed.authentication", "who fails too often is not judged for a while, and told nothing"},
	{"connections.max.reauth.ms", "security.sasl.max_session"},
	{"controlled.shutdown.", "a broker that stops always says so first"},
	{"controller.quota.window.", quotaWindow},
	{"controller.quorum.", ownQuorum},
	{"controller.", ownQuorum},
	{"create.topic.policy.class.name", noClasses},
	{"default.replication.factor", "min(3, brokers), reckoned when a topic is made"},
	{"delegation.token.", "delegation tokens are not served"},
	{"delete.records.purgatory.", noPurgatory},
	{"early.start.listeners", "the listeners are network.bind and network.kafka_port"},
	{"fetch.purgatory.", noPurgatory},
	{"group.coordinator.", noThreads},
	{"group.share.", noShares},
	{"group.streams.", noStreams},
	{"initial.broker.registration.timeout.ms", "a broker that cannot register says so and goes on trying"},
	{"inter.broker.listener.name", ownQuorum},
	{"kafka.metrics.", ownMetrics},
	{"leader.imbalance.", ownBalance},
	{"listener.security.protocol.map", "network.tls; QUIC is always encrypted"},
	{"listeners", "network.bind, network.kafka_port and network.external"},
	{"log.cleaner.", "compaction by key: compaction.key_*, and the configs of topics"},
	{"log.cleanup.policy", "cleanup.policy is set on a topic"},
	{"log.dir.failure.timeout.ms", "a data directory that fails ends the broker's service at once"},
	{"log.flush.", "every batch is on disk before it is acked, unless wal.sync says otherwise"},
	{"log.index.", noSegments},
	{"log.local.", "what is in the bucket stays in the WAL as long as there is room"},
	{"log.preallocate", noSegments},
	{"log.retention.", "log.retention.ms is the one that counts"},
	{"log.roll.", noSegments},
	{"log.segment.", noSegments},
	{"max.connections.per.ip.overrides", "network.max_connections_per_ip is the same for all"},
	{"max.incremental.fetch.session.cache.slots", "10,000 sessions, and 16 for each connection, are kept"},
	{"metadata.", "the metadata log: controller.snapshot.*"},
	{"metric", ownMetrics},
	{"min.insync.replicas", "two, or all there are, reckoned at use; set on a topic it is what the topic says"},
	{"num.", noThreads},
	{"offsets.", ownOffsets},
	{"principal.builder.class", noClasses},
	{"producer.id.expiration.ms", "producers expire after a day; while 100,000 are remembered, counted for each partition that they write to, new ones are refused"},
	{"producer.purgatory.", noPurgatory},
	{"queued.max.requests", "network.request_memory bounds them by bytes"},
	{"quota.window.", quotaWindow},
	{"remote.", "records go to the bucket by themselves: object_storage.*, cache.*, wal.upload_*"},
	{"replica.", noReplicas},
	{"replication.quota.", noReplicas},
	{"request.timeout.ms", "what servers ask of each other has bounds of its own"},
	{"sasl.", noAuthentication},
	{"security.", "network.tls, and security.* of rustmq's configuration"},
	{"share.", noShares},
	{"socket.", "left to the operating system"},
	{"ssl.", "the keys of security.tls"},
	{"transaction", noTransactions},
}

const (
	noTransactions   = "the coordinator of transactions keeps its topic by itself"
	noClasses        = "no class of Java can be loaded"
	noAuthorisation  = "ACLs are built in: security.authorization.mode"
	noAuthentication = "security.sasl.* of rustmq's configuration"
	noReplicas       = "leaders push to their followers, which fetch nothing; see replication.lag_time"
	ownBalance       = "leaderships are moved by load; see controller.balance"
	noThreads        = "there are no pools of threads to size"
	noPurgatory      = "what waits is woken by what it waits for"
	noShares         = "share groups are not served"
	noStreams        = "groups of the streams protocol are not served; Kafka Streams uses the classic one"
	ownQuorum        = "the controllers' quorum is raft's own: controller.raft.*"
	ownMetrics       = "metrics are Prometheus's, at /metrics"
	ownOffsets       = "the coordinator of groups keeps its topic by itself"
	quotaWindow      = "a client saves up ten seconds of its quota"
)

// KafkaBrokerKeys lists the configs of Kafka's brokers with what they are here.
func KafkaBrokerKeys() []KafkaKey {
	keys := documentedKeys(kafkaBrokerKeys)
	served := brokerKeys()
	for i := range keys {
		k := &keys[i]
		if at := slices.IndexFunc(served, func(s brokerKey) bool { return s.name == k.Name }); at >= 0 {
			k.Support, k.Why = Served, served[at].doc()
		} else if why, ok := ignoredBrokerKeys[k.Name]; ok {
			k.Support, k.Why = Ignored, why
		} else {
			k.Why = insteadOf(k.Name)
		}
	}
	return keys
}

func insteadOf(brokerKey string) string {
	for _, r := range refusedBrokerKeys {
		if strings.HasPrefix(brokerKey, r.prefix) {
			return r.why
		}
	}
	return ""
}

// ValidateBrokerConfig says why a broker cannot be given the value while it runs,
// or nil.
func ValidateBrokerConfig(key, value string) error {
	if topicKey, ok := DefaultOf(key); ok {
		if err := ValidateTopicConfig(topicKey, value); err != nil {
			return fmt.Errorf("broker config %s: %w", key, err)
		}
		return nil
	}
	if own, live := LiveKey(key); live {
		if name := LiveName(own.Name); name != key {
			return fmt.Errorf("broker config %s is set as %s, Kafka's name for it", key, name)
		}
		return validateLive(key, value)
	}
	documented := documentedKeys(kafkaBrokerKeys)
	k, known := findKafkaKey(documented, key)
	if _, own := findKey(key); !known && own {
		return liveError(key)
	}
	if !known {
		return unknownKey("broker", key, append(kafkaKeyNames(documented), keyNames()...))
	}
	if _, ignored := ignoredBrokerKeys[key]; ignored {
		if err := k.check(value); err != nil {
			return fmt.Errorf("broker config %s: %w", key, err)
		}
		return nil
	}
	for _, served := range brokerKeys() {
		switch {
		case served.name == key && served.from != "":
			return fmt.Errorf("broker config %s cannot be altered while the broker runs: set %s in its configuration", key, served.from)
		case served.name == key:
			return fmt.Errorf("broker config %s is fixed", key)
		}
	}
	return fmt.Errorf("broker config %s is not served: %s", key, insteadOf(key))
}
