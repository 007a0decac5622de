package log

import (
	"cmp"
	"slices"

	"rustmq.dev/rustmq/storage"
)

// Waiter is told when a log has something new. Wake must not block; it is called
// without any lock of the log, from any goroutine, and may be called once more
// than it was asked for.
type Waiter interface{ Wake() }

// Watching is the place that a waiter has in its log, until it is woken. Zero is none.
type Watching uint64

// watch is a waiter and the offset it waits for.
type watch struct {
	at     Watching
	offset storage.Offset
	stable bool   // to be below the last stable offset, not only the high watermark
	waiter Waiter // nil: has gone
}

// Watch wakes w once when the record at offset can be read, or the log's state
// changed in another way that is worth a look: its start moved, it was
// truncated, dropped or closed. If that is so already, w is woken before Watch
// returns, and has no place.
func (l *Log) Watch(offset storage.Offset, w Waiter) Watching {
	return l.watch(watch{offset: offset, waiter: w})
}

// WatchStable is Watch for who reads up to the last stable offset.
func (l *Log) WatchStable(offset storage.Offset, w Waiter) Watching {
	return l.watch(watch{offset: offset, stable: true, waiter: w})
}

func (l *Log) watch(x watch) Watching {
	l.mu.Lock()
	if l.refused == nil && !l.reached(x) {
		l.watched++
		x.at = l.watched
		l.waiters = append(l.waiters, x)
		l.mu.Unlock()
		return x.at
	}
	l.mu.Unlock()
	x.waiter.Wake()
	return 0
}

// reached reports whether what a waiter waits for can be read. l.mu is held.
func (l *Log) reached(x watch) bool {
	if x.stable {
		return x.offset < l.lastStable()
	}
	return x.offset < l.replica.highWatermark
}

// Unwatch forgets the waiter that Watch gave the place; it may still be woken by a call
// that is under way. It takes no longer where many wait: they may all go at once.
func (l *Log) Unwatch(at Watching) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, found := slices.BinarySearchFunc(l.waiters, at, func(x watch, at Watching) int { return cmp.Compare(x.at, at) })
	if !found || l.waiters[i].waiter == nil {
		return
	}
	l.waiters[i].waiter = nil
	if l.unwatched++; l.unwatched > len(l.waiters)/2 {
		l.waiters = slices.DeleteFunc(l.waiters, func(x watch) bool { return x.waiter == nil })
		l.unwatched = 0
	}
}

// WakeAll wakes and forgets every waiter: leadership moved, say.
func (l *Log) WakeAll() {
	l.mu.Lock()
	woken := l.takeWaiters(nil)
	l.mu.Unlock()
	wake(woken)
}

// takeWaiters removes all waiters, and appends them to woken. l.mu is held.
func (l *Log) takeWaiters(woken []Waiter) []Waiter {
	for _, w := range l.waiters {
		if w.waiter != nil {
			woken = append(woken, w.waiter)
		}
	}
	clear(l.waiters)
	l.waiters, l.unwatched = l.waiters[:0], 0
	return woken
}

// takeReached removes the waiters whose record can be read, and appends them to
// woken. l.mu is held.
func (l *Log) takeReached(woken []Waiter) []Waiter {
	kept := 0
	for _, w := range l.waiters {
		switch {
		case w.waiter == nil:
		case l.reached(w):
			woken = append(woken, w.waiter)
		default:
			l.waiters[kept] = w
			kept++
		}
	}
	clear(l.waiters[kept:])
	l.waiters, l.unwatched = l.waiters[:kept], 0
	return woken
}

func wake(woken []Waiter) {
	for _, w := range woken {
		w.Wake()
	}
}
