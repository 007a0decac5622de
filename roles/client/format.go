package client

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// formatHelp documents the language of -f for both commands.
const formatHelp = `  %v or %s  value            %k  key              %h  headers: name=value,name=value
  %t  topic                  %p  partition        %o  offset       %e  leader epoch
  %T  timestamp in ms        %d  timestamp, RFC 3339; %d{2006-01-02} by Go's layout
  %K  length of the key      %V or %S  length of the value
  %%  a percent sign         \n \t \r \0 \\ \xHH  bytes
  %v{hex} %v{base64}         encodes bytes; for %k and the values of %h too`

// Verbs by what their modifier may be.
const (
	byteVerbs = "vskh" // {hex}, {base64}
	dateVerbs = "d"    // any layout of package time
	bareVerbs = "tpoeTKVS"
)

// piece is a literal, or a verb.
type piece struct {
	literal  string
	verb     byte
	modifier string
}

var escapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '0': 0, '\\': '\\'}

// parseFormat reads the format language that consume and produce share: percent
// verbs with an optional {modifier}, and backslash escapes.
func parseFormat(format string) ([]piece, error) {
	var pieces []piece
	var literal []byte
	for rest := format; rest != ""; {
		c := rest[0]
		if c != '%' && c != '\\' {
			literal, rest = append(literal, c), rest[1:]
			continue
		}
		if len(rest) == 1 {
			return nil, usage("--format %q: it ends in a lone %q", format, c)
		}
		next := rest[1]
		rest = rest[2:]
		switch {
		case c == '\\' && next == 'x':
			if len(rest) < 2 {
				return nil, usage("--format %q: \\x wants two hexadecimal digits", format)
			}
			b, err := hex.DecodeString(rest[:2])
			if err != nil {
				return nil, usage("--format %q: \\x%s: want two hexadecimal digits", format, rest[:2])
			}
			literal, rest = append(literal, b...), rest[2:]
		case c == '\\':
			b, ok := escapes[next]
			if !ok {
				return nil, usage("--format %q: unknown escape \\%c; there are \\n \\t \\r \\0 \\\\ \\xHH", format, next)
			}
			literal = append(literal, b)
		case next == '%':
			literal = append(literal, '%')
		default:
			p := piece{verb: next}
			if strings.HasPrefix(rest, "{") {
				end := strings.IndexByte(rest, '}')
				if end < 0 {
					return nil, usage("--format %q: a { is not closed", format)
				}
				p.modifier, rest = rest[1:end], rest[end+1:]
			}
			if err := p.check(format); err != nil {
				return nil, err
			}
			if len(literal) > 0 {
				pieces = append(pieces, piece{literal: string(literal)})
				literal = nil
			}
			pieces = append(pieces, p)
		}
	}
	if len(literal) > 0 {
		pieces = append(pieces, piece{literal: string(literal)})
	}
	return pieces, nil
}

// check refuses verbs that do not exist, and modifiers they do not take.
func (p piece) check(format string) error {
	all := byteVerbs + dateVerbs + bareVerbs
	switch {
	case strings.IndexByte(all, p.verb) < 0:
		return usage("--format %q: unknown verb %%%c; there are %%%s", format, p.verb, strings.Join(strings.Split(all, ""), " %"))
	case p.modifier == "" || strings.IndexByte(dateVerbs, p.verb) >= 0:
		return nil
	case strings.IndexByte(byteVerbs, p.verb) < 0:
		return usage("--format %q: %%%c takes no {%s}", format, p.verb, p.modifier)
	case p.modifier != "hex" && p.modifier != "base64":
		return usage("--format %q: %%%c{%s}: want {hex} or {base64}", format, p.verb, p.modifier)
	}
	return nil
}

// outputFormat writes records.
type outputFormat []piece

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
			out = p.encode(out, r.Key)
		case 'v', 's':
			out = p.encode(out, r.Value)
		case 'K':
			out = strconv.AppendInt(out, int64(len(r.Key)), 10)
		case 'V', 'S':
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
				out = p.encode(out, h.Value)
			}
		}
	}
	return out
}

