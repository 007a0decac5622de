//go:build seeds

package seeds

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// crowd is who uses the cluster: writers and a reader of one topic always, of the others
// those whom the seed has chosen.
type crowd struct {
	w         *world
	source    *flow
	record    *record
	observers *observers

	weak       *flow // acks=1: on three replicas, or on one
	copied     *copied
	copier     *copier
	follower   *copyReader
	members    *members
	registrars *registrars
}

// flow is a topic with its writers, and who reads it meanwhile.
type flow struct {
	*history
	writers []*writer
	pusher  *pusher // nil: none
	reader  *reader
	whole   bool // all that is acked stays, once
}

func (w *world) populate() *crowd {
	c := w.populateSource()
	chosen := func() bool { return w.rng.IntN(2) == 0 || os.Getenv("CAST") == "all" }
	if chosen() {
		w.create("copied", size)
		c.copied = &copied{topic: "copied", source: c.source.history}
		c.copier = w.copy(c.copied)
		c.follower = w.readCopy("its reader", c.copied)
		c.follower.follow()
	}
	if chosen() {
		c.members = w.join(c.source.history, 2)
	}
	if chosen() {
		c.registrars = w.register()
	}
	if chosen() {
		c.weak = w.populateWeak()
	}
	return c
}

// populateSource has a topic written, by hand too, read, and asked for its ends.
func (w *world) populateSource() *crowd {
	c := &crowd{w: w, record: w.record("source")}
	w.create("source", size)
	w.happened("made")
	c.source = &flow{history: newHistory("source", w.problem), whole: true}
	for i := range uint32(2) {
		p := &writer{number: i + 1, history: c.source.history, record: c.record}
		c.source.writers = append(c.source.writers, w.write(p, 200*time.Millisecond))
	}
	c.source.pusher = w.push(&pusher{number: 3, of: c.source.history, record: c.record})
	c.source.reader = w.read(c.source.history)
	c.record.of = c.source.history
	c.observers = w.observe(c.record)
	return c
}

// populateWeak has a topic written with acks=1 by who is not idempotent. On three replicas
// what is acked may be lost, on one it may not; what was read may on neither.
func (w *world) populateWeak() *flow {
	w.lossy = w.rng.IntN(3) == 0
	replicas := int16(size)
	if w.lossy {
		replicas = 1
	}
	w.create("weak", replicas)
	f := &flow{history: newHistory("weak", w.problem)}
	f.twice = true
	p := &writer{number: 1, history: f.history, weak: !w.lossy}
	f.writers = append(f.writers, w.write(p, 300*time.Millisecond, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()))
	f.reader = w.read(f.history)
	return f
}

// replicated are the topics that have a replica on each node.
func (c *crowd) replicated() []string {
	topics := []string{"source"}
	if c.copied != nil {
		topics = append(topics, "copied")
	}
	if c.weak != nil && !c.w.lossy {
		topics = append(topics, "weak")
	}
	return topics
}

// finish has everybody come to an end, and judges what they have seen.
func (c *crowd) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must := func(err error) {
		if err != nil {
			c.w.problem("%v", err)
		}
	}
	if c.observers != nil {
		c.observers.finish()
	}
	if c.registrars != nil {
		must(c.registrars.finish(ctx))
	}
	for _, f := range []*flow{c.source, c.weak} {
		if f != nil {
			must(f.finish(ctx, c.w))
		}
	}
	if c.copier != nil {
		must(c.copier.finish(ctx))
		must(c.follower.finish(ctx, c.w))
		if !c.w.ill() {
			must(c.w.readAllCopied(ctx, c.copied))
		}
		c.w.counted("transactions", int(c.copied.committed.Load()+c.copied.late.Load()))
		c.w.counted("transactions_aborted", int(c.copied.aborted.Load()+c.copied.abandoned.Load()))
	}
	if c.members != nil {
		must(c.members.finish(ctx))
	}
}

func (f *flow) finish(ctx context.Context, w *world) error {
	sent, acked := int64(0), int64(0)
	for _, p := range f.writers {
		if err := p.finish(ctx); err != nil {
			return err
		}
		sent += p.sent.Load()
		acked += p.acked.Load()
	}
	if p := f.pusher; p != nil {
		if err := p.finish(ctx); err != nil {
			return err
		}
		sent += p.sent.Load()
		acked += p.acked.Load()
	}
	if !w.ill() {
		if err := w.readAll(ctx, f.history); err != nil {
			return err
		}
	}
	there := 0
	for p := range int32(partitions) {
		there += int(f.known(p))
	}
	if err := f.reader.finish(ctx, w, there); err != nil {
		return err
	}
	if !w.ill() && (acked != sent || f.whole && there != int(acked)) {
		w.problem("of %s %d records were sent, %d acked, and %d are there", f.topic, sent, acked, there)
	}
	if f.whole {
		w.counted("records", there)
	}
	return nil
}

func (c *crowd) tell() string {
	_, held := c.source.counts()
	text := fmt.Sprintf("%d records, %d objects", held, c.w.named)
	if c.record != nil {
		text += fmt.Sprintf("; %d batches twice, %d ends and %d records asked for", c.source.pusher.twice.Load(), c.record.count["end"], c.record.count["read"])
	}
	if c.w.flips > 0 {
		text += fmt.Sprintf("; %d bits flipped, %d led then", c.w.flips, c.w.led)
	}
	if c.weak != nil {
		_, held := c.weak.counts()
		text += fmt.Sprintf("; %d with acks=1", held)
	}
	if c.copied != nil {
		text += fmt.Sprintf("; transactions: %d committed, %d late, %d aborted, %d left open", c.copied.committed.Load(), c.copied.late.Load(), c.copied.aborted.Load(), c.copied.abandoned.Load())
	}
	if g := c.members; g != nil {
		text += fmt.Sprintf("; members: %d commits, %d times joined", g.commits, g.joined)
	}
	if r := c.registrars; r != nil {
		text += fmt.Sprintf("; %d changes of topics", r.done)
	}
	return text
}
