package etl

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// Limits of a Host.
const (
	// handOver is how long the version that was active before goes on while the next is
	// fetched and compiled, which takes a second or two where the bucket is well.
	handOver = 10 * time.Second
	// callsEnd is how long a module lives on that is not active any more: a call takes ten
	// seconds at most, and begins with the Set of its moment.
	callsEnd = 15 * time.Second
	// shortly is how long a call waits for a module that has just come to be active, and fresh
	// how long it is that.
	shortly = 500 * time.Millisecond
	fresh   = 5 * time.Second

	retryMin = 500 * time.Millisecond
	retryMax = 15 * time.Second
	// loads run at once: each may compile 32 MiB. So many fetches wait for the bucket beside
	// them, each of as much: what is in the data directory does not wait for it.
	loads   = 2
	fetches = 2
	// loadTime bounds one, with its fetch.
	loadTime = 2 * time.Minute
	// spendTime bounds one try to have a module disabled, and spendAgain is between two.
	spendTime  = 3 * time.Second
	spendAgain = time.Second
)

// Options of a [Host].
type Options struct {
	Engine Engine
	FS     disk.FS // the data directory; nil: nothing is kept
	Dir    string  // in it
	Bucket bucket.Bucket
	Prefix string // of the bucket's keys
	Node   string // who disables modules: "broker 7"
	// Spend has a version disabled.
	Spend func(ctx context.Context, name string, version uint32, by, reason string) error
	// Async is told of all active async modules whenever that changes; nil: nobody is. It
	// must not block.
	Async func([]pipeline.Module)
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
}

// Host runs the active modules of a node.
type Host struct {
	o       Options
	log     *slog.Logger
	shelf   shelf
	metrics *metrics

	set     atomic.Pointer[pipeline.Set]
	bell    chan struct{} // holds one while there is something to look at
	done    chan loaded
	loads   chan struct{} // a place for each load under way
	fetches chan struct{} // and for each fetch

	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex // guards all below
	seen    *metadata.Image
	active  map[string]*module // by name
	before  map[string]*module // that go on until those of active are loaded
	retired []retired
	given   []*module // what Set and Async were told of
	shelved bool      // what lies on the shelf was looked through since active changed
}

// retired is a module that is not active any more, and closed in time.
type retired struct {
	*module
	at time.Time
}

// loaded is how a load ended.
type loaded struct {
	*module
	as  Module
	err error
}

// Open returns a host that runs nothing until it is shown an image.
func Open(o Options) *Host {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &Host{
		o: o, log: o.Log, shelf: shelf{o.FS, o.Dir, o.Bucket, o.Prefix}, bell: make(chan struct{}, 1), done: make(chan loaded),
		loads: make(chan struct{}, loads), fetches: make(chan struct{}, fetches), stop: stop, active: map[string]*module{}, before: map[string]*module{},
	}
	h.metrics = newMetrics(h)
	h.running.Go(func() { h.run(ctx) }) // blocks on the controller for spendTime at most, and on loads at the end
	return h
}

// Close ends what runs, and waits for it.
func (h *Host) Close() error {
	h.stop()
	h.running.Wait()
	return nil
}

// Follow shows the host the metadata. It does not block. When it returns, Set has what is
// active in it, loaded or not: who learns of the same image later, as a broker learns of what
// it leads, passes no record without.
func (h *Host) Follow(image *metadata.Image) {
	h.mu.Lock()
	if h.seen == nil || !image.SameTransforms(h.seen) {
		h.want(image, h.o.Now())
		h.give()
	}
	h.seen = image
	h.mu.Unlock()
	h.ring()
}

// Set is the active inline modules; nil: there are none.
func (h *Host) Set() *pipeline.Set { return h.set.Load() }

func (h *Host) ring() {
	select {
	case h.bell <- struct{}{}:
	default:
	}
}

// run loads, hands over and closes, until ctx ends.
func (h *Host) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	under := 0 // loads
	for {
		under += h.step(ctx, under)
		timer.Reset(h.due())
		select {
		case l := <-h.done:
			under--
			h.loaded(l)
		case <-h.bell:
		case <-timer.C:
		case <-ctx.Done():
			for ; under > 0; under-- {
				if l := <-h.done; l.err == nil {
					l.as.Close()
				}
			}
			h.closeAll()
			return
		}
	}
}

