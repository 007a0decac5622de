package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/batch"
)

var start = time.Unix(1_800_000_000, 0)

// pushing is a client of a table whose subscription has all metrics, every second.
type pushing struct {
	t     testing.TB
	table *Table
	c     Client
	now   time.Time
}

func newPushing(t testing.TB, opt Options) *pushing {
	table := New(opt)
	table.SetSubscriptions([]*Subscription{everything(t)})
	return &pushing{t, table, Client{Instance: [16]byte{1}, ID: "c", SoftwareName: "java", SoftwareVersion: "4.1"}, start}
}

// other is another instance.
func (p *pushing) other(instance int) *pushing {
	o := *p
	binary.BigEndian.PutUint64(o.c.Instance[:], uint64(instance)+100)
	return &o
}

func (p *pushing) push(payload []byte) error {
	return p.table.Push(p.now, p.c, Push{Subscription: p.table.Subscribe(p.c).ID, Metrics: payload})
}

// next pushes after an interval.
func (p *pushing) next(payload []byte) {
	p.t.Helper()
	p.now = p.now.Add(time.Second)
	if err := p.push(payload); err != nil {
		p.t.Fatal(err)
	}
}

// shown is what is collected, in order.
func (p *pushing) shown() string {
	samples, _ := p.table.Collect(p.now)
	var all []string
	for _, s := range samples {
		kind := ""
		if s.Counter {
			kind = " counter"
		}
		all = append(all, fmt.Sprintf("%s=%v%s", strings.Trim(strings.Join(s.Labels[:], " "), " "), s.Value, kind))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func (p *pushing) wantShown(want string) {
	p.t.Helper()
	if got := p.shown(); got != want {
		p.t.Errorf("shown: %s\nwant:  %s", got, want)
	}
}

// Of gauges and cumulative sums the latest is shown, deltas are added up, over all
// instances that are one client to who looks.
func TestTheLatestIsShown(t *testing.T) {
	p := newPushing(t, Options{})
	push := func(p *pushing, v float64) {
		t.Helper()
		p.next(payloadOf(gauge("g", valueOf(v, attributeOf("topic", text("t")), attributeOf("client_id", text(p.c.ID)))), sum("d", delta, valueOf(v)), sum("c", cumulative, valueOf(v))))
	}
	push(p, 5)
	p.wantShown("c  c java 4.1=5 counter; d  c java 4.1=5 counter; g topic=t c java 4.1=5")
	push(p, 3)
	push(p.other(1), 2)
	p.wantShown("c  c java 4.1=2 counter; d  c java 4.1=10 counter; g topic=t c java 4.1=2")
	elsewhere := p.other(2)
	elsewhere.c.ID = "b"
	push(elsewhere, 1)
	p.wantShown("c  b java 4.1=1 counter; c  c java 4.1=2 counter; d  b java 4.1=1 counter; d  c java 4.1=10 counter; g topic=t b java 4.1=1; g topic=t c java 4.1=2")
	p.now = p.now.Add(time.Second)
	p.next(payloadOf(gauge("g", valueOf(math.NaN()), valueOf(math.Inf(1))), sum("d", delta, valueOf(-4), valueOf(math.NaN()))))
	if got := p.shown(); strings.Contains(got, "NaN") || strings.Contains(got, "Inf") || !strings.Contains(got, "d  c java 4.1=10") {
		t.Errorf("what is no value: %s", got)
	}
}

// What is not pushed for three intervals is gone, and begins anew.
func TestSeriesExpire(t *testing.T) {
	p := newPushing(t, Options{})
	p.next(payloadOf(sum("d", delta, valueOf(5))))
	p.now = p.now.Add(3 * time.Second)
	p.wantShown("d  c java 4.1=5 counter")
	p.now = p.now.Add(time.Millisecond)
	p.wantShown("")
	p.next(payloadOf(sum("d", delta, valueOf(2))))
	p.wantShown("d  c java 4.1=2 counter")
	p.now = p.now.Add(time.Minute)
	if _, counts := p.table.Collect(p.now); counts.Series != 0 || counts.Instances != 0 || len(p.table.series) != 0 {
		t.Errorf("after a minute: %+v, %d kept", counts, len(p.table.series))
	}
}

// An instance pushes once in an interval, its last and the first of a new subscription
// aside; nothing comes behind its last.
func TestPushesKeepToTheirInterval(t *testing.T) {
	p := newPushing(t, Options{})
	one := payloadOf(sum("d", delta, valueOf(1)))
	p.next(one)
	p.now = p.now.Add(899 * time.Millisecond)
	if err := p.push(one); !errors.Is(err, ErrTooEarly) {
		t.Errorf("too early: %v", err)
	}
	p.wantShown("d  c java 4.1=1 counter")
	p.now = p.now.Add(time.Millisecond) // a tenth early is its way
	if err := p.push(one); err != nil {
		t.Error(err)
	}
	if err := p.other(1).push(one); err != nil {
		t.Errorf("another instance: %v", err)
	}
	old := p.table.Subscribe(p.c).ID
	p.table.SetSubscriptions([]*Subscription{subscription(t, values{"metrics": "d", "interval.ms": "5000"})})
	if err := p.table.Push(p.now, p.c, Push{Subscription: old, Metrics: one}); !errors.Is(err, ErrUnknownSubscription) {
		t.Errorf("under what was the subscription: %v", err)
	}
	if err := p.push(one); err != nil {
		t.Errorf("the first of a new subscription: %v", err)
	}
	if err := p.push(one); !errors.Is(err, ErrTooEarly) {
		t.Errorf("the second: %v", err)
	}
	last := Push{Subscription: p.table.Subscribe(p.c).ID, Terminating: true, Metrics: one}
	if err := p.table.Push(p.now, p.c, last); err != nil {
		t.Errorf("the last: %v", err)
	}
	p.wantShown("d  c java 4.1=5 counter")
	if err := p.table.Push(p.now.Add(5*time.Second), p.c, last); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("behind the last: %v", err)
	}
	if err := p.table.Push(p.now, Client{}, last); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("without an instance: %v", err)
	}
}

// Whatever codec a client compresses by is read; what is too large, compressed or not,
// or no metrics at all, changes nothing.
func TestPushesAreBounded(t *testing.T) {
	p := newPushing(t, Options{})
	want := 0
	instances := 0
	push := func(codec batch.Codec, payload []byte) error {
		t.Helper()
		packed := payload
		if codec != batch.None {
			var err error
			if packed, err = batch.Compress(codec, 0, payload); err != nil {
				t.Fatal(err)
			}
		}
		instances++
		o := p.other(instances)
		return p.table.Push(o.now, o.c, Push{Subscription: p.table.Subscribe(o.c).ID, Codec: int8(codec), Metrics: packed})
	}
	for _, codec := range append(AcceptedCodecs(), batch.None) {
		if err := push(codec, payloadOf(sum("d", delta, valueOf(1)))); err != nil {
			t.Errorf("%v: %v", codec, err)
		}
		want++
		p.wantShown(fmt.Sprintf("d  c java 4.1=%d counter", want))
		if codec == batch.None {
			continue
		}
		large := payloadOf(sum("d", delta, valueOf(1)), gauge(strings.Repeat("a", maxPayload), valueOf(1)))
		if err := push(codec, large); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %d bytes: %v", codec, len(large), err)
		}
		p.now = p.now.Add(time.Second)
		if err := p.table.Push(p.now, p.c, Push{Subscription: p.table.Subscribe(p.c).ID, Codec: int8(codec), Metrics: []byte("no such frame")}); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%v: what is not compressed: %v", codec, err)
		}
	}
	if err := push(batch.None, payloadOf(gauge(strings.Repeat("a", configs.TelemetryMaxBytes), valueOf(1)))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than a push may have: %v", err)
	}
	if err := push(batch.None, append(payloadOf(sum("d", delta, valueOf(1))), 0xff)); !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("broken at its end: %v", err)
	}
	for _, codec := range []int8{-1, 5, 127} {
		if err := p.table.Push(p.now, p.c, Push{Subscription: p.table.Subscribe(p.c).ID, Codec: codec, Metrics: []byte{1}}); !errors.Is(err, ErrUnsupportedCompression) {
			t.Errorf("codec %d: %v", codec, err)
		}
	}
	p.next(nil) // as librdkafka says that it has nothing
	p.wantShown(fmt.Sprintf("d  c java 4.1=%d counter", want))
}

