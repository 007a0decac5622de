package coordinator

import (
	"container/heap"
	"iter"
	"time"
)

// Alarms finds what is to be looked at next, of what embeds an [Alarm]. The zero
// Alarms has none set. Like a core, it belongs to one goroutine.
type Alarms[T interface{ alarm() *Alarm }] struct{ set alarmHeap[T] }

// Alarm is when its owner is to be looked at. It is set by one [Alarms].
type Alarm struct {
	at    time.Time
	place int // in the heap, from 1; 0: it is not set
}

func (a *Alarm) alarm() *Alarm { return a }

// WakesAt returns the time that the alarm is set to; zero: it is not set.
func (a *Alarm) WakesAt() time.Time { return a.at }

// Set sets the alarm of x, anew if it is set; a zero time takes it back.
func (s *Alarms[T]) Set(x T, at time.Time) {
	a := x.alarm()
	switch {
	case at.IsZero():
		if a.place > 0 {
			heap.Remove(&s.set, a.place-1)
		}
	case a.place == 0:
		a.at = at
		heap.Push(&s.set, x)
	default:
		a.at = at
		heap.Fix(&s.set, a.place-1)
	}
}

// Next returns the first time that an alarm is set to; zero: none is set.
func (s *Alarms[T]) Next() time.Time {
	if len(s.set) == 0 {
		return time.Time{}
	}
	return s.set[0].alarm().at
}

// Due yields whose time has come, in the order of the times. Each is to be set
// anew, or taken back, before the next.
func (s *Alarms[T]) Due(now time.Time) iter.Seq[T] {
	return func(yield func(T) bool) {
		for len(s.set) > 0 && !now.Before(s.Next()) && yield(s.set[0]) {
		}
	}
}

// alarmHeap is for package heap: the first to wake is on top.
type alarmHeap[T interface{ alarm() *Alarm }] []T

func (h alarmHeap[T]) Len() int           { return len(h) }
func (h alarmHeap[T]) Less(i, j int) bool { return h[i].alarm().at.Before(h[j].alarm().at) }
func (h alarmHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].alarm().place, h[j].alarm().place = i+1, j+1
}

func (h *alarmHeap[T]) Push(x any) {
	*h = append(*h, x.(T))
	(*h)[len(*h)-1].alarm().place = len(*h)
}

func (h *alarmHeap[T]) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	*x.alarm() = Alarm{}
	return x
}
