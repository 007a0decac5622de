package async

import (
	"cmp"
	"slices"
	"time"
)

// State is how a task is for one partition.
type State int32

// The states.
const (
	// Starting: it takes the partition over.
	Starting State = iota
	// Running: it reads, or waits for records.
	Running
	// Waiting: something failed, and is tried again.
	Waiting
	// Refused: the task cannot be run at all.
	Refused
)

// String returns the name in metrics and answers.
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Running:
		return "running"
	case Waiting:
		return "waiting"
	}
	return "refused"
}

// Status is how a task is for one partition that this broker leads.
type Status struct {
	Name      string
	Version   int
	Topic     string // empty, as is all below but Error: the task is refused
	Partition int32
	State     State
	Committed int64     // offset of the first record that no transaction has; -1: not known yet
	End       int64     // of the partition, as far as it is stable; -1: not known yet
	Lag       int64     // records between the two, holes among them
	Error     string    // what is tried again; empty: nothing
	Stuck     time.Time // since when it has failed and got nowhere; zero: it gets on
}

// Status tells how all tasks are here, by name, topic and partition.
func (r *Runner) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Status, 0, len(r.running)+len(r.refused))
	for name, no := range r.refused {
		all = append(all, Status{Name: name, Version: no.task.Version, State: Refused, Committed: -1, End: -1, Error: no.err.Error()})
	}
	for k, w := range r.running {
		p := &w.progress
		s := Status{
			Name: k.task, Version: k.version, Topic: k.of.topic, Partition: k.of.partition,
			State: State(p.state.Load()), Committed: p.last.Load(), End: p.end.Load(),
		}
		if s.Committed >= 0 {
			s.Lag = max(0, s.End-s.Committed)
		}
		if why := p.failure.Load(); why != nil {
			s.Error = *why
		}
		if since := p.stuck.Load(); since != 0 {
			s.Stuck = time.Unix(0, since)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}
