package broker

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// table finds what this broker knows of a partition, by the names in requests.
// One goroutine, that of follow (leadership.go), writes it.
type table struct {
	mu    sync.RWMutex // guards both maps
	names map[string]*topic
	ids   map[storage.TopicID]*topic
	last  uint64 // key that was given; of follow
}

// topic is a topic of the image. Its partitions only grow in number.
type topic struct {
	name       string
	key        uint64 // of this entry alone, in this process; not 0
	id         storage.TopicID
	internal   bool // the broker's own: clients may read it
	partitions atomic.Pointer[[]*partition]
	pipeline   atomic.Pointer[topicPipeline] // that its batches pass; nil: nobody has looked
	transforms budget                        // of the memory of those that pass it
	counts     topicCounts
}

// partition is one partition of the image, led here or not.
type partition struct {
	topic *topic
	index int32
	role  atomic.Pointer[role]
	// What waits for the word of a transaction's coordinator.
	verifications verifications
	lane          atomic.Pointer[lane] // of batches that are transformed; nil: none ever was
	fullest       atomic.Uint32        // see replication.Partition; of what is led here
	passed        atomic.Int64         // bytes of records that clients sent and took, since the last report of load
}

// role is what this broker is to a partition under one leader epoch; immutable.
type role struct {
	log     *log.Log // nil unless led here and ready
	replica *log.Log // nil unless followed here
	err     error    // why log is nil although the image says that we lead
	leader  int32    // metadata.NoLeader: none
	epoch   storage.Epoch
	// Of the metadata that the role is by.
	partitionEpoch int32
	replicated     bool // others have the partition too
	awaitsBucket   bool // acks come after the object commit
	sifted         bool // it is compacted by key
}

func newTable() *table {
	return &table{names: map[string]*topic{}, ids: map[storage.TopicID]*topic{}}
}

func (t *table) byName(name []byte) *topic {
	t.mu.RLock()
	found := t.names[string(name)] // does not allocate
	t.mu.RUnlock()
	return found
}

func (t *table) byID(id storage.TopicID) *topic {
	t.mu.RLock()
	found := t.ids[id]
	t.mu.RUnlock()
	return found
}

// topicOf returns the entry of a topic of the image, with as many partitions as
// the image has; new ones have no role yet.
func (t *table) topicOf(m *metadata.Topic) *topic {
	found := t.byID(m.ID)
	if found == nil {
		t.last++
		found = &topic{name: m.Name, key: t.last, id: m.ID, internal: m.Internal, transforms: budget{limit: topicTransforms}}
		found.partitions.Store(new([]*partition))
	}
	have := *found.partitions.Load()
	if len(have) == m.Partitions.Len() {
		return found
	}
	grown := append(make([]*partition, 0, m.Partitions.Len()), have...)
	for i := len(grown); i < m.Partitions.Len(); i++ {
		p := &partition{topic: found, index: int32(i)}
		p.role.Store(&role{leader: metadata.NoLeader, epoch: storage.NoEpoch})
		grown = append(grown, p)
	}
	found.partitions.Store(&grown)
	return found
}

func (t *table) put(tp *topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names[tp.name], t.ids[tp.id] = tp, tp
}

func (t *table) remove(id storage.TopicID) *topic {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.ids[id]
	if found == nil {
		return nil
	}
	delete(t.ids, id)
	if t.names[found.name] == found { // a new topic may have its name already
		delete(t.names, found.name)
	}
	return found
}

// partition returns nil when there is none of that index.
func (t *topic) partition(index int32) *partition {
	all := *t.partitions.Load()
	if index < 0 || int(index) >= len(all) {
		return nil
	}
	return all[index]
}

func (p *partition) id() storage.PartitionID {
	return storage.PartitionID{Topic: p.topic.id, Index: p.index}
}

// leading returns the log to serve p from, and the role it was found under.
func (p *partition) leading() (*log.Log, *role, error) {
	r := p.role.Load()
	switch {
	case r.log != nil:
		return r.log, r, nil
	case r.err != nil:
		return nil, r, r.err
	}
	return nil, r, errNotLeader
}

// all returns the topics: of two of a name, of which one is being deleted, the other.
func (t *table) all() []*topic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.names))
}

// corrupt returns how many partitions are given to this broker whose log is corrupt,
// and the error of one of them.
func (t *table) corrupt() (n int, one error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, tp := range t.ids {
		for _, p := range *tp.partitions.Load() {
			if err := p.role.Load().damage(); err != nil {
				n, one = n+1, err
			}
		}
	}
	return n, one
}

// damage is why nothing is served of a partition that is to be led here, and whose log is
// corrupt; nil: it is not.
func (r *role) damage() error {
	err := r.err
	if r.log != nil {
		err = r.log.Err()
	}
	if !isLogDamage(err) {
		return nil
	}
	return err
}

// counts returns how many partitions there are, and how many are led, or followed, here.
func (t *table) counts() (all, led, followed int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, tp := range t.ids {
		for _, p := range *tp.partitions.Load() {
			all++
			switch r := p.role.Load(); {
			case r.log != nil:
				led++
			case r.replica != nil:
				followed++
			}
		}
	}
	return all, led, followed
}
