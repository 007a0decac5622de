package log

import (
	"slices"

	"rustmq.dev/rustmq/storage"
)

// Waiter is told when a log has something new. Wake must not block; it is called
// without any lock of the log, from any goroutine, and may be called once more
// than it was asked for.
type Waiter interface{ Wake() }

// watch is a waiter and the offset it waits for.
type watch struct {
	offset storage.Offset
	stable bool // to be below the last stable offset, not only the high watermark
	waiter Waiter
}

// Watch wakes w once when the record at offset can be read, or the log's state
// changed in another way that is worth a look: its start moved, it was
// truncated, dropped or closed. If that is so already, w is woken before Watch
// returns.
func (l *Log) Watch(offset storage.Offset, w Waiter) { l.watch(watch{offset, false, w}) }

// WatchStable is Watch for who reads up to the last stable offset.
func (l *Log) WatchStable(offset storage.Offset, w Waiter) { l.watch(watch{offset, true, w}) }

func (l *Log) watch(x watch) {
	l.mu.Lock()
	if l.refused == nil && !l.reached(x) {
		l.waiters = append(l.waiters, x)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	x.waiter.Wake()
}

// reached reports whether what a waiter waits for can be read. l.mu is held.
func (l *Log) reached(x watch) bool {
	if x.stable {
		return x.offset < l.lastStable()
	}
	return x.offset < l.replica.highWatermark
}

// Unwatch forgets w; it may still be woken by a call that is under way.
func (l *Log) Unwatch(w Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiters = slices.DeleteFunc(l.waiters, func(x watch) bool { return x.waiter == w })
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
		woken = append(woken, w.waiter)
	}
	clear(l.waiters)
	l.waiters = l.waiters[:0]
	return woken
}

// takeReached removes the waiters whose record can be read, and appends them to
// woken. l.mu is held.
func (l *Log) takeReached(woken []Waiter) []Waiter {
	kept := 0
	for _, w := range l.waiters {
		if l.reached(w) {
			woken = append(woken, w.waiter)
		} else {
			l.waiters[kept] = w
			kept++
		}
	}
	clear(l.waiters[kept:])
	l.waiters = l.waiters[:kept]
	return woken
}

func wake(woken []Waiter) {
	for _, w := range woken {
		w.Wake()
	}
}
