package sasl

import (
	"container/list"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// BrakeLimits bound how fast somebody may guess. Zero values take the defaults.
type BrakeLimits struct {
	// UserBurst failures as one user from one address come at any rate, 10, and then one
	// every UserEvery, 1 s.
	UserBurst int
	UserEvery time.Duration
	// AddressBurst failures from one address, 100, and then one every AddressEvery, 100 ms.
	AddressBurst int
	AddressEvery time.Duration
	// Entries that are remembered, of each kind, 16,384. With more, those that failed the
	// longest ago are forgotten.
	Entries int
}

// Brake slows down who guesses passwords: attempts that failed use up what an address may
// have, as one user and in all, and that comes back with time. An attempt that succeeds
// uses nothing. What is counted as one user is counted by address as well: nobody is kept
// out by what others do from elsewhere.
//
// It is not safe for concurrent use.
type Brake struct {
	users, addresses buckets
}

// NewBrake returns a brake that has seen nothing.
func NewBrake(l BrakeLimits) *Brake {
	fill(&l.UserBurst, 10)
	fill(&l.UserEvery, time.Second)
	fill(&l.AddressBurst, 100)
	fill(&l.AddressEvery, 100*time.Millisecond)
	fill(&l.Entries, 16<<10)
	return &Brake{
		users:     newBuckets(l.UserBurst, l.UserEvery, l.Entries),
		addresses: newBuckets(l.AddressBurst, l.AddressEvery, l.Entries),
	}
}

func fill[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Allows reports whether an attempt may be judged now. An empty user is one that is not
// known before it is judged.
func (b *Brake) Allows(now time.Time, address, user string) bool {
	return b.addresses.has(now, attempt{address: address}) && (user == "" || b.users.has(now, attempt{address, user}))
}

// Begin takes what an attempt uses if it fails, so that many at once are not judged
// together. False: it may not be judged, and nothing is taken. The attempt ends with
// Succeeded, or it has failed.
func (b *Brake) Begin(now time.Time, address, user string) bool {
	if !guard.Check("sasl.brake", b.Allows(now, address, user)) {
		return false
	}
	b.addresses.take(now, attempt{address: address})
	if user != "" {
		b.users.take(now, attempt{address, user})
	}
	return true
}

// Succeeded gives back what Begin took.
func (b *Brake) Succeeded(now time.Time, address, user string) {
	b.addresses.give(now, attempt{address: address})
	if user != "" {
		b.users.give(now, attempt{address, user})
	}
}

// Len is how many entries are remembered.
func (b *Brake) Len() int { return len(b.users.all) + len(b.addresses.all) }

type attempt struct{ address, user string }

// buckets hold, by attempt, when it will have everything back. An attempt has something
// left while that is less than burst × every away.
type buckets struct {
	every time.Duration
	depth time.Duration // burst × every
	most  int
	all   map[attempt]*list.Element
	order *list.List // of *bucket, the one that was taken from last in front
}

type bucket struct {
	of   attempt
	full time.Time
}

func newBuckets(burst int, every time.Duration, most int) buckets {
	return buckets{every: every, depth: time.Duration(burst) * every, most: most, all: map[attempt]*list.Element{}, order: list.New()}
}

func (b *buckets) has(now time.Time, a attempt) bool {
	e := b.all[a]
	return e == nil || e.Value.(*bucket).full.Sub(now) <= b.depth-b.every
}

func (b *buckets) take(now time.Time, a attempt) {
	e := b.all[a]
	if e == nil {
		if len(b.all) >= b.most {
			oldest := b.order.Back()
			b.order.Remove(oldest)
			delete(b.all, oldest.Value.(*bucket).of)
		}
		e = b.order.PushFront(&bucket{of: a, full: now})
		b.all[a] = e
	} else {
		b.order.MoveToFront(e)
	}
	is := e.Value.(*bucket)
	if is.full.Before(now) {
		is.full = now
	}
	is.full = is.full.Add(b.every)
}

func (b *buckets) give(now time.Time, a attempt) {
	e := b.all[a]
	if e == nil {
		return
	}
	is := e.Value.(*bucket)
	if is.full = is.full.Add(-b.every); !is.full.After(now) {
		b.order.Remove(e)
		delete(b.all, a)
	}
}
