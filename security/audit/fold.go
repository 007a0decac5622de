package audit

import (
	"net"
	"time"
)

// Folding: what one client is refused again and again is told once at once, and then once
// a window for all that came in it. How many different events a window may have is bounded,
// for one client and for all, so that nobody can push older events out of the topic by
// thinking of names; what exceeds it is told without them.
const (
	foldWindow = time.Minute
	// maxPerClient different events of one principal and address a window.
	maxPerClient = 64
	// maxFolds different events of all of them a window: at 400 bytes, four days in a GiB.
	maxFolds = 2048
)

// foldKey is what events have in common that are told as one.
type foldKey struct {
	principal, source, door, action, resourceType, resource string
	outcome                                                 Outcome
}

type fold struct {
	last  Event // of them, told when the window ends
	first time.Time
	count int64 // that were not told
	until time.Time
}

type client struct{ principal, source string }

// folder decides which events are told at once. It reads no clock.
type folder struct {
	folds   map[foldKey]*fold
	clients map[client]int // different events of each, in folds
	next    time.Time      // when the first window ends; zero: there is none
}

func newFolder() *folder { return &folder{folds: map[foldKey]*fold{}, clients: map[client]int{}} }

// take reports whether e, of now, is to be told at once.
func (f *folder) take(now time.Time, e *Event) bool {
	if !e.folds() {
		return true
	}
	key := foldKey{e.Principal, hostOf(e.Source), e.Door, e.Action, e.ResourceType, e.Resource, e.Outcome}
	who := client{key.principal, key.source}
	is := f.folds[key]
	if is == nil {
		switch {
		case len(f.folds) >= maxFolds:
			key = foldKey{door: e.Door, action: e.Action, outcome: e.Outcome}
		case f.clients[who] >= maxPerClient:
			key.resource = ""
		}
		is = f.folds[key]
	}
	if is == nil {
		f.folds[key] = &fold{until: now.Add(foldWindow)}
		f.clients[who]++
		if f.next.IsZero() {
			f.next = now.Add(foldWindow)
		}
		return true
	}
	if is.count == 0 {
		is.first = e.Time
	}
	is.count++
	is.last = *e
	is.last.Principal, is.last.Source, is.last.ResourceType, is.last.Resource = key.principal, key.source, key.resourceType, key.resource
	return false
}

// due hands what windows that have ended have to tell to tell, in no order.
func (f *folder) due(now time.Time, tell func(Event)) {
	if f.next.IsZero() || now.Before(f.next) {
		return
	}
	f.end(tell, func(is *fold) bool { return !now.Before(is.until) })
}

// flush is due for every window, whether it has ended or not.
func (f *folder) flush(tell func(Event)) { f.end(tell, func(*fold) bool { return true }) }

func (f *folder) end(tell func(Event), ends func(*fold) bool) {
	f.next = time.Time{}
	for key, is := range f.folds {
		if !ends(is) {
			if f.next.IsZero() || is.until.Before(f.next) {
				f.next = is.until
			}
			continue
		}
		if is.count > 0 {
			e := is.last
			if is.count > 1 {
				e.Count, e.First = is.count, is.first
			}
			tell(e)
		}
		delete(f.folds, key)
	}
	f.recount()
}

// recount counts the different events of each client anew.
func (f *folder) recount() {
	clear(f.clients)
	for key := range f.folds {
		f.clients[client{key.principal, key.source}]++
	}
}

// hostOf returns an address without its port: every connection has another.
func hostOf(source string) string {
	if host, _, err := net.SplitHostPort(source); err == nil {
		return host
	}
	return source
}
