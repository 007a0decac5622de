package telemetry

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// message appends a field that is a message, a string or bytes.
func message(b []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), content)
}

func varint(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func fixed(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), v)
}

// payloadOf wraps metrics as clients do, with a resource and a scope before them.
func payloadOf(all ...[]byte) []byte {
	scope := message(nil, 1, message(nil, 1, []byte("scope")))
	for _, m := range all {
		scope = message(scope, metrics, m)
	}
	resource := message(nil, 1, message(nil, 1, message(message(nil, attributeKey, []byte("group_id")), attributeValue, message(nil, anyString, []byte("g")))))
	return message(nil, resourceMetrics, message(message(resource, scopeMetrics, scope), 3, []byte("schema")))
}

func attributeOf(key string, value []byte) []byte {
	return message(message(nil, attributeKey, []byte(key)), attributeValue, value)
}

func text(s string) []byte { return message(nil, anyString, []byte(s)) }

// valueOf is a point; attributes are keys and their values.
func valueOf(v float64, attributes ...[]byte) []byte {
	b := fixed(fixed(nil, 2, 1), 3, 2) // times
	for _, a := range attributes {
		b = message(b, pointAttributes, a)
	}
	return fixed(b, pointDouble, math.Float64bits(v))
}

func gauge(name string, points ...[]byte) []byte {
	var data []byte
	for _, p := range points {
		data = message(data, dataPoints, p)
	}
	return message(message(nil, metricName, []byte(name)), metricGauge, data)
}

// sum is a counter; what it is stands behind its points, and its name behind all.
func sum(name string, temporality uint64, points ...[]byte) []byte {
	var data []byte
	for _, p := range points {
		data = message(data, dataPoints, p)
	}
	data = varint(varint(data, sumTemporality, temporality), sumMonotonic, 1)
	return message(message(nil, metricSum, data), metricName, []byte(name))
}

const (
	delta      = 1
	cumulative = 2
)

func read(payload []byte) (string, error) {
	var all []string
	err := readPayload(payload, func(p *point) {
		s := fmt.Sprintf("%s=%v", p.name, p.value)
		for _, a := range p.attributes {
			s += fmt.Sprintf(" %s:%s", a.key, a.text)
		}
		if p.monotonic {
			s += " monotonic"
		}
		if p.delta {
			s += " delta"
		}
		if p.absent {
			s += " absent"
		}
		all = append(all, s)
	}, func(name []byte) { all = append(all, "other "+string(name)) })
	return strings.Join(all, "; "), err
}

func TestPayloadsAreRead(t *testing.T) {
	number := func(v int64) []byte { return fixed(nil, pointInt, uint64(v)) }
	for _, tc := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"nothing", nil, ""},
		{"a gauge", payloadOf(gauge("g", valueOf(1.5))), "g=1.5"},
		{"two points, sorted attributes", payloadOf(gauge("g", valueOf(1, attributeOf("z", text("1")), attributeOf("a", text("")), attributeOf("m", varint(nil, anyInt, 7))), valueOf(2))), "g=1 a: m:7 z:1; g=2"},
		{"values of attributes", payloadOf(gauge("g", valueOf(1, attributeOf("a", varint(nil, anyBool, 1)), attributeOf("b", fixed(nil, anyDouble, math.Float64bits(2.5)))))), "g=1 a:true b:2.5"},
		{"a whole number", payloadOf(gauge("g", number(-3))), "g=-3"},
		{"a sum of deltas", payloadOf(sum("s", delta, valueOf(4))), "s=4 monotonic delta"},
		{"a histogram", payloadOf(message(message(nil, metricName, []byte("h")), 9, []byte{})), "other h"},
		{"no value", payloadOf(gauge("g", nil)), "g=0 absent"},
		{"a value that was not recorded", payloadOf(gauge("g", varint(number(1), pointFlags, noValue))), "g=1 absent"},
		{"fields that nobody knows", append(payloadOf(gauge("g", varint(number(1), 99, 1))), fixed(nil, 100, 1)...), "g=1"},
	} {
		if got, err := read(tc.payload); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
	var many [][]byte
	for i := range 100 {
		many = append(many, attributeOf(fmt.Sprint(i), text("v")))
	}
	if err := readPayload(payloadOf(gauge("g", valueOf(1, many...))), func(p *point) {
		if len(p.attributes) != maxAttributes+1 {
			t.Errorf("%d of 100 attributes are kept", len(p.attributes))
		}
	}, nil); err != nil {
		t.Error(err)
	}
}

