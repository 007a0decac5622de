package metadata

import (
	"bytes"
	"cmp"
	"iter"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
)

// Image is the state of the cluster after one command of the log. It never
// changes; nothing reached from it may be written to.
type Image struct {
	offset         uint64
	clusterID      string
	featureLevel   uint32
	nextProducerID int64
	controllerID   int32 // who leads the controllers; not part of the log
	partitions     int

	topics      tree[storage.TopicID, *Topic]
	names       tree[string, storage.TopicID]
	collisions  tree[string, string] // collisionKey → name
	brokers     tree[int32, *Broker]
	controllers tree[uint64, *ControllerNode]
	configs     tree[Resource, *ResourceConfig] // of brokers, of subscriptions to metrics of clients, and then of groups; a topic has its own
	quotas      tree[QuotaEntity, *ClientQuotas]
	acls        tree[acl.Rule, *acl.Rule]
	users       tree[string, *User]
	tokens      tokens
	transforms  transforms
	revisions   tree[uint64, *ConfigRevision] // by index: the history of the configs of brokers
	fakeSecret  []byte                        // nil: there was no user yet, or it was kept out of the bucket

	bucket       Bucket
	endedBy      uint64 // see EndedBy
	announced    announced
	lastObjectID storage.ObjectID // issued, 0 before the first
	objects      objectTrees
	unseen       [Condemned + 1]int // objects that a slice of the image does not show
	objectBytes  [Condemned + 1]int64
	ranges       int
	liveBytes    int64
	filed        filed
	dying        tree[storage.ObjectID, *Dying]
}

func emptyImage() *Image {
	return &Image{
		controllerID: NoLeader,
		topics: newTree[storage.TopicID, *Topic](func(a, b storage.TopicID) int {
			return bytes.Compare(a[:], b[:])
		}),
		names:       newTree[string, storage.TopicID](strings.Compare),
		collisions:  newTree[string, string](strings.Compare),
		brokers:     newTree[int32, *Broker](cmp.Compare[int32]),
		controllers: newControllers(),
		configs:     newTree[Resource, *ResourceConfig](compareResources),
		quotas:      newTree[QuotaEntity, *ClientQuotas](compareQuotaEntities),
		acls:        newTree[acl.Rule, *acl.Rule](acl.Compare),
		users:       newTree[string, *User](strings.Compare),
		tokens:      newTokens(),
		transforms:  newTransforms(),
		revisions:   newRevisions(),
		objects:     newObjectTrees(),
		dying:       newTree[storage.ObjectID, *Dying](cmp.Compare[storage.ObjectID]),
	}
}

// AuditTopic keeps the account of who did what.
const AuditTopic = "__audit"

// Topic is one topic. Configs holds what was set on it, no defaults.
type Topic struct {
	Name          string
	ID            storage.TopicID
	Partitions    Partitions
	Configs       map[string]string
	ConfigVersion uint64 // log index of the last change of Configs
	Internal      bool
	// ReplicasUnset: how many replicas it has was left to the cluster. A reassignment to
	// fewer ends that.
	ReplicasUnset bool
}

// SelfKept reports whether the topic is one of the brokers' own that coordinators keep
// short by themselves, and read whole: whatever its configs say, no retention takes from it.
func (t *Topic) SelfKept() bool { return t.Internal && t.Name != AuditTopic }

// Partition returns the partition of that index, nil when there is none.
func (t *Topic) Partition(index int32) *Partition {
	if index < 0 || int(index) >= t.Partitions.Len() {
		return nil
	}
	return t.Partitions.At(int(index))
}

// MinISR returns how many replicas of p must be in sync for acks=all: the
// topic's min.insync.replicas, else two, and never more than p has replicas,
// without those that a reassignment is adding: they count when they are all there.
// Unset, it is reckoned at use, so that it grows with the replicas.
func (t *Topic) MinISR(p *Partition) int {
	want := 2
	if set, err := strconv.Atoi(t.Configs[minInsyncReplicas]); err == nil && set > 0 {
		want = set
	}
	return min(want, len(p.Replicas)-len(p.Adding))
}

const minInsyncReplicas = "min.insync.replicas"

// PeerListener is the name of the listener that is for other brokers: the host and
// port of a broker's gRPC. Clients are never told of it.
const PeerListener = "peer"

// Listener is an address that a broker announces.
type Listener struct {
	Name     string // as in the broker's configuration, e.g. "kafka"
	Host     string
	Port     int32
	Protocol string // "PLAINTEXT", "SSL", …
}

