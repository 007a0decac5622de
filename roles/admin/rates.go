package admin

import (
	"container/list"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// endpointClass is calls that cost alike.
type endpointClass uint8

const (
	classRead  endpointClass = iota // changes nothing
	classWrite                      // changes something
	classHeavy                      // reads much of the bucket, or of the metadata
	classLogin                      // salts a password
	classes
)

// heavyPaths are those whose calls read much, or have much be done, when they are no GET.
var heavyPaths = []string{"/api/v1/storage/", "/api/v1/snapshots", "/api/v1/cluster/rebalance", "/api/v1/cluster/backup"}

func classOf(r *http.Request) endpointClass {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if r.URL.Path == auditPath+"/verify" || strings.HasPrefix(r.URL.Path, profilePath) { // reads all of it, from the bucket; or stops the process for a while
			return classHeavy
		}
		return classRead
	}
	if r.URL.Path == sessionPath && r.Method == http.MethodPost {
		return classLogin
	}
	for _, path := range heavyPaths {
		if strings.HasPrefix(r.URL.Path, path) {
			return classHeavy
		}
	}
	return classWrite
}

const (
	// burstSeconds of calls may come at once: a page, or a script, asks for many things.
	burstSeconds = 4
	// Calls of an address that change something are half of all, and those that are heavy,
	// and logins, so few a second.
	writeShare    = 2
	scarceCalls   = 1.0
	scarceBurst   = 20
	maxRateCounts = 16 << 10 // addresses that are remembered
)

// rate is how many calls may come.
type rate struct {
	every time.Duration // between two of them
	burst int           // at once
}

func rateOf(perSecond float64, burst int) rate {
	return rate{time.Duration(float64(time.Second) / perSecond), burst}
}

// counter is a bucket of tokens: when it will be full again says how many there are.
type counter struct{ full time.Time }

// left is how many calls may come at once, and how long until all may.
func (c counter) left(now time.Time, r rate) (calls int, whole time.Duration) {
	owed := max(c.full.Sub(now), 0)
	return int((time.Duration(r.burst)*r.every - owed) / r.every), owed
}

func (c *counter) take(now time.Time, r rate) {
	if c.full.Before(now) {
		c.full = now
	}
	c.full = c.full.Add(r.every)
}

// rateLimits is how often the API may be called, in all, from one address, and from one
// address for each class. It is safe for concurrent use.
type rateLimits struct {
	mu             sync.Mutex
	total, address rate // guarded by mu, as is class
	class          [classes]rate
	all            counter                        // guarded by mu
	known          map[netip.Prefix]*list.Element // guarded by mu
	order          *list.List                     // of *callerRates, the one that called last in front; guarded by mu
}

// callerRates is what one address has called.
type callerRates struct {
	address netip.Prefix
	all     counter
	class   [classes]counter
}

// newRateLimits returns limits of so many calls a second in all, and from one address.
func newRateLimits(total, address int) *rateLimits {
	l := &rateLimits{known: map[netip.Prefix]*list.Element{}, order: list.New()}
	l.set(total, address)
	return l
}

// set changes the limits; who has called goes on from where it is.
func (l *rateLimits) set(total, address int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.address = rateOf(float64(total), burstSeconds*total), rateOf(float64(address), burstSeconds*address)
	writes := max(1, address/writeShare)
	l.class = [classes]rate{
		classRead:  l.address,
		classWrite: rateOf(float64(writes), burstSeconds*writes),
		classHeavy: rateOf(scarceCalls, scarceBurst),
		classLogin: rateOf(scarceCalls, scarceBurst),
	}
}

// verdict is what a call is told of the limit that is the nearest.
type verdict struct {
	allowed   bool
	limit     int           // calls at once
	remaining int           // of them, after this one
	reset     time.Duration // until all may come
	after     time.Duration // until one may; of what is not allowed
}

// call counts a call, if it is allowed.
func (l *rateLimits) call(now time.Time, address netip.Addr, class endpointClass) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of(prefixOf(address))
	least := verdict{allowed: true, remaining: math.MaxInt}
	counters := [...]struct {
		*counter
		rate
	}{{&l.all, l.total}, {&c.all, l.address}, {&c.class[class], l.class[class]}}
	for _, one := range counters {
		left, whole := one.left(now, one.rate)
		v := verdict{allowed: guard.Check("admin.rate", left > 0), limit: one.burst, remaining: left - 1, reset: whole + one.every}
		if !v.allowed {
			v.remaining, v.reset = 0, whole
			v.after = whole - time.Duration(one.burst-1)*one.every
			return v
		}
		if v.remaining < least.remaining {
			least = v
		}
	}
	for _, one := range counters {
		one.take(now, one.rate)
	}
	return least
}

// of returns what an address has called. Of too many, who has not called for the longest is
// forgotten.
func (l *rateLimits) of(address netip.Prefix) *callerRates {
	if e := l.known[address]; e != nil {
		l.order.MoveToFront(e)
		return e.Value.(*callerRates)
	}
	if len(l.known) >= maxRateCounts {
		oldest := l.order.Back()
		l.order.Remove(oldest)
		delete(l.known, oldest.Value.(*callerRates).address)
	}
	c := &callerRates{address: address}
	l.known[address] = l.order.PushFront(c)
	return c
}

// prefixOf is what calls of one caller have in common: it can choose the rest of its address.
func prefixOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // of no address it is the zero one
	return p
}

// write says a verdict in the headers that gateways write
// (draft-ietf-httpapi-ratelimit-headers-03, RFC 9110 §10.2.3), in whole seconds.
func (v verdict) write(h http.Header) {
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(math.Ceil(max(d, 0).Seconds())), 10) }
	h.Set("RateLimit-Limit", strconv.Itoa(v.limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(v.remaining))
	h.Set("RateLimit-Reset", seconds(v.reset))
	if !v.allowed {
		h.Set("Retry-After", seconds(max(v.after, time.Second)))
	}
}