// step does what is due while so many loads are under way, and returns how many it has begun.
func (h *Host) step(ctx context.Context, under int) (begun int) {
	now := h.o.Now()
	h.mu.Lock()
	for name, m := range h.before {
		if next := h.active[name]; next == nil || next.ready() || now.Sub(next.since) >= handOver {
			delete(h.before, name)
			h.retire(m, now)
		}
	}
	h.give()
	var spent []*module
	for _, name := range slices.Sorted(maps.Keys(h.active)) {
		m := h.active[name]
		if m.spent.Load() != nil && !now.Before(m.spendAt) {
			m.spendAt = now.Add(spendAgain)
			spent = append(spent, m)
		}
		if m.ready() || m.loading || now.Before(m.retryAt) {
			continue
		}
		m.loading = true
		begun++
		cluster := h.seen.ClusterID()
		go func() { h.done <- h.load(ctx, m, cluster) }() // run waits for it
	}
	var over []retired
	h.retired = slices.DeleteFunc(h.retired, func(r retired) bool {
		ends := now.Sub(r.at) >= callsEnd
		if ends {
			over = append(over, r)
		}
		return ends
	})
	// What a load fetches is not taken for what nobody needs.
	sweeps := !h.shelved && h.seen != nil && under+begun == 0 && h.allReady()
	h.shelved = h.shelved || sweeps
	h.mu.Unlock()
	for _, r := range over {
		r.close()
	}
	for _, m := range spent {
		h.spend(ctx, m)
	}
	if sweeps {
		h.sweep()
	}
	return begun
}

func (h *Host) allReady() bool {
	for _, m := range h.active {
		if !m.ready() {
			return false
		}
	}
	return true
}

// due is when the next step has something to do without a bell.
func (h *Host) due() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, next := h.o.Now(), time.Hour
	at := func(t time.Time) { next = min(next, max(t.Sub(now), 0)) }
	for name, m := range h.active {
		if !m.ready() && !m.loading {
			at(m.retryAt)
		}
		if _, waits := h.before[name]; waits {
			at(m.since.Add(handOver))
		}
		if m.spent.Load() != nil {
			at(m.spendAt)
		}
	}
	for _, r := range h.retired {
		at(r.at.Add(callsEnd))
	}
	return next
}

// want takes over which versions are active.
func (h *Host) want(image *metadata.Image, now time.Time) {
	wanted := map[string]bool{}
	for t := range image.Transforms() {
		v, is := t.Version(t.Stands())
		if !is {
			continue
		}
		spent, barred := t.BudgetSpent()
		wanted[t.Name] = true
		was := h.active[t.Name]
		if was != nil && was.is(t, v, barred) {
			continue
		}
		next := newModule(h, t, v, now)
		if barred {
			next.bar(spent)
		}
		h.active[t.Name] = next
		switch {
		case was == nil:
		case was.loaded() && !barred:
			if older := h.before[t.Name]; older != nil {
				h.retire(older, now)
			}
			h.before[t.Name] = was
		default:
			h.retire(was, now)
		}
		if older := h.before[t.Name]; older != nil && barred {
			delete(h.before, t.Name)
			h.retire(older, now)
		}
	}
	for name, m := range h.active {
		if !wanted[name] {
			delete(h.active, name)
			h.retire(m, now)
			h.metrics.forget(name)
			if older := h.before[name]; older != nil {
				delete(h.before, name)
				h.retire(older, now)
			}
		}
	}
	h.shelved = false
}

func (h *Host) retire(m *module, now time.Time) {
	m.gone = true
	if m.loaded() {
		h.retired = append(h.retired, retired{m, now})
	}
}

// give tells the broker and the async runner what runs, where that has changed. Like want and
// retire, it is called with mu held.
func (h *Host) give() {
	var given []*module
	for _, name := range slices.Sorted(maps.Keys(h.active)) {
		m := h.active[name]
		if older := h.before[name]; older != nil {
			m = older
		}
		given = append(given, m)
	}
	if slices.Equal(given, h.given) {
		return
	}
	var inline, async []pipeline.Module
	for _, m := range given {
		if m.spec == nil { // async, of a version of rustmq that this one does not know
			continue
		}
		if m.barred != nil && m.async() { // it keeps its place, and its records wait there
			continue
		}
		is := pipeline.Module{Name: m.name, Version: int(m.version), Spec: m.spec, Transformer: m, Failed: m.failed}
		if m.spec.Mode == pipeline.Async {
			async = append(async, is)
		} else {
			inline = append(inline, is)
		}
	}
	had := slices.ContainsFunc(h.given, (*module).async)
	h.given = given
	if len(inline) == 0 {
		h.set.Store(nil)
	} else {
		h.set.Store(pipeline.NewSet(inline))
	}
	if h.o.Async != nil && (had || len(async) > 0) {
		h.o.Async(async)
	}
}

// load fetches and loads a module.
func (h *Host) load(ctx context.Context, m *module, cluster string) (l loaded) {
	l.module = m
	if l.err = m.specErr; l.err != nil {
		return l
	}
	begun := h.o.Now()
	l.err = within(ctx, h.loads, func(ctx context.Context) error {
		begun = h.o.Now()
		wasm, err := h.shelf.local(m.hash, m.size)
		if err != nil {
			return errNotKept
		}
		l.as, err = h.compile(ctx, m, wasm)
		return err
	})
	if errors.Is(l.err, errNotKept) {
		l.err = within(ctx, h.fetches, func(ctx context.Context) error {
			begun = h.o.Now()
			wasm, err := h.fetch(ctx, m, cluster)
			if err != nil {
				return err
			}
			return within(ctx, h.loads, func(ctx context.Context) error {
				l.as, err = h.compile(ctx, m, wasm)
				return err
			})
		})
	}
	h.metrics.loaded(h.o.Now().Sub(begun), l.err)
	return l
}

// errNotKept says that the data directory does not have a module.
var errNotKept = errors.New("it is not in the data directory")

// within does something once there is a place for it, for loadTime at most.
func within(ctx context.Context, places chan struct{}, do func(context.Context) error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-places }()
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	return do(ctx)
}

// fetch has the bytes of a module come from the bucket, and be kept.
func (h *Host) fetch(ctx context.Context, m *module, cluster string) ([]byte, error) {
	wasm, err := h.shelf.remote(ctx, cluster, m.hash)
	if err != nil || h.shelf.fs == nil {
		return wasm, err
	}
	if err := h.shelf.keep(m.hash, wasm); err != nil {
		h.log.Warn("a module is not kept in the data directory: a start without the bucket would lack it", "module", m.name, "version", m.version, "error", err)
	}
	return wasm, nil
}

func (h *Host) compile(ctx context.Context, m *module, wasm []byte) (Module, error) {
	return h.o.Engine.Load(ctx, wasm, ModuleOptions{Name: m.name, Version: int(m.version), Spec: m.spec, Log: m.say, Metric: m.count})
}

// loaded takes over how a load ended.
func (h *Host) loaded(l loaded) {
	m, now := l.module, h.o.Now()
	h.mu.Lock()
	m.loading = false
	gone := m.gone
	switch {
	case l.err != nil:
		m.pause = min(max(2*m.pause, retryMin), retryMax)
		m.retryAt = now.Add(m.pause)
	case !gone:
		m.become(l.as)
	}
	h.mu.Unlock()
	switch {
	case l.err != nil:
		if said := l.err.Error(); m.tellError(said) && !gone {
			h.log.Warn("a module that is active is not ready here; records for its topics are refused until it is", "module", m.name, "version", m.version, "error", said)
		}
	case gone:
		l.as.Close()
	default:
		h.log.Info("a module is ready", "module", m.name, "version", m.version, "mode", m.spec.Mode, "after", now.Sub(m.since).Round(time.Millisecond).String())
	}
}

// spend asks for a module to be disabled whose budget is spent.
func (h *Host) spend(ctx context.Context, m *module) {
	reason := *m.spent.Load()
	ctx, cancel := context.WithTimeout(ctx, spendTime)
	defer cancel()
	err := h.o.Spend(ctx, m.name, m.version, h.o.Node, reason)
	over := err == nil || metadata.CodeOf(err) == metadata.Conflict || metadata.CodeOf(err) == metadata.ResourceNotFound
	if over { // the image brings that it is not active any more
		h.mu.Lock()
		m.spendAt = h.o.Now().Add(time.Hour)
		h.mu.Unlock()
	}
	switch {
	case err == nil:
		h.metrics.spent.WithLabelValues(m.name).Inc()
		h.log.Error("a module is disabled: it failed too often", "module", m.name, "version", m.version, "reason", reason)
	case !over && m.tellError(err.Error()):
		h.log.Warn("a module that fails too often could not be disabled; it is tried on", "module", m.name, "version", m.version, "error", err)
	}
}

// sweep removes files of modules that are not active.
func (h *Host) sweep() {
	err := h.shelf.sweep(func(hash string) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range h.active {
			if m.hash == hash {
				return true
			}
		}
		return false
	})
	if err != nil {
		h.log.Warn("files of modules that are not active were not removed", "error", err)
	}
}

func (h *Host) closeAll() {
	h.set.Store(nil)
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.active))
	all = slices.AppendSeq(all, maps.Values(h.before))
	for _, r := range h.retired {
		all = append(all, r.module)
	}
	h.mu.Unlock()
	for _, m := range all {
		m.close()
	}
}

// ModuleStatus is how an active module is on this node.
type ModuleStatus struct {
	Name     string
	Version  uint32
	Ready    bool
	Since    time.Time // it is active here
	Error    string    // why it is not ready; ready: the last failure
	Failures uint64    // since it is active here
	Recent   int       // of them, those within the window of its error budget, as many as that has room for
	Stuck    *Stuck    // nil: it is inline, or gets on
}

// Stuck is where an async module does not get on, of the partitions that this node leads.
type Stuck struct {
	Partitions int
	Since      time.Time // of the one that has not for longest
	Error      string    // what is tried again there
}

// Status is how the active modules are on this node, by name.
func (h *Host) Status() []ModuleStatus {
	h.mu.Lock()
	var shown []*module
	for _, name := range slices.Sorted(maps.Keys(h.active)) {
		if m := h.active[name]; m.barred == nil {
			shown = append(shown, m)
		}
	}
	h.mu.Unlock()
	all := make([]ModuleStatus, len(shown))
	for i, m := range shown {
		all[i] = m.status()
	}
	return all
}
