package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// MaxRecords and maxHeaders are what is taken apart of one batch: a few KiB expand to
	// millions of them, each of which takes hundreds of bytes while modules are asked.
	// Clients that are told that a batch is too large send it in parts.
	MaxRecords = 64 << 10
	maxHeaders = 256 << 10
	// leastBlock and mostBlock are for how many headers memory is taken at once; a record
	// with more than an eighth of that has memory of its own.
	leastBlock = 256
	mostBlock  = 8 << 10
	// headerSize is what an abi.Header takes besides its name and value, in bytes.
	headerSize = 40
	// maxReplaced is how many bytes modules may put in place of parts of one batch's
	// records: sixteen times what a topic takes by default.
	maxReplaced = 16 << 20
	// maxBlamed records of a batch are named, as of one that is refused as it came.
	maxBlamed = 100
	// maxNames of headers are kept to be used again within a batch.
	maxNames = 32
	// keptRecords and keptBytes are for how many records, and of what size, the memory of
	// a run is kept.
	keptRecords = 16 << 10
	keptBytes   = 4 << 20
)

// Run has a batch pass the pipeline. Nothing of the batch is written to. Output is there
// beside an error, too, with its tallies.
//
// Errors: *Refusal; *batch.Error, what it says of records it says of the batch as it came;
// ErrUnready, wrapped, the batch is to come again; ctx's.
func (p *Pipeline) Run(ctx context.Context, in *Input) (*Output, error) {
	r, _ := p.set.scratch.Get().(*run)
	if r == nil {
		r = new(run)
	}
	r.p, r.in, r.out, r.now = p, in, &Output{Batch: in.Batch}, in.Now().UnixMilli()
	err := r.all(ctx)
	out := r.out
	if r.reset() {
		p.set.scratch.Put(r)
	}
	return out, err
}

// run is one batch on its way, with the memory that it takes. Slices of records are
// parallel: at index i is the record at place i of the batch.
type run struct {
	p   *Pipeline
	in  *Input
	out *Output
	now int64

	places     []place
	records    []abi.Record // as the next stage sees them
	verdicts   []verdict    // of the stage
	chosen     []int        // that the module is shown
	shown      []abi.Record
	headers    []abi.Header // the block that records have theirs of, as they came
	numHeaders int          // of all records
	names      []string     // of them
	rewriter   batch.Rewriter
	decided    bool // a module of the stage says other than that all are kept
	changed    bool
	target     string // that was asked about last, and what was said
	targetIs   error
	letter     letter
}

// letter is what stands in the headers of the last dead letter, to be shared by the next.
type letter struct {
	by                                         *Module
	reason                                     string
	module, version, because, topic, partition []byte
}

// place is what is known of a record besides what modules see.
type place struct {
	raw     []byte // as it came
	at      batch.Record
	gone    bool
	changed bool
}

// rank orders what several modules of a stage say of one record: the highest holds.
type rank int8

const (
	keeps rank = iota
	routes
	drops
	buries  // to the dead-letter topic
	refuses // the whole batch
)

// verdict is what the modules of a stage have come to about one record.
type verdict struct {
	rank   rank
	by     *Module // whose it is; nil while it is kept
	text   string  // topic, or reason
	cause  error
	parts  abi.Parts // that are replaced
	key    []byte
	value  []byte
	header []abi.Header
}

// reset forgets what the run refers to, and reports whether its memory is worth keeping.
func (r *run) reset() bool {
	clear(r.places)
	clear(r.records)
	clear(r.verdicts)
	clear(r.shown[:cap(r.shown)])
	clear(r.headers)
	clear(r.names)
	r.rewriter.Reset(nil)
	r.places, r.records, r.verdicts = r.places[:0], r.records[:0], r.verdicts[:0]
	r.shown, r.headers, r.names = r.shown[:0], r.headers[:0], r.names[:0]
	small := cap(r.places) <= keptRecords && r.out.Expanded+r.out.Replaced <= keptBytes
	r.numHeaders, r.p, r.in, r.out, r.decided, r.changed, r.target, r.targetIs, r.letter = 0, nil, nil, nil, false, false, "", nil, letter{}
	return small
}

