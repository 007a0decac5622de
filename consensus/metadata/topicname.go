package metadata

import (
	"fmt"
	"strings"
)

// MaxTopicNameLength is Kafka's: 255 bytes of a file name, less the longest
// partition suffix. Topic names never reach a path here; clients expect the rule.
const MaxTopicNameLength = 249

// ValidTopicName reports why name cannot name a topic, by Kafka's rules:
// 1 to 249 of [a-zA-Z0-9._-], and neither "." nor "..". The error is an [*Error]
// with code InvalidTopic.
func ValidTopicName(name string) error {
	switch {
	case name == "":
		return Errorf(InvalidTopic, "a topic name must not be empty")
	case name == "." || name == "..":
		return Errorf(InvalidTopic, "a topic cannot be named %q", name)
	case len(name) > MaxTopicNameLength:
		return Errorf(InvalidTopic, "topic name of %d bytes: at most %d are allowed", len(name), MaxTopicNameLength)
	}
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-' {
			continue
		}
		return Errorf(InvalidTopic, "topic name %s: byte %d is not one of a-z, A-Z, 0-9, '.', '_' and '-'", quoted(name), i)
	}
	return nil
}

// collisionKey is equal for names that differ only in '.' and '_': metric
// names of Kafka's tools replace one by the other. ok is false for names that
// have neither and so collide with none.
func collisionKey(name string) (key string, ok bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	return strings.ReplaceAll(name, ".", "_"), true
}

// quoted is name for an error message: printable, and of bounded length, for
// it may come from anyone.
func quoted(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}
