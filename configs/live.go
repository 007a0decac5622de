package configs

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Liveness of a key: whether it may change while the process runs, and of what. It
// stands in the tag `live` of its field.
const (
	// LiveNode keys may be set on one broker, or on all nodes.
	LiveNode = "node"
	// LiveCluster keys are obeyed by the controller that leads, and set for all.
	LiveCluster = "cluster"
)

// leastStop is the least time to stop that may be set while nodes run, where a slip is obeyed
// by all of them: it lets leaderships go to others.
const leastStop = Duration(time.Second)

// Origins of values that were set while processes run.
const (
	OriginCluster Origin = "cluster"      // on all nodes
	OriginOwn     Origin = "cluster node" // on this node
)

// kafkaForms are the live keys that Kafka has a name for, under which they are set: so
// Kafka's own tools and `rustmq admin config` say the same. parse turns Kafka's value into
// one of the key.
var kafkaForms = map[string]struct {
	name  string
	parse func(value string) (string, error)
}{
	"broker.auto_create_topics":         {"auto.create.topics.enable", as(KafkaKey{Type: "boolean"}, nil)},
	"broker.num_partitions":             {"num.partitions", as(KafkaKey{Type: "int"}, nil)},
	"network.idle_timeout":              {"connections.max.idle.ms", as(KafkaKey{Type: "long"}, millis)},
	"network.max_connection_rate":       {"max.connection.creation.rate", as(KafkaKey{Type: "int"}, rateOf)},
	"network.max_connections":           {"max.connections", as(KafkaKey{Type: "int"}, nil)},
	"network.max_connections_per_ip":    {"max.connections.per.ip", as(KafkaKey{Type: "int"}, nil)},
	"object_storage.retention_interval": {"log.retention.check.interval.ms", as(KafkaKey{Type: "long"}, millis)},
}

// as checks a value of Kafka's and turns it into one of a key; nil: they are written alike.
func as(k KafkaKey, turn func(value string) string) func(string) (string, error) {
	return func(value string) (string, error) {
		if err := k.check(value); err != nil {
			return "", err
		}
		if turn == nil {
			return value, nil
		}
		return turn(value), nil
	}
}

func millis(value string) string { return value + "ms" }

// rateOf has Kafka's word for any rate as ours.
func rateOf(value string) string {
	if value == strconv.Itoa(math.MaxInt32) {
		return "0"
	}
	return value
}

// LiveName returns under which name a live key is set on brokers, in the metadata and by
// Kafka's protocol: Kafka's where it has one, else its own. Kafka's names of what may be
// altered are their own.
func LiveName(key string) string {
	if form, has := kafkaForms[key]; has {
		return form.name
	}
	return key
}

// LiveKey returns the key that is set under a name, and false where the name is none of a
// live key: of a default of topics alone, or of nothing.
func LiveKey(name string) (Key, bool) {
	for key, form := range kafkaForms {
		if form.name == name {
			name = key
			break
		}
	}
	k, known := findKey(name)
	return k, known && k.Live != ""
}

// LiveValue turns the value of a live key into that of its name, as it is set. The error
// says why the key cannot have it.
func LiveValue(key, value string) (string, error) {
	k, known := findKey(key)
	if !known || k.Live == "" {
		return "", liveError(key)
	}
	c := Default()
	if err := c.set(k, value); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	if problems := c.problemsOf(key); len(problems) > 0 {
		return "", fmt.Errorf("%s: %s", key, problems[0].Reason)
	}
	if key == "operations.graceful_shutdown_timeout" && c.Operations.GracefulShutdownTimeout < leastStop {
		return "", fmt.Errorf("%s: %s is too short to be set while nodes run, %v at least: each that stops would leave what it does as by a kill. A node's own configuration may say less", key, value, leastStop)
	}
	form, has := kafkaForms[key]
	if !has {
		return c.Value(k), nil
	}
	served := brokerKeys()
	at := slices.IndexFunc(served, func(s brokerKey) bool { return s.name == form.name })
	said := served[at].value(c)
	if back, err := form.parse(said); err != nil || !c.has(k, back) {
		return "", fmt.Errorf("%s = %s cannot be set while brokers run, for Kafka's %s cannot say it: set it in the configuration of each", key, value, form.name)
	}
	return said, nil
}

// has reports whether the value of a key is what text says.
func (c *Config) has(k Key, text string) bool {
	other := Default()
	return other.set(k, text) == nil && other.Value(k) == c.Value(k)
}

// problemsOf is what is wrong with one key.
func (c *Config) problemsOf(key string) (found []Problem) {
	for _, p := range c.validate() {
		if p.Key == key {
			found = append(found, p)
		}
	}
	return found
}

