package audit

import (
	"net"
	"net/netip"
	"time"

	"rustmq.dev/rustmq/storage/guard"
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
	// maxStrangers of those are of clients that have not proved to be anybody, who come from as
	// many addresses as they like: those who have are told by name all the same.
	maxStrangers = maxFolds / 2
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
	// strange: of clients that have not proved to be anybody.
	strange bool
	until   time.Time
}

// client is who can think of names: of an address of IPv6 it can choose the second half.
type client struct{ principal, network string }

// folder decides which events are told at once. It reads no clock.
type folder struct {
	folds     map[foldKey]*fold
	clients   map[client]int // different events of each, in folds
	strangers int            // different events of strangers, in folds
	next      time.Time      // when the first window ends; zero: there is none
}

func newFolder() *folder { return &folder{folds: map[foldKey]*fold{}, clients: map[client]int{}} }

// take reports whether e, of now, is to be told at once.
func (f *folder) take(now time.Time, e *Event) bool {
	if !e.folds() {
		return true
	}
	key := foldKey{e.Principal, hostOf(e.Source), e.Door, e.Action, e.ResourceType, e.Resource, e.Outcome}
	who, strange := client{key.principal, networkOf(key.source)}, e.byStranger()
	is := f.folds[key]
	if is == nil {
		switch {
		case len(f.folds) >= maxFolds, strange && !guard.Check("audit.strangers", f.strangers < maxStrangers):
			key = foldKey{door: e.Door, action: e.Action, outcome: e.Outcome}
		case f.clients[who] >= maxPerClient:
			key.source, key.resource = who.network, ""
		}
		is = f.folds[key]
	}
	if is == nil {
		f.folds[key] = &fold{until: now.Add(foldWindow), strange: strange}
		f.clients[who]++
		if strange {
			f.strangers++
		}
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
	f.strangers = 0
	for key, is := range f.folds {
		f.clients[client{key.principal, networkOf(key.source)}]++
		if is.strange {
			f.strangers++
		}
	}
}

// networkOf returns what addresses of one client have in common, as of connections it is
// counted.
func networkOf(host string) string {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, _ := a.WithZone("").Prefix(64) // of an address of IPv6 there is one
	return p.String()
}

// hostOf returns an address without its port: every connection has another.
func hostOf(source string) string {
	if host, _, err := net.SplitHostPort(source); err == nil {
		return host
	}
	return source
}
