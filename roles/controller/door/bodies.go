package door

import (
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// What is sent, by encoding/gob: a field that one side does not know is left out, so
// that fields can be added. broker is who asks, in most. There is no map in it: gob makes
// one as large as it is said to be, before it has seen a byte of it.

type broker struct {
	ID    int32
	Epoch int64
}

type (
	registerBrokerQ struct{ Registration controller.Registration }
	heartbeatQ      struct{ Broker broker }
	fenceBrokerQ    struct{ Broker broker }
	reportLoadQ     struct {
		Broker broker
		Syncs  time.Duration // 0 also of brokers that do not tell it
		Loads  []controller.PartitionLoad
	}
	reportTroublesQ struct {
		Node     int32
		Troubles []controller.Trouble
	}
	reportEndsQ struct {
		Broker broker
		Ends   []metadata.PartitionEnd
	}
	giveUpReplicasQ struct {
		Broker     broker
		Partitions []storage.PartitionID
	}
	planRebalanceQ struct{ Plan bool }
	drainBrokerQ   struct {
		ID       int32
		Draining bool
	}
	unregisterBrokerQ     struct{ ID int32 }
	registerControllerQ   struct{ Node metadata.ControllerNode }
	unregisterControllerQ struct{ ID uint64 }

	createTopicsQ struct {
		Topics       []newTopic
		ValidateOnly bool
	}
	deleteTopicsQ     struct{ Topics []controller.TopicRef }
	createPartitionsQ struct {
		Name         string
		Total        int32
		Assignments  [][]int32
		ValidateOnly bool
	}
	alterConfigsQ struct {
		Changes      []controller.ConfigChange
		ValidateOnly bool
	}
	alterClientQuotasQ struct {
		Changes      []quotaChange
		ValidateOnly bool
	}
	alterACLsQ       struct{ Changes []controller.ACLChange }
	alterUsersQ      struct{ Changes []metadata.UserChange }
	createAPITokenQ  struct{ Token metadata.APIToken }
	deleteAPITokenQ  struct{ Name string }
	deployTransformQ struct {
		Name     string
		Version  metadata.TransformVersion
		Activate bool
		Seen     uint64
	}
	setTransformQ struct {
		Name   string
		Change metadata.TransformChange
	}
	deleteTransformQ struct {
		Name   string
		Change metadata.TransformChange
		Force  bool
	}
	spendTransformBudgetQ struct {
		Name       string
		Version    uint32
		By, Reason string
	}
	alterPartitionsQ struct {
		Broker  broker
		Changes []metadata.PartitionChange
	}
	electLeadersQ       struct{ Elections []controller.LeaderElection }
	reassignPartitionsQ struct{ Moves []controller.Reassignment }

	advanceLogStartQ struct {
		Broker broker
		Starts []controller.LogStart
	}
	prepareObjectsQ struct {
		Broker broker
		Count  int
	}
	commitObjectQ struct {
		Broker broker
		ID     storage.ObjectID
		Size   int64
		Ranges []metadata.PartitionRange
	}
	replaceRangesQ struct {
		Broker       broker
		ID           storage.ObjectID
		Size         int64
		Replacements []metadata.Replacement
	}
	fileRangesQ struct {
		Broker broker
		ID     storage.ObjectID
		Ref    object.ManifestRef
		Filing metadata.Filing
	}
	recordCleaningQ struct {
		Broker    broker
		Partition storage.PartitionID
		Epoch     storage.Epoch
		Is        metadata.Cleaning
	}
	allocateProducerIDsQ struct{ Broker broker }

	confirmClockQ struct{ Confirm bool }
	checkBucketQ  struct{ Request controller.CheckRequest }
	hurryLogQ     struct{ Hurry bool }
)

// pair is an entry of a map.
type pair[V any] struct {
	Key   string
	Value V
}

func pairsOf[V any](m map[string]V) []pair[V] {
	var pairs []pair[V]
	for key, value := range m {
		pairs = append(pairs, pair[V]{key, value})
	}
	return pairs
}

func mapOf[V any](pairs []pair[V]) map[string]V {
	if len(pairs) == 0 {
		return nil
	}
	m := map[string]V{}
	for _, p := range pairs {
		m[p.Key] = p.Value
	}
	return m
}

// newTopic is a controller.NewTopic.
type newTopic struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Assignments       []controller.Assignment
	Configs           []pair[string]
	Internal          bool
}

func newTopicOf(t controller.NewTopic) newTopic {
	return newTopic{t.Name, t.Partitions, t.ReplicationFactor, t.Assignments, pairsOf(t.Configs), t.Internal}
}

func (t newTopic) topic() controller.NewTopic {
	return controller.NewTopic{Name: t.Name, Partitions: t.Partitions, ReplicationFactor: t.ReplicationFactor, Assignments: t.Assignments, Configs: mapOf(t.Configs), Internal: t.Internal}
}

// quotaChange is a controller.QuotaChange.
type quotaChange struct {
	Entity metadata.QuotaEntity
	Set    []pair[float64]
	Remove []string
}

func quotaChangeOf(c controller.QuotaChange) quotaChange {
	return quotaChange{c.Entity, pairsOf(c.Set), c.Remove}
}

func (c quotaChange) change() controller.QuotaChange {
	return controller.QuotaChange{Entity: c.Entity, Set: mapOf(c.Set), Remove: c.Remove}
}

// each returns f of all.
func each[A, B any](all []A, f func(A) B) []B {
	out := make([]B, len(all))
	for i, a := range all {
		out[i] = f(a)
	}
	return out
}

// reply is what a method answers. decided reports whether what it was asked for is
// done, or is not and will not be.
type reply interface{ decided() bool }

// done is the answer of a method that returns an error.
type done struct{ Err fault }

func (r done) decided() bool { return !r.Err.undecided() }

// entry is the answer to one of several things that are asked for side by side.
type entry interface{ outcome() fault }

// list is the answer of a method that does such things, in order.
type list[E entry] struct{ Entries []E }

// decided is asked of each entry alone.
func (list[E]) decided() bool { return true }

type registered struct {
	Epoch int64
	Err   fault
}

func (r registered) decided() bool { return !r.Err.undecided() }

// heard is the answer to a heartbeat: with it comes what a broker wants to know of the
// controller that leads, however often.
type heard struct {
	State leaderState
	Err   fault
}

func (r heard) decided() bool { return !r.Err.undecided() }

// leaderState is what the leading controller alone knows.
type leaderState struct {
	Believed      time.Time
	Believes      bool
	Shipped       uint64
	ShippedOnce   uint64
	BucketApplied uint64
	BucketShipped uint64
	BucketTrouble fault
}

// topicResult is a controller.TopicResult.
type topicResult struct {
	Name              string
	ID                storage.TopicID
	Partitions        int32
	ReplicationFactor int16
	Configs           []pair[string]
	Err               fault
}

func (r topicResult) outcome() fault { return r.Err }

func (r topicResult) result() controller.TopicResult {
	return controller.TopicResult{Name: r.Name, ID: r.ID, Partitions: r.Partitions, ReplicationFactor: r.ReplicationFactor, Configs: mapOf(r.Configs), Err: r.Err.err()}
}

func topicResults(results []controller.TopicResult) list[topicResult] {
	l := list[topicResult]{make([]topicResult, len(results))}
	for i, r := range results {
		l.Entries[i] = topicResult{r.Name, r.ID, r.Partitions, r.ReplicationFactor, pairsOf(r.Configs), faultOf(r.Err)}
	}
	return l
}

type issued struct {
	First storage.ObjectID
	Err   fault
}

func (r issued) decided() bool { return !r.Err.undecided() }

type committed struct {
	Results []fault
	Err     fault
}

func (r committed) decided() bool { return !r.Err.undecided() }

func committedOf(results []error, err error) committed {
	return committed{faultsOf(results), faultOf(err)}
}

type planned struct {
	Plan controller.RebalancePlan
	Err  fault
}

func (r planned) decided() bool { return !r.Err.undecided() }

type producerIDs struct {
	First int64
	Count int32
	Err   fault
}

func (r producerIDs) decided() bool { return !r.Err.undecided() }

type clockConfirmed struct{ Was fault }

func (clockConfirmed) decided() bool { return true }

type checked struct {
	Report controller.CheckReport
	Err    fault
}

func (r checked) decided() bool { return !r.Err.undecided() }
