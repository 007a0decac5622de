package compatibility

import (
	"fmt"
	"strings"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/transport/kafka"
)

// Document is docs/kafka-compatibility.md, for a broker that serves these versions.
func Document(served []kafka.ApiVersion) string {
	var b strings.Builder
	b.WriteString("# Compatibility with Apache Kafka\n\n" +
		"Made from the code by `make generate`: the broker's table of handlers, and its\n" +
		"tables of configs. A version is announced only when a test drives it\n" +
		"(`TestEveryAnnouncedVersionIsServed`): it is asked for with a request of that\n" +
		"version, and answered in its layout without an error that the request does not\n" +
		"explain. `make suite-compat` sends the same requests, in every version that both\n" +
		"have, to Apache Kafka 4.1.1 and to rustmq, and compares the answers field by field:\n" +
		"test/compat/apache/differences.txt lists what differs, and why. CI compares this\n" +
		"page with what the code says. franz-go's own integration tests pass over TCP and\n" +
		"QUIC, but those that test/compat/kgo/skip.txt lists.\n")
	writeAPIs(&b, served)
	b.WriteString("\n## Client quotas\n\n" +
		"Rates, entities and their precedence are Kafka's; each broker counts for itself. A\n" +
		"client that was idle may take ten seconds' worth at once, which is what Kafka's\n" +
		"eleven samples come to; then it is told by throttle_time_ms to wait until its rate\n" +
		"has caught up, for a minute at most (a second for request_percentage), and no\n" +
		"request of its connection is looked at before (KIP-219). Bytes are those of produce\n" +
		"requests, and of records in fetch responses; who has consumed too much gets empty\n" +
		"responses until then. request_percentage is of one core: the time that a\n" +
		"connection's requests take to be started, without what they wait for room in the\n" +
		"WAL. Partitions beyond controller_mutation_rate, those of topics made on first use\n" +
		"included, are refused with THROTTLING_QUOTA_EXCEEDED to clients that know it\n" +
		"(KIP-599), and make others wait; a topic that is not made on first use stays\n" +
		"unknown until the client may. Clients that a default tells apart count each for\n" +
		"itself by up to 256 bytes of their names; beyond 50,000 at a time, all others\n" +
		"together.\n" +
		"\n" +
		"connection_creation_rate is of addresses (KIP-612): by name, else by default, each\n" +
		"address for itself, and an IPv6 address for its /64. A TCP connection that comes\n" +
		"too early is held for as long as it would have to wait, a second at most, and then\n" +
		"closed; of more than 1,000 of them the rest at once. A QUIC connection is refused\n" +
		"before its handshake; its streams are not counted. Of an address that has half of\n" +
		"what may come at once, QUIC's clients have to prove that they are there. The rate\n" +
		"is more than 0: who is to stay out is not kept out by a quota.\n" +
		"max.connection.creation.rate is network.max_connection_rate, of all addresses\n" +
		"together: beyond it the listener takes no TCP connection for a while, and refuses\n" +
		"those of QUIC.\n")
	b.WriteString("\n## Configs of topics\n\n" +
		"Keys and defaults are those of Apache Kafka 4.1. *Served*: has its effect.\n" +
		"*Ignored*: is taken, kept and shown by DescribeConfigs, and nothing looks at it.\n" +
		"*Refused*: INVALID_CONFIG, with the reason; so is a key that Kafka does not have.\n")
	own := map[string]string{}
	for _, k := range configs.TopicKeys() {
		own[k.Name] = k.Default
	}
	for _, k := range configs.IgnoredTopicKeys() {
		own[k.Name] = k.Default
	}
	writeKeys(&b, configs.KafkaTopicKeys(), own)
	b.WriteString("\n## Configs of brokers\n\n" +
		"rustmq is configured by its own keys ([configuration.md](configuration.md)).\n" +
		"*Served*: DescribeConfigs shows the value in effect under Kafka's name; those\n" +
		"that are the default of a topic's can be altered while brokers run, for one or\n" +
		"for all (`log.retention.*` for all only). *Ignored*: is taken, and nothing looks\n" +
		"at it. *Refused*: is not shown, and cannot be altered.\n")
	values := map[string]string{}
	for _, v := range configs.BrokerValues(configs.Default()) {
		values[v.Name] = v.Value
	}
	writeKeys(&b, configs.KafkaBrokerKeys(), values)
	b.WriteString("\n## Configs of groups\n\n" +
		"A group may be given its own, whether it is there or not; otherwise the broker's\n" +
		"`group.consumer.*` hold. A session is between `broker.groups.min_session_timeout` and\n" +
		"`max_session_timeout`, an interval of heartbeats between one second and one minute,\n" +
		"and shorter than the session. They hold from a member's next heartbeat on.\n")
	own = map[string]string{}
	for _, k := range configs.KafkaGroupKeys() {
		if k.Support == configs.Served {
			own[k.Name] = values[configs.GroupSynonym(k.Name)]
		}
	}
	writeKeys(&b, configs.KafkaGroupKeys(), own)
	b.WriteString("\n## Configs of client metrics subscriptions\n\n" +
		"Which metrics clients push, and how often (KIP-714; [client-metrics.md](client-metrics.md)).\n" +
		"A subscription is there when it is given a value, and goes with its last; there are\n" +
		"64 at most. `interval.ms` is between 100 and 3600000. `match` tells clients apart by\n" +
		"`client_instance_id`, `client_id`, `client_software_name`, `client_software_version`,\n" +
		"`client_source_address` and `client_source_port`, whose patterns are RE2's, and match\n" +
		"the whole. A list has 4096 bytes at most.\n")
	own = map[string]string{}
	for _, k := range configs.KafkaClientMetricsKeys() {
		own[k.Name] = k.Default
	}
	writeKeys(&b, configs.KafkaClientMetricsKeys(), own)
	return b.String()
}

