package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/batch"
)

// Condition is what a record is to be like for a module to be shown it. It holds if all
// that it names does. It is decided without the module, and without memory.
type Condition struct {
	// Header is the name of a header; one of the five behind it says what of it. A record
	// with several of that name needs one that fits; a null value fits Present alone.
	Header  string  `json:"header,omitempty"`
	Present *bool   `json:"present,omitempty"` // there is one, or none
	Equals  *string `json:"equals,omitempty"`
	Prefix  *string `json:"prefix,omitempty"`
	Suffix  *string `json:"suffix,omitempty"`
	Glob    *string `json:"glob,omitempty"` // * any text, ? any character, […] one of several

	Size *Range `json:"size,omitempty"`   // bytes of key and value
	Age  *Range `json:"age_ms,omitempty"` // of the record's timestamp, by the broker's clock; without a timestamp it does not hold

	Not bool `json:"not,omitempty"` // it holds if the rest does not

	name []byte
	glob *regexp.Regexp
}

// Range is the numbers from Min to Max, both of them meant; nil: no bound.
type Range struct {
	Min *int64 `json:"min,omitempty"`
	Max *int64 `json:"max,omitempty"`
}

func (r *Range) holds(v int64) bool {
	return (r.Min == nil || v >= *r.Min) && (r.Max == nil || v <= *r.Max)
}

func (r *Range) validate(name string) error {
	switch {
	case r.Min == nil && r.Max == nil:
		return fmt.Errorf("%s has neither min nor max: give one", name)
	case r.Min != nil && r.Max != nil && *r.Min > *r.Max:
		return fmt.Errorf("%s: min %d is larger than max %d: no record is so", name, *r.Min, *r.Max)
	}
	return nil
}

func (c *Condition) validate() error {
	tests := 0
	for _, has := range []bool{c.Present != nil, c.Equals != nil, c.Prefix != nil, c.Suffix != nil, c.Glob != nil} {
		if has {
			tests++
		}
	}
	switch {
	case c.Header != "" && tests != 1:
		return fmt.Errorf("of header %q one of present, equals, prefix, suffix and glob is asked, not %d of them", c.Header, tests)
	case c.Header == "" && tests > 0:
		return errors.New("header is missing: name the one that is meant")
	case c.Header == "" && c.Size == nil && c.Age == nil:
		return errors.New("it asks for nothing: name a header, size or age_ms")
	}
	for _, text := range []*string{&c.Header, c.Equals, c.Prefix, c.Suffix, c.Glob} {
		if text != nil && len(*text) > maxPattern {
			return fmt.Errorf("a text of %d bytes: at most %d", len(*text), maxPattern)
		}
	}
	if c.Glob != nil {
		var err error
		if c.glob, err = compileGlob(*c.Glob); err != nil {
			return fmt.Errorf("glob %q: %w", *c.Glob, err)
		}
	}
	c.name = []byte(c.Header)
	var errs []error
	if c.Size != nil {
		errs = append(errs, c.Size.validate("size"))
	}
	if c.Age != nil {
		errs = append(errs, c.Age.validate("age_ms"))
	}
	return errors.Join(errs...)
}

// Selects reports whether the module is to be shown a record at a time, ms since 1970.
func (s *Spec) Selects(r *abi.Record, now int64) bool {
	for i := range s.When {
		c := &s.When[i]
		if (c.fits(len(r.Key)+len(r.Value), r.Timestamp, now) && c.inHeaders(r.Headers)) != c.Not {
			return true
		}
	}
	return len(s.When) == 0
}

// selectsRaw is Selects of a record as it lies in its batch.
func (s *Spec) selectsRaw(r *batch.Record, now int64) bool {
	for i := range s.When {
		c := &s.When[i]
		if (c.fits(len(r.Key)+len(r.Value), r.Timestamp, now) && c.inRawHeaders(r)) != c.Not {
			return true
		}
	}
	return len(s.When) == 0
}

// fits reports whether size and age are as the condition asks.
func (c *Condition) fits(size int, timestamp, now int64) bool {
	if c.Size != nil && !c.Size.holds(int64(size)) {
		return false
	}
	return c.Age == nil || timestamp != batch.NoTimestamp && c.Age.holds(now-timestamp)
}

func (c *Condition) inHeaders(headers []abi.Header) bool {
	if c.Header == "" {
		return true
	}
	for i := range headers {
		if headers[i].Name == c.Header && c.is(headers[i].Value) {
			return c.Present == nil || *c.Present
		}
	}
	return c.Present != nil && !*c.Present
}

func (c *Condition) inRawHeaders(r *batch.Record) bool {
	if c.Header == "" {
		return true
	}
	found := false
	r.Headers(func(h batch.Header) bool {
		found = bytes.Equal(h.Key, c.name) && c.is(h.Value)
		return !found
	})
	if c.Present != nil {
		return found == *c.Present
	}
	return found
}

// is reports whether a header's value is as the condition asks.
func (c *Condition) is(value []byte) bool {
	switch {
	case c.Present != nil:
		return true
	case value == nil:
		return false
	case c.Equals != nil:
		return string(value) == *c.Equals
	case c.Prefix != nil:
		return len(value) >= len(*c.Prefix) && string(value[:len(*c.Prefix)]) == *c.Prefix
	case c.Suffix != nil:
		return len(value) >= len(*c.Suffix) && string(value[len(value)-len(*c.Suffix):]) == *c.Suffix
	}
	return c.glob.Match(value)
}
