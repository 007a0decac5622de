package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonRecord is a record as `consume -f json` prints it and `produce -f json`
// takes it. Bytes that are not UTF-8 stand in the fields with _base64; neither
// field, or null, is no key or no value.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   string       `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// jsonLine appends a record as one line.
func jsonLine(out []byte, r *kgo.Record) ([]byte, error) {
	line := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC().Format(time.RFC3339Nano)}
	line.Key, line.KeyBase64 = textOrBytes(r.Key)
	line.Value, line.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		header := jsonHeader{Key: h.Key}
		header.Value, header.ValueBase64 = textOrBytes(h.Value)
		line.Headers = append(line.Headers, header)
	}
	buf := bytes.NewBuffer(out)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false) // a value may be markup, and is for reading
	if err := enc.Encode(line); err != nil {
		return out, fmt.Errorf("print offset %d: %w", r.Offset, err)
	}
	return buf.Bytes(), nil
}

// fromJSON fills a record from a line of jsonLine; where it came from is left.
func fromJSON(line []byte, r *kgo.Record) error {
	var in jsonRecord
	if text := bytes.TrimSpace(line); len(text) == 0 {
		return errors.New("-f json: the line is empty")
	} else if text[0] != '{' { // null would be a record of nothing
		return fmt.Errorf("-f json wants an object a line, as `rustmq consume -f json` prints it, and not %q", clip(text))
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // "vaule" would send nothing
	if err := dec.Decode(&in); err != nil {
		return fmt.Errorf("-f json wants what `rustmq consume -f json` prints: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("-f json: there is more than an object on the line: write one a line")
	}
	r.Key = bytesOf(in.Key, in.KeyBase64)
	r.Value = bytesOf(in.Value, in.ValueBase64)
	for _, h := range in.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: bytesOf(h.Value, h.ValueBase64)})
	}
	if in.Timestamp != "" {
		at, err := time.Parse(time.RFC3339Nano, in.Timestamp)
		if err != nil {
			return fmt.Errorf("-f json: timestamp %q is not RFC 3339", in.Timestamp)
		}
		r.Timestamp = at
	}
	return nil
}

func textOrBytes(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func bytesOf(text *string, raw []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return raw
}
