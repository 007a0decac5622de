package batteries

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/test/seeded"
)

// reading has, for each battery that reads JSON, a config which makes it read all of it.
var reading = map[string]string{
	"headers":     `{"set":[{"name":"h","field":"a"}]}`,
	"json-schema": `{"schema":{"$ref":"#/$defs/any","$defs":{"any":{"anyOf":[{"type":["null","boolean","number","string"],"pattern":"(a|a)*$"},{"uniqueItems":true,"items":{"$ref":"#/$defs/any"},"additionalProperties":{"$ref":"#"}}]}}}}`,
	"mask":        `{"fields":[{"path":"*","action":"mask"},{"path":"[*].a","action":"null"}]}`,
	"project":     `{"rules":[{"when":"a == [\"\"] and upper(a) != lower(b)","set":{"c":"upper(a)"}},{"select":{"all":"a"}}]}`,
}

// What is deep, huge or odd is decided about, and traps nobody.
func TestHostileValuesAreDecidedAbout(t *testing.T) {
	values := map[string]string{
		"empty":             "",
		"deep arrays":       strings.Repeat("[", 1<<20),
		"deep objects":      strings.Repeat(`{"a":`, 1<<18),
		"as deep as can be": strings.Repeat(`{"a":`, 127) + "[]" + strings.Repeat("}", 127),
		"deep arrays, full": strings.Repeat("[", 128) + strings.Repeat("]", 128),
		"many values":       "[" + strings.Repeat("1,", 1<<20) + "1]",
		"as many as can be": "[" + strings.Repeat("[],", 1<<18-3) + "1]",
		"many keys":         "{" + keys(100_000) + "}",
		"a long text":       `{"a":"` + strings.Repeat("a", 4<<20) + `"}`,
		"long with escapes": `{"a":"` + strings.Repeat(`\u00e9`, 1<<19) + `"}`,
		"a long number":     `{"a":` + strings.Repeat("9", 1<<20) + `}`,
		"a huge exponent":   `{"a":1e` + strings.Repeat("9", 1<<20) + `}`,
		"not UTF-8":         "{\"a\":\"\xff\"}",
		"half a pair":       `{"a":"\ud800"}`,
		"zeros":             strings.Repeat("\x00", 1<<20),
		"quotes":            strings.Repeat(`"`, 1<<20),
		"backslashes":       `"` + strings.Repeat(`\`, 1<<20),
		"longer in capital": `{"a":"` + strings.Repeat("ΐ", 1<<19) + `"}`,
	}
	for name, config := range reading {
		t.Run(name, func(t *testing.T) {
			m := load(t, battery(t, name), config, nil)
			for kind, value := range values {
				decisions, err := m.Transform(t.Context(), &abi.Batch{Topic: "t", Records: []abi.Record{{Value: []byte(value)}}})
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				} else if decisions != nil && decisions[0].Action == abi.Reject && decisions[0].Text == "" {
					t.Errorf("%s: rejected without a reason", kind)
				}
			}
		})
	}
}

// What a record would make larger than the host takes is rejected: it fails no batch, and so
// disables no module.
func TestWhatGrowsBeyondTheHostsBoundIsRejected(t *testing.T) {
	ones := "[" + strings.Repeat("1,", 1<<18-3) + "1]"
	large := `{"a":"` + strings.Repeat("a", 1<<20) + `"}`
	for _, c := range []struct{ name, battery, config, value string }{
		{"hashes", "mask", `{"hash_key":"0123456789abcdef","fields":[{"path":"[*]","action":"hash"}]}`, ones},
		{"replacements", "mask", `{"fields":[{"path":"[*]","action":"replace","with":"` + strings.Repeat("x", 1000) + `"}]}`, ones},
		{"selected", "project", `{"rules":[{"select":{` + times(200, `"f%":"a"`) + `}}]}`, large},
		{"set", "project", `{"rules":[{"set":{` + times(200, `"f%":"a"`) + `}}]}`, large},
		{"headers", "headers", `{"set":[` + times(200, `{"name":"f%","field":"a"}`) + `]}`, large},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := decide(t, load(t, battery(t, c.battery), c.config, nil), c.value, "{}")
			if got[0].Action != abi.Reject || !strings.Contains(got[0].Text, "too large") || got[1].Action == abi.Reject {
				t.Errorf("%d %q, then %d %q", got[0].Action, got[0].Text, got[1].Action, got[1].Text)
			}
		})
	}
	// Reasons count too.
	m := load(t, battery(t, "json-schema"), `{"schema":{"required":["`+strings.Repeat("x", 1000)+`"]}}`, nil)
	values := make([]string, 20_000)
	for i := range values {
		values[i] = "{}"
	}
	for i, d := range decide(t, m, values...) {
		if d.Action != abi.Reject || d.Text == "" {
			t.Fatalf("record %d: %+v", i, d)
		}
	}
}

// Anybody may send a record of more headers than a module may give it: where a battery would
// pass them on that record is rejected, and the batch does not fail.
func TestARecordOfManyHeadersFailsNoBatch(t *testing.T) {
	for name, config := range map[string]string{
		"headers": `{"set":[{"name":"source","value":"s"}]}`,
		"mask":    `{"headers":[{"name":"h","action":"null"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			record := func(n int) abi.Record {
				return abi.Record{Value: []byte("{}"), Headers: slices.Repeat([]abi.Header{{Name: "h"}}, n)}
			}
			got := transform(t, load(t, battery(t, name), config, nil), &abi.Batch{Topic: "t", Records: []abi.Record{
				record(abi.MaxHeaders + 1), record(abi.MaxHeaders - 1), record(1 << 17),
			}})
			for i, want := range []abi.Action{abi.Reject, abi.Keep, abi.Reject} {
				if got[i].Action != want || want == abi.Reject && !strings.Contains(got[i].Text, "headers") {
					t.Errorf("record %d: action %d, %q", i, got[i].Action, got[i].Text)
				}
			}
			if n := len(got[1].Headers); n < abi.MaxHeaders-1 {
				t.Errorf("%d headers are left", n)
			}
		})
	}
}

// times is n copies of text, joined by commas, with their numbers for %.
func times(n int, text string) string {
	var list []string
	for i := range n {
		list = append(list, strings.ReplaceAll(text, "%", strconv.Itoa(i)))
	}
	return strings.Join(list, ",")
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + strings.Repeat("x", i%7) + strconv.Itoa(i) + `":0`)
	}
	return b.String()
}

