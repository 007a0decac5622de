package async

import (
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/batch"
)

const (
	// batchBytes of records, before compression, make a batch. Topics take 1 MiB unless
	// they say otherwise; one record that is larger goes alone.
	batchBytes = 512 << 10
	// heldBytes of output are produced before more is made.
	heldBytes = 1 << 20
	// keptBytes may wait for the next records, or transaction, without a share.
	keptBytes = 64 << 10
)

// output makes batches of records on their way to their partitions. It belongs to one
// goroutine.
type output struct {
	of     source
	topics func(string) (*metadata.Topic, error)
	sender interface {
		stamp(target) *batch.Producer
		sealedWith(target, int32)
	}
	codec batch.Codec // of batches that are begun from now on

	places   map[string]place // by topic
	building map[target]*batch.Builder
	order    []target // of building
	sealed   []sealed
	bytes    int // of records that wait, sealed and not
	records  int

	free    []*batch.Builder
	headers []batch.Header
	text    []byte // that headers' names lie in
}

// place is what is known of a topic.
type place struct {
	partitions int32
	alike      bool // as many partitions as the source has
}

// add takes a record to a topic; same: its key is that which it was read with. Its bytes
// are copied. An error says that the topic is not there.
func (o *output) add(topic string, r *abi.Record, same bool) error {
	at, ok := o.places[topic]
	if !ok {
		t, err := o.topics(topic)
		if err != nil {
			return err
		}
		if t.Internal {
			return fmt.Errorf("topic %q is the brokers' own: records do not go there", topic)
		}
		from, err := o.topics(o.of.topic)
		if err != nil {
			return err
		}
		at = place{int32(t.Partitions.Len()), t.Partitions.Len() == from.Partitions.Len()}
		if o.places == nil {
			o.places, o.building = map[string]place{}, map[target]*batch.Builder{}
		}
		o.places[topic] = at
	}
	to := target{topic, at.of(o.of.partition, r.Key, same)}
	size := recordSize(r)
	w := o.building[to]
	if w != nil && w.Size()+size > batchBytes {
		if err := o.seal(to, w); err != nil {
			return err
		}
		w = nil
	}
	if w == nil {
		w = o.begin(to)
	}
	w.Add(r.Timestamp, r.Key, r.Value, o.rawHeaders(r.Headers)...)
	o.bytes += size
	o.records++
	return nil
}

// of returns the partition that a record goes to. Where both topics have as many
// partitions, and the key is the record's own, it is that which the producer chose: what
// was together stays so, whatever it chose by. Else the key decides as it does for Kafka's
// clients, and without one the source partition, which keeps the order.
func (p place) of(from int32, key []byte, same bool) int32 {
	if p.alike && same {
		return from
	}
	return pipeline.PartitionOf(key, from, p.partitions)
}

func (o *output) begin(to target) *batch.Builder {
	var w *batch.Builder
	if n := len(o.free); n > 0 {
		w, o.free = o.free[n-1], o.free[:n-1]
	} else {
		w = new(batch.Builder)
	}
	w.Reset(batch.BuilderOptions{Codec: o.codec, Producer: o.sender.stamp(to), Transactional: true})
	o.building[to] = w
	o.order = append(o.order, to)
	return w
}

// seal makes a batch of what waits for a target.
func (o *output) seal(to target, w *batch.Builder) error {
	n := int32(w.Len())
	b, err := w.Build()
	if err != nil {
		return fmt.Errorf("make a batch of %d records for %s-%d: %w", n, to.topic, to.partition, err)
	}
	o.sender.sealedWith(to, n)
	o.sealed = append(o.sealed, sealed{to, b})
	delete(o.building, to)
	o.order = slices.DeleteFunc(o.order, func(t target) bool { return t == to })
	if len(o.free) < maxFree {
		o.free = append(o.free, w)
	}
	return nil
}

// maxFree builders are kept, each with the memory of a batch.
const maxFree = 4

// take returns the batches of all records that wait.
func (o *output) take() ([]sealed, error) {
	for len(o.order) > 0 {
		to := o.order[0]
		if err := o.seal(to, o.building[to]); err != nil {
			return nil, err
		}
	}
	all := o.sealed
	o.sealed, o.bytes, o.records = nil, 0, 0
	return all, nil
}

// forget drops what waits, and what is known of topics.
func (o *output) forget() {
	clear(o.places)
	clear(o.building)
	o.order, o.sealed, o.bytes, o.records = nil, nil, 0, 0
}

// shrink gives the memory back that is kept for more.
func (o *output) shrink() { o.free, o.text, o.headers = nil, nil, nil }

// rawHeaders returns headers as a batch has them, until the next call.
func (o *output) rawHeaders(headers []abi.Header) []batch.Header {
	if len(headers) == 0 {
		return nil
	}
	o.text, o.headers = o.text[:0], o.headers[:0]
	for i := range headers {
		o.text = append(o.text, headers[i].Name...)
	}
	at := 0
	for i := range headers {
		n := len(headers[i].Name)
		o.headers = append(o.headers, batch.Header{Key: o.text[at : at+n : at+n], Value: headers[i].Value})
		at += n
	}
	return o.headers
}

// recordSize is about what a record takes in a batch, and not less.
func recordSize(r *abi.Record) int {
	const lengths = 24 // seven fields, of which four are short
	size := lengths + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += 10 + len(r.Headers[i].Name) + len(r.Headers[i].Value)
	}
	return size
}
