package log

import (
	"fmt"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
)

// naiveReplica is what the core is held to: who has confirmed what under the epoch, by
// name, and the definition of the high watermark.
type naiveReplica struct {
	synced, taken, highWatermark, told storage.Offset
	early, leads                       bool
	of                                 Replicas
	confirmed                          map[int32]storage.Offset
	markers                            []storage.Offset
}

func (n *naiveReplica) judge(minInSync int) {
	may, held := n.told, n.synced
	if n.early {
		held = max(n.synced, n.taken)
		for _, at := range n.markers {
			if at >= n.synced {
				held = min(held, at)
			}
		}
	}
	if n.leads {
		if len(n.of.InSync)+1 < minInSync {
			return
		}
		may = held
		for _, id := range slices.Concat(n.of.InSync, n.of.Pending) {
			end, ok := n.confirmed[id]
			if !ok {
				return
			}
			may = min(may, end)
		}
	}
	n.highWatermark = max(n.highWatermark, min(may, held))
}

// replicaStep is one thing that may happen.
type replicaStep struct {
	name  string
	core  func(r *replica)
	naive func(n *naiveReplica)
}

func replicaSteps() []replicaStep {
	var steps []replicaStep
	add := func(core func(*replica), naive func(*naiveReplica), format string, args ...any) {
		steps = append(steps, replicaStep{fmt.Sprintf(format, args...), core, naive})
	}
	for end := range storage.Offset(3) {
		add(func(r *replica) { r.onDisk(end + 1) }, func(n *naiveReplica) { n.synced = max(n.synced, end+1) }, "synced to %d", end+1)
		for _, marker := range []bool{false, true} {
			add(func(r *replica) {
				if end >= r.taken {
					r.took(end, end+1, marker)
				}
			}, func(n *naiveReplica) {
				if end < n.taken {
					return
				}
				if n.taken = end + 1; marker {
					n.markers = append(n.markers, end)
				}
			}, "in memory to %d, a marker: %v", end+1, marker)
		}
		for id := int32(2); id <= 3; id++ {
			add(func(r *replica) {
				if r.leads {
					r.confirm(id, end+1)
				}
			}, func(n *naiveReplica) {
				if n.leads {
					n.confirmed[id] = max(n.confirmed[id], end+1)
				}
			}, "%d confirms %d", id, end+1)
		}
	}
	for id := int32(2); id <= 3; id++ {
		add(func(r *replica) { r.forget(id) }, func(n *naiveReplica) { delete(n.confirmed, id) }, "forget %d", id)
	}
	for _, of := range []Replicas{{}, {InSync: []int32{2}}, {InSync: []int32{2, 3}}, {InSync: []int32{2}, Pending: []int32{3}}, {Pending: []int32{2}}, {InSync: []int32{3}, Pending: []int32{3}}} {
		add(func(r *replica) { r.set(of) }, func(n *naiveReplica) { n.of = of }, "replicas %+v", of)
	}
	add(func(r *replica) { r.lead(r.held) }, func(n *naiveReplica) { n.leads, n.told, n.confirmed = true, -1, map[int32]storage.Offset{} }, "lead")
	add(func(r *replica) { r.rest() }, func(n *naiveReplica) {
		n.leads, n.told, n.of, n.confirmed = false, -1, Replicas{}, map[int32]storage.Offset{}
	}, "rest")
	add(func(r *replica) {
		if !r.leads {
			r.told = 2
		}
	}, func(n *naiveReplica) {
		if !n.leads {
			n.told = 2
		}
	}, "told 2")
	return steps
}

// TestHighWatermarkIsWhatItIsDefinedToBe: after every sequence of up to four things that
// can happen, and after long random ones, for each minimum of replicas in sync.
func TestHighWatermarkIsWhatItIsDefinedToBe(t *testing.T) {
	steps := replicaSteps()
	early := false
	check := func(sequence []int, minInSync int) {
		t.Helper()
		r, n := newReplica(), naiveReplica{early: early, told: -1, confirmed: map[int32]storage.Offset{}}
		r.early = early
		for at, i := range sequence {
			before := r.highWatermark
			steps[i].core(&r)
			moved := r.advance(minInSync)
			steps[i].naive(&n)
			n.judge(minInSync)
			if r.highWatermark != n.highWatermark || moved != (r.highWatermark > before) || r.enough(minInSync) != (len(n.of.InSync)+1 >= minInSync) {
				var names []string
				for _, i := range sequence[:at+1] {
					names = append(names, steps[i].name)
				}
				t.Fatalf("at least %d in sync: after %q the high watermark is %d, moved %v, want %d; %+v", minInSync, names, r.highWatermark, moved, n.highWatermark, r)
			}
		}
	}
	lead := len(steps) - 3
	for _, early = range []bool{false, true} {
		for a := range steps {
			for b := range steps {
				for c := range steps {
					for minInSync := 1; minInSync <= 3; minInSync++ {
						check([]int{a, b, c}, minInSync)
						check([]int{lead, a, b, c}, minInSync)
					}
				}
			}
		}
	}
	rng := newRand(t)
	for i := range 4000 {
		early = i%2 == 0
		sequence := make([]int, 40)
		for i := range sequence {
			sequence[i] = rng.IntN(len(steps))
		}
		check(sequence, 1+rng.IntN(3))
	}
}

// TestEpochBeginsWithoutConfirmations: what a follower had under the last one does not
// count, nor who is no replica any more.
func TestEpochBeginsWithoutConfirmations(t *testing.T) {
	r := newReplica()
	r.set(Replicas{InSync: []int32{2, 3}})
	r.lead(0)
	r.confirm(2, 9)
	r.confirm(3, 9)
	r.confirm(4, 9)
	if !r.sync(5, 3) || r.highWatermark != 5 {
		t.Fatalf("the high watermark is %d", r.highWatermark)
	}
	r.lead(7)
	if r.sync(9, 3) || r.settled() || len(r.others) != 2 {
		t.Fatalf("%+v", r)
	}
	r.confirm(2, 8)
	r.confirm(3, 7)
	if !r.advance(3) || r.highWatermark != 7 || !r.settled() {
		t.Fatalf("%+v", r)
	}
}