// A table holds so many series; those that are there go on, and there is room again when
// they have expired.
func TestSeriesAreBounded(t *testing.T) {
	p := newPushing(t, Options{Series: 2})
	p.next(payloadOf(gauge("a", valueOf(1)), gauge("b", valueOf(1)), gauge("c", valueOf(1)), gauge("a", valueOf(2))))
	p.wantShown("a  c java 4.1=2; b  c java 4.1=1")
	if _, counts := p.table.Collect(p.now); counts.Left["limit"] != 1 || counts.Series != 2 {
		t.Errorf("%+v", counts)
	}
	p.now = p.now.Add(time.Minute)
	p.next(payloadOf(gauge("c", valueOf(1))))
	p.wantShown("c  c java 4.1=1")
}

// What names a series is bounded and can be shown, however it is spread, and is what a
// subscription asks for.
func TestTextOfSeriesIsBounded(t *testing.T) {
	p := newPushing(t, Options{})
	long := strings.Repeat("a", maxText)
	var many [][]byte
	for i := range maxAttributes + 1 {
		many = append(many, attributeOf(fmt.Sprint(i), text("v")))
	}
	p.next(payloadOf(
		gauge("fits", valueOf(1, many[1:]...)),
		gauge(long, valueOf(1)), gauge("g", valueOf(1, attributeOf("k", text(long)))), gauge("g", valueOf(1, attributeOf(long, text("")))),
		gauge("g", valueOf(1, attributeOf("k", text(long[:maxText/2])), attributeOf("l", text(long[:maxText/2])))),
		gauge("\xff", valueOf(1)), gauge("g", valueOf(1, attributeOf("k", text("\xff")))), gauge("many", valueOf(1, many...)),
		gauge("g", valueOf(1, attributeOf("k", message(nil, 5, nil)))),
		message(message(nil, metricName, []byte("h")), 9, nil),
	))
	if _, counts := p.table.Collect(p.now); counts.Series != 1 || counts.Left["text"] != 7 || counts.Left["type"] != 2 {
		t.Errorf("%+v", counts)
	}
	p.table.SetSubscriptions([]*Subscription{subscription(t, values{"metrics": "fi", "interval.ms": "1000"})})
	p.next(payloadOf(gauge("g", valueOf(1)), gauge("fits", valueOf(2, many[1:]...)), message(message(nil, metricName, []byte("h")), 9, nil)))
	if _, counts := p.table.Collect(p.now); counts.Series != 1 || counts.Left["unasked"] != 1 || counts.Left["type"] != 2 {
		t.Errorf("%+v", counts)
	}
	stranger := p.other(1)
	stranger.c.ID = long
	stranger.next(payloadOf(gauge("fits", valueOf(1))))
	if _, counts := p.table.Collect(p.now); counts.Left["text"] != 8 {
		t.Errorf("a client id of %d bytes: %+v", len(long), counts)
	}
}

// Instances that nobody has seen do not fill the memory: the one that was silent for
// longest gives way.
func TestInstancesAreBounded(t *testing.T) {
	p := newPushing(t, Options{})
	for i := range maxInstances + 10 {
		if err := p.other(i).push(nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, counts := p.table.Collect(p.now); counts.Instances != maxInstances {
		t.Errorf("%d instances", counts.Instances)
	}
	if err := p.other(maxInstances).push(nil); !errors.Is(err, ErrTooEarly) {
		t.Errorf("one of the last: %v", err)
	}
}
