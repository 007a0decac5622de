package pipeline

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"rustmq.dev/rustmq/etl/abi"
)

// Transformer decides what becomes of records. It is safe for concurrent use.
type Transformer interface {
	// Transform returns one decision for each record, in order; nil: all are kept as they
	// are. What it returns is valid for as long as anybody holds it. An [*abi.Failure] is
	// the module's own; [ErrUnready] (may be wrapped) says that the module is not there
	// yet: the batch is to come again, whatever the policy.
	Transform(ctx context.Context, b *abi.Batch) ([]abi.Decision, error)
}

// ErrUnready says that a module that is to run cannot yet, or not any more, on this broker.
var ErrUnready = errors.New("the module is not ready on this broker")

// Module is a version of a module that is active.
type Module struct {
	Name        string
	Version     int
	Spec        *Spec
	Transformer Transformer
	// Failed is told of each failure of the module: how many records it had been given.
	// nil: nobody is. It must not block.
	Failed func(err error, records int)
}

// Set is the active inline modules of a broker. It is immutable.
type Set struct {
	modules []Module
	scratch sync.Pool // of *run
}

// NewSet returns the set of those modules; of other modes it takes none.
func NewSet(modules []Module) *Set {
	s := new(Set)
	for _, m := range modules {
		if m.Spec.Mode == Inline {
			s.modules = append(s.modules, m)
		}
	}
	slices.SortFunc(s.modules, func(a, b Module) int {
		return cmp.Or(cmp.Compare(a.Spec.Stage, b.Spec.Stage), cmp.Compare(b.Spec.Priority, a.Spec.Priority), cmp.Compare(a.Name, b.Name))
	})
	return s
}

// Pipeline is the modules that a topic's records pass. It is immutable.
type Pipeline struct {
	set    *Set
	topic  string
	stages [][]*Module // those that have modules; in each, who goes before first
	all    []*Module
}

// For returns the pipeline of a topic; nil: no module is for it.
func (s *Set) For(topic string) *Pipeline {
	if s == nil {
		return nil
	}
	p := &Pipeline{set: s, topic: topic}
	for i := range s.modules {
		m := &s.modules[i]
		if !m.Spec.MatchesTopic(topic) {
			continue
		}
		if n := len(p.all); n == 0 || p.all[n-1].Spec.Stage != m.Spec.Stage {
			p.stages = append(p.stages, nil)
		}
		p.stages[len(p.stages)-1] = append(p.stages[len(p.stages)-1], m)
		p.all = append(p.all, m)
	}
	if len(p.all) == 0 {
		return nil
	}
	return p
}

// Modules are those of the pipeline, in the order of stage and priority.
func (p *Pipeline) Modules() []*Module { return slices.Clone(p.all) }