// Broker is one registration of a broker.
type Broker struct {
	ID          int32
	Epoch       int64    // log index of its registration
	Incarnation [16]byte // new with every start
	Directory   [16]byte // of its data directory
	Rack        string
	Listeners   []Listener
	Fenced      bool // leads nothing and is given no new replica
	// Draining: it is to be emptied. It is given no new replica, and no leadership that
	// another replica in sync can have. It outlasts registrations.
	Draining        bool
	MaxFeatureLevel uint32 // the highest that its binary knows; 0: it has not said
}

// Offset returns the log index of the last command in the image.
func (m *Image) Offset() uint64 { return m.offset }

// ClusterID returns the cluster's id, empty before the first command.
func (m *Image) ClusterID() string { return m.clusterID }

// FeatureLevel returns the level that gates commands.
func (m *Image) FeatureLevel() uint32 { return m.featureLevel }

// ControllerID returns the node id of the leading controller as known to the
// node that published the image, or -1. It is no part of the agreed state.
func (m *Image) ControllerID() int32 { return m.controllerID }

// WithController returns the image with its ControllerID set.
func (m *Image) WithController(id int32) *Image {
	changed := *m
	changed.controllerID = id
	return &changed
}

// Topic returns the topic of that name.
func (m *Image) Topic(name string) (*Topic, bool) {
	id, ok := m.names.get(name)
	if !ok {
		return nil, false
	}
	return m.topics.get(id)
}

// TopicByID returns the topic of that id.
func (m *Image) TopicByID(id storage.TopicID) (*Topic, bool) { return m.topics.get(id) }

// Partition returns one partition and its topic, nil when there is none.
func (m *Image) Partition(id storage.PartitionID) (*Topic, *Partition) {
	t, ok := m.topics.get(id.Topic)
	if !ok {
		return nil, nil
	}
	p := t.Partition(id.Index)
	if p == nil {
		return nil, nil
	}
	return t, p
}

// Topics walks the topics in order of name.
func (m *Image) Topics() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, id := range m.names.all() {
			if t, _ := m.topics.get(id); !yield(t) {
				return
			}
		}
	}
}

// NumTopics returns how many topics there are.
func (m *Image) NumTopics() int { return m.topics.len() }

// NumPartitions returns how many partitions all topics have.
func (m *Image) NumPartitions() int { return m.partitions }

// ChangedTopics walks the topics that differ from those of an earlier image,
// in order of id: before is nil for a new topic, after for a deleted one. What
// both images share is stepped over. A nil earlier is an empty image.
func (m *Image) ChangedTopics(earlier *Image) iter.Seq2[*Topic, *Topic] {
	if earlier == nil {
		return diff(tree[storage.TopicID, *Topic]{}, m.topics)
	}
	return diff(earlier.topics, m.topics)
}

// ChangedPartitions walks the partitions that differ between two versions of
// one topic, chunks that both share stepped over. A nil before is a new topic,
// a nil after a deleted one.
func ChangedPartitions(before, after *Topic) iter.Seq2[*Partition, *Partition] {
	if before == nil {
		before = &Topic{}
	}
	if after == nil {
		after = &Topic{}
	}
	return func(yield func(before, after *Partition) bool) {
		for of := range changedChunks(before.Partitions, after.Partitions) {
			for i := range max(len(of[0]), len(of[1])) {
				var was, is *Partition
				if i < len(of[0]) {
					was = &of[0][i]
				}
				if i < len(of[1]) {
					is = &of[1][i]
				}
				if was != nil && is != nil && was.PartitionEpoch == is.PartitionEpoch && was.LogStart == is.LogStart && was.tiered == is.tiered {
					continue
				}
				if !yield(was, is) {
					return
				}
			}
		}
	}
}

// Broker returns the registration of that broker.
func (m *Image) Broker(id int32) (*Broker, bool) { return m.brokers.get(id) }

// Brokers walks the registered brokers, fenced ones too, in order of id.
func (m *Image) Brokers() iter.Seq[*Broker] {
	return func(yield func(*Broker) bool) {
		for _, b := range m.brokers.all() {
			if !yield(b) {
				return
			}
		}
	}
}

// Config returns what was set on a resource, never defaults, and the version
// to alter it against. An unknown resource has nothing set and version 0.
func (m *Image) Config(r Resource) (values map[string]string, version uint64) {
	if r.Type == TopicResource {
		if t, ok := m.Topic(r.Name); ok {
			return t.Configs, t.ConfigVersion
		}
		return nil, 0
	}
	if c, ok := m.configs.get(r); ok {
		return c.Values, c.Version
	}
	return nil, 0
}

// alive reports whether broker id is registered and not fenced.
func (m *Image) alive(id int32) bool {
	b, ok := m.brokers.get(id)
	return ok && !b.Fenced
}

// draining reports whether broker id is to be emptied.
func (m *Image) draining(id int32) bool {
	b, ok := m.brokers.get(id)
	return ok && b.Draining
}
