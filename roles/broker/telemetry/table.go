package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Why a push is not taken.
var (
	ErrInvalidRequest         = errors.New("the push is not one that may come")
	ErrUnknownSubscription    = errors.New("the subscription is not, or no longer, that of the client")
	ErrTooEarly               = errors.New("the interval since the last push is not over")
	ErrTooLarge               = errors.New("too many bytes of metrics")
	ErrUnsupportedCompression = errors.New("the metrics are compressed in a way that is not known")
	ErrInvalidRecord          = errors.New("the metrics are not OpenTelemetry's")
)

// DefaultSeries is room for a hundred clients that push all that they have.
const DefaultSeries = 10_000

// Limits that no configuration moves.
const (
	// maxInstances bounds those that are remembered to have pushed, some 200 bytes each.
	maxInstances = 10_000
	// maxPayload is what a push may expand to: metrics shrink to a tenth, and to push
	// as much a client has 20,000 series.
	maxPayload = 4 << 20
	// maxText bounds name, attributes, and what names the client, of one series.
	maxText = 1 << 10
	// sweepEvery is how often what has expired is looked for; it is not shown before.
	sweepEvery = 10 * time.Second
	// keptIntervals is after how many of them without a push a series is forgotten.
	keptIntervals = 3
	// slackShare of an interval is how much a push may come before its end: the one
	// before was longer on its way.
	slackShare = 10
)

// AcceptedCodecs are what clients may compress pushes by, the best first.
func AcceptedCodecs() []batch.Codec {
	return []batch.Codec{batch.Zstd, batch.LZ4, batch.Gzip, batch.Snappy}
}

// Options of a table.
type Options struct {
	Series int             // most that are kept; 0: DefaultSeries
	Random func() [16]byte // makes ids of instances; nil: UUIDs of version 4
}

// Table is what clients have pushed.
type Table struct {
	opt           Options
	subscriptions atomic.Pointer[[]*Subscription]

	expanding sync.Mutex // held by the one push that is expanded

	mu        sync.Mutex
	instances *simplelru.LRU[[16]byte, instance] // by their last push; guarded by mu
	series    map[string]*series                 // by all that tells them apart; guarded by mu
	swept     time.Time                          // when series were last forgotten; guarded by mu
	left      [reasons]uint64                    // points that are not kept; guarded by mu
}

// instance is one that has pushed.
type instance struct {
	pushed, expires time.Time
	subscription    int32 // that it has pushed under
	terminated      bool
}

// series is the latest of what one kind of client has pushed of a metric.
type series struct {
	Sample
	expires time.Time
}

// New makes an empty table.
func New(opt Options) *Table {
	if opt.Series == 0 {
		opt.Series = DefaultSeries
	}
	if opt.Random == nil {
		opt.Random = func() [16]byte { return uuid.New() }
	}
	instances, err := simplelru.NewLRU[[16]byte, instance](maxInstances, nil)
	if err != nil {
		panic(fmt.Sprintf("telemetry: %d instances: %v", maxInstances, err))
	}
	t := &Table{opt: opt, instances: instances, series: map[string]*series{}}
	t.subscriptions.Store(new([]*Subscription))
	return t
}

// SetSubscriptions replaces all subscriptions.
func (t *Table) SetSubscriptions(all []*Subscription) { t.subscriptions.Store(&all) }

// Subscribe returns what a client is to push. One without an instance id gets one.
func (t *Table) Subscribe(c Client) Assigned {
	if c.Instance == [16]byte{} {
		c.Instance = newInstance(t.opt.Random)
	}
	return assign(*t.subscriptions.Load(), &c)
}

// Push is what a client has to say.
type Push struct {
	Subscription int32
	Terminating  bool // it is the client's last
	Codec        int8
	Metrics      []byte
}

// Push takes what a client has pushed. It may wait for another push to be expanded.
// Errors are those above.
func (t *Table) Push(now time.Time, c Client, p Push) error {
	if reserved(c.Instance) {
		return fmt.Errorf("%w: %s is no instance", ErrInvalidRequest, encodeInstance(c.Instance))
	}
	a := assign(*t.subscriptions.Load(), &c)
	if a.ID != p.Subscription {
		return ErrUnknownSubscription
	}
	if p.Codec < 0 || p.Codec > int8(batch.Zstd) {
		return fmt.Errorf("%w: codec %d", ErrUnsupportedCompression, p.Codec)
	}
	if !guard.Check("telemetry.push-size", len(p.Metrics) <= configs.TelemetryMaxBytes) {
		return fmt.Errorf("%w: %d, at most %d", ErrTooLarge, len(p.Metrics), configs.TelemetryMaxBytes)
	}
	if err := t.admit(now, &a, p.Terminating); err != nil {
		return err
	}
	if len(p.Metrics) == 0 {
		return nil
	}
	t.expanding.Lock()
	defer t.expanding.Unlock()
	payload, err := expand(batch.Codec(p.Codec), p.Metrics)
	if err != nil {
		return err
	}
	if err := readPayload(payload, func(*point) {}, func([]byte) {}); err != nil {
		return err
	}
	t.keep(now, &c, &a, payload)
	return nil
}

