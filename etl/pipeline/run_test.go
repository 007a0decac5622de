package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/batch"
)

// fake is a module that decides record by record.
type fake struct {
	decide func(*abi.Record) abi.Decision
	err    error
	seen   []string // values that it was shown
	flags  uint32
}

// Transform implements Transformer.
func (f *fake) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	f.flags = b.Flags
	for i := range b.Records {
		f.seen = append(f.seen, string(b.Records[i].Value))
	}
	if f.err != nil {
		return nil, f.err
	}
	if f.decide == nil {
		return nil, nil
	}
	out := make([]abi.Decision, len(b.Records))
	for i := range b.Records {
		out[i] = f.decide(&b.Records[i])
	}
	return out, nil
}

func batchOf(t testing.TB, codec batch.Codec, records ...abi.Record) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{Codec: codec, Producer: &batch.Producer{ID: 7, Epoch: 1, BaseSequence: 5}})
	for _, r := range records {
		headers := make([]batch.Header, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = batch.Header{Key: []byte(h.Name), Value: h.Value}
		}
		w.Add(r.Timestamp, r.Key, r.Value, headers...)
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// numbered are records of one byte each, with a header.
func numbered(n int) (all []abi.Record) {
	for i := range n {
		all = append(all, abi.Record{Timestamp: int64(1000 + i), Key: []byte("k"), Value: []byte{byte('a' + i)}, Headers: []abi.Header{{Name: "h", Value: []byte{byte('a' + i)}}}})
	}
	return all
}

func module(t testing.TB, name, spec string, tr Transformer) Module {
	t.Helper()
	if spec != "" {
		spec = "," + spec
	}
	s, err := ParseSpec([]byte(`{"mode":"inline","topics":["in"]` + spec + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return Module{Name: name, Version: 3, Spec: s, Transformer: tr}
}

func inputOf(b batch.Batch) *Input {
	return &Input{Batch: b, Partition: 4, Codec: b.Codec(), Now: func() time.Time { return time.UnixMilli(50_000) }}
}

// left tells what a batch has: offset, value and headers of each record.
func left(t testing.TB, b batch.Batch) (all []string) {
	t.Helper()
	it := b.Records(0)
	for it.Next() {
		r := it.Record()
		text := fmt.Sprintf("%d:%s=%s", r.Offset, r.Key, r.Value)
		r.Headers(func(h batch.Header) bool { text += fmt.Sprintf(" %s=%s", h.Key, h.Value); return true })
		all = append(all, text)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return all
}

func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func valueOf(r *abi.Record) string { return string(r.Value) }

// byValue decides by what a record has.
func byValue(decisions map[string]abi.Decision) *fake {
	return &fake{decide: func(r *abi.Record) abi.Decision { return decisions[valueOf(r)] }}
}

func replaced(value string) abi.Decision {
	return abi.Decision{Replaces: abi.Value, Value: []byte(value)}
}

// TestUnchangedBatchIsTheVeryBytes: where nothing changes, whatever was asked.
func TestUnchangedBatchIsTheVeryBytes(t *testing.T) {
	same := &fake{decide: func(r *abi.Record) abi.Decision {
		return abi.Decision{Replaces: abi.Key | abi.Value | abi.Headers, Key: r.Key, Value: slices.Clone(r.Value), Headers: slices.Clone(r.Headers)}
	}}
	for _, codec := range []batch.Codec{batch.None, batch.Zstd} {
		b := batchOf(t, codec, numbered(3)...)
		for name, m := range map[string]*fake{"says nothing": {}, "keeps": byValue(nil), "replaces by the same": same} {
			out, err := NewSet([]Module{module(t, "m", "", m)}).For("in").Run(t.Context(), inputOf(b))
			if err != nil {
				t.Fatal(err)
			}
			if &out.Batch[0] != &b[0] || len(out.Batch) != len(b) {
				t.Errorf("%s: the batch is another", name)
			}
			want(t, name, m.seen, "a", "b", "c")
			m.seen = nil
		}
	}
}

// TestNoModuleIsEnteredInVain: a record that no condition is for is not shown, and a batch
// of such ones enters nothing.
func TestNoModuleIsEnteredInVain(t *testing.T) {
	f := &fake{decide: func(*abi.Record) abi.Decision { return abi.Decision{Action: abi.Drop} }}
	p := NewSet([]Module{module(t, "m", `"when":[{"header":"h","equals":"b"}]`, f)}).For("in")
	for _, codec := range []batch.Codec{batch.None, batch.LZ4} {
		out, err := p.Run(t.Context(), inputOf(batchOf(t, codec, numbered(1)...)))
		if err != nil || len(f.seen) > 0 || len(out.Tallies) > 0 {
			t.Fatalf("%v, shown %q", err, f.seen)
		}
		out, err = p.Run(t.Context(), inputOf(batchOf(t, codec, numbered(3)...)))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "shown", f.seen, "b")
		want(t, "left", left(t, out.Batch), "0:k=a h=a", "2:k=c h=c")
		f.seen = nil
	}
}

// TestWhatIsLeftKeepsItsPlace: offsets, timestamps, producer and sequence, with all codecs;
// also where all is gone.
func TestWhatIsLeftKeepsItsPlace(t *testing.T) {
	for codec := batch.None; codec <= batch.Zstd; codec++ {
		for _, gone := range []string{"", "a", "bd", "e", "abcde"} {
			f := &fake{decide: func(r *abi.Record) abi.Decision {
				switch v := valueOf(r); {
				case strings.Contains(gone, v):
					return abi.Decision{Action: abi.Drop}
				case v == "c":
					return abi.Decision{Replaces: abi.Value | abi.Headers, Value: []byte("changed")}
				}
				return abi.Decision{}
			}}
			in := batchOf(t, codec, numbered(5)...)
			out, err := NewSet([]Module{module(t, "m", "", f)}).For("in").Run(t.Context(), inputOf(in))
			if err != nil {
				t.Fatal(err)
			}
			var expected []string
			for i, v := range []string{"a", "b", "c", "d", "e"} {
				switch {
				case strings.Contains(gone, v):
				case v == "c":
					expected = append(expected, "2:k=changed")
				default:
					expected = append(expected, fmt.Sprintf("%d:k=%s h=%s", i, v, v))
				}
			}
			b := out.Batch
			want(t, fmt.Sprintf("%s without %q", codec, gone), left(t, b), expected...)
			if err := batch.Validate(b, &batch.Limits{Sifted: true}); err != nil {
				t.Errorf("%s without %q: %v", codec, gone, err)
			}
			if b.ProducerID() != 7 || b.ProducerEpoch() != 1 || b.BaseSequence() != 5 || b.LastOffsetDelta() != 4 || b.FirstTimestamp() != 1000 {
				t.Errorf("%s without %q: the batch says %v", codec, gone, b[:batch.HeaderSize])
			}
			if len(expected) > 0 && b.Codec() != codec {
				t.Errorf("%s without %q: it is of codec %s", codec, gone, b.Codec())
			}
		}
	}
}

// TestModulesOfAStageAreIndependent: none sees what another did; reject beats drop beats
// route beats keep, and of each part the higher priority's replacement holds. The next
// stage sees what is left.
func TestModulesOfAStageAreIndependent(t *testing.T) {
	route := func(to string) abi.Decision { return abi.Decision{Action: abi.Route, Text: to} }
	drop, reject := abi.Decision{Action: abi.Drop}, abi.Decision{Action: abi.Reject, Text: "bad"}
	first := byValue(map[string]abi.Decision{
		"a": replaced("first"), "b": drop, "c": route("x"), "d": reject, "e": {Replaces: abi.Key, Key: nil}, "f": route("x"), "g": replaced("G"),
	})
	second := byValue(map[string]abi.Decision{
		"a": {Replaces: abi.Value | abi.Key, Value: []byte("second"), Key: []byte("K")}, "b": route("y"), "c": drop, "d": drop,
		"e": replaced("E"), "f": route("y"), "g": route("y"),
	})
	next := &fake{}
	dead := `"priority":%d,"on_failure":"dead-letter","dead_letter_topic":"dead","routes":["x","y"]`
	p := NewSet([]Module{
		module(t, "next", `"stage":1`, next),
		module(t, "second", fmt.Sprintf(dead, 1), second), module(t, "first", fmt.Sprintf(dead, 2), first),
	}).For("in")
	out, err := p.Run(t.Context(), inputOf(batchOf(t, 0, numbered(8)...)))
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	want(t, "first saw", first.seen, all...)
	want(t, "second saw", second.seen, all...)
	want(t, "the next stage saw", next.seen, "first", "E", "h")
	want(t, "left", left(t, out.Batch), "0:K=first h=a", "4:=E h=e", "7:k=h h=h")
	var sent []string
	for _, s := range out.Sent {
		sent = append(sent, fmt.Sprintf("%d %s=%s to %s by %s %v", s.Index, s.Key, s.Value, s.Topic, s.Module.Name, s.DeadLetter))
	}
	want(t, "sent", sent, "3 k=d to dead by first true", "5 k=f to x by first false", "6 k=G to y by second false")
	tallies := map[string]Tally{}
	for _, tally := range out.Tallies {
		m := tally.Module.Name
		tally.Module = nil
		tallies[m] = tally
	}
	if got := tallies["first"]; got != (Tally{In: 8, Dropped: 1, Routed: 1, Rejected: 1, DeadLettered: 1}) {
		t.Errorf("first: %+v", got)
	}
	if got := tallies["second"]; got != (Tally{In: 8, Dropped: 1, Routed: 1}) {
		t.Errorf("second: %+v", got)
	}
}

func TestNamesDecideBetweenEquals(t *testing.T) {
	p := NewSet([]Module{module(t, "b", "", byValue(map[string]abi.Decision{"a": replaced("by b")})), module(t, "a", "", byValue(map[string]abi.Decision{"a": replaced("by a")}))}).For("in")
	out, err := p.Run(t.Context(), inputOf(batchOf(t, 0, numbered(1)...)))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "left", left(t, out.Batch), "0:k=by a h=a")
}

// TestFailuresGoByTheirPolicy: of a module as a whole, of a record that it rejects, and of
// a route that it may not take.
func TestFailuresGoByTheirPolicy(t *testing.T) {
	const dead = `"on_failure":"dead-letter","dead_letter_topic":"dead"`
	trap := &abi.Failure{Kind: abi.Trap, Text: "unreachable"}
	bad := map[string]abi.Decision{"a": replaced("A"), "b": {Action: abi.Reject, Text: "no id"}}
	astray := map[string]abi.Decision{"a": replaced("A"), "b": {Action: abi.Route, Text: "elsewhere", Replaces: abi.Value, Value: []byte("B")}}
	for name, c := range map[string]struct {
		module  *fake
		policy  string
		refused string // "": it is not
		left    []string
		sent    int
		failed  int // records
	}{
		"trap, reject":        {&fake{err: trap}, `"on_failure":"reject"`, "trap: unreachable", nil, 0, 3},
		"trap, pass":          {&fake{err: trap}, `"on_failure":"pass"`, "", []string{"0:k=a h=a", "1:k=b h=b", "2:k=c h=c"}, 0, 3},
		"trap, dead letter":   {&fake{err: trap}, dead, "", nil, 3, 3},
		"record, reject":      {byValue(bad), `"on_failure":"reject"`, "record 1: no id", nil, 0, 0},
		"record, pass":        {byValue(bad), `"on_failure":"pass"`, "", []string{"0:k=A h=a", "1:k=b h=b", "2:k=c h=c"}, 0, 0},
		"record, dead letter": {byValue(bad), dead, "", []string{"0:k=A h=a", "2:k=c h=c"}, 1, 0},
		"route, reject":       {byValue(astray), `"on_failure":"reject"`, "not among its routes", nil, 0, 1},
		"route, pass":         {byValue(astray), `"on_failure":"pass"`, "", []string{"0:k=A h=a", "1:k=b h=b", "2:k=c h=c"}, 0, 1},
		"route, dead letter":  {byValue(astray), dead, "", []string{"0:k=A h=a", "2:k=c h=c"}, 1, 1},
	} {
		failed := 0
		m := module(t, "m", c.policy, c.module)
		m.Failed = func(_ error, records int) { failed += records }
		out, err := NewSet([]Module{m}).For("in").Run(t.Context(), inputOf(batchOf(t, batch.Snappy, numbered(3)...)))
		if failed != c.failed {
			t.Errorf("%s: a failure of %d records is told, want %d", name, failed, c.failed)
		}
		if c.refused != "" {
			var refusal *Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.refused) || refusal.Module != "m" || refusal.Version != 3 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want(t, name, left(t, out.Batch), c.left...)
		if len(out.Sent) != c.sent {
			t.Errorf("%s: %d records are sent", name, len(out.Sent))
		}
	}
}

// TestDeadLettersSayWhereTheyComeFrom.
func TestDeadLettersSayWhereTheyComeFrom(t *testing.T) {
	f := byValue(map[string]abi.Decision{"b": {Action: abi.Reject, Text: "no id"}})
	out, err := NewSet([]Module{module(t, "check", `"on_failure":"dead-letter","dead_letter_topic":"dead"`, f)}).For("in").Run(t.Context(), inputOf(batchOf(t, 0, numbered(2)...)))
	if err != nil || len(out.Sent) != 1 {
		t.Fatalf("%v, %d sent", err, len(out.Sent))
	}
	var got []string
	for _, h := range out.Sent[0].Headers {
		got = append(got, h.Name+"="+string(h.Value))
	}
	want(t, "headers", got, "h=b", "rustmq.dlt.module=check", "rustmq.dlt.version=3", "rustmq.dlt.reason=no id",
		"rustmq.dlt.topic=in", "rustmq.dlt.partition=4", "rustmq.dlt.timestamp=1001")
	if s := out.Sent[0]; s.Topic != "dead" || string(s.Key) != "k" || string(s.Value) != "b" || s.Timestamp != 1001 {
		t.Errorf("sent %+v", s)
	}
}

// TestUnreadyModulesAskAgain, whatever their policy, and nobody counts it.
func TestUnreadyModulesAskAgain(t *testing.T) {
	for _, err := range []error{ErrUnready, fmt.Errorf("load: %w", ErrUnready), &abi.Failure{Kind: abi.Busy}, &abi.Failure{Kind: abi.Closed}} {
		m := module(t, "m", `"on_failure":"pass"`, &fake{err: err})
		m.Failed = func(error, int) { t.Errorf("%v counts as a failure", err) }
		if _, got := NewSet([]Module{m}).For("in").Run(t.Context(), inputOf(batchOf(t, 0, numbered(1)...))); !errors.Is(got, ErrUnready) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestEndedContextIsNoFailure: the client is gone, and the module has done nothing wrong.
func TestEndedContextIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := module(t, "m", `"on_failure":"pass"`, &fake{err: &abi.Failure{Kind: abi.Deadline}})
	m.Failed = func(error, int) { t.Error("it counts as a failure") }
	if _, err := NewSet([]Module{m}).For("in").Run(ctx, inputOf(batchOf(t, 0, numbered(1)...))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTargetsThatTakeNothing: routes go by the policy, dead letters refuse the batch.
func TestTargetsThatTakeNothing(t *testing.T) {
	away := errors.New("it is full")
	route := map[string]abi.Decision{"a": {Action: abi.Route, Text: "out"}}
	run := func(policy string) (*Output, error) {
		m := module(t, "m", `"routes":["out"],`+policy, byValue(route))
		m.Failed = func(error, int) { t.Errorf("%s: it is told as a failure of the module", policy) }
		in := inputOf(batchOf(t, 0, numbered(2)...))
		in.Target = func(topic string) error {
			if topic == "out" || strings.Contains(policy, "dead2") {
				return away
			}
			return nil
		}
		return NewSet([]Module{m}).For("in").Run(t.Context(), in)
	}
	var target *TargetError
	if _, err := run(`"on_failure":"reject"`); !errors.As(err, &target) || target.Topic != "out" || !errors.Is(err, away) {
		t.Errorf("reject: %v", err)
	}
	if out, err := run(`"on_failure":"pass"`); err != nil || len(out.Sent) > 0 || len(left(t, out.Batch)) != 2 {
		t.Errorf("pass: %v", err)
	}
	if out, err := run(`"on_failure":"dead-letter","dead_letter_topic":"dead"`); err != nil || len(out.Sent) != 1 || out.Sent[0].Topic != "dead" || !strings.Contains(string(out.Sent[0].Headers[3].Value), "full") {
		t.Errorf("dead letter: %v", err)
	}
	if _, err := run(`"on_failure":"dead-letter","dead_letter_topic":"dead2"`); !errors.As(err, &target) || target.Topic != "dead2" {
		t.Errorf("dead letter that is away: %v", err)
	}
}

// TestTransactionsReachNoOtherTopic: what would go there refuses the batch, whatever the
// policy; what is dropped or changed does not.
func TestTransactionsReachNoOtherTopic(t *testing.T) {
	w := batch.NewBuilder(batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: 7}})
	w.Add(1, []byte("k"), []byte("a"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		policy string
		does   abi.Decision
		fine   bool
	}{
		{`"on_failure":"pass"`, abi.Decision{Action: abi.Route, Text: "out"}, false},
		{`"on_failure":"dead-letter","dead_letter_topic":"dead"`, abi.Decision{Action: abi.Reject}, false},
		{`"on_failure":"pass"`, abi.Decision{Action: abi.Reject}, true},
		{`"on_failure":"reject"`, abi.Decision{Action: abi.Drop}, true},
		{`"on_failure":"reject"`, replaced("x"), true},
	} {
		f := &fake{decide: func(*abi.Record) abi.Decision { return c.does }}
		out, err := NewSet([]Module{module(t, "m", `"routes":["out"],`+c.policy, f)}).For("in").Run(t.Context(), inputOf(b))
		var refusal *Refusal
		if c.fine != (err == nil) || !c.fine && !errors.As(err, &refusal) {
			t.Errorf("%s, %+v: %v", c.policy, c.does, err)
		}
		if err == nil && !out.Batch.IsTransactional() {
			t.Errorf("%+v: the batch is part of no transaction any more", c.does)
		}
		if f.flags&abi.Transactional == 0 {
			t.Error("the module is not told")
		}
	}
}

// TestCompactedTopicsNeedKeys: of what is left, when it is changed.
func TestCompactedTopicsNeedKeys(t *testing.T) {
	f := byValue(map[string]abi.Decision{"b": {Replaces: abi.Key}, "c": {Action: abi.Drop}})
	in := inputOf(batchOf(t, 0, numbered(3)...))
	in.Keyed = true
	_, err := NewSet([]Module{module(t, "m", "", f)}).For("in").Run(t.Context(), in)
	var refused *batch.Error
	if !errors.As(err, &refused) || refused.Code != batch.InvalidRecord || len(refused.Records) != 1 || refused.Records[0].Index != 1 {
		t.Errorf("%v", err)
	}
}

// TestModulesReplaceNoMoreThanIsTaken, and decide about what they were shown.
func TestModulesReplaceNoMoreThanIsTaken(t *testing.T) {
	large, many := make([]byte, maxReplaced/2+1), make([]abi.Header, maxReplaced/2/headerSize+1)
	for name, f := range map[string]Transformer{
		"too much": &fake{decide: func(*abi.Record) abi.Decision { return abi.Decision{Replaces: abi.Value, Value: large} }},
		"headers":  &fake{decide: func(*abi.Record) abi.Decision { return abi.Decision{Replaces: abi.Headers, Headers: many} }},
		"too few":  short{},
		"unknown":  &fake{decide: func(*abi.Record) abi.Decision { return abi.Decision{Action: 9} }},
	} {
		_, err := NewSet([]Module{module(t, "m", "", f)}).For("in").Run(t.Context(), inputOf(batchOf(t, 0, numbered(2)...)))
		if failure, is := errors.AsType[*abi.Failure](err); !is || failure.Kind != abi.Output {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBatchesOfMillionsAreNotTakenApart: a few bytes that expand to them are refused as too
// large, which has clients send them in parts, before they take memory.
func TestBatchesOfMillionsAreNotTakenApart(t *testing.T) {
	many := make([]abi.Record, MaxRecords+1)
	headers := abi.Record{Headers: make([]abi.Header, maxHeaders/2)}
	for name, b := range map[string]batch.Batch{
		"records": batchOf(t, batch.Zstd, many...),
		"headers": batchOf(t, batch.Zstd, headers, headers, abi.Record{Headers: headers.Headers[:1]}),
	} {
		f := &fake{}
		_, err := NewSet([]Module{module(t, "m", "", f)}).For("in").Run(t.Context(), inputOf(b))
		if refused, is := errors.AsType[*batch.Error](err); !is || refused.Code != batch.MessageTooLarge || len(f.seen) > 0 {
			t.Errorf("%s: %v", name, err)
		}
		in := inputOf(b)
		p := NewSet([]Module{module(t, "m", `"when":[{"header":"h","present":true}]`, f)}).For("in")
		if out, err := p.Run(t.Context(), in); err != nil || &out.Batch[0] != &in.Batch[0] {
			t.Errorf("%s that no module is for: %v", name, err)
		}
	}
}

// short says too little.
type short struct{}

// Transform implements Transformer.
func (short) Transform(context.Context, *abi.Batch) ([]abi.Decision, error) {
	return make([]abi.Decision, 1), nil
}

func TestTopicsWithoutModulesHaveNoPipeline(t *testing.T) {
	async, err := ParseSpec([]byte(`{"mode":"async","topics":["other"],"output":"o","dead_letter_topic":"d"}`))
	if err != nil {
		t.Fatal(err)
	}
	s := NewSet([]Module{module(t, "m", "", &fake{}), {Name: "a", Spec: async}})
	if s.For("other") != nil || (*Set)(nil).For("in") != nil || s.For("in") == nil {
		t.Error("pipelines are of the wrong topics")
	}
}

// TestHeadersAreTakenApartOnce: what a batch of many small ones takes is those, and not what
// a list of them was before it grew.
func TestHeadersAreTakenApartOnce(t *testing.T) {
	var records []abi.Record
	for range 64 {
		records = append(records, abi.Record{Key: []byte("k"), Headers: make([]abi.Header, maxHeaders/64)})
	}
	in := inputOf(batchOf(t, batch.None, records...))
	p := NewSet([]Module{module(t, "m", "", &fake{})}).For("in")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := p.Run(t.Context(), in)
	runtime.ReadMemStats(&after)
	const all = maxHeaders * headerSize
	if headerSize != unsafe.Sizeof(abi.Header{}) {
		t.Errorf("a header has %d bytes, not %d", unsafe.Sizeof(abi.Header{}), headerSize)
	}
	if took := int(after.TotalAlloc - before.TotalAlloc); err != nil || took > all*5/4 {
		t.Errorf("%d headers took %d bytes, and have %d: %v", maxHeaders, took, all, err)
	}
}
