//go:build suites

package apache

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sequence is requests in their order, and what they need of earlier answers.
type sequence struct {
	name string
	do   func(r *run)
	// laps is how often it is run; 0: until its requests have been of every version.
	laps int
}

// step is one request and what came back.
type step struct {
	label   string
	key     int16
	version int16
	fields  []field // of the answer, normalised
}

// run is one lap of a sequence at one server.
type run struct {
	peer  *peer
	other *peer
	lap   int
	tag   string // goes into every name, so that laps do not meet
	conns map[int]*conn
	names symbols
	// topics are the names of topics that the run has made itself, by id.
	topics map[[16]byte]string
	steps  []step
	wide   int // laps that it takes to reach the oldest version of all keys asked
}

// newRun is a run at peer; versions are those that other has too.
func newRun(s sequence, lap int, peer, other *peer) *run {
	return &run{peer: peer, other: other, lap: lap, tag: fmt.Sprintf("%s-%d", s.name, lap), conns: map[int]*conn{}, names: symbols{}, topics: map[[16]byte]string{}}
}

// all runs the sequence, whatever it meets.
func (r *run) all(s sequence) {
	defer func() {
		if p := recover(); p != nil {
			r.steps = append(r.steps, step{label: "the sequence broke", fields: []field{{"", fmt.Sprintf("%v\n%s", p, debug.Stack())}}})
		}
		for _, c := range r.conns {
			c.close()
		}
	}()
	s.do(r)
}

// version is that of a key in this lap.
func (r *run) version(key int16) int16 {
	mine, other := r.peer.versions[key], r.other.versions[key]
	low, high := max(mine.min, other.min), min(mine.max, other.max)
	if key == int16(kmsg.Produce) {
		low = 3 // older ones are announced and refused, as by Kafka
	}
	r.wide = max(r.wide, int(high-low))
	return max(low, high-int16(r.lap))
}

func (r *run) conn(n int) *conn {
	c := r.conns[n]
	if c == nil {
		c = &conn{peer: r.peer, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("differ"))}
		r.conns[n] = c
	}
	return c
}

// ask sends a request in the lap's version on the first connection and records
// the answer. Where none came it returns an empty one.
func (r *run) ask(label string, q kmsg.Request) kmsg.Response { return r.start(0, label, q)() }

// askV is ask in the version given, if both have it.
func (r *run) askV(label string, version int16, q kmsg.Request) kmsg.Response {
	q.SetVersion(version)
	return r.begin(0, label, q)()
}

// start sends a request on a connection; what it returns waits for the answer.
func (r *run) start(n int, label string, q kmsg.Request) func() kmsg.Response {
	q.SetVersion(r.version(q.Key()))
	return r.begin(n, label, q)
}

func (r *run) begin(n int, label string, q kmsg.Request) func() kmsg.Response {
	c := r.conn(n)
	err := c.send(q)
	return func() kmsg.Response {
		var p kmsg.Response
		if err == nil {
			p, err = c.receive(q)
		}
		s := step{label: label, key: q.Key(), version: q.GetVersion()}
		if err != nil {
			s.fields = []field{{"answer", err.Error()}}
			p = q.ResponseKind()
		} else {
			s.fields = r.fields(p)
		}
		r.steps = append(r.steps, s)
		return p
	}
}

// silent asks and records nothing.
func (r *run) silent(q kmsg.Request) kmsg.Response {
	q.SetVersion(r.version(q.Key()))
	p, err := r.conn(0).exchange(q)
	if err != nil {
		panic(fmt.Errorf("%s: %w", kmsg.NameForKey(q.Key()), err))
	}
	return p
}

// until asks, silently, until the answer is what a sequence needs to go on: the
// servers do some things a moment after they have said so.
func (r *run) until(what string, ask func() bool) {
	for deadline := time.Now().Add(patience); !ask(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic(errors.New("waited in vain for " + what))
		}
	}
}

// topic makes a topic and waits until all of its partitions are led.
func (r *run) topic(name string, partitions int32, configs ...string) [16]byte {
	q := kmsg.NewPtrCreateTopicsRequest()
	q.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	q.Topics = append(q.Topics, t)
	if p := r.silent(q).(*kmsg.CreateTopicsResponse); p.Topics[0].ErrorCode != 0 {
		panic(fmt.Errorf("create %s: %w", name, kerr.ErrorForCode(p.Topics[0].ErrorCode)))
	}
	return r.led(name, partitions)
}

// led waits until all partitions of a topic have a leader that serves them.
func (r *run) led(name string, partitions int32) (id [16]byte) {
	r.until("leaders of "+name, func() bool {
		q := kmsg.NewPtrListOffsetsRequest()
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = name
		for i := range partitions {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = i, -1
			t.Partitions = append(t.Partitions, p)
		}
		q.Topics = append(q.Topics, t)
		for _, p := range r.silent(q).(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			if p.ErrorCode != 0 {
				return false
			}
		}
		m := kmsg.NewPtrMetadataRequest()
		m.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		m.Version = 12
		p, err := r.conn(0).exchange(m)
		if err != nil {
			panic(err)
		}
		found := p.(*kmsg.MetadataResponse).Topics[0]
		id = found.TopicID
		if found.ErrorCode == 0 {
			r.topics[id] = name
		}
		return found.ErrorCode == 0
	})
	return id
}

// note records an answer that a sequence has looked through itself.
func (r *run) note(label string, p kmsg.Response) {
	r.steps = append(r.steps, step{label: label, key: p.Key(), version: p.GetVersion(), fields: r.fields(p)})
}
