package controller

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
)

// TaggedKind is what kind of resource has an entity tag.
type TaggedKind string

// Kinds of resources that have one. Topics, brokers and modules have a name; of the others
// there is one each.
const (
	TaggedTopic  TaggedKind = "topic"  // its configuration and its partitions
	TaggedBroker TaggedKind = "broker" // by id in decimal: its registration, and whether it is drained
	TaggedModule TaggedKind = "module" // its versions, and which of them runs
	TaggedACLs   TaggedKind = "acls"
	TaggedUsers  TaggedKind = "users" // a new password has a new salt
	TaggedQuotas TaggedKind = "quotas"
	TaggedNodes  TaggedKind = "nodes" // what was set on all nodes, and on each broker
)

// Tagged names a resource that has an entity tag.
type Tagged struct {
	Kind TaggedKind
	Name string
}

// TagIn is the entity tag of a resource in an image, as HTTP writes it; "": it is not there.
// It stands for what can be changed of the resource, and is the same in every process that has
// the same metadata.
func (r Tagged) TagIn(image *metadata.Image) string {
	var is []any
	switch r.Kind {
	case TaggedTopic:
		t, ok := image.Topic(r.Name)
		if !ok {
			return ""
		}
		is = append(is, t.ID, t.ConfigVersion, t.Partitions.Len())
	case TaggedBroker:
		id, err := strconv.ParseInt(r.Name, 10, 32)
		b, ok := image.Broker(int32(id))
		if err != nil || !ok {
			return ""
		}
		is = append(is, b.ID, b.Epoch, b.Draining)
	case TaggedModule:
		t, ok := image.Transform(r.Name)
		if !ok {
			return ""
		}
		is = append(is, t.Name, t.Issued, len(t.Versions), t.Active, t.Last, t.Previous)
		for _, c := range t.History { // a time is written as its process's time zone has it
			is = append(is, c.At.UnixMilli(), c.By, c.Action, c.Version, c.Reason)
		}
	case TaggedACLs:
		for rule := range image.ACLs() {
			is = append(is, rule)
		}
	case TaggedUsers:
		for u := range image.Users() {
			is = append(is, u.Name)
			for _, c := range u.Credentials {
				is = append(is, c.Mechanism, c.Iterations, c.Salt)
			}
		}
	case TaggedQuotas:
		for q := range image.ClientQuotas() {
			is = append(is, q.Entity, q.Rates)
		}
	case TaggedNodes:
		for of, config := range ConfigsOfNodes(image) {
			if config.Version > 0 { // who comes with nothing changes nothing
				is = append(is, of, config.Version)
			}
		}
	default:
		return ""
	}
	h := sha256.New()
	for _, v := range is {
		fmt.Fprintf(h, "%v\x00", v)
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12]) + `"`
}

// ConfigsOfNodes walks what was set on all nodes (-1), then on each broker.
func ConfigsOfNodes(image *metadata.Image) iter.Seq2[int32, metadata.ResourceConfig] {
	of := func(name string) metadata.ResourceConfig {
		is := metadata.ResourceConfig{Resource: metadata.Resource{Type: metadata.BrokerResource, Name: name}}
		is.Values, is.Version = image.Config(is.Resource)
		return is
	}
	return func(yield func(int32, metadata.ResourceConfig) bool) {
		if !yield(-1, of("")) {
			return
		}
		for b := range image.Brokers() {
			if !yield(b.ID, of(strconv.Itoa(int(b.ID)))) {
				return
			}
		}
	}
}

// AnyTag in a condition is met by whatever is there.
const AnyTag = "*"

// Condition is one of a change: that a resource is as whoever asks for the change has seen it.
type Condition struct {
	Of   Tagged
	Tags []string // of which it has to have one
}

// Met reports whether a resource with that tag, "" for none, is as the condition has it.
func (c Condition) Met(tag string) bool {
	return tag != "" && (slices.Contains(c.Tags, tag) || slices.Contains(c.Tags, AnyTag))
}

// conditionKey is where a context has the condition of a change.
type conditionKey struct{}

// WithCondition has the next change that is asked for with a context be refused, as
// InvalidUpdateVersion, where its condition is not met when the controller comes to it. It is
// of one call, and not of several that change the same.
func WithCondition(ctx context.Context, c Condition) context.Context {
	return context.WithValue(ctx, conditionKey{}, &c)
}

// WithoutCondition is a context of calls that follow the one with the condition.
func WithoutCondition(ctx context.Context) context.Context {
	return context.WithValue(ctx, conditionKey{}, (*Condition)(nil))
}

// ConditionOf is the condition of a change; false: it has none.
func ConditionOf(ctx context.Context) (Condition, bool) {
	c, _ := ctx.Value(conditionKey{}).(*Condition)
	if c == nil {
		return Condition{}, false
	}
	return *c, true
}

// changesAtOnce bounds changes of tagged resources that are under way.
const changesAtOnce = 256

// turns keep a change with a condition apart from all others of tagged resources: between
// the comparison and the change nothing else may come into the log that changes a tag. That
// holds while this controller leads: a command that it proposes when it does no more is
// refused, and one of its own that was left behind is waited for.
type turns struct {
	places chan struct{} // a token for each change under way, all of them for one with a condition
	all    chan struct{} // a token for who takes all places, lest two have half of them each

	mu   sync.Mutex
	left []*consensus.Proposal // that nobody waited for to the end; guarded by mu
}

func newTurns() *turns {
	return &turns{places: make(chan struct{}, changesAtOnce), all: make(chan struct{}, 1)}
}

// take takes n places; false: ctx has ended, and none is taken.
func (t *turns) take(ctx context.Context, n int) bool {
	for i := range n {
		select {
		case t.places <- struct{}{}:
		case <-ctx.Done():
			t.give(i)
			return false
		}
	}
	return true
}

func (t *turns) give(n int) {
	for range n {
		<-t.places
	}
}

// leave notes a proposal of which nobody has seen the end.
func (t *turns) leave(p *consensus.Proposal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = append(slices.DeleteFunc(t.left, (*consensus.Proposal).Settled), p)
}

// settle waits for those; false: ctx has ended.
func (t *turns) settle(ctx context.Context) bool {
	t.mu.Lock()
	left := slices.Clone(t.left)
	t.mu.Unlock()
	for _, p := range left {
		if _, _ = p.Wait(ctx); !p.Settled() { // what became of it is in the image
			return false
		}
	}
	return true
}

// change begins what changes a tagged resource; where ctx has a condition, that is compared
// with what there is, and holds until end. An error says that nothing was changed.
func (c *Controller) change(ctx context.Context) (end func(), err error) {
	condition, conditional := ConditionOf(ctx)
	busy := metadata.Errorf(metadata.ThrottlingQuotaExceeded, "changes that came before are under way, and nothing was changed: ask again")
	if !conditional {
		if !c.turns.take(ctx, 1) {
			return nil, busy
		}
		return func() { c.turns.give(1) }, nil
	}
	select {
	case c.turns.all <- struct{}{}:
	case <-ctx.Done():
		return nil, busy
	}
	if !c.turns.take(ctx, changesAtOnce) {
		<-c.turns.all
		return nil, busy
	}
	end = func() {
		c.turns.give(changesAtOnce)
		<-c.turns.all
	}
	err = c.leads()
	switch {
	case err != nil:
	case !c.turns.settle(ctx):
		err = busy
	case !guard.Check("controller.condition", condition.Met(condition.Of.TagIn(c.state.Image()))):
		err = metadata.Errorf(metadata.InvalidUpdateVersion, "the resource was changed since it was read, or is not there any more: read it again, and decide anew")
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}