func writeAPIs(b *strings.Builder, served []kafka.ApiVersion) {
	versions := map[int16]kafka.ApiVersion{}
	for _, v := range served {
		versions[v.Key] = v
	}
	fmt.Fprintf(b, "\n## APIs\n\nVersions of Kafka are those that brokers of %s announce to clients; a dash: they do not.\n\n", Kafka)
	b.WriteString("| key | API | Kafka | rustmq | |\n|---|---|---|---|---|\n")
	for key, a := range kafkaAPIs() {
		is := "not served"
		if v, ok := versions[int16(key)]; ok {
			is = span(v.Min, v.Max)
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s |\n", key, a.name, span(a.min, a.max), is, note(a, versions, int16(key)))
	}
}

// note leaves out what a reason for not serving says of what is served.
func note(a api, versions map[int16]kafka.ApiVersion, key int16) string {
	if _, served := versions[key]; served && unserved(a.why) {
		return ""
	}
	return a.why
}

// unserved reports whether a note is one of those that say why an API is not there.
func unserved(why string) bool {
	switch why {
	case between, ownQuorum, removed, noShares, noStreams, noTokens:
		return true
	}
	return false
}

func span(low, high int16) string {
	switch {
	case high < 0:
		return "–"
	case low == high:
		return fmt.Sprintf("v%d", low)
	}
	return fmt.Sprintf("v%d–%d", low, high)
}

// writeKeys writes a table of configs; own are the defaults here.
func writeKeys(b *strings.Builder, keys []configs.KafkaKey, own map[string]string) {
	b.WriteString("\n| key | type | Kafka's default | rustmq's | | |\n|---|---|---|---|---|---|\n")
	for _, k := range keys {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Name, k.Type, code(k.Default), code(own[k.Name]), k.Support, cell(k.Why))
	}
}

func code(value string) string {
	if value == "" {
		return ""
	}
	return "`" + cell(value) + "`"
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