// A text is rejected as no JSON if the standard library does not take it, or if it is
// JSON that readers may take in two ways.
func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	m := load(t, battery(t, "mask"), `{"fields":[{"path":"nobody","action":"null"}]}`, nil)
	whole := []byte(`{"a" : [1, -2.50e+3 , "x\tyé", {"b":null,"c":{}}], "d\u0041" :true,"":false,"e":[[],0.1E-7,[{}]]}`)
	var valid int
	for range 50 {
		batch := &abi.Batch{Topic: "t"}
		for range 1000 {
			text := bytes.Clone(whole)
			for range 1 + random.IntN(3) {
				at := random.IntN(len(text))
				switch random.IntN(4) {
				case 0:
					text[at] = "{}[]\",:\\0-+.eEtfnu \n\x00\xff"[random.IntN(22)]
				case 1:
					text = append(text[:at:at], text[at+1:]...)
				case 2:
					text = append(text[:at:at], append([]byte{whole[random.IntN(len(whole))]}, text[at:]...)...)
				default:
					from := random.IntN(len(whole))
					text = append(text[:at:at], append(bytes.Clone(whole[from:min(from+1+random.IntN(8), len(whole))]), text[at:]...)...)
				}
			}
			batch.Records = append(batch.Records, abi.Record{Value: text})
		}
		for i, d := range transform(t, m, batch) {
			text := batch.Records[i].Value
			err := strictJSON(text)
			if (d.Action == abi.Keep) != (err == nil) {
				t.Fatalf("%q: %+v; the standard library says %v", text, d, err)
			}
			if err == nil {
				valid++
			}
		}
	}
	if valid < 1000 {
		t.Errorf("only %d texts were valid: this shows little", valid)
	}
}

// strictJSON says why a text is not JSON, or is JSON that two readers may read differently.
func strictJSON(text []byte) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return unique(d)
}

// unique reads a value, and fails if an object in it has a key twice.
func unique(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			if name, _ := key.(string); seen[name] {
				return errors.New("a key twice")
			} else {
				seen[name] = true
			}
		}
		if err := unique(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// A schema and a value that call each other as deep as both may.
func TestDeepSchemasDoNotExhaustTheStack(t *testing.T) {
	var defs strings.Builder
	for i := range 14 {
		defs.WriteString(`"s` + strconv.Itoa(i) + `":{"allOf":[{"$ref":"#/$defs/s` + strconv.Itoa(i+1) + `"}]},`)
	}
	// Each link of the chain is two schemas; 32 may be for one value.
	schema := `{"$ref":"#/$defs/s0","$defs":{` + defs.String() + `"s14":{"properties":{"a":{"$ref":"#/$defs/s0"}},"items":{"$ref":"#/$defs/s0"}}}}`
	m := load(t, battery(t, "json-schema"), `{"schema":`+schema+`}`, nil)
	for _, value := range []string{strings.Repeat(`{"a":`, 127) + "1" + strings.Repeat("}", 127), strings.Repeat("[", 128) + strings.Repeat("]", 128)} {
		if d := decide(t, m, value)[0]; d.Action != abi.Reject || !strings.HasSuffix(d.Text, "it is nested too deep for its schema") {
			t.Errorf("%+v", d)
		}
	}
}
