package telemetry

import (
	"slices"
	"strings"
	"testing"
	"time"
)

type values = map[string]string

func subscription(t testing.TB, v values) *Subscription {
	t.Helper()
	s, err := Parse(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func everything(t testing.TB) *Subscription {
	return subscription(t, values{"metrics": "*", "interval.ms": "1000"})
}

func TestSubscriptionsAreChecked(t *testing.T) {
	for _, right := range []values{
		nil, {"metrics": ""}, {"metrics": "*"}, {"metrics": "a., b.", "interval.ms": "100", "match": "client_id=a.*, client_software_version=3\\..*"},
		{"interval.ms": "3600000"}, {"match": ""}, {"match": "client_source_port=[0-9]+=?"},
	} {
		if err := Validate(right); err != nil {
			t.Errorf("%v: %v", right, err)
		}
	}
	for _, tc := range []struct {
		values values
		says   string
	}{
		{values{"interval.ms": "99"}, "from 100 to 3600000"},
		{values{"interval.ms": "3600001"}, "from 100 to 3600000"},
		{values{"interval.ms": "soon"}, "not a whole number"},
		{values{"metrics": strings.Repeat("a", maxListBytes+1)}, "at most 4096"},
		{values{"match": strings.Repeat("a", maxListBytes+1)}, "at most 4096"},
		{values{"match": "client_id"}, "not key=pattern"},
		{values{"match": "client=a"}, "not told apart by"},
		{values{"match": "client_id=a,client_id=b"}, "twice"},
		{values{"match": "client_id=("}, "missing closing"},
		{values{"match": "client_id=(a{900}){900}"}, "client_id:"},
		{values{"metric": "a"}, "did you mean metrics?"},
	} {
		if err := Validate(tc.values); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want %q", tc.values, err, tc.says)
		}
	}
}

// What is known of a client has to match as a whole, and all that is named has to.
func TestClientsAreMatched(t *testing.T) {
	c := Client{Instance: [16]byte{1}, ID: "orders-1", SoftwareName: "apache-kafka-java", SoftwareVersion: "4.1.1", Address: "10.0.0.7", Port: "5000"}
	for match, want := range map[string]bool{
		"":                    true,
		"client_id=orders-.*": true,
		"client_id=orders":    false,
		"client_id=orders-.*,client_software_name=librdkafka": false,
		"client_software_name=apache-kafka-java":              true,
		"client_software_version=4\\..*":                      true,
		"client_source_address=10\\.0\\..*":                   true,
		"client_source_port=5001":                             false,
		"client_source_port=5000":                             true,
		"client_instance_id=" + encodeInstance([16]byte{1}):   true,
		"client_instance_id=" + encodeInstance([16]byte{2}):   false,
	} {
		if got := subscription(t, values{"match": match}).matches(&c); got != want {
			t.Errorf("%q: %v", match, got)
		}
	}
}

func TestSubscriptionsAreUnited(t *testing.T) {
	for _, tc := range []struct {
		name     string
		all      []values
		prefixes []string
		interval time.Duration
	}{
		{"none", nil, nil, defaultInterval},
		{"none that matches", []values{{"metrics": "a", "match": "client_id=other", "interval.ms": "100"}}, nil, defaultInterval},
		{"one", []values{{"metrics": "b,a", "interval.ms": "600000"}}, []string{"a", "b"}, 10 * time.Minute},
		{"one that has no metrics", []values{{"interval.ms": "1000"}}, nil, time.Second},
		{"two", []values{{"metrics": "a,b", "interval.ms": "2000"}, {"metrics": "b,c", "interval.ms": "1000"}}, []string{"a", "b", "c"}, time.Second},
		{"prefixes of each other", []values{{"metrics": "a.b,a.bc,a.bd,a,ab,b"}}, []string{"a", "b"}, defaultInterval},
		{"all", []values{{"metrics": "a"}, {"metrics": "*"}}, []string{""}, defaultInterval},
	} {
		var all []*Subscription
		for _, v := range tc.all {
			all = append(all, subscription(t, v))
		}
		a := assign(all, &Client{ID: "c"})
		if !slices.Equal(a.Prefixes, tc.prefixes) || a.Interval != tc.interval {
			t.Errorf("%s: %q every %v", tc.name, a.Prefixes, a.Interval)
		}
		for _, name := range []string{"", "a", "a.b.c", "ab", "b", "bb", "c.d", "d"} {
			want := slices.ContainsFunc(tc.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
			if got := a.wants([]byte(name)); got != want {
				t.Errorf("%s: wants %q: %v", tc.name, name, got)
			}
		}
	}
}

// A subscription id is that of every broker, and another for other metrics, intervals
// and instances.
func TestSubscriptionIDsTellWhatIsToBeDone(t *testing.T) {
	one := []*Subscription{subscription(t, values{"metrics": "a,b"})}
	c := Client{Instance: [16]byte{1, 15: 7}}
	is := assign(one, &c)
	// crc32c of "a\nb\n300000", xor 0x01000007.
	if want := int32(0x7f767db2 ^ 0x01000007); is.ID != want {
		t.Errorf("subscription id %#x, want %#x", uint32(is.ID), uint32(want))
	}
	if again := assign([]*Subscription{subscription(t, values{"metrics": "b"}), subscription(t, values{"metrics": "a"})}, &c); again.ID != is.ID {
		t.Errorf("the same by two subscriptions: %d, %d", again.ID, is.ID)
	}
	for name, other := range map[string]Assigned{
		"other metrics":  assign([]*Subscription{subscription(t, values{"metrics": "ab"})}, &c),
		"other interval": assign([]*Subscription{subscription(t, values{"metrics": "a,b", "interval.ms": "1000"})}, &c),
		"other instance": assign(one, &Client{Instance: [16]byte{2}}),
	} {
		if other.ID == is.ID {
			t.Errorf("%s: the same id, %d", name, is.ID)
		}
	}
}

// An instance gets an id that tools do not take for an option, and keeps the one it has.
func TestInstancesGetIDs(t *testing.T) {
	ids := [][16]byte{{}, {15: 1}, {0xf8}, {0xfb}, {0xfc}}
	table := New(Options{Random: func() [16]byte {
		next := ids[0]
		ids = ids[1:]
		return next
	}})
	if a := table.Subscribe(Client{}); a.Instance != [16]byte{0xfc} || len(ids) != 0 {
		t.Errorf("id %x, %d left", a.Instance, len(ids))
	}
	if a := table.Subscribe(Client{Instance: [16]byte{5}}); a.Instance != [16]byte{5} {
		t.Errorf("an instance with an id got %x", a.Instance)
	}
	if a := New(Options{}).Subscribe(Client{}); reserved(a.Instance) || strings.HasPrefix(encodeInstance(a.Instance), "-") {
		t.Errorf("id %s", encodeInstance(a.Instance))
	}
}
