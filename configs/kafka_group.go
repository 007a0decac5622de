package configs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The configs of groups that are served (KIP-848).
const (
	GroupSession   = "consumer.session.timeout.ms"
	GroupHeartbeat = "consumer.heartbeat.interval.ms"
)

// Bounds of what a group may be given for [GroupHeartbeat]. Those of sessions are
// broker.groups.min_session_timeout and max_session_timeout.
const (
	minGroupHeartbeat = time.Second
	maxGroupHeartbeat = time.Minute
)

// KafkaGroupKeys lists the configs of groups of Apache Kafka 4.1 with what they are here.
func KafkaGroupKeys() []KafkaKey {
	return []KafkaKey{
		{GroupHeartbeat, "int", "5000", Served, "how often members of the consumer protocol are to send heartbeats"},
		{GroupSession, "int", "45000", Served, "after which a silent member of the consumer protocol is removed"},
		{"share.auto.offset.reset", "string", "latest", Refused, noShares},
		{"share.heartbeat.interval.ms", "int", "5000", Refused, noShares},
		{"share.isolation.level", "string", "read_uncommitted", Refused, noShares},
		{"share.record.lock.duration.ms", "int", "30000", Refused, noShares},
		{"share.session.timeout.ms", "int", "45000", Refused, noShares},
		{"streams.heartbeat.interval.ms", "int", "5000", Refused, noStreams},
		{"streams.num.standby.replicas", "int", "0", Refused, noStreams},
		{"streams.session.timeout.ms", "int", "45000", Refused, noStreams},
	}
}

// GroupSynonym is the broker's key whose value holds for a group that has none of
// its own.
func GroupSynonym(key string) string { return "group." + key }

// ValidateGroupConfigs says why a group cannot have all those values, or nil.
func (c *Config) ValidateGroupConfigs(values map[string]string) error {
	g := c.Broker.Groups
	session, heartbeat := time.Duration(g.ConsumerSessionTimeout), time.Duration(g.ConsumerHeartbeatInterval)
	for key, value := range values {
		var err error
		switch key {
		case GroupSession:
			session, err = millisBetween(value, time.Duration(g.MinSessionTimeout), time.Duration(g.MaxSessionTimeout))
		case GroupHeartbeat:
			heartbeat, err = millisBetween(value, minGroupHeartbeat, maxGroupHeartbeat)
		default:
			return unservedGroupKey(key)
		}
		if err != nil {
			return fmt.Errorf("group config %s: %w", key, err)
		}
	}
	if len(values) > 0 && session <= heartbeat {
		return fmt.Errorf("a session of %v is not more than the %v between two heartbeats: set %s and %s together", session, heartbeat, GroupSession, GroupHeartbeat)
	}
	return nil
}

func unservedGroupKey(key string) error {
	keys := KafkaGroupKeys()
	k, known := findKafkaKey(keys, key)
	if !known {
		return unknownKey("group", key, kafkaKeyNames(keys))
	}
	return fmt.Errorf("group config %s is not served: %s", key, k.Why)
}

func millisBetween(value string, low, high time.Duration) (time.Duration, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	if err != nil || n < low.Milliseconds() || n > high.Milliseconds() {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", value, low.Milliseconds(), high.Milliseconds())
	}
	return time.Duration(n) * time.Millisecond, nil
}
