package client

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestOutputFormat(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 2, Offset: 7, Key: []byte("k"), Value: []byte{0, 0xff},
		Timestamp: time.UnixMilli(1517363399650), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}},
	}
	for format, want := range map[string]string{
		`%t[%p]@%o`: "t[2]@7", `%k=%v{hex}`: "k=00ff", `%s{base64}\n`: "AP8=\n", `%d`: "2018-01-31T01:49:59.65Z",
		`%d{2006}%%`: "2018%", `%T %K %V`: "1517363399650 1 2", `%h\t\\`: "h=x\t\\",
	} {
		f, err := parseOutputFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		if got := string(f.write(nil, r)); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	for _, wrong := range []string{`%`, `\`, `%q`, `\q`, `%v{`, `%v{rot13}`} {
		if _, err := parseOutputFormat(wrong); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// FuzzFormatRoundTrip: what one format writes, the same format reads.
func FuzzFormatRoundTrip(f *testing.F) {
	f.Add(`%k\t%v`, "key", "value")
	f.Add(`<%k> %% %v!`, "", "x")
	f.Fuzz(func(t *testing.T, format, key, value string) {
		in, err := parseInputFormat(format)
		if err != nil {
			return
		}
		out, err := parseOutputFormat(format)
		if err != nil {
			t.Fatalf("%q is read and not written: %v", format, err)
		}
		line := out.write(nil, &kgo.Record{Key: []byte(key), Value: []byte(value)})
		k, v, err := in.split(line)
		if err != nil {
			return // the key holds the separator
		}
		if again := out.write(nil, &kgo.Record{Key: k, Value: v}); string(again) != string(line) {
			t.Fatalf("%q: %q was read as %q, %q", format, line, k, v)
		}
	})
}

func TestOffsetGrammar(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	for text, want := range map[string]kgo.Offset{
		"": kgo.NewOffset().AtStart(), "start": kgo.NewOffset().AtStart(), "end": kgo.NewOffset().AtEnd(), "42": kgo.NewOffset().At(42),
		"-5": kgo.NewOffset().AtEnd().Relative(-5), "@1000": kgo.NewOffset().AfterMilli(1000),
		"@-1h": kgo.NewOffset().AfterMilli(1_000_000_000 - 3_600_000), "@1970-01-02": kgo.NewOffset().AfterMilli(86_400_000),
	} {
		if got, err := parseOffset(text, now); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, wrong := range []string{"soon", "@", "@-x", "1.5", "@yesterday"} {
		if _, err := parseOffset(wrong, now); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func FuzzOffset(f *testing.F) {
	f.Add("@-1h")
	f.Add("-9223372036854775808")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseOffset(text, time.UnixMilli(0)) })
}