// A payload that ends early, or has a type where another is due, is no payload.
func TestBrokenPayloadsAreRefused(t *testing.T) {
	whole := payloadOf(gauge("g", valueOf(1, attributeOf("a", text("v")))), sum("s", delta, valueOf(1)))
	for n := 1; n < len(whole); n++ {
		if got, err := read(whole[:n]); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("the first %d of %d bytes: %q, %v", n, len(whole), got, err)
		}
	}
	for name, payload := range map[string][]byte{
		"a number for resources":    varint(nil, resourceMetrics, 1),
		"a number for scopes":       message(nil, resourceMetrics, varint(nil, scopeMetrics, 1)),
		"a number for metrics":      message(nil, resourceMetrics, message(nil, scopeMetrics, varint(nil, metrics, 1))),
		"a number for a name":       payloadOf(varint(nil, metricName, 1)),
		"a number for a gauge":      payloadOf(varint(nil, metricGauge, 1)),
		"a number for a point":      payloadOf(message(nil, metricGauge, varint(nil, dataPoints, 1))),
		"a string for temporality":  payloadOf(message(nil, metricSum, message(nil, sumTemporality, nil))),
		"a string for a value":      payloadOf(gauge("g", message(nil, pointDouble, nil))),
		"a string for flags":        payloadOf(gauge("g", message(nil, pointFlags, nil))),
		"a number for an attribute": payloadOf(gauge("g", varint(nil, pointAttributes, 1))),
		"a number for a key":        payloadOf(gauge("g", message(nil, pointAttributes, varint(nil, attributeKey, 1)))),
		"a number for a text":       payloadOf(gauge("g", message(nil, pointAttributes, message(nil, attributeValue, varint(nil, anyString, 1))))),
		"field 0":                   {0x02, 0},
	} {
		if got, err := read(payload); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Whatever comes is read to its end or refused, and is the same when it is read again.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(payloadOf(gauge("g", valueOf(1, attributeOf("a", text("v"))), valueOf(2))))
	f.Add(payloadOf(sum("s", delta, valueOf(1)), sum("c", cumulative, fixed(nil, pointInt, 3))))
	f.Add(payloadOf(message(message(nil, metricName, []byte("h")), 9, []byte{1, 2})))
	f.Add(payloadOf(gauge("\xff\x00", varint(valueOf(math.NaN()), pointFlags, 1))))
	f.Add([]byte{0x0b, 0x0b, 0x0c, 0x0c})
	f.Fuzz(func(t *testing.T, payload []byte) {
		points := 0
		err := readPayload(payload, func(p *point) {
			if points++; len(p.attributes) > maxAttributes+1 {
				t.Errorf("%d attributes", len(p.attributes))
			}
		}, func([]byte) {})
		if err != nil && !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%v", err)
		}
		if points > len(payload) {
			t.Errorf("%d points of %d bytes", points, len(payload))
		}
		table := New(Options{Series: 4})
		table.SetSubscriptions([]*Subscription{everything(t)})
		c := Client{Instance: [16]byte{9}, ID: "c"}
		pushed := table.Push(start, c, Push{Subscription: table.Subscribe(c).ID, Metrics: payload})
		if (pushed == nil) != (err == nil) {
			t.Errorf("read: %v, pushed: %v", err, pushed)
		}
		if samples, _ := table.Collect(start); len(samples) > 4 || err != nil && len(samples) > 0 {
			t.Errorf("%d series, %v", len(samples), err)
		}
	})
}
