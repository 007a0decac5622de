package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// written is a record, and the offset where the verifier finds it.
type written struct {
	offset int64
	value  []byte
}

// world is two nodes that write in turns, of which the first has lived before.
type world struct {
	records []written
	live    []Head
	chains  map[string]*chain
}

func (w *world) add(c *chain, value []byte) {
	w.records = append(w.records, written{int64(len(w.records)), value})
}

func (w *world) event(c *chain, action string) {
	w.add(c, c.event(&Event{Time: noon, Principal: "User:alice", Source: "10.0.0.1:99", Action: action, ResourceType: "topic", Resource: "orders", Outcome: Allowed}))
}

func newWorld() *world {
	w := &world{chains: map[string]*chain{}}
	first, one, two := &chain{node: 1, life: "one-first"}, &chain{node: 1, life: "one"}, &chain{node: 2, life: "two"}
	w.add(first, first.begin(noon, nil)) // 0
	w.event(first, "topic.create")       // 1
	w.event(first, "topic.delete")       // 2
	before := first.head(2)
	w.add(two, two.begin(noon, nil))     // 3
	w.add(one, one.begin(noon, &before)) // 4
	for i := range 4 {                   // 5..12
		w.event(one, fmt.Sprint("one.", i))
		w.event(two, fmt.Sprint("two.", i))
	}
	w.add(two, two.gap(noon, 7)) // 13
	w.live = []Head{one.head(11), two.head(13)}
	w.chains = map[string]*chain{"first": first, "one": one, "two": two}
	return w
}

func (w *world) verify(start int64, hashes ...string) Report {
	v := NewVerifier(start, Expected{Live: w.live, Hashes: hashes})
	for _, r := range w.records {
		v.Add(r.offset, r.value)
	}
	return v.Report()
}

// drop takes records out; those behind move up, as who writes the topic anew has them.
func (w *world) drop(offsets ...int64) {
	w.records = slices.DeleteFunc(w.records, func(r written) bool { return slices.Contains(offsets, r.offset) })
	w.number(0)
}

func (w *world) number(start int64) {
	for i := range w.records {
		w.records[i].offset = start + int64(i)
	}
}

func TestALogThatNobodyTouchedIsWhole(t *testing.T) {
	w := newWorld()
	head, _ := Parse(w.records[7].value)
	r := w.verify(0, head.Hash, strings.ToUpper(head.Hash))
	if !r.Whole || r.Records != 14 || r.Events != 10 || r.Lives != 3 || r.Lost != 7 || r.Cut || r.Start != 0 || r.End != 14 {
		t.Errorf("%+v", r)
	}
	if len(r.Heads) != 2 || r.Heads[0] != w.live[0] || r.Heads[1] != w.live[1] {
		t.Errorf("heads %+v, want %+v", r.Heads, w.live)
	}
}

func TestRetentionThatCutsTheFrontIsSaidAndNoFault(t *testing.T) {
	for _, start := range []int64{1, 3, 5, 9, 13, 14} {
		w := newWorld()
		w.records = w.records[start:]
		if r := w.verify(start); !r.Whole || !r.Cut || r.Start != start {
			t.Errorf("from %d: %+v", start, r)
		}
	}
}

// Where retention has cut the front, what lies behind is all there.
func TestTamperingBehindACutFrontIsDetected(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(w *world)
		kind   FaultKind
		offset int64
	}{
		"the beginning of a chain, in whose place another stands": {func(w *world) {
			c := &chain{node: 9, life: "forged"}
			w.records[4].value = c.begin(noon, nil)
			w.records[5].value = c.event(&Event{Time: noon, Action: "nothing", Outcome: Allowed})
		}, FaultMissing, 7},
		"records in whose place marks of transactions stand": {func(w *world) { w.records[3].value, w.records[6].value = nil, nil }, FaultForeign, 3},
	} {
		w := newWorld()
		w.records = w.records[1:] // of node 1 the end of the life before is there
		w.records = slices.Insert(w.records, 0, written{})
		c.tamper(w)
		v := NewVerifier(1, Expected{Live: w.live})
		for _, r := range w.records[1:] {
			if r.value == nil {
				v.Skip(r.offset, r.offset+1)
			} else {
				v.Add(r.offset, r.value)
			}
		}
		r := v.Report()
		if !slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Kind == c.kind && f.Offset == c.offset }) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Each row is what somebody does who can write where the log is kept.
func TestTamperingIsDetected(t *testing.T) {
	rehash := func(value []byte, from, to string) []byte {
		return resealed(bytes.Replace(value[:len(value)-hashLength], []byte(from), []byte(to), 1))
	}
	tests := []struct {
		name   string
		tamper func(w *world)
		kind   FaultKind
		offset int64 // where the first fault is said to be; -2: anywhere
		hashes []string
	}{
		{"alter a record", func(w *world) {
			w.records[5].value = bytes.Replace(w.records[5].value, []byte("alice"), []byte("mallo"), 1)
		}, FaultAltered, 5, nil},
		{"alter a record and its hash", func(w *world) { w.records[5].value = rehash(w.records[5].value, "alice", "mallo") }, FaultAltered, 5, nil},
		{"alter the last record of a node and its hash", func(w *world) { w.records[11].value = rehash(w.records[11].value, "alice", "mallo") }, FaultAltered, 11, nil},
		{"alter the last record of a life that is over, and its hash", func(w *world) { w.records[2].value = rehash(w.records[2].value, "alice", "mallo") }, FaultAltered, 2, nil},
		{"alter the first record of a chain", func(w *world) {
			w.records[4].value = bytes.Replace(w.records[4].value, []byte("2026"), []byte("2025"), 1)
		}, FaultAltered, 4, nil},
		{"no record at all", func(w *world) { w.records[6].value = []byte("x") }, FaultForeign, 6, nil},
		{"an empty record", func(w *world) { w.records[6].value = nil }, FaultForeign, 6, nil},
		{"drop one, and leave a hole", func(w *world) { w.records = slices.Delete(w.records, 6, 7) }, FaultMissing, 6, nil},
		{"drop one, and close up", func(w *world) { w.drop(7) }, FaultMissing, -2, nil},
		{"drop the beginning of a chain", func(w *world) { w.drop(4) }, FaultMissing, -2, nil},
		{"drop the front, and begin at 0", func(w *world) { w.drop(0, 1) }, FaultMissing, 0, nil},
		{"drop a life", func(w *world) { w.drop(0, 1, 2) }, FaultMissing, -2, nil},
		{"drop the end of a life that is over", func(w *world) { w.drop(2) }, FaultTruncated, -2, nil},
		{"swap neighbours of a chain", func(w *world) { w.records[5].value, w.records[7].value = w.records[7].value, w.records[5].value }, FaultReordered, -2, nil},
		{"duplicate", func(w *world) {
			w.records = slices.Insert(w.records, 6, written{value: w.records[5].value})
			w.number(0)
		}, FaultRepeated, 6, nil},
		{"duplicate at the end", func(w *world) {
			w.records = append(w.records, written{14, w.records[13].value})
		}, FaultRepeated, 14, nil},
		{"truncate the end", func(w *world) { w.records = w.records[:10] }, FaultTruncated, -2, nil},
		{"truncate all", func(w *world) { w.records = nil }, FaultTruncated, -2, nil},
		{"truncate the end of one node", func(w *world) { w.drop(12, 13) }, FaultTruncated, -2, nil},
		{"a foreign chain of a node that runs", func(w *world) {
			c := &chain{node: 1, life: "forged"}
			before := w.chains["one"].head(11)
			w.add(c, c.begin(noon, &before))
			w.event(c, "topic.delete")
		}, FaultForeign, -2, nil},
		{"a chain that follows what another follows", func(w *world) {
			c := &chain{node: 3, life: "forged"}
			before := w.chains["first"].head(2)
			w.add(c, c.begin(noon, &before))
		}, FaultForeign, 14, nil},
		{"a record in the chain of another node", func(w *world) {
			c := *w.chains["two"]
			c.node = 1
			w.event(&c, "topic.delete")
		}, FaultForeign, 14, nil},
		{"a chain without a beginning", func(w *world) {
			c := &chain{node: 3, life: "forged", seq: 4, prev: strings.Repeat("0", hexLength)}
			w.event(c, "topic.delete")
		}, FaultMissing, 14, nil},
		{"write all anew", func(w *world) {
			again := newWorld()
			w.records = again.records
			for _, c := range []string{"one", "two"} {
				forged := &chain{node: w.chains[c].node, life: w.chains[c].life}
				for i := range w.records {
					if r, _ := Parse(w.records[i].value); r.Life == forged.life {
						if r.Kind == kindBegin {
							w.records[i].value = forged.begin(noon, r.after)
						} else {
							w.records[i].value = forged.event(&Event{Time: noon, Action: "nothing", Outcome: Allowed})
						}
					}
				}
			}
		}, FaultAltered, -2, nil},
		{"write a life that is over anew, with what the next says of it", func(w *world) {
			forged := &chain{node: 1, life: "one-first"}
			w.records[0].value = forged.begin(noon, nil)
			w.records[1].value = forged.event(&Event{Time: noon, Action: "nothing", Outcome: Allowed})
			w.records[2].value = forged.event(&Event{Time: noon, Action: "nothing", Outcome: Allowed})
			heir, before := &chain{node: 1, life: "one"}, forged.head(2)
			w.records[4].value = heir.begin(noon, &before)
			for _, at := range []int{5, 7, 9} {
				r, _ := Parse(w.records[at].value)
				w.records[at].value = heir.event(&r.Event)
			}
		}, FaultAltered, -2, nil},
		{"write all anew where no node runs, but for a head that was kept", func(w *world) { w.live = nil }, FaultTruncated, -1, []string{strings.Repeat("ab", 32)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			test.tamper(w)
			r := w.verify(0, test.hashes...)
			if r.Whole || r.Broken == 0 || len(r.Faults) == 0 {
				t.Fatalf("nothing is found: %+v", r)
			}
			i := slices.IndexFunc(r.Faults, func(f Fault) bool { return f.Kind == test.kind && (test.offset == -2 || f.Offset == test.offset) })
			if i < 0 {
				t.Errorf("no fault of kind %s at %d: %+v", test.kind, test.offset, r.Faults)
			}
		})
	}
}

// resealed ends a record with a hash that fits it.
func resealed(body []byte) []byte {
	return sealed(slices.Clone(body))
}

func TestFaultsThatAreToldAreBounded(t *testing.T) {
	v := NewVerifier(0, Expected{})
	for i := range int64(10 * maxFaults) {
		v.Add(i, []byte("x"))
	}
	if r := v.Report(); len(r.Faults) != maxFaults || r.Broken != 10*maxFaults {
		t.Errorf("%d told of %d", len(r.Faults), r.Broken)
	}
}

// The format is one that others read, and that verifies for years: its bytes do not change.
func TestRecordFormat(t *testing.T) {
	c := &chain{node: 3, life: "00112233445566778899aabbccddeeff"}
	begin := c.begin(noon, &Head{Node: 3, Life: "ff", Seq: 9, Hash: "aa", Offset: 12})
	const wantBegin = `{"v":1,"kind":"begin","node":3,"life":"00112233445566778899aabbccddeeff","seq":0,"prev":"","time":"2026-01-02T12:00:00Z","after":{"node":3,"life":"ff","seq":9,"hash":"aa","offset":12},"hash":"`
	if !strings.HasPrefix(string(begin), wantBegin) {
		t.Errorf("%s\nwant %s", begin, wantBegin)
	}
	event := c.event(&Event{
		Time: noon.Add(1500 * time.Millisecond), Principal: "User:alice", Source: "10.0.0.1:9", Door: DoorKafkaTLS, Action: "topic.create", ResourceType: "topic",
		Resource: "orders", Outcome: Failed, Reason: "it exists", Detail: "partitions=3", Request: "app", Count: 3, First: noon,
	})
	b, _ := Parse(begin)
	want := `{"v":1,"kind":"event","node":3,"life":"00112233445566778899aabbccddeeff","seq":1,"prev":"` + b.Hash + `","time":"2026-01-02T12:00:01.5Z","principal":"User:alice","source":"10.0.0.1:9","door":"kafka-tls","action":"topic.create","resource_type":"topic","resource":"orders","outcome":"failed","reason":"it exists","detail":"partitions=3","request":"app","count":3,"first":"2026-01-02T12:00:00Z","hash":"`
	if !strings.HasPrefix(string(event), want) {
		t.Errorf("%s\nwant %s", event, want)
	}
	r, err := Parse(event)
	if err != nil || !r.Whole() || r.Principal != "User:alice" || r.Outcome != Failed || r.Count != 3 || !r.First.Equal(noon) || r.Seq != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A record of a version to come is followed by its place in the chain.
func TestChainOfANewerVersionIsFollowed(t *testing.T) {
	w := newWorld()
	c := w.chains["two"]
	body := fmt.Sprintf(`{"v":2,"kind":"news","node":2,"life":"two","seq":%d,"prev":"%s","time":"2026-01-02T12:00:00Z","colour":{"a":[1]}`, c.seq, c.prev)
	w.add(c, resealed([]byte(body)))
	if r := w.verify(0); !r.Whole || r.Records != 15 {
		t.Errorf("%+v", r)
	}
}

func FuzzVerify(f *testing.F) {
	for _, r := range newWorld().records {
		f.Add(r.value)
	}
	f.Add([]byte(`{"v":1,"life":"two","seq":-1,"hash":"`))
	f.Fuzz(func(t *testing.T, value []byte) {
		w := newWorld()
		v := NewVerifier(0, Expected{Live: w.live})
		for _, r := range w.records {
			v.Add(r.offset, r.value)
		}
		v.Add(14, value)
		if r := v.Report(); r.Whole && !follows(w, value) {
			t.Errorf("whole with %q", value)
		}
	})
}

// follows reports whether a record goes on with a chain of w, or begins one.
func follows(w *world, value []byte) bool {
	r, err := Parse(value)
	if err != nil || !r.whole {
		return false
	}
	if r.Kind == kindBegin {
		return true
	}
	for _, c := range w.chains {
		if c.life == r.Life && c.seq == r.Seq && c.prev == r.prev {
			return true
		}
	}
	return false
}
