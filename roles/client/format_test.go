package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

func TestOutputFormat(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 2, Offset: 7, LeaderEpoch: 3, Key: []byte("k"), Value: []byte{0, 0xff}, Timestamp: time.UnixMilli(1517363399650),
		Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}, {Key: "i", Value: []byte{1}}},
	}
	for format, want := range map[string]string{
		`%t[%p]@%o/%e`: "t[2]@7/3", `%k=%v{hex}`: "k=00ff", `%s{base64}\n`: "AP8=\n", `%d`: "2018-01-31T01:49:59.65Z",
		`%d{2006}%%`: "2018%", `%T %K %V %S`: "1517363399650 1 2 2", `%h{hex}\t\\`: "h=78,i=01\t\\", `\x41\x00\r\0`: "A\x00\r\x00", ``: "",
		`é%k`: "ék",
	} {
		f, err := parseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		if got := string(outputFormat(f).write(nil, r)); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	for _, wrong := range []string{`%`, `\`, `a%`, `%q`, `\q`, `%v{`, `%v{rot13}`, `%o{hex}`, `%t{}x{`, `\x1`, `\xzz`, `%é`} {
		if f, err := parseFormat(wrong); err == nil && wrong != `%t{}x{` {
			t.Errorf("%s is taken as %v", wrong, f)
		}
	}
}

func TestInputFormat(t *testing.T) {
	for _, c := range []struct {
		format, line string
		want         kgo.Record
	}{
		{`%v`, "a b", kgo.Record{Value: []byte("a b")}},
		{`%v`, "", kgo.Record{Value: []byte{}}},
		{`%k\t%v`, "k\tv\tw", kgo.Record{Key: []byte("k"), Value: []byte("v\tw")}},
		{`%k\t%v`, "\tv", kgo.Record{Value: []byte("v")}}, // an empty key is none
		{`<%p> %T %s!`, "<3> 1000 hi!", kgo.Record{Partition: 3, Timestamp: time.UnixMilli(1000), Value: []byte("hi")}},
		{`%t[%p]@%o %k{hex}=%v{base64}`, "topic[1]@99 00ff=AP8=", kgo.Record{Partition: 1, Key: []byte{0, 255}, Value: []byte{0, 255}}},
		{`%h %v`, "a=1,b= x", kgo.Record{Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte{}}}, Value: []byte("x")}},
		{`%h{hex} %v`, "a=2c3d x", kgo.Record{Headers: []kgo.RecordHeader{{Key: "a", Value: []byte(",=")}}, Value: []byte("x")}},
		{`%h %v`, " x", kgo.Record{Value: []byte("x")}},
		{`100%% %v`, "100% x", kgo.Record{Value: []byte("x")}},
	} {
		f, err := parseInputFormat(c.format)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		var got kgo.Record
		if err := f.read([]byte(c.line), &got); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s of %q: %+v, %v, want %+v", c.format, c.line, got, err, c.want)
		}
	}
	for _, wrong := range []string{`%k%v`, `%v %v`, `%v %s`, `%x`} {
		if _, err := parseInputFormat(wrong); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	for _, wrong := range [][2]string{
		{`%k\t%v`, "no tab"}, {`[%v]`, "x]"}, {`[%v]`, "[x"}, {`[%v]`, "[x]y"}, {`%v{hex}`, "0"}, {`%v{base64}`, "?"},
		{`%p %v`, "-1 x"}, {`%p %v`, "2147483648 x"}, {`%T %v`, "soon x"}, {`%h %v`, "a x"}, {`%h{hex} %v`, "a=x y"}, {``, "x"},
	} {
		f, err := parseInputFormat(wrong[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := f.read([]byte(wrong[1]), &kgo.Record{}); err == nil {
			t.Errorf("%s takes %q", wrong[0], wrong[1])
		}
	}
}

// drawRecord draws a record as a broker can hold it.
func drawRecord(t *rapid.T) *kgo.Record {
	bytesOrNone := func(name string) []byte {
		if rapid.Bool().Draw(t, name+" there") {
			return rapid.SliceOf(rapid.Byte()).Draw(t, name)
		}
		return nil
	}
	r := &kgo.Record{
		Topic: "t", Partition: rapid.Int32Min(0).Draw(t, "partition"), Offset: rapid.Int64Min(0).Draw(t, "offset"),
		Timestamp: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "timestamp")),
		Key:       bytesOrNone("key"), Value: bytesOrNone("value"),
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "headers") {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("h", i), Value: bytesOrNone("header")})
	}
	return r
}

// TestEncodedRecordsReadBack holds that whatever bytes a record has, there is a
// format that carries it over a line.
func TestEncodedRecordsReadBack(t *testing.T) {
	for _, encoding := range []string{"hex", "base64"} {
		t.Run(encoding, func(t *testing.T) {
			format := fmt.Sprintf(`%%p %%T %%o %%k{%s} %%h{%[1]s} %%v{%[1]s}`, encoding)
			in, err := parseInputFormat(format)
			if err != nil {
				t.Fatal(err)
			}
			seeded.Check(t, func(t *rapid.T) {
				r := drawRecord(t)
				line := outputFormat(in).write(nil, r)
				var got kgo.Record
				if err := in.read(line, &got); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				same := bytes.Equal(got.Key, r.Key) && bytes.Equal(got.Value, r.Value) && got.Partition == r.Partition && got.Timestamp.Equal(r.Timestamp) && len(got.Headers) == len(r.Headers)
				for i := range got.Headers {
					same = same && got.Headers[i].Key == r.Headers[i].Key && bytes.Equal(got.Headers[i].Value, r.Headers[i].Value)
				}
				if !same || bytes.ContainsRune(line, '\n') {
					t.Fatalf("%+v became %q and %+v", r, line, got)
				}
			})
		})
	}
}

// TestJSONRecordsReadBack holds that JSON loses nothing: neither bytes that are
// no text, nor the difference between none and empty.
func TestJSONRecordsReadBack(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		line, err := jsonLine(nil, r)
		if err != nil || !json.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%q, %v", line, err)
		}
		var got kgo.Record
		if err := fromJSON(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !reflect.DeepEqual(got.Key, r.Key) || !reflect.DeepEqual(got.Value, r.Value) || !reflect.DeepEqual(got.Headers, r.Headers) || !got.Timestamp.Equal(r.Timestamp) {
			t.Fatalf("%+v became %s and %+v", r, line, got)
		}
	})
}

func TestJSONLine(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 1, Offset: 2, Timestamp: time.UnixMilli(1517363399650), Key: []byte("<k>"), Value: []byte{0xff},
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("b")}, {Key: "none"}},
	}
	const want = `{"topic":"t","partition":1,"offset":2,"timestamp":"2018-01-31T01:49:59.65Z","key":"<k>","value":null,"value_base64":"/w==","headers":[{"key":"a","value":"b"},{"key":"none","value":null}]}` + "\n"
	if got, err := jsonLine(nil, r); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	for _, wrong := range []string{``, `{`, `[]`, `{"vaule":"x"}`, `{"value":1}`, `{"value":"x"} {}`, `{"value":"x","timestamp":"noon"}`, `{"value_base64":"?"}`} {
		if err := fromJSON([]byte(wrong), &kgo.Record{}); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// FuzzFormatRoundTrip: what one format writes, the same format reads.
func FuzzFormatRoundTrip(f *testing.F) {
	f.Add(`%k\t%v`, []byte("key"), []byte("value"))
	f.Add(`<%k{hex}> %% %s{base64}!\x00`, []byte{}, []byte("x"))
	f.Add(`%T %h %d{2006-01-02}`, []byte("a"), []byte("b"))
	f.Add(`%v0%p`, []byte{}, []byte("0"))
	f.Add(`%v0%k{hex}`, []byte{}, []byte("0A"))
	f.Fuzz(func(t *testing.T, format string, key, value []byte) {
		in, err := parseInputFormat(format)
		if err != nil {
			return
		}
		record := &kgo.Record{Topic: "t", Key: key, Value: value, Headers: []kgo.RecordHeader{{Key: "h", Value: value}}}
		line := outputFormat(in).write(nil, record)
		read := &kgo.Record{Topic: "t", Timestamp: record.Timestamp}
		if in.read(line, read) != nil {
			return // a field holds what stands behind it
		}
		again := outputFormat(in).write(nil, read)
		onlyClients := !in.has('o') && !in.has('e') && !in.has('K') && !in.has('V') && !in.has('S') && !in.has('d') && !in.has('t') && !in.has('T')
		if !onlyClients || bytes.Equal(again, line) || bytes.ContainsAny(value, "=,") {
			return
		}
		// A value that holds what stands behind it ends there, and its rest may be taken for hex or
		// base64, which are written in one way and read in several: the record is the same then.
		decoded := slices.ContainsFunc(in, func(p piece) bool { return p.modifier == "hex" || p.modifier == "base64" })
		same := &kgo.Record{Topic: "t", Timestamp: record.Timestamp}
		if !decoded || in.read(again, same) != nil || !reflect.DeepEqual(same, read) {
			t.Fatalf("%q: %q was read and written as %q", format, line, again)
		}
	})
}

func FuzzJSONRecord(f *testing.F) {
	f.Add([]byte(`{"key":"k","value":null,"value_base64":"AP8=","headers":[{"key":"a","value":"b"}],"timestamp":"2018-01-31T01:49:59.65Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var first, second kgo.Record
		if fromJSON(line, &first) != nil || first.Timestamp.Year() > 9999 {
			return
		}
		again, err := jsonLine(nil, &first)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", line, err)
		}
		if err := fromJSON(again, &second); err != nil {
			t.Fatalf("%q was written as %q, which cannot be read: %v", line, again, err)
		}
		if !bytes.Equal(first.Key, second.Key) || !bytes.Equal(first.Value, second.Value) || len(first.Headers) != len(second.Headers) {
			t.Fatalf("%q: %+v became %+v", line, first, second)
		}
	})
}

func TestOffsetGrammar(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	for text, want := range map[string]from{
		"": {fromStart, 0}, "start": {fromStart, 0}, "beginning": {fromStart, 0}, "end": {fromEnd, 0}, "latest": {fromEnd, 0},
		"42": {fromOffset, 42}, "0": {fromOffset, 0}, "+3": {fromStart, 3}, "-5": {fromEnd, 5},
		"+9223372036854775807": {fromStart, furthest}, "-9223372036854775807": {fromEnd, furthest}, "9223372036854775807": {fromOffset, 1<<63 - 1},
		"@1000": {fromTime, 1000}, "@-1h": {fromTime, 1_000_000_000 - 3_600_000}, "@1970-01-02": {fromTime, 86_400_000},
		"@1970-01-01T00:00:01Z": {fromTime, 1000}, "@1970-01-01T01:00:00.5+01:00": {fromTime, 500}, "@1970-01-01T00:00:02": {fromTime, 2000},
	} {
		if got, err := parseOffset("offset", text, now); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, wrong := range []string{"soon", "@", "@-x", "1.5", "@yesterday", "-", "+", "--1", "+-1", "9223372036854775808", "-9223372036854775809", "@--1h", "@1969-01-01"} {
		if got, err := parseOffset("offset", wrong, now); err == nil {
			t.Errorf("%q is taken as %v", wrong, got)
		}
	}
}

func FuzzOffset(f *testing.F) {
	f.Add("@-1h")
	f.Add("-9223372036854775808")
	f.Add("@2018-02-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseOffset("offset", text, time.UnixMilli(1_000_000_000_000))
		if err == nil && at.n < 0 && at.base != fromTime {
			t.Fatalf("%q is %v", text, at)
		}
		_ = at.kafka()
	})
}
