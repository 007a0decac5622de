package pipeline

import (
	"strings"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
)

func TestSpecHasDefaults(t *testing.T) {
	s, err := ParseSpec([]byte(`{"mode":"inline","topics":["orders"],"config":{"a":[1,2]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.OnFailure != RejectBatch || s.DeadlineMillis != 100 || s.MemoryBytes != 64<<20 || s.Instances != 2 || s.ErrorBudget != (Budget{20, 60_000}) {
		t.Errorf("the defaults are %+v", s)
	}
	if string(s.Config) != `{"a":[1,2]}` {
		t.Errorf("the config is %s", s.Config)
	}
	async, err := ParseSpec([]byte(`{"mode":"async","topics":["orders"],"output":"out","dead_letter_topic":"dead"}`))
	if err != nil {
		t.Fatal(err)
	}
	if async.OnFailure != DeadLetter {
		t.Errorf("an async module's failures are for %q", async.OnFailure)
	}
}

// TestWrongSpecsAreRefused, each with what is wrong.
func TestWrongSpecsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                  "one JSON object",
		`{} {}`:             "behind the JSON object",
		`{"modus":1}`:       "unknown field",
		`{"mode":"x"}`:      `mode is "x"`,
		`{"mode":"inline"}`: "topics is empty",
		`{"mode":"inline","topics":["a"],"stage":3}`:                                            "stage is 3",
		`{"mode":"inline","topics":["a"],"deadline_ms":10001}`:                                  "deadline_ms is 10001",
		`{"mode":"inline","topics":["a"],"deadline_ms":-1}`:                                     "deadline_ms is -1",
		`{"mode":"inline","topics":["a"],"memory_bytes":1}`:                                     "memory_bytes is 1",
		`{"mode":"inline","topics":["a"],"memory_bytes":1073741825}`:                            "memory_bytes",
		`{"mode":"inline","topics":["a"],"instances":65}`:                                       "instances is 65",
		`{"mode":"inline","topics":["a"],"on_failure":"retry"}`:                                 `on_failure is "retry"`,
		`{"mode":"inline","topics":["a"],"on_failure":"dead-letter"}`:                           "dead_letter_topic is missing",
		`{"mode":"inline","topics":["a"],"dead_letter_topic":"d"}`:                              "sends nothing there: leave it out",
		`{"mode":"inline","topics":["*"],"on_failure":"dead-letter","dead_letter_topic":"d"}`:   `exclude it by "!d"`,
		`{"mode":"inline","topics":["a"],"on_failure":"dead-letter","dead_letter_topic":"__x"}`: "broker's own",
		`{"mode":"inline","topics":["a"],"routes":["__consumer_offsets"]}`:                      "broker's own",
		`{"mode":"inline","topics":["a"],"routes":["b c"]}`:                                     "no name of a topic",
		`{"mode":"inline","topics":["a"],"output":"b"}`:                                         "output is for async",
		`{"mode":"async","topics":["a"],"dead_letter_topic":"d"}`:                               "output is missing",
		`{"mode":"async","topics":["a*"],"output":"ab","dead_letter_topic":"d"}`:                "would never end",
		`{"mode":"async","topics":["a"],"output":"b","on_failure":"reject"}`:                    "no producer",
		`{"mode":"async","topics":["a"],"output":"b","on_failure":"pass","routes":["a"]}`:       "might never end",
		`{"mode":"async","topics":["a"],"output":"b","on_failure":"pass","stage":1}`:            "stage is for inline",
		`{"mode":"inline","topics":["regex:("]}`:                                                "RE2",
		`{"mode":"inline","topics":["a[b"]}`:                                                    "left open",
		`{"mode":"inline","topics":["[b-a]"]}`:                                                  "b-a",
		`{"mode":"inline","topics":["postfix:a"]}`:                                              "no kind of pattern",
		`{"mode":"inline","topics":["prefix:"]}`:                                                "nothing stands behind",
		`{"mode":"inline","topics":["!"]}`:                                                      "0 bytes",
		`{"mode":"inline","topics":["regex:` + strings.Repeat("a", 256) + `"]}`:                 "262 bytes",
		`{"mode":"inline","topics":["a"],"when":[{}]}`:                                          "asks for nothing",
		`{"mode":"inline","topics":["a"],"when":[{"equals":"x"}]}`:                              "header is missing",
		`{"mode":"inline","topics":["a"],"when":[{"header":"h"}]}`:                              "not 0 of them",
		`{"mode":"inline","topics":["a"],"when":[{"header":"h","equals":"x","prefix":"y"}]}`:    "not 2 of them",
		`{"mode":"inline","topics":["a"],"when":[{"header":"h","glob":"[x"}]}`:                  "left open",
		`{"mode":"inline","topics":["a"],"when":[{"size":{}}]}`:                                 "neither min nor max",
		`{"mode":"inline","topics":["a"],"when":[{"age_ms":{"min":2,"max":1}}]}`:                "larger than max",
		`{"mode":"inline","topics":["a"],"error_budget":{"window_ms":1}}`:                       "window_ms is 1",
		`{"mode":"inline","topics":["a"],"priority":1000001}`:                                   "priority",
		`{"mode":"inline","topics":["a"],"config":"` + strings.Repeat("a", MaxSpec) + `"}`:      "at most",
	} {
		if _, err := ParseSpec([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %q", text, err, want)
		}
	}
}

func TestTopicsThatAModuleIsFor(t *testing.T) {
	for _, c := range []struct {
		topics, yes, no string
	}{
		{"orders", "orders", "orders.x order"},
		{"events.*", "events.a events.", "events xevents.a"},
		{"a?c [xy]z", "abc xz yz", "ac zz"},
		{`a.*b [^a-c\-]z [b^\]-_.]y a\*b (+)*`, "a.b dz ^z ]y ^y by _y .y a*b (+)x", "acb az cz -z xa.b a.bx [y \\y -y ++"},
		{"prefix:eu. suffix:.log", "eu.a a.log", "us.a log"},
		{"regex:^[ab]+$", "ab b", "abc c"},
		{"regex:b", "abc", "ac"}, // not anchored
		{"* !prefix:test. !secret", "a tests", "test.a secret"},
		{"!a", "b", "a"},
	} {
		s := &Spec{Mode: Inline, Topics: strings.Fields(c.topics)}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(c.yes) {
			if !s.MatchesTopic(name) {
				t.Errorf("%q is not for %q", c.topics, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if s.MatchesTopic(name) {
				t.Errorf("%q is for %q", c.topics, name)
			}
		}
	}
}

// TestRecordsThatAModuleIsShown: what is said of a record as it lies in its batch, and of
// one that modules see, is the same.
func TestRecordsThatAModuleIsShown(t *testing.T) {
	const now = 10_000
	record := func(timestamp int64, key, value string, headers ...abi.Header) abi.Record {
		return abi.Record{Timestamp: timestamp, Key: []byte(key), Value: []byte(value), Headers: headers}
	}
	header := func(name, value string) abi.Header { return abi.Header{Name: name, Value: []byte(value)} }
	plain := record(9_000, "k", "12345")
	typed := record(9_000, "k", "v", header("other", "a"), header("type", "b"), header("type", "order.made"))
	null := record(-1, "k", "v", abi.Header{Name: "type"}, header("path", "/orders/new\n.made/made"))
	for _, c := range []struct {
		when string
		want [3]bool // plain, typed, null
	}{
		{`[]`, [3]bool{true, true, true}},
		{`[{"header":"type","present":true}]`, [3]bool{false, true, true}},
		{`[{"header":"type","present":false}]`, [3]bool{true, false, false}},
		{`[{"header":"type","equals":"order.made"}]`, [3]bool{false, true, false}},
		{`[{"header":"type","equals":""}]`, [3]bool{}},
		{`[{"header":"type","equals":"a"}]`, [3]bool{}},
		{`[{"header":"type","prefix":"order."}]`, [3]bool{false, true, false}},
		{`[{"header":"type","suffix":".made"}]`, [3]bool{false, true, false}},
		{`[{"header":"type","glob":"o*m?"}]`, [3]bool{}},
		{`[{"header":"type","glob":"o*.mad?"}]`, [3]bool{false, true, false}},
		{`[{"header":"path","glob":"/o*/made"}]`, [3]bool{false, false, true}},
		{`[{"header":"path","glob":"*"}]`, [3]bool{false, false, true}},
		{`[{"header":"path","glob":"?or[b-d/]ers*[^.]made"}]`, [3]bool{false, false, true}},
		{`[{"header":"path","glob":"*made?"}]`, [3]bool{}},
		{`[{"header":"type","equals":"b","not":true}]`, [3]bool{true, false, true}},
		{`[{"size":{"min":6}}]`, [3]bool{true, false, false}},
		{`[{"size":{"max":2}}]`, [3]bool{false, true, true}},
		{`[{"age_ms":{"max":1000}}]`, [3]bool{true, true, false}},
		{`[{"age_ms":{"min":1001}}]`, [3]bool{}},
		{`[{"header":"type","equals":"b","size":{"min":3}}]`, [3]bool{}},
		{`[{"header":"type","equals":"b"},{"size":{"min":3}}]`, [3]bool{true, true, false}},
	} {
		s, err := ParseSpec([]byte(`{"mode":"inline","topics":["a"],"when":` + c.when + `}`))
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range []abi.Record{plain, typed, null} {
			if got := s.Selects(&r, now); got != c.want[i] {
				t.Errorf("%s of record %d: %v", c.when, i, got)
			}
			it := batchOf(t, 0, r).Records(0)
			if !it.Next() {
				t.Fatal(it.Err())
			}
			if got := s.selectsRaw(it.Record(), now); got != c.want[i] {
				t.Errorf("%s of record %d in its batch: %v", c.when, i, got)
			}
		}
	}
}
