package main

import (
	"bytes"
	"errors"
	"strconv"

	etl "rustmq.dev/rustmq/sdk/go-etl"
)

var _ = etl.Register(newStrong)

func main() {}

type strong struct {
	atLeast float64
}

func newStrong(config []byte) (etl.Transform, error) {
	s := &strong{atLeast: 5}
	if text := bytes.TrimSpace(config); len(text) > 0 && string(text) != "null" {
		var ok bool
		if s.atLeast, ok = number(config, "at_least"); !ok {
			return nil, errors.New(`config: write {"at_least":5}`)
		}
	}
	etl.Log(etl.Info, "strong: from "+strconv.FormatFloat(s.atLeast, 'f', -1, 64)+" on")
	return s, nil
}

// number is the number behind "name": in a line of JSON.
func number(text []byte, name string) (float64, bool) {
	_, rest, found := bytes.Cut(text, []byte(`"`+name+`":`))
	end := bytes.IndexAny(rest, ",} ")
	if !found || end < 0 {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(rest[:end]), 64)
	return n, err == nil
}

// Batch counts records.
func (s *strong) Batch(b etl.Batch) { etl.MetricAdd("records", float64(b.Len())) }

// Record routes what is strong.
func (s *strong) Record(r etl.Record, out *etl.Output) {
	magnitude, ok := number(r.Value(), "mag")
	if !ok {
		out.Reject(`there is no magnitude: "mag" must be a number`)
		return
	}
	if magnitude >= s.atLeast {
		var headers []etl.Header
		for name, value := range r.Headers() {
			headers = append(headers, etl.Header{Name: name, Value: value})
		}
		out.Route("quakes.strong")
		out.Headers(append(headers, etl.Header{Name: "strong", Value: []byte("yes")})...)
	}
}
