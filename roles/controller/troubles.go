package controller

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// TroublesEvery is how often a node says what is wrong with it.
	TroublesEvery = 5 * time.Second
	// troublesAge is for how long that is believed: of a node that is silent there is
	// something worse to be said.
	troublesAge = 4 * TroublesEvery

	// Bounds of what one node may say, and of the nodes that may.
	MaxTroubles          = 64
	maxTroubleBytes      = 4 << 10
	maxTroubledNodes     = 2000
	maxTroublePartitions = 10
)

// How bad a trouble is.
const (
	Critical = "critical" // something is not served, or is about to be lost
	Warning  = "warning"  // it will come to that, or nothing else may fail meanwhile
)

// Trouble is something that a node finds wrong with itself.
type Trouble struct {
	Kind     string // what it is about, as the admin API has it
	Severity string // [Critical] or [Warning]
	What, Do string // what is wrong and what follows, and what helps, in words
	// Partitions are those that it is of, some of many.
	Partitions []storage.PartitionID
	Since      time.Time // by the node's clock; zero: not known
}

// Bounded returns t with no more words than are taken.
func (t Trouble) Bounded() Trouble {
	const most = maxTroubleBytes / 4
	for _, text := range []*string{&t.What, &t.Do} {
		if len(*text) > most {
			*text = strings.ToValidUTF8((*text)[:most], "") + "…"
		}
	}
	return t
}

// NodeTrouble is what a node has said.
type NodeTrouble struct {
	Node int32
	Trouble
}

// troubles is what nodes have said of themselves to this controller while it leads. They are
// not in the log: a controller that begins to lead hears them anew.
type troubles struct {
	mu sync.Mutex
	of map[int32]said // guarded by mu
}

type said struct {
	at    time.Time
	found []Trouble
}

// ReportTroubles takes what a node finds wrong with itself, in place of what it said before.
func (c *Controller) ReportTroubles(_ context.Context, node int32, found []Trouble) error {
	if err := c.leads(); err != nil {
		return err
	}
	if !guard.Check("controller.troubles", len(found) <= MaxTroubles) {
		return metadata.Errorf(metadata.InvalidRequest, "%d troubles of one node: at most %d are taken", len(found), MaxTroubles)
	}
	for _, f := range found {
		if len(f.Partitions) > maxTroublePartitions {
			return metadata.Errorf(metadata.InvalidRequest, "a trouble of %d partitions: at most %d are named", len(f.Partitions), maxTroublePartitions)
		}
		if len(f.Kind)+len(f.Severity)+len(f.What)+len(f.Do) > maxTroubleBytes {
			return metadata.Errorf(metadata.InvalidRequest, "a trouble of more than %d bytes", maxTroubleBytes)
		}
	}
	f := &c.troubles
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(found) == 0 {
		delete(f.of, node)
		return nil
	}
	if _, known := f.of[node]; !known && len(f.of) >= maxTroubledNodes {
		return metadata.Errorf(metadata.PolicyViolation, "%d nodes have troubles; there is no room for another's", len(f.of))
	}
	if f.of == nil {
		f.of = map[int32]said{}
	}
	f.of[node] = said{c.opt.Now(), found}
	return nil
}

// told returns what nodes have said of late, in order of node.
func (f *troubles) told(now time.Time) (all []NodeTrouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for node, s := range f.of {
		if now.Sub(s.at) >= troublesAge {
			delete(f.of, node)
			continue
		}
		for _, is := range s.found {
			all = append(all, NodeTrouble{node, is})
		}
	}
	slices.SortStableFunc(all, func(a, b NodeTrouble) int { return cmp.Compare(a.Node, b.Node) })
	return all
}
