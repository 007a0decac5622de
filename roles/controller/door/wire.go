package door

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

// fault is an error on its way; zero: there is none.
type fault struct {
	Is      bool
	Text    string // of the whole error, if it is more than a metadata.Error
	Coded   bool   // there is a metadata.Error in it
	Code    metadata.Code
	Message string
}

func faultOf(err error) fault {
	if err == nil {
		return fault{}
	}
	f := fault{Is: true, Text: err.Error()}
	if e, ok := errors.AsType[*metadata.Error](err); ok {
		f.Coded, f.Code, f.Message = true, e.Code, e.Message
		if f.Text == e.Error() {
			f.Text = ""
		}
	}
	return f
}

func faultsOf(errs []error) []fault {
	faults := make([]fault, len(errs))
	for i, err := range errs {
		faults[i] = faultOf(err)
	}
	return faults
}

// err returns the error that went in, as far as callers can tell.
func (f fault) err() error {
	switch {
	case !f.Is:
		return nil
	case !f.Coded:
		return errors.New(f.Text)
	}
	e := &metadata.Error{Code: f.Code, Message: f.Message}
	if f.Text == "" {
		return e
	}
	return &toldError{f.Text, e}
}

// outcome implements entry.
func (f fault) outcome() fault { return f }

func errorsOf(faults []fault) []error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f.err()
	}
	return errs
}

// undecided reports whether the error says no more than that the controller has ceased
// to lead, or is being closed, while it was at it: what it was at may be done or not.
func (f fault) undecided() bool {
	return f.Is && f.Coded && (f.Code == metadata.NotController || f.Code == metadata.BrokerNotAvailable)
}

// toldError is an error of another process that has a metadata.Error in it.
type toldError struct {
	text string
	is   *metadata.Error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.is }

// encode returns the body of a call or of its answer.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Bytes(), nil
}

// decode takes nothing but one whole value from a body. What it takes in memory is a small
// multiple of the body and of decodedSize: lists grow.
func decode(body []byte, v any) error {
	if !guard.Check("door.body-size", len(body) <= rpc.MaxCall) {
		return fmt.Errorf("a body of %d bytes, at most %d are taken", len(body), rpc.MaxCall)
	}
	r := bytes.NewReader(body)
	if err := gob.NewDecoder(r).Decode(v); err != nil {
		return fmt.Errorf("%d bytes that are no %T: %w", len(body), v, err)
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes behind a %T", r.Len(), v)
	}
	return nil
}

// decodedSize bounds what the structs in a body take in memory, without reading it: each
// ends with a byte 0, and an empty one is that byte. So it may be more than they take.
func decodedSize(body []byte, of reflect.Type) int {
	if len(body) <= smallBody {
		return 0
	}
	return bytes.Count(body, []byte{0}) * largestEntry(of)
}

// largestEntry returns the size of the largest entry of a list in t, or 1.
func largestEntry(t reflect.Type) int {
	largest := 1
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			largest = max(largest, largestEntry(t.Field(i).Type))
		}
	case reflect.Slice:
		largest = max(int(t.Elem().Size()), largestEntry(t.Elem()))
	}
	return largest
}
