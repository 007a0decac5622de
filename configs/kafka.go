package configs

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Support says what becomes of a config key of Kafka.
type Support uint8

const (
	// Refused: it cannot be set, and is not shown.
	Refused Support = iota
	// Ignored: it is taken, kept and shown, and nothing looks at it.
	Ignored
	// Served: it is shown with the value in effect; where it can be set, that has
	// an effect.
	Served
)

func (s Support) String() string { return [...]string{"refused", "ignored", "served"}[s] }

// KafkaKey is a config key of Apache Kafka, and what it is here.
type KafkaKey struct {
	Name, Type, Default string // as Kafka has them
	Support             Support
	Why                 string // what it does here, or why it does nothing
}

//go:embed kafka/topic.tsv
var kafkaTopicKeys string

//go:embed kafka/broker.tsv
var kafkaBrokerKeys string

// documentedKeys reads the keys of a list.
func documentedKeys(list string) []KafkaKey {
	var keys []KafkaKey
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		keys = append(keys, KafkaKey{Name: fields[0], Type: fields[1], Default: fields[2]})
	}
	return keys
}

// check says why a key of Kafka cannot have that value, by its type alone.
func (k KafkaKey) check(value string) error {
	var err error
	switch k.Type {
	case "int":
		_, err = strconv.ParseInt(value, 10, 32)
	case "long":
		_, err = strconv.ParseInt(value, 10, 64)
	case "short":
		_, err = strconv.ParseInt(value, 10, 16)
	case "double":
		_, err = strconv.ParseFloat(value, 64)
	case "boolean":
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is not true or false", value)
		}
	}
	if err != nil {
		return fmt.Errorf("%q is no %s", value, k.Type)
	}
	return nil
}

// nearestOf returns the name that was most likely meant, or "".
func nearestOf(name string, names []string) string {
	best, distance := "", len(name)/3+1
	for _, candidate := range names {
		if d := editDistance(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// unknownKey says that a key is neither Kafka's nor ours.
func unknownKey(what, name string, known []string) error {
	const longest = 100 // of a name that is looked at
	if near := nearestOf(name[:min(len(name), longest)], known); near != "" {
		return fmt.Errorf("unknown %s config %q; did you mean %s?", what, name, near)
	}
	return fmt.Errorf("unknown %s config %q; docs/kafka-compatibility.md lists those there are", what, name)
}

func findKafkaKey(keys []KafkaKey, name string) (KafkaKey, bool) {
	i := slices.IndexFunc(keys, func(k KafkaKey) bool { return k.Name == name })
	if i < 0 {
		return KafkaKey{}, false
	}
	return keys[i], true
}

func kafkaKeyNames(keys []KafkaKey) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names
}
