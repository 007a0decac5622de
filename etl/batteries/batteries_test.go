package batteries

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/wasm"
)

// load returns the module with that config. Its deadline is far beyond what it needs.
func load(t testing.TB, code []byte, config string, log func(string)) *wasm.Module {
	t.Helper()
	m, err := tryLoad(t, code, config, log)
	if err != nil {
		t.Fatalf("config %s: %v", config, err)
	}
	return m
}

func tryLoad(t testing.TB, code []byte, config string, log func(string)) (*wasm.Module, error) {
	t.Helper()
	runtime, err := wasm.New(wasm.Options{Store: compiled(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	return runtime.Load(context.Background(), code, wasm.ModuleOptions{
		Name: "battery", Version: 1, Config: []byte(config), Deadline: 20 * time.Second,
		Log: func(_ slog.Level, text string) {
			if log != nil {
				log(text)
			}
		},
	})
}

func battery(t testing.TB, name string) []byte {
	t.Helper()
	b, ok := Find(name)
	if !ok {
		t.Fatalf("there is no battery %s", name)
	}
	return b.Wasm()
}

// decide returns what becomes of records with those values, in topic quakes.
func decide(t testing.TB, m *wasm.Module, values ...string) []abi.Decision {
	t.Helper()
	batch := &abi.Batch{Topic: "quakes", Timestamp: 1_700_000_000_000}
	for i, value := range values {
		batch.Records = append(batch.Records, abi.Record{Offset: int64(i), Timestamp: batch.Timestamp, Value: []byte(value)})
	}
	return transform(t, m, batch)
}

func transform(t testing.TB, m *wasm.Module, batch *abi.Batch) []abi.Decision {
	t.Helper()
	decisions, err := m.Transform(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if decisions == nil {
		decisions = make([]abi.Decision, len(batch.Records))
	}
	return decisions
}

func TestHashesAreThoseOfTheFiles(t *testing.T) {
	for _, b := range List() {
		if sum := sha256.Sum256(b.Wasm()); hex.EncodeToString(sum[:]) != b.SHA256 {
			t.Errorf("%s: built/SHA256SUMS says %q, its bytes %x: run make batteries", b.Name, b.SHA256, sum)
		}
		if size := len(b.Wasm()); size > 256<<10 {
			t.Errorf("%s has %d bytes: it is for every deployment to carry", b.Name, size)
		}
	}
	if _, ok := Find("strong"); ok {
		t.Error("the example of the kit passes for a battery")
	}
}

func TestEveryBatteryTakesItsExample(t *testing.T) {
	for _, b := range List() {
		t.Run(b.Name, func(t *testing.T) {
			load(t, b.Wasm(), b.Example, nil)
			if _, err := tryLoad(t, b.Wasm(), "{}", nil); err == nil || !strings.Contains(err.Error(), "config") {
				t.Errorf("without a config it says %v", err)
			}
		})
	}
}

// Every configuration that the page shows is taken by the battery of its section.
func TestTheConfigsOfThePageAreTaken(t *testing.T) {
	page, err := os.ReadFile("../../docs/etl-batteries.md")
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]int{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, _, _ := strings.Cut(section, "\n")
		b, ok := Find(strings.Trim(strings.Fields(title)[0], "`:"))
		if !ok {
			continue
		}
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(section, -1) {
			load(t, b.Wasm(), block[1], nil)
			taken[b.Name]++
		}
	}
	for _, b := range List() {
		if taken[b.Name] == 0 {
			t.Errorf("docs/etl-batteries.md shows no config of %s", b.Name)
		}
	}
}

// What make demo shows: of the catalogue, the strong earthquakes go to a topic of their own.
func TestProjectRoutesStrongEarthquakes(t *testing.T) {
	catalogue, err := os.ReadFile("../../test/data/earthquakes.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(catalogue)), "\n")
	b, _ := Find("project")
	m := load(t, b.Wasm(), b.Example, nil)
	strong := 0
	for i, d := range decide(t, m, lines...) {
		switch {
		case d.Action == abi.Route && d.Text == "quakes.strong":
			strong++
			place := regexp.MustCompile(`"place":"[^"]*"`)
			want := place.ReplaceAllStringFunc(lines[i], func(s string) string { return `"place":` + strings.ToUpper(s[len(`"place":`):]) })
			if string(d.Value) != want || d.Replaces != abi.Value {
				t.Errorf("%s\nbecame %s", lines[i], d.Value)
			}
		case d.Action != abi.Keep || d.Replaces != 0:
			t.Errorf("%s: %+v", lines[i], d)
		}
	}
	if len(lines) != 1707 || strong != 39 {
		t.Errorf("%d of %d earthquakes are strong; 39 of 1,707 are", strong, len(lines))
	}
	for _, line := range []string{`{"id":"x","mag":`, "mag=5", `{"mag":5,"mag":1}`, "\xff"} {
		if d := decide(t, m, line)[0]; d.Action != abi.Reject || !strings.HasPrefix(d.Text, "value: not JSON: ") {
			t.Errorf("%q: %+v", line, d)
		}
	}
}

func TestMaskHashesAsTheStandardLibrary(t *testing.T) {
	const key = "a secret of the test, of no worth"
	m := load(t, battery(t, "mask"), `{"hash_key":"`+key+`","fields":[{"path":"who","action":"hash"}]}`, nil)
	for length := range 200 {
		who := strings.Repeat("a", length)
		code := hmac.New(sha256.New, []byte(key))
		code.Write([]byte(who))
		want := fmt.Sprintf(`{"n":1.50,"who":"%x"}`, code.Sum(nil))
		if d := decide(t, m, `{"n":1.50,"who":"`+who+`"}`)[0]; string(d.Value) != want {
			t.Fatalf("%d bytes: %s, want %s", length, d.Value, want)
		}
	}
}

func TestJSONSchemaRejectsWithPlaceAndReason(t *testing.T) {
	b, _ := Find("json-schema")
	m := load(t, b.Wasm(), b.Example, nil)
	got := decide(t, m, `{"mag":1}`, `{"mag":"1"}`, `{}`, `{`)
	for i, want := range []string{"", "value at /mag: is a string; its type must be number", `value: lacks "mag"`, "value: not JSON: an end within an object or array at byte 1"} {
		if got[i].Text != want || (got[i].Action == abi.Reject) != (want != "") {
			t.Errorf("record %d: %+v, want %q", i, got[i], want)
		}
	}
}

func TestHeadersKeepThoseThatAreThere(t *testing.T) {
	b, _ := Find("headers")
	m := load(t, b.Wasm(), b.Example, nil)
	got := transform(t, m, &abi.Batch{Topic: "quakes", Records: []abi.Record{{
		Value:   []byte(`{"net":"us"}`),
		Headers: []abi.Header{{Name: "a"}, {Name: "x-b", Value: []byte("1")}, {Name: "net", Value: []byte("old")}},
	}}})[0]
	want := []abi.Header{{Name: "a"}, {Name: "source", Value: []byte("usgs")}, {Name: "net", Value: []byte("us")}}
	if got.Action != abi.Keep || got.Replaces != abi.Headers || fmt.Sprint(got.Headers) != fmt.Sprint(want) || got.Headers[0].Value != nil {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// compiled keeps what was compiled for the tests of this process, by key.
func compiled(testing.TB) wasm.CodeStore { return &shelf }

var shelf codes

type codes struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (c *codes) Get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	code, ok := c.kept[key]
	return code, ok
}

func (c *codes) Put(key string, code []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = map[string][]byte{}
	}
	c.kept[key] = code
	return nil
}
