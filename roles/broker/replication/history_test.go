package replication

import (
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/test/seeded"
)

// copyOf is a replica's log as one epoch for each record, from the start on.
type copyOf struct {
	start  storage.Offset
	epochs []storage.Epoch
}

func (c copyOf) end() storage.Offset { return c.start + storage.Offset(len(c.epochs)) }

func (c copyOf) history() log.History {
	h := log.History{LogStart: c.start, LocalStart: c.start, Synced: c.end(), End: c.end()}
	for i, e := range c.epochs {
		if n := len(h.Epochs); n == 0 || h.Epochs[n-1].Epoch != e {
			h.Epochs = append(h.Epochs, log.EpochStart{Epoch: e, Start: c.start + storage.Offset(i)})
		}
	}
	return h
}

// agree is common by looking at every record.
func agree(a, b copyOf) (storage.Offset, bool) {
	for at := min(a.end(), b.end()); at > max(a.start, b.start); at-- {
		if a.epochs[at-1-a.start] == b.epochs[at-1-b.start] {
			return at, true
		}
	}
	at := max(a.start, b.start)
	return at, at <= min(a.end(), b.end())
}

func TestCommonIsWhereTheLogsCeaseToAgree(t *testing.T) {
	starts := func(end storage.Offset, of ...int64) log.History {
		h := log.History{End: end, Synced: end}
		for i := 0; i < len(of); i += 2 {
			h.Epochs = append(h.Epochs, log.EpochStart{Epoch: storage.Epoch(of[i]), Start: storage.Offset(of[i+1])})
		}
		return h
	}
	for name, c := range map[string]struct {
		leader, follower log.History
		at               storage.Offset
	}{
		"both empty":                             {starts(0), starts(0), 0},
		"follower behind in the same epoch":      {starts(10, 1, 0), starts(4, 1, 0), 4},
		"follower ahead in the same epoch":       {starts(4, 1, 0), starts(10, 1, 0), 4},
		"unclean: nothing in common":             {starts(4, 2, 0), starts(10, 1, 0), 0},
		"KIP-101: a tail of the old epoch":       {starts(8, 1, 0, 2, 5), starts(9, 1, 0), 5},
		"KIP-279: both have epochs of their own": {starts(12, 1, 0, 3, 4), starts(9, 1, 0, 2, 6), 4},
		"an epoch without a record":              {starts(5, 1, 0, 2, 5, 3, 5), starts(7, 1, 0), 5},
		"the follower's epoch without records":   {starts(8, 1, 0, 3, 5), starts(5, 1, 0, 2, 5), 5},
	} {
		if at, ok := common(c.leader, c.follower); !ok || at != c.at {
			t.Errorf("%s: %d, %v, want %d", name, at, ok, c.at)
		}
	}
	later := starts(150, 2, 100)
	later.LogStart = 100
	if at, ok := common(later, starts(50, 1, 0)); ok {
		t.Errorf("a follower that ends before its leader begins goes on at %d", at)
	}
}

// Logs that grow by leaders' appends, replication and truncation to what is common are
// compared record by record with what common says of their epochs alone.
func TestCommonAgainstRecords(t *testing.T) {
	seed := seeded.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		replicas := make([]copyOf, 3)
		epoch := storage.Epoch(0)
		for range 20 {
			leader := &replicas[r.IntN(3)]
			epoch += storage.Epoch(1 + r.IntN(2))
			for range r.IntN(4) {
				leader.epochs = append(leader.epochs, epoch)
			}
			if r.IntN(2) == 0 {
				follower := &replicas[r.IntN(3)]
				if follower == leader {
					continue
				}
				at, ok := common(leader.history(), follower.history())
				want, wantOK := agree(*leader, *follower)
				if at != want || ok != wantOK {
					t.Fatalf("%+v and %+v: %d, %v; record by record %d, %v", leader, follower, at, ok, want, wantOK)
				}
				p := planFor(leader.history(), follower.history())
				if p.restart {
					*follower = copyOf{start: leader.end()}
					continue
				}
				follower.epochs = follower.epochs[:p.at-follower.start]
				n := min(int(p.at-leader.start)+r.IntN(4), len(leader.epochs))
				follower.epochs = append(follower.epochs, leader.epochs[p.at-leader.start:n]...)
				if !slices.Equal(follower.epochs[max(0, leader.start-follower.start):], leader.epochs[max(0, follower.start-leader.start):n]) {
					t.Fatalf("after the plan %+v the follower has %v, the leader %v", p, follower, leader)
				}
			}
			if r.IntN(10) == 0 { // the WAL gives up what all have
				c := &replicas[r.IntN(3)]
				n := r.IntN(len(c.epochs) + 1)
				for i := range n {
					for _, o := range replicas {
						if at := c.start + storage.Offset(i); at >= o.end() || at >= o.start && o.epochs[at-o.start] != c.epochs[i] {
							n = min(n, i)
						}
					}
				}
				c.start, c.epochs = c.start+storage.Offset(n), c.epochs[n:]
			}
		}
	}
}
