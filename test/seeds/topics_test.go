//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicState is one name: what the metadata has of it.
type topicState struct {
	there      bool
	partitions int32
	retention  int64 // retention.ms, 0: not set
}

// topicCall is what was asked of a name, and what was answered.
type topicCall struct {
	what       string // create, delete, grow, set; look
	partitions int32  // asked for, or seen
	retention  int64
	err        error
	unknown    bool // nobody has answered: it may have happened, or still happen
	there      bool // seen

	node, life int
}

// apply is what a call does to a name, and what it is answered if nothing is in its way.
func (c topicCall) apply(s topicState) (topicState, error) {
	switch {
	case c.what == "create" && s.there:
		return s, kerr.TopicAlreadyExists
	case c.what == "create":
		return topicState{there: true, partitions: c.partitions}, nil
	case !s.there:
		return s, kerr.UnknownTopicOrPartition
	case c.what == "delete":
		return topicState{}, nil
	case c.what == "grow" && c.partitions <= s.partitions:
		return s, kerr.InvalidPartitions
	case c.what == "grow":
		s.partitions = c.partitions
	case c.what == "set":
		s.retention = c.retention
	}
	return s, nil
}

// named is a topic name as a register: what was answered holds at one moment between the
// question and the answer.
var named = porcupine.Model{
	Init: func() any { return topicState{} },
	Step: func(state, _, output any) (bool, any) {
		c, s := output.(topicCall), state.(topicState)
		if c.what == "look" {
			return c.there == s.there && (!s.there || c.partitions == s.partitions && c.retention == s.retention), s
		}
		if c.what == "create" && errors.Is(c.err, kerr.TopicAlreadyExists) && !s.there {
			// As in Kafka: the broker has asked twice, and was told that its own topic is there.
			return true, topicState{there: true, partitions: c.partitions}
		}
		if c.what == "grow" && errors.Is(c.err, kerr.InvalidPartitions) && s.there && c.partitions > s.partitions {
			s.partitions = c.partitions // likewise
			return true, s
		}
		next, err := c.apply(s)
		return c.unknown || errors.Is(c.err, err) && errors.Is(err, c.err), next
	},
	DescribeOperation: func(_, output any) string { return fmt.Sprintf("%+v", output) },
}

// registrars change topics of few names, and look at them.
type registrars struct {
	w     *world
	names []string
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex
	calls map[string][]porcupine.Operation
	done  int // changes
}

func (w *world) register() *registrars {
	ctx, stop := context.WithCancel(context.Background())
	r := &registrars{w: w, names: []string{"first", "second"}, stop: stop, calls: map[string][]porcupine.Operation{}}
	for range 2 {
		rng := w.dice()
		s := w.speak(false)
		r.wg.Go(func() {
			defer s.close()
			for w.sleep(ctx, time.Duration(rng.Int64N(int64(500*time.Millisecond)))) {
				r.do(ctx, s, rng)
			}
		})
	}
	return r
}

// do asks something of a name.
func (r *registrars) do(ctx context.Context, s *speaker, rng *rand.Rand) {
	name, node := r.names[rng.IntN(len(r.names))], rng.IntN(size)
	c := topicCall{what: []string{"create", "create", "delete", "grow", "set", "look", "look", "look"}[rng.IntN(8)], node: node}
	switch c.what {
	case "create":
		c.partitions = 1 + rng.Int32N(2)
	case "grow":
		c.partitions = 1 + rng.Int32N(4)
	case "set":
		c.retention = 1e9 + rng.Int64N(1e6)
	}
	r.ask(ctx, s, name, c)
}

// ask asks it, and remembers the answer.
func (r *registrars) ask(ctx context.Context, s *speaker, name string, c topicCall) {
	c.life = r.w.nodes[c.node].count()
	called := time.Now()
	if c.what == "look" {
		if !r.look(ctx, s, name, &c) || c.life != r.w.nodes[c.node].count() {
			return
		}
		r.note(name, called, c)
		return
	}
	c.err = r.change(ctx, s, name, c)
	var answer *kerr.Error
	switch {
	case !errors.As(c.err, &answer) && c.err != nil, errors.Is(c.err, kerr.RequestTimedOut), errors.Is(c.err, kerr.UnknownServerError):
		c.unknown = true
	case c.err == nil, errors.Is(c.err, kerr.TopicAlreadyExists), errors.Is(c.err, kerr.UnknownTopicOrPartition), errors.Is(c.err, kerr.InvalidPartitions):
	case errors.Is(c.err, kerr.NotController), errors.Is(c.err, kerr.InvalidReplicationFactor), errors.Is(c.err, kerr.InvalidReplicaAssignment):
		return // nothing was done, and nothing said of the topic
	default:
		r.w.problem("%s of topic %s at node %d: %v", c.what, name, c.node+1, c.err)
		return
	}
	r.note(name, called, c)
}

