package group

import (
	"cmp"
	"slices"

	"rustmq.dev/rustmq/storage"
)

// Names of the assignors that run here.
const (
	uniformAssignor = "uniform"
	rangeAssignor   = "range"
)

// candidate is a member as an assignor sees it.
type candidate struct {
	id       string
	instance *string
	topics   map[storage.TopicID]bool // subscribed, and existing
	before   assignment               // what it was given the last time
}

// numbered is a topic that is subscribed.
type numbered struct {
	id         storage.TopicID
	partitions int32
}

// assignorNamed returns the assignor of that name, nil if there is none. An
// assignor gives each partition that somebody subscribes to one candidate, and
// returns what each is given, in the order of the candidates. Topics and
// candidates come in an order that depends on nothing but themselves.
func assignorNamed(name string) func([]numbered, []candidate) []assignment {
	switch name {
	case uniformAssignor:
		return assignUniformly
	case rangeAssignor:
		return assignRanges
	}
	return nil
}

// assignUniformly gives all about as many partitions as their subscriptions
// allow: no partition could go to one who has two fewer. What a member had it
// keeps as far as that allows.
func assignUniformly(topics []numbered, members []candidate) []assignment {
	load := make([]int, len(members))
	given := make([][]place, len(members))
	type shared struct {
		numbered
		eligible []int // members, by index
		owner    []int // by partition; -1: nobody yet
	}
	all := make([]shared, len(topics))
	for i, t := range topics {
		all[i] = shared{numbered: t, owner: slices.Repeat([]int{-1}, int(t.partitions))}
		for m := range members {
			if !members[m].topics[t.id] {
				continue
			}
			all[i].eligible = append(all[i].eligible, m)
			for _, p := range members[m].before[t.id] {
				if p < t.partitions && all[i].owner[p] < 0 {
					all[i].owner[p] = m
					load[m]++
				}
			}
		}
	}
	least := func(t *shared) int {
		return slices.MinFunc(t.eligible, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
	}
	// Who has few to choose from goes first: the others can make room for it.
	order := make([]*shared, 0, len(all))
	for i := range all {
		if len(all[i].eligible) > 0 {
			order = append(order, &all[i])
		}
	}
	slices.SortStableFunc(order, func(a, b *shared) int { return cmp.Compare(len(a.eligible), len(b.eligible)) })
	for _, t := range order {
		for p, m := range t.owner {
			if m < 0 {
				m = least(t)
				t.owner[p] = m
				load[m]++
			}
		}
	}
	// Each move makes the sum of the squares of the loads smaller, so it ends.
	for moved := true; moved; {
		moved = false
		for _, t := range order {
			to := least(t)
			for p := len(t.owner) - 1; p >= 0; p-- {
				if from := t.owner[p]; load[from] > load[to]+1 {
					t.owner[p] = to
					load[from]--
					load[to]++
					to, moved = least(t), true
				}
			}
		}
	}
	for _, t := range order {
		for p, m := range t.owner {
			given[m] = append(given[m], place{t.id, int32(p)})
		}
	}
	return collected(given)
}

// assignRanges divides each topic by itself: in the order of the members, static
// ones by their instance ids first, each gets a run of partitions, and the first
// ones get one more when they do not divide evenly. Topics of as many partitions
// are divided alike among the same members.
func assignRanges(topics []numbered, members []candidate) []assignment {
	order := make([]int, len(members))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := members[a], members[b]
		switch {
		case x.instance != nil && y.instance != nil:
			return cmp.Compare(*x.instance, *y.instance)
		case x.instance != nil:
			return -1
		case y.instance != nil:
			return 1
		}
		return cmp.Compare(x.id, y.id)
	})
	given := make([][]place, len(members))
	for _, t := range topics {
		var eligible []int
		for _, m := range order {
			if members[m].topics[t.id] {
				eligible = append(eligible, m)
			}
		}
		next := int32(0)
		for i, m := range eligible {
			n := t.partitions / int32(len(eligible))
			if int32(i) < t.partitions%int32(len(eligible)) {
				n++
			}
			for range n {
				given[m] = append(given[m], place{t.id, next})
				next++
			}
		}
	}
	return collected(given)
}

func collected(given [][]place) []assignment {
	all := make([]assignment, len(given))
	for i := range given {
		all[i] = assignmentOf(given[i])
	}
	return all
}
