package etl

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
)

// Trial is one module with one version's spec, and no effect.
type Trial struct {
	Engine Engine
	Now    func() time.Time // nil: time.Now
}

// Tried is what became of records in a trial.
type Tried struct {
	Topic   string
	Records []TriedRecord
	Load    time.Duration // to verify, compile and initialise
	Call    time.Duration // of all calls with the records
	Logs    []string      // what the module said, at most maxTrialLogs lines
}

// TriedRecord is a record, and what would become of it.
type TriedRecord struct {
	Before   abi.Record
	Selected bool // false: no condition of the spec holds for it, and it is kept
	Decision abi.Decision
	After    abi.Record // of what is kept or routed
	Error    string     // what is wrong with the decision: a route that the spec lacks
}

const (
	// maxTrialLogs bounds what is shown of what a module says.
	maxTrialLogs = 100
	// trialRecords, or trialBytes of them, are what a module is given at once, as of a broker.
	trialRecords = 1000
	trialBytes   = 1 << 20
)

// Run loads a module and, if there are records, transforms them. topic is theirs; empty: a
// topic that the spec names. The error is the module's.
func (t Trial) Run(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (*Tried, error) {
	now := t.Now
	if now == nil {
		now = time.Now
	}
	out := &Tried{Topic: topic}
	if topic == "" {
		out.Topic = exampleTopic(spec)
	} else if !spec.MatchesTopic(topic) {
		return nil, fmt.Errorf("topic %s is none that the module is for: its spec has %s", topic, strings.Join(spec.Topics, ", "))
	}
	begun := now()
	var logs sync.Mutex
	module, err := t.Engine.Load(ctx, wasm, ModuleOptions{Name: name, Spec: spec, Log: func(_ slog.Level, text string) {
		logs.Lock()
		defer logs.Unlock()
		if len(out.Logs) < maxTrialLogs {
			out.Logs = append(out.Logs, text)
		}
	}})
	if err != nil {
		return nil, err
	}
	defer module.Close() // nothing is said behind the last call
	out.Load = now().Sub(begun)
	flags := uint32(abi.DryRun)
	if spec.Mode == pipeline.Async {
		flags |= abi.Async
	}
	out.Records = make([]TriedRecord, len(records))
	var at []int // of the records that the module is shown
	millis := now().UnixMilli()
	for i, r := range records {
		r.Offset = int64(i)
		out.Records[i] = TriedRecord{Before: r, Selected: spec.Selects(&r, millis)}
		if out.Records[i].Selected {
			at = append(at, i)
		}
	}
	for len(at) > 0 {
		n := out.piece(at)
		begun = now()
		err := out.ask(ctx, module, flags, at[:n])
		out.Call += now().Sub(begun)
		if err != nil && len(records) > n {
			return nil, fmt.Errorf("records %d to %d: %w", at[0]+1, at[n-1]+1, err)
		}
		if err != nil {
			return nil, err
		}
		at = at[n:]
	}
	for i := range out.Records {
		out.Records[i].finish(spec)
	}
	return out, nil
}

// piece is how many of the records a module is given at once.
func (t *Tried) piece(at []int) int {
	bytes := 0
	for n, i := range at[:min(len(at), trialRecords)] {
		r := &t.Records[i].Before
		bytes += len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			bytes += len(h.Name) + len(h.Value)
		}
		if n > 0 && bytes > trialBytes {
			return n
		}
	}
	return min(len(at), trialRecords)
}

// ask has the module decide about records.
func (t *Tried) ask(ctx context.Context, module Module, flags uint32, at []int) error {
	b := &abi.Batch{Topic: t.Topic, Flags: flags}
	for _, i := range at {
		r := t.Records[i].Before
		b.Records = append(b.Records, r)
		b.Timestamp = max(b.Timestamp, r.Timestamp)
	}
	decisions, err := module.Transform(ctx, b)
	switch {
	case err != nil:
		return err
	case decisions == nil:
		return nil
	case len(decisions) != len(at):
		return fmt.Errorf("%d decisions about %d records", len(decisions), len(at))
	}
	for n, i := range at {
		t.Records[i].Decision = decisions[n]
	}
	return nil
}

// finish applies the decision.
func (r *TriedRecord) finish(spec *pipeline.Spec) {
	d := &r.Decision
	if d.Action == abi.Route && !spec.MayRoute(d.Text) {
		r.Error = fmt.Sprintf("a route to %s, which is none of the spec's routes: it would count as a failure of the module", d.Text)
	}
	if d.Action != abi.Keep && d.Action != abi.Route {
		return
	}
	r.After = r.Before
	if d.Replaces&abi.Key != 0 {
		r.After.Key = d.Key
	}
	if d.Replaces&abi.Value != 0 {
		r.After.Value = d.Value
	}
	if d.Replaces&abi.Headers != 0 {
		r.After.Headers = d.Headers
	}
}

// exampleTopic is one that the spec is for, as far as it names one.
func exampleTopic(spec *pipeline.Spec) string {
	for _, pattern := range spec.Topics {
		if !strings.ContainsAny(pattern, "*?[:!") && spec.MatchesTopic(pattern) {
			return pattern
		}
	}
	return "test"
}