func (r *registrars) note(name string, called time.Time, c topicCall) {
	op := porcupine.Operation{Call: called.Sub(r.w.began).Nanoseconds(), Return: time.Since(r.w.began).Nanoseconds(), Output: c}
	if c.unknown {
		op.Return = math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[name] = append(r.calls[name], op)
	if c.what != "look" && c.err == nil {
		r.done++
	}
}

// change sends a change to a node, once.
func (r *registrars) change(ctx context.Context, s *speaker, name string, c topicCall) error {
	switch c.what {
	case "create":
		q := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, c.partitions, size
		q.Topics, q.TimeoutMillis = append(q.Topics, t), 2500
		a, err := ask[*kmsg.CreateTopicsResponse](ctx, s, c.node, q)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(a.Topics[0].ErrorCode)
	case "delete":
		q := kmsg.NewPtrDeleteTopicsRequest()
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		q.Topics, q.TopicNames, q.TimeoutMillis = append(q.Topics, t), []string{name}, 2500
		a, err := ask[*kmsg.DeleteTopicsResponse](ctx, s, c.node, q)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(a.Topics[0].ErrorCode)
	case "grow":
		q := kmsg.NewPtrCreatePartitionsRequest()
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = name, c.partitions
		q.Topics, q.TimeoutMillis = append(q.Topics, t), 2500
		a, err := ask[*kmsg.CreatePartitionsResponse](ctx, s, c.node, q)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(a.Topics[0].ErrorCode)
	}
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	t, set := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	value := fmt.Sprint(c.retention)
	set.Name, set.Value = "retention.ms", &value
	t.ResourceType, t.ResourceName, t.Configs = kmsg.ConfigResourceTypeTopic, name, append(t.Configs, set)
	q.Resources = append(q.Resources, t)
	a, err := ask[*kmsg.IncrementalAlterConfigsResponse](ctx, s, c.node, q)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(a.Resources[0].ErrorCode)
}

// look has a node say what it knows of a name: how many partitions, and its retention. Both
// are of one moment where the first is the same, of the same topic, when it is asked again.
func (r *registrars) look(ctx context.Context, s *speaker, name string, c *topicCall) bool {
	id, before, err := r.count(ctx, s, name, c.node)
	if err != nil {
		return false
	}
	c.partitions, c.there = before, before > 0
	if !c.there {
		return true
	}
	q := kmsg.NewPtrDescribeConfigsRequest()
	t := kmsg.NewDescribeConfigsRequestResource()
	t.ResourceType, t.ResourceName, t.ConfigNames = kmsg.ConfigResourceTypeTopic, name, []string{"retention.ms"}
	q.Resources = append(q.Resources, t)
	a, err := ask[*kmsg.DescribeConfigsResponse](ctx, s, c.node, q)
	if err != nil || a.Resources[0].ErrorCode != 0 {
		return false
	}
	for _, v := range a.Resources[0].Configs {
		if v.Source == kmsg.ConfigSourceDynamicTopicConfig && v.Value != nil {
			c.retention, _ = strconv.ParseInt(*v.Value, 10, 64)
		}
	}
	same, after, err := r.count(ctx, s, name, c.node)
	return err == nil && same == id && after == before
}

// count is how many partitions a node says that a topic of a name has, and which topic that
// is; 0: there is none.
func (r *registrars) count(ctx context.Context, s *speaker, name string, node int) (id [16]byte, partitions int32, err error) {
	q := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	q.Topics = append(q.Topics, t)
	a, err := ask[*kmsg.MetadataResponse](ctx, s, node, q)
	if err != nil {
		return id, 0, err
	}
	if errors.Is(kerr.ErrorForCode(a.Topics[0].ErrorCode), kerr.UnknownTopicOrPartition) {
		return id, 0, nil
	}
	return a.Topics[0].TopicID, int32(len(a.Topics[0].Partitions)), nil
}

// finish ends the changes, and has every node look once it knows all that was decided.
func (r *registrars) finish(ctx context.Context) error {
	r.stop()
	r.wg.Wait()
	s := r.w.speak(false)
	defer s.close()
	if err := r.w.level(ctx); err != nil {
		return err
	}
	for _, name := range r.names {
		for node := range r.w.nodes {
			c := topicCall{what: "look", node: node}
			called := time.Now()
			if !r.look(ctx, s, name, &c) {
				return fmt.Errorf("node %d does not say what it knows of topic %s, with all well", node+1, name)
			}
			c.life = -1 // it knows all that has happened
			r.note(name, called, c)
		}
	}
	return nil
}

// history is what was asked of a name, with the time in which each look can have been true.
// A node knows what it was told, maybe late; but what was done through it, it knows.
func (r *registrars) history(name string) []porcupine.Operation {
	ops := r.calls[name]
	moved := append([]porcupine.Operation(nil), ops...)
	for i, op := range ops {
		c := op.Output.(topicCall)
		if c.what != "look" || c.life < 0 {
			continue
		}
		moved[i].Call = 0
		for _, through := range ops {
			b := through.Output.(topicCall)
			if b.unknown || b.err != nil || b.node != c.node || b.life != c.life || b.what == "look" || through.Return >= op.Call {
				continue
			}
			at := through.Call
			if alone(ops, through, op) {
				at = through.Return
			}
			moved[i].Call = max(moved[i].Call, at)
		}
	}
	return moved
}

// alone reports whether nothing else can have changed a name between two calls.
func alone(ops []porcupine.Operation, from, to porcupine.Operation) bool {
	for _, o := range ops {
		c := o.Output.(topicCall)
		if c.what != "look" && o != from && o.Call <= to.Return && o.Return >= from.Call {
			return false
		}
	}
	return true
}
