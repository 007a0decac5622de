package client

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// offsetHelp documents the grammar of -o.
const offsetHelp = `  start, end    the first record there is; only what comes
  N             the record with that offset
  +N, -N        N records after the start; N before the end, of each partition
  @TIME         the first record from then on: RFC 3339, a date or a time without
                a zone (UTC), milliseconds since 1970 (of seconds:
                @$(date +%s)000), or a duration ago (@-1h)`

// furthest is more records than any log has; what is added to an offset goes no
// further, so that the sum is still an offset.
const furthest = 1 << 62

// from is where -o points to.
type from struct {
	base base
	n    int64 // offset, records, or milliseconds since 1970
}

type base int

const (
	fromStart  base = iota // n records after it
	fromEnd                // n records before it
	fromOffset             // n
	fromTime               // n
)

// parseOffset reads -o, or another flag of that grammar; "" is the start.
func parseOffset(flag, s string, now time.Time) (from, error) {
	switch s {
	case "", "start", "beginning", "earliest":
		return from{base: fromStart}, nil
	case "end", "latest":
		return from{base: fromEnd}, nil
	}
	if when, ok := strings.CutPrefix(s, "@"); ok {
		millis, err := ParseTime(when, now)
		if err != nil {
			return from{}, usage("--%s %s: %v", flag, s, err)
		}
		return from{fromTime, millis}, nil
	}
	kind, digits := fromOffset, s
	switch s[0] {
	case '+':
		kind, digits = fromStart, s[1:]
	case '-':
		kind, digits = fromEnd, s[1:]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return from{}, usage("--%s %q: want start, end, an offset, +N, -N or @TIME", flag, s)
	}
	if kind != fromOffset {
		n = min(n, furthest)
	}
	return from{kind, int64(n)}, nil
}

// ParseTime reads RFC 3339, a date or a time without a zone (UTC), milliseconds
// since 1970, or a duration before now (-1h), as milliseconds since 1970.
func ParseTime(s string, now time.Time) (int64, error) {
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		d, err := time.ParseDuration(ago)
		if err != nil || d < 0 || now.Add(-d).UnixMilli() < 0 {
			return 0, errors.New("want a duration such as -1h")
		}
		return now.Add(-d).UnixMilli(), nil
	}
	if millis, err := strconv.ParseUint(s, 10, 63); err == nil {
		return int64(millis), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil && t.UnixMilli() >= 0 {
			return t.UnixMilli(), nil
		}
	}
	return 0, errors.New("want RFC 3339 (2018-02-01T00:00:00Z), a date, milliseconds since 1970, or a duration ago (-1h)")
}

// secondsMeant tells whether a time looks like seconds since 1970, as `date +%s`
// prints them: of those who write milliseconds, nobody means the first years.
func secondsMeant(s string) bool {
	n, err := strconv.ParseUint(s, 10, 63)
	return err == nil && n >= 1e9 && n < 1e11
}