func (r *run) all(ctx context.Context) error {
	it := r.in.Batch.Records(r.in.Limit)
	if !r.entered(it) {
		r.out.Expanded = it.Expanded()
		return it.Err()
	}
	if err := r.read(it); err != nil {
		return err
	}
	r.out.Expanded = it.Expanded()
	for _, stage := range r.p.stages {
		for _, m := range stage {
			if err := r.ask(ctx, m); err != nil {
				return err
			}
		}
		if !r.decided {
			continue
		}
		r.decided = false
		if err := r.carryOut(); err != nil {
			return err
		}
	}
	slices.SortStableFunc(r.out.Sent, func(a, b Sent) int { return a.Index - b.Index })
	return r.rewrite()
}

// entered reports whether any module is to be shown any record. While none is, each stage
// has the records as they came.
func (r *run) entered(it *batch.Iterator) bool {
	for _, m := range r.p.all {
		if len(m.Spec.When) == 0 {
			return true
		}
	}
	for it.Next() {
		for _, m := range r.p.all {
			if m.Spec.selectsRaw(it.Record(), r.now) {
				it.Rewind()
				return true
			}
		}
	}
	return false
}

// read takes the records apart.
func (r *run) read(it *batch.Iterator) error {
	if n := r.in.Batch.NumRecords(); !guard.Check("pipeline.records", n <= MaxRecords) {
		return &batch.Error{Code: batch.MessageTooLarge, Reason: fmt.Sprintf("%d records to be transformed, at most %d of a batch are: send fewer at once", n, MaxRecords)}
	}
	for it.Next() {
		at := it.Record()
		if !guard.Check("pipeline.headers", r.numHeaders+at.NumHeaders <= maxHeaders) {
			return &batch.Error{Code: batch.MessageTooLarge, Reason: fmt.Sprintf("more than %d headers to be transformed: send fewer records at once", maxHeaders)}
		}
		r.numHeaders += at.NumHeaders
		headers := r.room(at.NumHeaders)
		at.Headers(func(h batch.Header) bool {
			headers = append(headers, abi.Header{Name: r.name(h.Key), Value: h.Value})
			return true
		})
		r.places = append(r.places, place{raw: it.Raw(), at: *at})
		r.records = append(r.records, abi.Record{
			Timestamp: at.Timestamp, Offset: int64(at.Offset), Key: at.Key, Value: at.Value, Headers: headers,
		})
	}
	r.verdicts = slices.Grow(r.verdicts, len(r.places))[:len(r.places)]
	return it.Err()
}

// room is memory for n headers of a record. What others have stays where it is.
func (r *run) room(n int) []abi.Header {
	if n > cap(r.headers)-len(r.headers) {
		size := min(max(2*cap(r.headers), leastBlock), mostBlock)
		if n > size/8 {
			return make([]abi.Header, 0, n)
		}
		r.headers = make([]abi.Header, 0, size)
	}
	from := len(r.headers)
	r.headers = r.headers[:from+n]
	return r.headers[from:from:len(r.headers)]
}

// name is a header's name as text: mostly one that came before.
func (r *run) name(key []byte) string {
	for _, known := range r.names {
		if known == string(key) {
			return known
		}
	}
	name := string(key)
	if len(r.names) < maxNames {
		r.names = append(r.names, name)
	}
	return name
}

// ask shows a module the records that are for it, and takes what it decides.
func (r *run) ask(ctx context.Context, m *Module) error {
	r.chosen = r.chosen[:0]
	for i := range r.records {
		if !r.places[i].gone && m.Spec.Selects(&r.records[i], r.now) {
			r.chosen = append(r.chosen, i)
		}
	}
	if len(r.chosen) == 0 {
		return nil
	}
	shown := r.records
	if len(r.chosen) < len(r.records) {
		r.shown = r.shown[:0]
		for _, i := range r.chosen {
			r.shown = append(r.shown, r.records[i])
		}
		shown = r.shown
	}
	r.out.Tallies = append(r.out.Tallies, Tally{Module: m, In: len(shown)})
	tally := &r.out.Tallies[len(r.out.Tallies)-1]
	begun := r.in.Now()
	decisions, err := m.Transformer.Transform(ctx, &abi.Batch{
		Topic: r.p.topic, Partition: r.in.Partition, Timestamp: r.in.Batch.MaxTimestamp(), Flags: r.flags(), Records: shown,
	})
	tally.Took = r.in.Now().Sub(begun)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("module %s (version %d): %w", m.Name, m.Version, ctx.Err())
	}
	if isUnready(err) {
		return fmt.Errorf("module %s (version %d): %w: %w", m.Name, m.Version, ErrUnready, err)
	}
	if err == nil {
		err = r.check(decisions)
	}
	if err != nil {
		r.fail(m, tally, err)
		return nil
	}
	r.join(m, tally, decisions)
	return nil
}

// isUnready reports whether an error is of a module that can be asked again, with the same
// records, in a moment.
func isUnready(err error) bool {
	if errors.Is(err, ErrUnready) {
		return true
	}
	f, is := errors.AsType[*abi.Failure](err)
	return is && (f.Kind == abi.Busy || f.Kind == abi.Closed)
}

func (r *run) flags() (f uint32) {
	if r.in.Batch.IsTransactional() {
		f |= abi.Transactional
	}
	if r.in.DryRun {
		f |= abi.DryRun
	}
	return f
}

// check says what is wrong with the decisions as a whole.
func (r *run) check(decisions []abi.Decision) error {
	if decisions == nil {
		return nil
	}
	if !guard.Check("pipeline.decisions", len(decisions) == len(r.chosen)) {
		return &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("%d decisions about %d records", len(decisions), len(r.chosen))}
	}
	replaced := r.out.Replaced
	for i := range decisions {
		d := &decisions[i]
		replaced += len(d.Key) + len(d.Value) + len(d.Text)
		for _, h := range d.Headers {
			replaced += headerSize + len(h.Name) + len(h.Value)
		}
	}
	if !guard.Check("pipeline.replaced", replaced <= maxReplaced) {
		return &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("%d bytes in place of a batch's, at most %d are taken", replaced, maxReplaced)}
	}
	r.out.Replaced = replaced
	return nil
}

// fail does to all that a module was shown what its policy says.
func (r *run) fail(m *Module, tally *Tally, err error) {
	if f, is := errors.AsType[*abi.Failure](err); !is || f.Kind != abi.Disabled {
		tally.Failures++
		if m.Failed != nil {
			m.Failed(err, len(r.chosen))
		}
	}
	r.decided = true
	for _, i := range r.chosen {
		r.verdicts[i].object(m, err.Error(), err)
	}
}

// object takes that a module rejected a record, or failed on it.
func (v *verdict) object(m *Module, reason string, cause error) {
	is := refuses
	switch m.Spec.OnFailure {
	case Pass:
		return
	case DeadLetter:
		is = buries
	}
	v.raise(is, m, reason, cause)
}

// raise takes what a module says, unless one that came before it said as much.
func (v *verdict) raise(to rank, m *Module, text string, cause error) {
	if to > v.rank {
		v.rank, v.by, v.text, v.cause = to, m, text, cause
	}
}

// join takes the decisions of a module about what it was shown.
func (r *run) join(m *Module, tally *Tally, decisions []abi.Decision) {
	r.decided = r.decided || len(decisions) > 0
	astray, strays := error(nil), 0
	for k := range decisions {
		d, v := &decisions[k], &r.verdicts[r.chosen[k]]
		switch d.Action {
		case abi.Keep:
			v.replace(d)
		case abi.Drop:
			v.raise(drops, m, "", nil)
		case abi.Route:
			if err := r.mayRoute(m, d.Text); err != nil {
				if _, away := errors.AsType[*TargetError](err); !away {
					astray, strays = err, strays+1
				}
				v.object(m, err.Error(), err)
				continue
			}
			v.replace(d)
			v.raise(routes, m, d.Text, nil)
		case abi.Reject:
			tally.Rejected++
			v.object(m, d.Text, nil)
		default:
			astray, strays = &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("action %d is none", d.Action)}, strays+1
			v.object(m, astray.Error(), astray)
		}
	}
	if strays > 0 {
		tally.Failures++
		if m.Failed != nil {
			m.Failed(astray, strays)
		}
	}
}