// liveError says why a name cannot be set while processes run.
func liveError(name string) error {
	if k, known := findKey(name); known && k.Live == "" {
		for _, served := range brokerKeys() {
			if _, ofTopics := DefaultOf(served.name); served.from == name && ofTopics {
				return fmt.Errorf("%s is read when a process starts: set %s, which is over it", name, served.name)
			}
		}
		return fmt.Errorf("%s is read when a process starts: set it in the configuration of each node, and restart them one by one", name)
	}
	return fmt.Errorf("%s: %s", name, unknown(name))
}

// validateLive says why what is set under a name of a live key cannot be its value.
func validateLive(name, value string) error {
	k, _ := LiveKey(name)
	said := value
	if form, has := kafkaForms[k.Name]; has {
		var err error
		if said, err = form.parse(value); err != nil {
			return fmt.Errorf("broker config %s: %w", name, err)
		}
	}
	if _, err := LiveValue(k.Name, said); err != nil {
		return err
	}
	return nil
}

// ShownLive is the value of a live key as its own configuration writes it, of what is set
// under its name.
func ShownLive(name, value string) string {
	if k, live := LiveKey(name); live {
		if form, has := kafkaForms[k.Name]; has {
			if said, err := form.parse(value); err == nil {
				c := Default()
				if c.set(k, said) == nil {
					return c.Value(k)
				}
			}
		}
	}
	return value
}

// Live returns the configuration that a process obeys which has c of its own sources, while
// all was set on every node, and own on this one, by name: what is set so is over what any
// source says, own over all. What cannot be, as it does not go together with the rest, is
// left out, and told.
func (c *Config) Live(all, own map[string]string) (*Config, []Problem) {
	is := *c
	is.origins = maps.Clone(c.origins)
	if is.origins == nil {
		is.origins = map[string]Origin{}
	}
	before := len(is.validate()) // of a configuration that a program made, which nobody validated
	var problems []Problem
	for _, from := range []struct {
		values map[string]string
		origin Origin
	}{{all, OriginCluster}, {own, OriginOwn}} {
		for _, name := range slices.Sorted(maps.Keys(from.values)) {
			k, live := LiveKey(name)
			if !live {
				continue // a default of topics
			}
			was := is
			said := ShownLive(name, from.values[name])
			if err := is.set(k, said); err != nil {
				problems = append(problems, Problem{from.origin, k.Name, err.Error()})
				continue
			}
			if wrong := is.validate(); len(wrong) > before {
				is = was
				problems = append(problems, Problem{from.origin, k.Name, fmt.Sprintf("%s does not go together with this node's own configuration: %s", said, wrong[len(wrong)-1].Reason)})
				continue
			}
			is.origins[k.Name] = from.origin
		}
	}
	return &is, problems
}

// Reloaded returns c with the live keys of another configuration, and names the other keys
// in which they differ: those wait for a restart.
func (c *Config) Reloaded(from *Config) (is *Config, changed, waiting []string) {
	next := *c
	next.origins = maps.Clone(from.origins)
	for _, k := range keys() {
		if c.Value(k) == from.Value(k) {
			continue
		}
		if k.Live == "" {
			waiting = append(waiting, k.Name)
			if o, known := c.origins[k.Name]; known {
				next.origins[k.Name] = o
			} else {
				delete(next.origins, k.Name)
			}
			continue
		}
		next.field(k).Set(from.field(k))
		changed = append(changed, k.Name)
	}
	return &next, changed, waiting
}

// Changed names the live keys in which two configurations differ, in order.
func Changed(a, b *Config) (names []string) {
	for _, k := range keys() {
		if k.Live != "" && a.Value(k) != b.Value(k) {
			names = append(names, k.Name)
		}
	}
	return names
}

// liveDoc says in the reference how a key may change.
func liveDoc(k Key) string {
	switch k.Live {
	case LiveNode:
		return "live"
	case LiveCluster:
		return "live, for all"
	}
	return "restart"
}

// liveNames lists the names of live keys that Kafka has none for, in order.
func liveNames() (names []string) {
	for _, k := range keys() {
		if _, has := kafkaForms[k.Name]; k.Live != "" && !has {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return names
}

// ValueOf is the value of a key by its name, "" of none.
func (c *Config) ValueOf(name string) string {
	k, known := findKey(name)
	if !known {
		return ""
	}
	return c.Value(k)
}

// Shown is Value without what may be secret: the query and the user of a URL.
func (c *Config) Shown(k Key) string {
	value := c.Value(k)
	if k.Name != "object_storage.url" && k.Name != "security.sasl.oauth.jwks" {
		return value
	}
	u, err := url.Parse(value)
	if err != nil {
		return "(no URL)"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}

func keyNames() (names []string) {
	for _, k := range keys() {
		names = append(names, k.Name)
	}
	return names
}
