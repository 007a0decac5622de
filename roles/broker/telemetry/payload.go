package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// point is one value of a payload. Its bytes are the payload's.
type point struct {
	name       []byte
	attributes []attribute // by key; valid until the next point
	value      float64
	monotonic  bool // a counter
	delta      bool // since the last push
	absent     bool // there is no value
}

// Field numbers: see doc.go.
const (
	resourceMetrics = 1
	scopeMetrics    = 2
	metrics         = 2

	metricName  = 1
	metricGauge = 5
	metricSum   = 7

	dataPoints     = 1
	sumTemporality = 2
	sumMonotonic   = 3
	deltaOnly      = 1

	pointDouble     = 4
	pointInt        = 6
	pointAttributes = 7
	pointFlags      = 8
	noValue         = 1

	attributeKey   = 1
	attributeValue = 2

	anyString = 1
	anyBool   = 2
	anyInt    = 3
	anyDouble = 4
)

// maxAttributes bounds those of one point: topics, partitions and nodes are told by
// three.
const maxAttributes = 16

// errPayload says that a payload is no MetricsData.
func errPayload(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidRecord, fmt.Sprintf(format, args...))
}

// field is one of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bytes  []byte // of a message, a string or bytes
	bits   uint64 // of a number
}

// fields walks the fields of a message.
func fields(b []byte, each func(field) error) error {
	for len(b) > 0 {
		f := field{}
		n := 0
		f.number, f.kind, n = protowire.ConsumeTag(b)
		if n < 0 {
			return errPayload("tag: %v", protowire.ParseError(n))
		}
		b = b[n:]
		switch f.kind {
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.bits, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(f.number, f.kind, b)
		}
		if n < 0 {
			return errPayload("field %d: %v", f.number, protowire.ParseError(n))
		}
		b = b[n:]
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether a field is of the type that its number stands for.
func (f field) is(kind protowire.Type) error {
	if f.kind != kind {
		return errPayload("field %d has wire type %d, not %d", f.number, f.kind, kind)
	}
	return nil
}

// each walks the fields of a message that f is, if it has that number.
func (f field) each(number protowire.Number, visit func(field) error) error {
	if f.number != number {
		return nil
	}
	if err := f.is(protowire.BytesType); err != nil {
		return err
	}
	return fields(f.bytes, visit)
}

// reader reads a payload, one point after the other.
type reader struct {
	points func(*point)
	others func(name []byte) // metrics that are neither sums nor gauges
	now    point             // made anew for each
}

// readPayload calls points with each point of sums and gauges, and others with the
// name of each metric that is neither.
func readPayload(payload []byte, points func(*point), others func(name []byte)) error {
	r := &reader{points: points, others: others}
	return fields(payload, func(f field) error {
		return f.each(resourceMetrics, func(f field) error {
			return f.each(scopeMetrics, func(f field) error {
				if f.number != metrics {
					return nil
				}
				if err := f.is(protowire.BytesType); err != nil {
					return err
				}
				return r.metric(f.bytes)
			})
		})
	})
}

// metric reads a metric. What is said of all its points may stand behind them.
func (r *reader) metric(b []byte) error {
	var name, data []byte
	var is protowire.Number
	err := fields(b, func(f field) error {
		switch f.number {
		case metricName:
			name = f.bytes
		case metricGauge, metricSum:
			is, data = f.number, f.bytes
		default:
			return nil
		}
		return f.is(protowire.BytesType)
	})
	if err != nil {
		return err
	}
	if is == 0 {
		r.others(name)
		return nil
	}
	var monotonic, delta bool
	err = fields(data, func(f field) error {
		if is != metricSum {
			return nil
		}
		switch f.number {
		case sumTemporality:
			delta = f.bits == deltaOnly
		case sumMonotonic:
			monotonic = f.bits != 0
		default:
			return nil
		}
		return f.is(protowire.VarintType)
	})
	if err != nil {
		return err
	}
	return fields(data, func(f field) error {
		if f.number != dataPoints {
			return nil
		}
		if err := f.is(protowire.BytesType); err != nil {
			return err
		}
		r.now = point{name: name, monotonic: monotonic, delta: delta, absent: true, attributes: r.now.attributes[:0]}
		if err := r.point(f.bytes); err != nil {
			return err
		}
		r.points(&r.now)
		return nil
	})
}

func (r *reader) point(b []byte) error {
	p := &r.now
	none := false
	err := fields(b, func(f field) error {
		switch f.number {
		case pointDouble:
			p.value, p.absent = math.Float64frombits(f.bits), false
			return f.is(protowire.Fixed64Type)
		case pointInt:
			p.value, p.absent = float64(int64(f.bits)), false
			return f.is(protowire.Fixed64Type)
		case pointFlags:
			none = f.bits&noValue != 0
			return f.is(protowire.VarintType)
		case pointAttributes:
			a := attribute{}
			if err := f.each(pointAttributes, a.read); err != nil {
				return err
			}
			if len(p.attributes) <= maxAttributes { // one more tells that there are too many
				p.attributes = append(p.attributes, a)
			}
		}
		return nil
	})
	slices.SortFunc(p.attributes, func(a, b attribute) int { return cmp.Or(bytes.Compare(a.key, b.key), bytes.Compare(a.text, b.text)) })
	p.absent = p.absent || none
	return err
}

// attribute is one thing by which points of a metric are told apart. A value that is
// itself made of values has no text.
type attribute struct{ key, text []byte }

func (a *attribute) read(f field) error {
	switch f.number {
	case attributeKey:
		a.key = f.bytes
		return f.is(protowire.BytesType)
	case attributeValue:
		return f.each(attributeValue, a.readValue)
	}
	return nil
}

func (a *attribute) readValue(f field) error {
	switch f.number {
	case anyString:
		a.text = f.bytes
		return f.is(protowire.BytesType)
	case anyBool:
		a.text = strconv.AppendBool(nil, f.bits != 0)
		return f.is(protowire.VarintType)
	case anyInt:
		a.text = strconv.AppendInt(nil, int64(f.bits), 10)
		return f.is(protowire.VarintType)
	case anyDouble:
		a.text = strconv.AppendFloat(nil, math.Float64frombits(f.bits), 'g', -1, 64)
		return f.is(protowire.Fixed64Type)
	}
	return nil
}
