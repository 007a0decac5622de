package etl

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// tellAgain is between two lines in the log about failures of one module.
	tellAgain = 30 * time.Second
	// A module's own lines in the log of a node: so many within such a time. What it is told to
	// log a record would fill the disk, at the rate that records come.
	sayMost  = 100
	sayEvery = 10 * time.Second
)

// module is a version of a module that is active here, loaded or not.
type module struct {
	h       *Host
	name    string
	version uint32
	hash    string
	size    int64
	spec    *pipeline.Spec // nil: it is async, and see specErr
	specErr error          // why this version of rustmq does not know what it is to do
	text    string         // of the spec
	enabled time.Time      // see enabledAt
	since   time.Time
	barred  *abi.Failure // its budget is spent, and it is not entered; nil: it is active

	loadedAs atomic.Pointer[Module]
	arrived  chan struct{}          // closed once it is loaded
	spent    atomic.Pointer[string] // why its budget is

	// Guarded by the host's mu.
	loading, gone    bool
	pause            time.Duration
	retryAt, spendAt time.Time

	mu        sync.Mutex
	budget    *budget   // guarded by mu, as is what follows
	failures  uint64    //
	lastError string    //
	told      time.Time // of a failure, in the log
	sayBegan  time.Time // when what follows is counted from
	said      int       // lines of the module's own
	unsaid    int       // that were dropped
}

func newModule(h *Host, t *metadata.Transform, v *metadata.TransformVersion, now time.Time) *module {
	m := &module{h: h, name: t.Name, enabled: enabledAt(t), version: v.Number, hash: v.SHA256, size: v.Size, text: v.Spec, since: now, arrived: make(chan struct{})}
	m.spec, m.specErr = pipeline.ParseSpec([]byte(v.Spec))
	if m.specErr != nil {
		m.spec = topicsAlone([]byte(v.Spec))
	}
	if m.spec != nil {
		m.budget = newBudget(m.spec.ErrorBudget)
	}
	return m
}

// enabledAt is when the version that is active came to be so.
func enabledAt(t *metadata.Transform) (at time.Time) {
	for _, c := range slices.Backward(t.History) {
		if c.Action == metadata.TransformEnabled || c.Action == metadata.TransformRolledBack {
			return c.At
		}
	}
	return at
}

// topicsAlone is what is known of a spec of a later version of rustmq: whose records must not
// pass without the module, which cannot be loaded here. nil: it is async, and there is nothing to
// refuse.
func topicsAlone(text []byte) *pipeline.Spec {
	var known struct {
		Mode   pipeline.Mode `json:"mode"`
		Topics []string      `json:"topics"`
	}
	broken := json.Unmarshal(text, &known) != nil
	if !broken && known.Mode == pipeline.Async {
		return nil
	}
	for _, topics := range [][]string{known.Topics, {"*"}} {
		s := &pipeline.Spec{Mode: pipeline.Inline, Topics: topics}
		if s.Validate() == nil {
			return s
		}
	}
	panic("etl: a spec for all topics is none")
}

// bar has the module answer with a failure from now on, by its policy. Nobody has seen it yet.
func (m *module) bar(spent metadata.TransformChange) {
	m.barred = &abi.Failure{
		Kind: abi.Disabled,
		Text: fmt.Sprintf("it failed too often, its error budget is spent since %s; an operator has to enable it, roll it back or disable it", spent.At.UTC().Format(time.RFC3339)),
	}
}

// is reports whether m is that version: a name may have been deleted, and come anew, and a
// version that was disabled in between has its budget again.
func (m *module) is(t *metadata.Transform, v *metadata.TransformVersion, barred bool) bool {
	return m.enabled.Equal(enabledAt(t)) && m.version == v.Number && m.hash == v.SHA256 && m.text == v.Spec && (m.barred != nil) == barred
}

func (m *module) async() bool { return m.spec != nil && m.spec.Mode == pipeline.Async }

