package compatibility

import (
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kversion"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/transport/kafka"
)

// TestPageIsFresh: docs/kafka-compatibility.md says what the code does.
func TestPageIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/kafka-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Document(broker.AllVersions()) {
		t.Error("docs/kafka-compatibility.md is stale: run make generate")
	}
}

// TestAuthorisationIsFresh: docs/kafka-authorisation.md says what the code asks for.
func TestAuthorisationIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/kafka-authorisation.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Authorisation(broker.AllNeeds()) {
		t.Error("docs/kafka-authorisation.md is stale: run make generate")
	}
	if asked, served := broker.AllNeeds(), broker.AllVersions(); len(asked) != len(served) {
		t.Errorf("%d APIs are served, %d have a row", len(served), len(asked))
	}
}

// Every API of Kafka is on the list, in the versions that franz-go knows of it.
func TestAPIsAreKafkas(t *testing.T) {
	all, known := kafkaAPIs(), kversion.V4_4_0()
	for key := range int16(200) {
		newest, announced := known.LookupMaxKeyVersion(key)
		switch {
		case int(key) >= len(all):
			if announced {
				t.Errorf("key %d is not on the list", key)
			}
		case all[key].name == "":
			t.Errorf("key %d has no name", key)
		case !announced && all[key].max != -1, announced && all[key].max != newest, announced && all[key].min > newest:
			t.Errorf("%s: v%d to %d, Kafka announces up to %d (%v)", all[key].name, all[key].min, all[key].max, newest, announced)
		}
	}
}

// What is not served, and what is served in part, has a reason; what is served is
// within what Kafka has.
func TestDifferencesHaveReasons(t *testing.T) {
	served := map[int16]kafka.ApiVersion{}
	for _, v := range broker.AllVersions() {
		served[v.Key] = v
		if int(v.Key) >= len(kafkaAPIs()) {
			t.Fatalf("key %d is served, and no API of Kafka", v.Key)
		}
		if a := kafkaAPIs()[v.Key]; v.Max > a.max {
			t.Errorf("%s is served up to v%d, Kafka's newest is v%d", a.name, v.Max, a.max)
		}
	}
	for key, a := range kafkaAPIs() {
		v, ok := served[int16(key)]
		if (!ok || v.Min > a.min || v.Max < a.max) && (a.why == "" || ok && unserved(a.why)) {
			t.Errorf("%s: served %v to %v of v%d to v%d, without a reason", a.name, v.Min, v.Max, a.min, a.max)
		}
	}
}

// An API that comes to be served is shown so, whatever was said of it before.
func TestPageFollowsTheHandlers(t *testing.T) {
	row := func(served ...kafka.ApiVersion) string {
		for line := range strings.Lines(Document(served)) {
			if strings.HasPrefix(line, "| 38 |") {
				return strings.TrimSpace(line)
			}
		}
		return ""
	}
	if got := row(); got != "| 38 | CreateDelegationToken | v1–3 | not served | delegation tokens are not served |" {
		t.Error(got)
	}
	if got := row(kafka.ApiVersion{Key: 38, Min: 1, Max: 2}); got != "| 38 | CreateDelegationToken | v1–3 | v1–2 |  |" {
		t.Error(got)
	}
}