// replace takes the parts that no module before has replaced.
func (v *verdict) replace(d *abi.Decision) {
	parts := d.Replaces &^ v.parts
	v.parts |= parts
	if parts&abi.Key != 0 {
		v.key = d.Key
	}
	if parts&abi.Value != 0 {
		v.value = d.Value
	}
	if parts&abi.Headers != 0 {
		v.header = d.Headers
	}
}

// mayRoute says why a module cannot route to a topic: an *abi.Failure where it may not, a
// *TargetError where the topic takes none.
func (r *run) mayRoute(m *Module, topic string) error {
	if !guard.Check("pipeline.routes", m.Spec.MayRoute(topic)) {
		return &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("routes to topic %.100q, which is not among its routes", topic)}
	}
	return r.reaches(topic)
}

// reaches says why a topic takes no records.
func (r *run) reaches(topic string) error {
	if r.in.Target == nil {
		return nil
	}
	if topic != r.target {
		r.target, r.targetIs = topic, nil
		if err := r.in.Target(topic); err != nil {
			r.targetIs = &TargetError{Topic: topic, Err: err}
		}
	}
	return r.targetIs
}

// carryOut does what the modules of a stage have come to.
func (r *run) carryOut() error {
	var refusal *Refusal
	for i := range r.verdicts {
		v := &r.verdicts[i]
		switch v.rank {
		case keeps:
			r.change(i, v)
		case routes:
			r.change(i, v)
			r.send(i, v.by, v.text, false, "")
		case drops:
			r.tally(v.by).Dropped++
		case buries:
			if err := r.reaches(v.by.Spec.DeadLetterTopic); err != nil {
				return &Refusal{Module: v.by.Name, Version: v.by.Version, Reason: fmt.Sprintf("%v, and %s", err, v.text), Cause: err}
			}
			r.send(i, v.by, v.by.Spec.DeadLetterTopic, true, v.text)
		case refuses:
			_, failed := errors.AsType[*abi.Failure](v.cause)
			if refusal == nil {
				refusal = &Refusal{Module: v.by.Name, Version: v.by.Version, Reason: fmt.Sprintf("record %d: %s", i, v.text), Cause: v.cause}
				if failed {
					refusal.Reason = v.text
				}
			}
			if !failed && len(refusal.Records) < maxBlamed {
				refusal.Records = append(refusal.Records, batch.RecordError{Index: i, Reason: v.text})
			}
		}
		if v.rank > keeps {
			r.places[i].gone, r.changed = true, true
		}
		*v = verdict{}
	}
	if refusal != nil {
		return refusal
	}
	if n := len(r.out.Sent); n > 0 && !guard.Check("pipeline.transactional", !r.in.Batch.IsTransactional()) {
		s := &r.out.Sent[0]
		return &Refusal{
			Module: s.Module.Name, Version: s.Module.Version,
			Reason: fmt.Sprintf("record %d would go to topic %s, and it is part of a transaction, which does not reach there: produce it without one, or have the module keep it", s.Index, s.Topic),
		}
	}
	return nil
}