// ready reports whether it answers; loaded, whether that is the module itself.
func (m *module) ready() bool  { return m.barred != nil || m.loaded() }
func (m *module) loaded() bool { return m.loadedAs.Load() != nil }

func (m *module) become(as Module) {
	m.mu.Lock()
	m.lastError = ""
	m.mu.Unlock()
	m.loadedAs.Store(&as)
	close(m.arrived)
}

func (m *module) close() {
	if as := m.loadedAs.Load(); as != nil {
		(*as).Close()
	}
}

// Transform implements [pipeline.Transformer].
func (m *module) Transform(ctx context.Context, b *abi.Batch) ([]abi.Decision, error) {
	if m.barred != nil {
		return nil, m.barred
	}
	as := m.loadedAs.Load()
	if as == nil {
		if m.h.o.Now().Sub(m.since) < fresh {
			wait := time.NewTimer(shortly)
			defer wait.Stop()
			select {
			case <-m.arrived:
			case <-wait.C:
			case <-ctx.Done():
			}
			as = m.loadedAs.Load()
		}
		if as == nil {
			return nil, fmt.Errorf("module %s, version %d: %w%s", m.name, m.version, pipeline.ErrUnready, m.why())
		}
	}
	return (*as).Transform(ctx, b)
}

func (m *module) why() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lastError == "" {
		return ""
	}
	return ": " + m.lastError
}

// failed counts a failure.
func (m *module) failed(err error, records int) {
	if !counts(err) {
		return
	}
	now := m.h.o.Now()
	m.mu.Lock()
	m.failures++
	m.lastError = err.Error()
	over := m.budget.fail(now)
	tell := now.Sub(m.told) >= tellAgain
	if tell {
		m.told = now
	}
	m.mu.Unlock()
	m.h.metrics.failures.WithLabelValues(m.name).Inc()
	if tell {
		m.h.log.Warn("a module failed", "module", m.name, "version", m.version, "records", records, "error", err)
	}
	if !over {
		return
	}
	window := time.Duration(m.spec.ErrorBudget.WindowMillis) * time.Millisecond
	reason := fmt.Sprintf("%d failures within %v, the last: %s", m.spec.ErrorBudget.Failures, window, err)
	reason = strings.ToValidUTF8(reason[:min(len(reason), metadata.MaxTransformReason-8)], "…")
	if m.spent.CompareAndSwap(nil, &reason) {
		m.h.ring()
	}
}

// tellError notes what is wrong, and reports whether it is news.
func (m *module) tellError(said string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news = m.lastError != said
	m.lastError = said
	return news
}

func (m *module) status() ModuleStatus {
	ready := m.ready()
	m.mu.Lock()
	defer m.mu.Unlock()
	is := ModuleStatus{Name: m.name, Version: m.version, Ready: ready, Since: m.since, Error: m.lastError, Failures: m.failures}
	if m.budget != nil {
		is.Recent = m.budget.recent(m.h.o.Now())
	}
	return is
}

// say takes what the module says into the log of the node, as far as it bears that.
func (m *module) say(level slog.Level, text string) {
	if !m.h.log.Enabled(context.Background(), level) {
		return
	}
	now := m.h.o.Now()
	m.mu.Lock()
	dropped := 0
	if now.Sub(m.sayBegan) >= sayEvery {
		dropped = m.unsaid
		m.sayBegan, m.said, m.unsaid = now, 0, 0
	}
	says := guard.Check("etl.say-rate", m.said < sayMost)
	if says {
		m.said++
	} else {
		m.unsaid++
	}
	m.mu.Unlock()
	if dropped > 0 {
		m.h.log.Warn("a module has said more than is taken into the log", "module", m.name, "version", m.version, "lines_dropped", dropped)
	}
	if !says {
		return
	}
	m.h.log.Log(context.Background(), level, "a module says", "module", m.name, "version", m.version, "text", text)
}

func (m *module) count(name string, delta float64) {
	m.h.metrics.guests.WithLabelValues(m.name, name).Add(delta)
}
