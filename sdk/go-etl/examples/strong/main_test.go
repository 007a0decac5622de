package main

import (
	"reflect"
	"strings"
	"testing"

	etl "rustmq.dev/rustmq/sdk/go-etl"
)

func TestStrongOnesAreRoutedAndTheOthersStay(t *testing.T) {
	h, err := etl.Test(newStrong, `{"at_least":5}`)
	if err != nil {
		t.Fatal(err)
	}
	got := h.Record(etl.TestRecord{Value: []byte(`{"mag":5.3,"net":"us"}`), Headers: []etl.Header{{Name: "a", Value: []byte("b")}}})
	want := etl.Decision{
		Action: etl.Route, Text: "quakes.strong", ReplacesHeader: true,
		Headers: []etl.Header{{Name: "a", Value: []byte("b")}, {Name: "strong", Value: []byte("yes")}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := h.Record(etl.TestRecord{Value: []byte(`{"mag":4.9}`)}); !reflect.DeepEqual(got, etl.Decision{}) {
		t.Errorf("%+v", got)
	}
	if len(h.Lines) != 1 || h.Lines[0].Text != "strong: from 5 on" || h.Metrics["records"] != 2 {
		t.Errorf("it said %+v and counted %v", h.Lines, h.Metrics)
	}
}

func TestWhatHasNoMagnitudeIsRejected(t *testing.T) {
	h, err := etl.Test(newStrong, "null")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"", "{}", `{"mag":"big"}`, `{"mag":`} {
		if d := h.Record(etl.TestRecord{Value: []byte(value)}); d.Action != etl.Reject {
			t.Errorf("%s: %+v", value, d)
		}
	}
	if d := h.Record(etl.TestRecord{}); d.Action != etl.Reject {
		t.Errorf("a tombstone: %+v", d)
	}
	if _, err := etl.Test(newStrong, "{}"); err == nil || !strings.Contains(err.Error(), "at_least") {
		t.Errorf("a wrong config: %v", err)
	}
}
