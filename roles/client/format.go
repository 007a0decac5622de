package client

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// piece is a literal, or a verb.
type piece struct {
	literal  string
	verb     byte
	modifier string
}

// parseFormat reads the format language that consume and produce share: percent
// verbs with an optional {modifier}, and backslash escapes.
func parseFormat(format, verbs string) ([]piece, error) {
	var pieces []piece
	var literal []byte
	flush := func() {
		if len(literal) > 0 {
			pieces = append(pieces, piece{literal: string(literal)})
			literal = nil
		}
	}
	for i := 0; i < len(format); i++ {
		c := format[i]
		if (c == '%' || c == '\\') && i+1 == len(format) {
			return nil, usage("--format %q: it ends in a lone %q", format, c)
		}
		switch c {
		case '\\':
			i++
			escapes := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '0': 0, '\\': '\\'}
			e, ok := escapes[format[i]]
			if !ok {
				return nil, usage("--format %q: unknown escape \\%c; there are \\n \\t \\r \\0 \\\\", format, format[i])
			}
			literal = append(literal, e)
		case '%':
			i++
			if format[i] == '%' {
				literal = append(literal, '%')
				continue
			}
			if !strings.ContainsRune(verbs, rune(format[i])) {
				return nil, usage("--format %q: unknown verb %%%c; there are %%%s", format, format[i], strings.Join(strings.Split(verbs, ""), " %"))
			}
			flush()
			p := piece{verb: format[i]}
			if i+1 < len(format) && format[i+1] == '{' {
				end := strings.IndexByte(format[i:], '}')
				if end < 0 {
					return nil, usage("--format %q: a { is not closed", format)
				}
				p.modifier = format[i+2 : i+end]
				i += end
			}
			pieces = append(pieces, p)
		default:
			literal = append(literal, c)
		}
	}
	flush()
	return pieces, nil
}

// outputFormat writes records.
type outputFormat []piece

func parseOutputFormat(format string) (outputFormat, error) {
	pieces, err := parseFormat(format, "tpokvsTdheKV")
	if err != nil {
		return nil, err
	}
	for _, p := range pieces {
		switch p.modifier {
		case "", "hex", "base64":
		default:
			if p.verb != 'd' {
				return nil, usage("--format: modifier {%s}: want {hex} or {base64}", p.modifier)
			}
		}
	}
	return pieces, nil
}

// write appends the record as the format says.
func (f outputFormat) write(out []byte, r *kgo.Record) []byte {
	for _, p := range f {
		switch p.verb {
		case 0:
			out = append(out, p.literal...)
		case 't':
			out = append(out, r.Topic...)
		case 'p':
			out = strconv.AppendInt(out, int64(r.Partition), 10)
		case 'o':
			out = strconv.AppendInt(out, r.Offset, 10)
		case 'e':
			out = strconv.AppendInt(out, int64(r.LeaderEpoch), 10)
		case 'k':
			out = appendBytes(out, r.Key, p.modifier)
		case 'v', 's':
			out = appendBytes(out, r.Value, p.modifier)
		case 'K':
			out = strconv.AppendInt(out, int64(len(r.Key)), 10)
		case 'V':
			out = strconv.AppendInt(out, int64(len(r.Value)), 10)
		case 'T':
			out = strconv.AppendInt(out, r.Timestamp.UnixMilli(), 10)
		case 'd':
			layout := p.modifier
			if layout == "" {
				layout = time.RFC3339Nano
			}
			out = r.Timestamp.UTC().AppendFormat(out, layout)
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					out = append(out, ',')
				}
				out = append(append(out, h.Key...), '=')
				out = appendBytes(out, h.Value, p.modifier)
			}
		}
	}
	return out
}

func appendBytes(out, b []byte, modifier string) []byte {
	switch modifier {
	case "hex":
		return hex.AppendEncode(out, b)
	case "base64":
		return base64.StdEncoding.AppendEncode(out, b)
	}
	return append(out, b...)
}

// jsonRecord is a record as `consume -f json` prints it. Bytes that are not
// UTF-8 go into the fields with _base64.
type jsonRecord struct {
	Topic       string       `json:"topic"`
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
	Key   string `json:"key"`
	Value []byte `json:"value_base64"`
}

func jsonLine(out []byte, r *kgo.Record) ([]byte, error) {
	line := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC().Format(time.RFC3339Nano)}
	line.Key, line.KeyBase64 = textOrBytes(r.Key)
	line.Value, line.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		line.Headers = append(line.Headers, jsonHeader{h.Key, h.Value})
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return out, fmt.Errorf("print offset %d: %w", r.Offset, err)
	}
	return append(append(out, raw...), '\n'), nil
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

// inputFormat takes lines apart.
type inputFormat []piece

func parseInputFormat(format string) (inputFormat, error) {
	pieces, err := parseFormat(format, "kv")
	if err != nil {
		return nil, err
	}
	given := map[byte]bool{}
	for i, p := range pieces {
		switch {
		case p.verb == 0:
			continue
		case i > 0 && pieces[i-1].verb != 0:
			return nil, usage("--format %q: nothing stands between two verbs", format)
		case given[p.verb]:
			return nil, usage("--format %q: %%%c stands twice", format, p.verb)
		case p.modifier != "":
			return nil, usage("--format %q: a record is read without {%s}", format, p.modifier)
		}
		given[p.verb] = true
	}
	return pieces, nil
}

// split returns key and value of a line.
func (f inputFormat) split(line []byte) (key, value []byte, err error) {
	rest := line
	for i, p := range f {
		if p.verb == 0 {
			after, ok := bytes.CutPrefix(rest, []byte(p.literal))
			if !ok {
				return nil, nil, fmt.Errorf("%q was expected at %q", p.literal, clip(rest))
			}
			rest = after
			continue
		}
		field := rest
		if i+1 < len(f) {
			at := bytes.Index(rest, []byte(f[i+1].literal))
			if at < 0 {
				return nil, nil, fmt.Errorf("%q was expected in %q", f[i+1].literal, clip(rest))
			}
			field = rest[:at]
		}
		rest = rest[len(field):]
		if p.verb == 'k' {
			key = field
		} else {
			value = field
		}
	}
	if len(rest) > 0 {
		return nil, nil, fmt.Errorf("%q is left over", clip(rest))
	}
	return key, value, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }
