package etl

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// mirror writes what it sees into the value, or does what the value says.
type mirror struct{}

func newMirror(config []byte) (Transform, error) {
	switch string(config) {
	case "refuse":
		return nil, errors.New("as told")
	case "silent":
		return nil, errors.New("")
	case "nothing":
		return nil, nil
	}
	return mirror{}, nil
}

func (mirror) Batch(b Batch) { MetricAdd("records", float64(b.Len())) }

func (mirror) Record(r Record, out *Output) {
	switch string(r.Value()) {
	case "keep":
	case "drop":
		out.Drop()
	case "reject":
		out.Reject(strings.Repeat("é", MaxText))
	case "route":
		out.Key(nil)
		out.Route("elsewhere")
	case "rejected after all":
		out.Value([]byte("lost"))
		out.Reject("after all")
	case "headers":
		out.Headers(Header{Name: "a"}, Header{Name: "", Value: []byte{}})
	case "none":
		out.Headers()
	case "large":
		out.Value(make([]byte, min(600<<10, out.Room()+1)))
	case "all headers":
		out.Headers(make([]Header, maxHeaders)...)
	case "many headers":
		out.Headers(make([]Header, maxHeaders+1)...)
	case "long reason":
		out.Reject(strings.Repeat("r", MaxText))
	default:
		out.Key(r.Key())
		out.AppendValue(func(v []byte) []byte {
			b := r.Batch()
			v = fmt.Appendf(v, "%s %d %d %v %v %v %d %d", b.Topic(), b.Partition(), b.Timestamp(), b.Transactional(), b.DryRun(), b.Async(), r.Timestamp(), r.Offset())
			for name, value := range r.Headers() {
				v = fmt.Appendf(v, " %q=%q,%v", name, value, value == nil)
			}
			return v
		})
	}
}

func TestABatchIsSeenAsItWasLaid(t *testing.T) {
	h, err := Test(newMirror, "")
	if err != nil {
		t.Fatal(err)
	}
	value := func(v string) TestRecord { return TestRecord{Value: []byte(v)} }
	see := TestRecord{
		Timestamp: 7, Offset: 9, Key: []byte("key"), Value: []byte("see"),
		Headers: []Header{{"h", []byte("12345")}, {"", []byte{}}, {"null", nil}},
	}
	batch := TestBatch{
		Topic: "quakes", Partition: 5, Timestamp: 1234, Transactional: true, Async: true,
		Records: []TestRecord{value("keep"), see, {}, value("drop"), value("headers"), value("none"), value("route")},
	}
	for range 2 {
		got := h.Batch(batch)
		want := []Decision{
			{},
			{ReplacesKey: true, ReplacesValue: true, Key: []byte("key"), Value: []byte(`quakes 5 1234 true false true 7 9 "h"="12345",false ""="",false "null"="",true`)},
			{ReplacesKey: true, ReplacesValue: true, Value: []byte("quakes 5 1234 true false true 0 0")},
			{Action: Drop},
			{ReplacesHeader: true, Headers: []Header{{"a", nil}, {"", []byte{}}}},
			{ReplacesHeader: true},
			{Action: Route, ReplacesKey: true, Text: "elsewhere"},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	if h.Metrics["records"] != 14 {
		t.Errorf("counted %v, want 14 records", h.Metrics)
	}
}

func TestAReasonIsCutBetweenCharactersAndARejectReplacesNothing(t *testing.T) {
	h, err := Test(newMirror, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := h.Record(TestRecord{Value: []byte("reject")}); d.Action != Reject || len(d.Text) != MaxText || !utf8.ValidString(d.Text) {
		t.Errorf("%d bytes: %q", len(d.Text), d.Text)
	}
	if d := h.Record(TestRecord{Value: []byte("rejected after all")}); !reflect.DeepEqual(d, Decision{Action: Reject, Text: "after all"}) {
		t.Errorf("%+v", d)
	}
	if got := h.Batch(TestBatch{}); len(got) != 0 {
		t.Errorf("an empty batch: %+v", got)
	}
}

func TestWhatTheHostWouldNotTakeIsRejectedAlone(t *testing.T) {
	h, err := Test(newMirror, "")
	if err != nil {
		t.Fatal(err)
	}
	value := func(v string) TestRecord { return TestRecord{Value: []byte(v)} }
	got := h.Batch(TestBatch{Records: []TestRecord{value("large"), value("large"), value("keep"), value("large"), value("drop")}})
	for i, want := range []Action{Keep, Reject, Keep, Reject, Drop} {
		if got[i].Action != want {
			t.Errorf("record %d: action %d, text %q; want %d", i, got[i].Action, got[i].Text, want)
		}
	}
	if len(got[0].Value) != 600<<10 || !strings.HasPrefix(got[1].Text, "too large") || got[1].ReplacesValue {
		t.Errorf("%d bytes, then %q", len(got[0].Value), got[1].Text)
	}
	got = h.Batch(TestBatch{Records: []TestRecord{value("many headers"), value("all headers")}})
	if got[0].Action != Reject || !strings.HasPrefix(got[0].Text, "too many headers") || got[0].ReplacesHeader {
		t.Errorf("action %d, text %q of a record that is given too many headers", got[0].Action, got[0].Text)
	}
	if got[1].Action != Keep || len(got[1].Headers) != maxHeaders {
		t.Errorf("action %d, %d headers", got[1].Action, len(got[1].Headers))
	}
	many := TestBatch{Records: make([]TestRecord, 5000)}
	for i := range many.Records {
		many.Records[i] = value("long reason")
	}
	size := len(many.encode())
	said := 0
	for i, d := range h.Batch(many) {
		if said += len(d.Text); d.Action != Reject || d.Text == "" {
			t.Fatalf("record %d: %+v", i, d)
		}
	}
	if said > size*times {
		t.Errorf("%d bytes of reasons for a batch of %d", said, size)
	}
}

func TestARefusedConfigSaysWhy(t *testing.T) {
	for config, want := range map[string]string{"refuse": "as told", "silent": "without a reason", "nothing": "no transform"} {
		if _, err := Test(newMirror, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v lacks %q", config, err, want)
		}
	}
	if _, err := Test(nil, ""); err == nil || !strings.Contains(err.Error(), "Register") {
		t.Errorf("without a transform: %v", err)
	}
}
