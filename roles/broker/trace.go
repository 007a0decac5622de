package broker

import (
	"time"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Tracer is told what became of batches, fetches and uploads, once that is known. Its methods
// may be called at once, do not block, and keep nothing that they are given.
type Tracer interface {
	Produced(*TracedProduce)
	Fetched(*TracedFetch)
	Uploaded(*upload.Done)
}

// TraceContext is who a batch comes from, as W3C's headers say it; zero: nobody has said.
type TraceContext struct {
	Parent, State string // traceparent and tracestate
}

// TracedProduce is a batch that was appended, or refused.
type TracedProduce struct {
	Context   TraceContext
	Topic     string
	Partition int32
	ClientID  string
	Base      storage.Offset // NoOffset: it was refused
	Records   int
	Bytes     int
	Acks      int16
	Modules   []TracedModule // that it went through, in order
	Error     error          // nil: it was appended

	// When it came, was begun, was appended, was on disk here, had all that its acks ask for,
	// and was answered. Zero: it was not, or nobody waited for it.
	Received, Begun, Appended, Synced, Acked, Answered time.Time
}

// TracedModule is an inline module that a batch went through.
type TracedModule struct {
	Name    string
	Took    time.Duration
	Records int
}

// TracedFetch is a fetch that is about to be answered.
type TracedFetch struct {
	ClientID   string
	Topic      string // of the first partition; "": there is none
	Partitions int
	Bytes      int
	Received   time.Time
	Begun      time.Time
	Waited     time.Duration // until there was enough
	Answered   time.Time
}

// mostTraceHeaders is how large a first record may be whose headers are looked at.
const mostTraceHeaders = 256 << 10

// traceContext reads the context of a batch off its first record; nothing else is looked at.
func traceContext(records []byte) (c TraceContext) {
	b, _, err := batch.Next(records)
	if err != nil || b.NumRecords() == 0 {
		return c
	}
	first, err := b.First(mostTraceHeaders)
	if err != nil {
		return c
	}
	for h := range first.Headers {
		switch string(h.Key) {
		case "traceparent":
			c.Parent = string(h.Value)
		case "tracestate":
			c.State = string(h.Value)
		}
	}
	if len(c.Parent) > mostTraceParent {
		return TraceContext{}
	}
	if !guard.Check("broker.trace-state", len(c.State) <= mostTraceState) {
		c.State = ""
	}
	return c
}

// What W3C's Trace Context lets headers have. Of tracestate so much is to be passed on at least;
// more may be left out.
const (
	mostTraceParent = 64
	mostTraceState  = 512
)

// traces notes which modules a batch went through; what was tried before is forgotten.
func (part *producePart) traces(tallies []pipeline.Tally) {
	part.modules = part.modules[:0]
	for i := range tallies {
		t := &tallies[i]
		part.modules = append(part.modules, TracedModule{Name: t.Module.Name, Took: t.Took, Records: t.In})
	}
}

// trace tells of each batch of a request that is about to be answered.
func (p *produceRequest) trace(now time.Time) {
	for i := range p.parts {
		part := &p.parts[i]
		if part.partition == nil {
			continue // of a topic that is not there
		}
		records := p.q.Partitions[i].Records
		told := TracedProduce{
			Context: traceContext(records), Topic: part.partition.topic.name, Partition: part.partition.index, ClientID: p.r.ClientID,
			Base: p.results[i].BaseOffset, Bytes: len(records), Acks: p.q.Acks, Modules: part.modules, Error: part.err,
			Received: p.r.Received, Begun: p.begun, Appended: part.appended, Synced: part.synced, Acked: part.acked, Answered: now,
		}
		if b, _, err := batch.Next(records); err == nil {
			told.Records = int(b.NumRecords())
		}
		p.b.opt.Tracer.Produced(&told)
	}
}

// trace tells of a fetch that is about to be answered.
func (f *fetchRequest) trace(now time.Time) {
	told := TracedFetch{ClientID: f.r.ClientID, Partitions: len(f.parts), Bytes: f.bytes, Received: f.r.Received, Begun: f.begun, Waited: f.waited, Answered: now}
	if len(f.parts) > 0 && f.parts[0].topic != nil {
		told.Topic = f.parts[0].topic.name
	}
	f.b.opt.Tracer.Fetched(&told)
}