// change replaces parts of a record; what is replaced by the same is not.
func (r *run) change(i int, v *verdict) {
	rec := &r.records[i]
	was := r.places[i].changed
	if v.parts&abi.Key != 0 && !same(rec.Key, v.key) {
		rec.Key, r.places[i].changed = v.key, true
	}
	if v.parts&abi.Value != 0 && !same(rec.Value, v.value) {
		rec.Value, r.places[i].changed = v.value, true
	}
	if v.parts&abi.Headers != 0 && !slices.EqualFunc(rec.Headers, v.header, sameHeader) {
		rec.Headers, r.places[i].changed = v.header, true
	}
	r.changed = r.changed || r.places[i].changed != was
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func sameHeader(a, b abi.Header) bool { return a.Name == b.Name && same(a.Value, b.Value) }

// send has a record go to another topic.
func (r *run) send(i int, m *Module, topic string, dead bool, reason string) {
	rec := &r.records[i]
	s := Sent{Topic: topic, DeadLetter: dead, Module: m, Index: i, Timestamp: rec.Timestamp, Key: rec.Key, Value: rec.Value}
	s.Headers = slices.Grow(s.Headers, len(rec.Headers)+6)
	s.Headers = append(s.Headers, rec.Headers...) // those that came are this run's memory
	if dead {
		l := r.letterOf(m, reason)
		s.Headers = append(s.Headers,
			abi.Header{Name: DeadLetterModule, Value: l.module},
			abi.Header{Name: DeadLetterVersion, Value: l.version},
			abi.Header{Name: DeadLetterReason, Value: l.because},
			abi.Header{Name: DeadLetterTopic, Value: l.topic},
			abi.Header{Name: DeadLetterPartition, Value: l.partition},
			abi.Header{Name: DeadLetterTimestamp, Value: strconv.AppendInt(nil, rec.Timestamp, 10)})
		r.tally(m).DeadLettered++
	} else {
		r.tally(m).Routed++
	}
	r.out.SentBytes += len(s.Key) + len(s.Value)
	for _, h := range s.Headers {
		r.out.SentBytes += headerSize + len(h.Name) + len(h.Value)
	}
	r.out.Sent = append(r.out.Sent, s)
}

// letterOf is what the headers of a dead letter say: of all that a module failed on, once.
func (r *run) letterOf(m *Module, reason string) *letter {
	l := &r.letter
	if l.by != m || l.reason != reason {
		*l = letter{
			by: m, reason: reason, module: []byte(m.Name), version: strconv.AppendInt(nil, int64(m.Version), 10), because: []byte(reason),
			topic: []byte(r.p.topic), partition: strconv.AppendInt(nil, int64(r.in.Partition), 10),
		}
	}
	return l
}

// tally is that of a module that was entered.
func (r *run) tally(m *Module) *Tally {
	for i := range r.out.Tallies {
		if r.out.Tallies[i].Module == m {
			return &r.out.Tallies[i]
		}
	}
	panic("pipeline: a verdict of module " + m.Name + ", which was not asked")
}

// rewrite makes the batch of what is left.
func (r *run) rewrite() error {
	if !r.changed {
		return nil
	}
	w := &r.rewriter
	w.Reset(r.in.Batch)
	var keyless *batch.Error
	for i := range r.places {
		p, rec := &r.places[i], &r.records[i]
		if p.gone {
			continue
		}
		if r.in.Keyed && !guard.Check("pipeline.keyed", rec.Key != nil) {
			if keyless == nil {
				keyless = &batch.Error{Code: batch.InvalidRecord, Reason: fmt.Sprintf("record %d has no key once it was transformed, and the topic is compacted", i)}
			}
			keyless.Blame(i, "no key once it was transformed, and the topic is compacted")
			continue
		}
		if !p.changed {
			w.Keep(p.raw, p.at.Timestamp)
			continue
		}
		p.at.Key, p.at.Value = rec.Key, rec.Value
		headers := make([]batch.Header, len(rec.Headers))
		for k, h := range rec.Headers {
			headers[k] = batch.Header{Key: []byte(h.Name), Value: h.Value}
		}
		w.Add(&p.at, headers)
	}
	if keyless != nil {
		return keyless
	}
	out, err := w.Build(r.in.Codec, r.in.Level)
	if err != nil {
		return err
	}
	r.out.Batch = out
	return nil
}