// encode appends bytes as the modifier says.
func (p piece) encode(out, b []byte) []byte {
	switch p.modifier {
	case "hex":
		return hex.AppendEncode(out, b)
	case "base64":
		return base64.StdEncoding.AppendEncode(out, b)
	}
	return append(out, b...)
}

// decode undoes encode.
func (p piece) decode(text []byte) (b []byte, err error) {
	switch p.modifier {
	case "hex":
		b, err = hex.AppendDecode(nil, text)
	case "base64":
		b, err = base64.StdEncoding.AppendDecode(nil, text)
	default:
		return text, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not %s", clip(text), p.modifier)
	}
	return b, nil
}

// inputFormat takes lines apart that an outputFormat could have written.
type inputFormat []piece

// parseInputFormat refuses what could not be taken apart.
func parseInputFormat(format string) (inputFormat, error) {
	pieces, err := parseFormat(format)
	if err != nil {
		return nil, err
	}
	var seen string
	for i, p := range pieces {
		if p.verb == 0 {
			continue
		}
		if i > 0 && pieces[i-1].verb != 0 {
			return nil, usage("--format %q: nothing stands between %%%c and %%%c", format, pieces[i-1].verb, p.verb)
		}
		verb := p.verb
		if verb == 's' {
			verb = 'v'
		}
		if strings.IndexByte(seen, verb) >= 0 {
			return nil, usage("--format %q: %%%c stands there twice", format, p.verb)
		}
		seen += string(verb)
	}
	return pieces, nil
}

// has tells whether the format fills what the verb stands for.
func (f inputFormat) has(verb byte) bool {
	for _, p := range f {
		if p.verb == verb {
			return true
		}
	}
	return false
}

// read fills a record from a line. An empty key is no key. What only a broker
// can say (%t, %o, %e, %d and lengths) is skipped.
func (f inputFormat) read(line []byte, r *kgo.Record) error {
	rest := line
	for i, p := range f {
		if p.verb == 0 {
			after, ok := bytes.CutPrefix(rest, []byte(p.literal))
			if !ok {
				return fmt.Errorf("the line does not fit --format: %q was expected at %q", p.literal, clip(rest))
			}
			rest = after
			continue
		}
		field := rest
		if i+1 < len(f) {
			at := bytes.Index(rest, []byte(f[i+1].literal))
			if at < 0 {
				return fmt.Errorf("the line does not fit --format: %q was expected in %q", f[i+1].literal, clip(rest))
			}
			field = rest[:at]
		}
		rest = rest[len(field):]
		if err := p.fill(field, r); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("the line does not fit --format: %q is left over", clip(rest))
	}
	return nil
}

// fill sets what the verb stands for.
func (p piece) fill(field []byte, r *kgo.Record) (err error) {
	switch p.verb {
	case 'k':
		if len(field) > 0 {
			r.Key, err = p.decode(field)
		}
	case 'v', 's':
		r.Value, err = p.decode(field)
	case 'p':
		var n int64
		// As consume writes it: what has a zero before it may have another field's end there.
		if n, err = strconv.ParseInt(string(field), 10, 32); err != nil || n < 0 || strconv.FormatInt(n, 10) != string(field) {
			return fmt.Errorf("%q is not a partition: want its number, without sign or leading zeros", clip(field))
		}
		r.Partition = int32(n)
	case 'T':
		var n int64
		if n, err = strconv.ParseInt(string(field), 10, 64); err != nil {
			return fmt.Errorf("%q is not a timestamp in milliseconds", clip(field))
		}
		r.Timestamp = time.UnixMilli(n)
	case 'h':
		if len(field) == 0 {
			return nil
		}
		for pair := range bytes.SplitSeq(field, []byte{','}) {
			name, value, ok := bytes.Cut(pair, []byte{'='})
			if !ok {
				return fmt.Errorf("header %q: want name=value", clip(pair))
			}
			if value, err = p.decode(value); err != nil {
				return fmt.Errorf("header %s: %w", name, err)
			}
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(name), Value: value})
		}
	}
	return err
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }
