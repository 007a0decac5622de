package txn

import (
	"maps"
	"math"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
)

// State is where a transactional id is in its life. The numbers are those of its
// records.
type State int8

// Kafka's states. Dead and PrepareEpochFence are never on record: an id that
// expires leaves nothing, and whoever is fenced off finds his transaction in
// PrepareAbort under a higher epoch.
const (
	Empty             State = iota // no transaction since the producer began
	Ongoing                        // partitions were added
	PrepareCommit                  // decided; markers are being written
	PrepareAbort                   // decided; markers are being written
	CompleteCommit                 // every marker is written
	CompleteAbort                  // every marker is written
	Dead                           // the id is being forgotten
	PrepareEpochFence              // Kafka's name for a fence that is not on record yet
)

var stateNames = [...]string{
	"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
}

// String is the name that Kafka's tools show.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "Unknown"
	}
	return stateNames[s]
}

func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// What says that there is none.
const (
	noProducerID    int64 = -1
	noProducerEpoch int16 = -1
	noTimestamp     int64 = -1
)

// bumpsEpochs is the first transaction version under which every transaction has
// an epoch of its own (KIP-890).
const bumpsEpochs = 2

// exhausted reports whether a producer that has this epoch must get another id:
// the highest epoch is kept for fencing it.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }

// metadata is what a record says of a transactional id. It is not changed once it
// stands in a transaction: a transition makes another.
type metadata struct {
	state      State
	producerID int64
	previousID int64 // the id before the last transition
	nextID     int64 // while preparing: the id to go on with, when epochs have run out
	epoch      int16
	lastEpoch  int16 // that the producer had before; not on record
	timeout    time.Duration
	version    int16 // transaction version of the producer's last request
	partitions map[Partition]bool
	started    int64 // wall clock of the transaction's first partition, ms
	updated    int64 // wall clock of the last record that a request caused, ms
}

// begun is an id that nobody has used.
func begun(producerID int64) metadata {
	return metadata{
		producerID: producerID, previousID: noProducerID, nextID: noProducerID,
		epoch: noProducerEpoch, lastEpoch: noProducerEpoch, started: noTimestamp,
	}
}

// sorted returns the partitions in order.
func (m *metadata) sorted() []Partition {
	return slices.SortedFunc(maps.Keys(m.partitions), Partition.compare)
}

// idle is the state between transactions, under an epoch that was given to the
// producer who asked. last is the epoch he had, if he said so.
func (m metadata) idle(epoch, last int16, timeout time.Duration, wall int64) metadata {
	m.state, m.epoch, m.lastEpoch, m.timeout = Empty, epoch, last, timeout
	m.partitions, m.started, m.updated = nil, noTimestamp, wall
	m.previousID, m.nextID = m.producerID, noProducerID
	return m
}

// rotated is idle under another producer id, of which the first epoch is given.
func (m metadata) rotated(id int64, last int16, timeout time.Duration, wall int64) metadata {
	next := m.idle(0, last, timeout, wall)
	next.producerID = id
	return next
}

// with is the transaction with partitions added.
func (m metadata) with(partitions []Partition, version int16, wall int64) metadata {
	next := m
	if m.state != Ongoing {
		next.started, next.partitions = wall, map[Partition]bool{}
	} else {
		next.partitions = maps.Clone(m.partitions)
	}
	for _, p := range partitions {
		next.partitions[p] = true
	}
	next.state, next.version, next.updated, next.previousID = Ongoing, version, wall, m.producerID
	return next
}

// ended is the decision to commit or to abort. bump gives the markers an epoch of
// their own, above that of the records, which the producer goes on with.
func (m metadata) ended(commit, bump bool, wall int64) metadata {
	next := m
	next.state, next.updated, next.previousID = PrepareAbort, wall, m.producerID
	if commit {
		next.state = PrepareCommit
	}
	if m.state != Ongoing { // KIP-890 lets a producer abort what it is not sure to have begun
		next.started, next.partitions = wall, nil
	}
	if bump && m.epoch < math.MaxInt16 {
		next.lastEpoch, next.epoch = m.epoch, m.epoch+1
	}
	return next
}

// completed is the transaction once its markers are written.
func (m metadata) completed(wall int64) metadata {
	next := m
	next.state, next.updated, next.partitions, next.previousID = CompleteAbort, wall, nil, m.producerID
	if m.state == PrepareCommit {
		next.state = CompleteCommit
	}
	if m.nextID != noProducerID {
		next.producerID, next.nextID, next.epoch = m.nextID, noProducerID, 0
	}
	return next
}

// What things cost in memory, about, besides the bytes they hold.
const (
	idBytes        = 500
	partitionBytes = 100
	parkedBytes    = 300
)

func (m *metadata) size() int64 {
	n := int64(0)
	for p := range m.partitions {
		n += partitionBytes + int64(len(p.Topic))
	}
	return n
}

// transaction is a transactional id: what is on record of it, and what goes on.
//
// Invariants: metadata is what the log says, once recorded. While pending is there
// a record is being written, and no other is begun. Markers are sent in a state
// that prepares only, one sending at a time, without a pending record.
type transaction struct {
	id string
	metadata
	recorded bool      // something of it is on record
	pending  *metadata // being written
	bytes    int64     // as counted in the core
	open     bool      // as counted in the core

	owed    map[Partition]bool // while preparing: partitions without a marker
	sending bool               // markers are under way
	retries int                // of this sending
	retry   time.Time          // when something that failed is tried again; zero: nothing did

	expires time.Time // Ongoing: the transaction does; idle: the id does
	parked  []Request // that wait for the next state, in order of arrival

	coordinator.Alarm // its next deadline
}

// moving reports whether t is on its way to a state in which requests are taken:
// a record is being written, or markers are.
func (t *transaction) moving() bool { return t.pending != nil || t.state.preparing() }
