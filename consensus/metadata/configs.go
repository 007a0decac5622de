package metadata

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// ResourceType is what a configuration belongs to, numbered as in Kafka.
type ResourceType int8

const (
	TopicResource  ResourceType = 2
	BrokerResource ResourceType = 4
	// ClientMetricsResource is a subscription to metrics of clients (KIP-714).
	ClientMetricsResource ResourceType = 16
	GroupResource         ResourceType = 32
)

func (t ResourceType) String() string {
	switch t {
	case TopicResource:
		return "topic"
	case BrokerResource:
		return "broker"
	case ClientMetricsResource:
		return "client metrics subscription"
	case GroupResource:
		return "group"
	}
	return "resource of unknown type"
}

// Resource names what a configuration belongs to: a topic by name, a broker by
// id in decimal, or all brokers by the empty name, a group by its id, whether it is
// there or not, a subscription to metrics of clients by the name it was given.
type Resource struct {
	Type ResourceType
	Name string
}

// ResourceConfig is what was set on a resource. It is never changed.
type ResourceConfig struct {
	Resource Resource
	Version  uint64 // log index of the last change
	Values   map[string]string
}

// Bounds of the image: groups and subscriptions are there as soon as they are named.
const (
	maxGroupConfigs = 20_000 // with the brokers and the subscriptions, which are few
	// maxClientMetrics: each client is matched with every subscription.
	maxClientMetrics = 64
)

func compareResources(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
}

func (m *Image) alterConfigs(index uint64, c *pb.AlterConfigs) *Error {
	r := Resource{Type: ResourceType(c.ResourceType), Name: c.Name}
	if c.ResourceType != int32(TopicResource) && !configured(c.ResourceType) {
		return Errorf(InvalidRequest, "resource type %d has no configuration", c.ResourceType)
	}
	if len(r.Name) > maxNameBytes || byNaming(r.Type) && r.Name == "" {
		return Errorf(InvalidRequest, "%s name of %d bytes", r.Type, len(r.Name))
	}
	values, version := m.Config(r)
	topic, known := m.Topic(r.Name)
	if r.Type == TopicResource && !known {
		return Errorf(UnknownTopicOrPartition, "topic %s", quoted(r.Name))
	}
	if !guard.Check("metadata.config-version", c.Version == version) {
		return Errorf(Conflict, "%s %s was altered at %d, not %d", r.Type, quoted(r.Name), version, c.Version)
	}
	was := values
	values, refused := setConfigs(was, c.Set, c.Remove)
	if refused == nil {
		refused = m.revise(index, c, was, values)
	}
	if refused != nil {
		return refused
	}
	if r.Type == TopicResource {
		changed := *topic
		changed.Configs, changed.ConfigVersion = values, index
		changed.Partitions = m.reconfigured(&changed)
		m.topics = m.topics.put(changed.ID, &changed)
		return nil
	}
	if byNaming(r.Type) && len(values) == 0 {
		m.configs = m.configs.without(r)
		return nil
	}
	switch r.Type {
	case GroupResource:
		if !guard.Check("metadata.group-configs", version > 0 || m.configs.len() < maxGroupConfigs) {
			return Errorf(PolicyViolation, "%d groups have a configuration; there is no room for another", m.configs.len())
		}
	case ClientMetricsResource:
		if n := m.numClientMetrics(); !guard.Check("metadata.client-metrics", version > 0 || n < maxClientMetrics) {
			return Errorf(PolicyViolation, "there are %d client metrics subscriptions; there is no room for another", n)
		}
	}
	m.configs = m.configs.put(r, &ResourceConfig{Resource: r, Version: index, Values: values})
	return nil
}

// configured reports whether configurations of that type stand by themselves.
func configured(resourceType int32) bool {
	return resourceType == int32(BrokerResource) || resourceType == int32(GroupResource) || resourceType == int32(ClientMetricsResource)
}

// byNaming reports whether resources of a type are there by being given a first value,
// and go with their last.
func byNaming(t ResourceType) bool { return t == GroupResource || t == ClientMetricsResource }

// GroupConfigs walks what was set on groups, in order of their ids.
func (m *Image) GroupConfigs() iter.Seq[*ResourceConfig] { return m.configsOf(GroupResource) }

// ClientMetrics walks the subscriptions to metrics of clients, in order of their names.
func (m *Image) ClientMetrics() iter.Seq[*ResourceConfig] { return m.configsOf(ClientMetricsResource) }

func (m *Image) configsOf(t ResourceType) iter.Seq[*ResourceConfig] {
	return func(yield func(*ResourceConfig) bool) {
		for r, c := range m.configs.all() { // by type first
			if r.Type > t || r.Type == t && !yield(c) {
				return
			}
		}
	}
}

func (m *Image) numClientMetrics() (n int) {
	for range m.ClientMetrics() {
		n++
	}
	return n
}

// SameConfigs reports whether two images have the very same configurations of all that
// is no topic. It may miss that they do.
func (m *Image) SameConfigs(other *Image) bool { return m.configs.root == other.configs.root }

// reconfigured returns the partitions of a topic whose configs changed:
// min.insync.replicas may have fallen to what the ISR has, and an unclean election may
// be asked for now.
func (m *Image) reconfigured(t *Topic) Partitions {
	edit := t.Partitions.edit()
	for p := range t.Partitions.All() {
		risen := len(p.ELR) > 0 && len(p.ISR) >= t.MinISR(p)
		elected := p.Leader == NoLeader && m.mayLead(t, p) != NoLeader
		if !risen && !elected {
			continue
		}
		p = edit.at(int(p.Index))
		t.clearELR(p)
		if elected {
			m.elect(t, p)
		}
		p.PartitionEpoch++
	}
	return edit.is
}

// setConfigs returns values with keys set and removed; values stays as it is.
func setConfigs(values map[string]string, set []*pb.ConfigEntry, remove []string) (map[string]string, *Error) {
	changed := maps.Clone(values)
	if changed == nil {
		changed = make(map[string]string, len(set))
	}
	for _, key := range remove {
		delete(changed, key)
	}
	for _, e := range set {
		if e.Key == "" || len(e.Key) > maxConfigBytes || len(e.Value) > maxConfigBytes {
			return nil, Errorf(InvalidConfig, "key of %d bytes, value of %d", len(e.Key), len(e.Value))
		}
		changed[e.Key] = e.Value
	}
	return changed, nil
}

// configEntries returns values in order of key.
func configEntries(values map[string]string) []*pb.ConfigEntry {
	entries := make([]*pb.ConfigEntry, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		entries = append(entries, &pb.ConfigEntry{Key: key, Value: values[key]})
	}
	return entries
}