// admit notes that an instance pushes, if it may now.
func (t *Table) admit(now time.Time, a *Assigned, terminating bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	if in, known := t.instances.Peek(a.Instance); known {
		if in.terminated {
			return fmt.Errorf("%w: the instance has ended", ErrInvalidRequest)
		}
		due := in.pushed.Add(a.Interval - a.Interval/slackShare)
		if !guard.Check("telemetry.interval", in.subscription != a.ID || terminating || !now.Before(due)) {
			return ErrTooEarly
		}
	}
	t.instances.Add(a.Instance, instance{pushed: now, expires: now.Add(keptIntervals * a.Interval), subscription: a.ID, terminated: terminating})
	return nil
}

// expand decompresses metrics.
func expand(codec batch.Codec, metrics []byte) ([]byte, error) {
	if codec == batch.None {
		return metrics, nil
	}
	payload, err := batch.Decompress(codec, metrics, maxPayload)
	if e, ok := errors.AsType[*batch.Error](err); ok {
		if e.Code == batch.DecompressedTooLarge {
			return nil, fmt.Errorf("%w: %v", ErrTooLarge, err)
		}
		return nil, fmt.Errorf("%w: %v", ErrInvalidRecord, err)
	}
	return payload, err
}

// keep brings the series to what a payload says, which was read to its end before.
func (t *Table) keep(now time.Time, c *Client, a *Assigned, payload []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var key []byte
	err := readPayload(payload, func(p *point) {
		var why reason
		if key, why = t.keepPoint(now, c, a, p, key[:0]); why >= 0 {
			t.left[why]++
		}
	}, func(name []byte) {
		if a.wants(name) {
			t.left[leftForType]++
		}
	})
	if err != nil {
		panic(fmt.Sprintf("telemetry: a payload of %d bytes was read once, and not again: %v", len(payload), err))
	}
}

// kept is no reason: the point is kept, or there is none.
const kept reason = -1

func (t *Table) keepPoint(now time.Time, c *Client, a *Assigned, p *point, key []byte) ([]byte, reason) {
	if !a.wants(p.name) {
		return key, leftUnasked
	}
	if p.absent || math.IsNaN(p.value) || math.IsInf(p.value, 0) || p.monotonic && p.value < 0 {
		return key, kept
	}
	labels, why := labelsOf(c, p)
	if why != kept {
		return key, why
	}
	key = strconv.AppendBool(key, p.monotonic)
	var at [numLabels]int // of the labels in the key
	for i, l := range labels {
		key = binary.AppendUvarint(key, uint64(len(l)))
		at[i] = len(key)
		key = append(key, l...)
	}
	s, known := t.series[string(key)]
	if !known {
		if !guard.Check("telemetry.series", len(t.series) < t.opt.Series) {
			return key, leftForLimit
		}
		s = &series{Sample: Sample{Counter: p.monotonic}}
		owned := string(key)
		for i, l := range labels {
			s.Labels[i] = owned[at[i] : at[i]+len(l)]
		}
		t.series[owned] = s
	} else if now.After(s.expires) {
		s.Value = 0 // it was forgotten
	}
	if p.delta {
		s.Value += p.value
	} else {
		s.Value = p.value
	}
	s.expires = now.Add(keptIntervals * a.Interval)
	return key, kept
}

// labelsOf returns what tells the series of a point apart, as bytes of the point.
func labelsOf(c *Client, p *point) (labels [numLabels][]byte, why reason) {
	if len(p.attributes) > maxAttributes {
		return labels, leftForText
	}
	var attributes []byte
	for _, a := range p.attributes {
		if a.text == nil {
			return labels, leftForType
		}
		if string(a.key) == "client_id" && string(a.text) == c.ID {
			continue
		}
		if len(attributes) > 0 {
			attributes = append(attributes, ',')
		}
		if len(attributes)+len(a.key)+len(a.text) > maxText {
			return labels, leftForText
		}
		attributes = append(append(append(attributes, a.key...), '='), a.text...)
	}
	labels = [numLabels][]byte{p.name, attributes, []byte(c.ID), []byte(c.SoftwareName), []byte(c.SoftwareVersion)}
	size := 0
	for _, l := range labels {
		size += len(l)
		if !utf8.Valid(l) {
			return labels, leftForText
		}
	}
	if !guard.Check("telemetry.text", size <= maxText) {
		return labels, leftForText
	}
	return labels, kept
}

// sweep forgets what has expired, at most once in sweepEvery.
func (t *Table) sweep(now time.Time) {
	if now.Sub(t.swept) < sweepEvery {
		return
	}
	t.swept = now
	for key, s := range t.series {
		if now.After(s.expires) {
			delete(t.series, key)
		}
	}
	for {
		if _, in, ok := t.instances.GetOldest(); !ok || !now.After(in.expires) {
			return
		}
		t.instances.RemoveOldest()
	}
}
