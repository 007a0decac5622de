package configs

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every key that may change while processes run is checked before it is set, and comes back
// from the name under which it is set as what it was.
func TestLiveKeysAreSetUnderTheirNames(t *testing.T) {
	other := map[string]string{"bool": "false", "int": "77", "size": "8MiB", "duration": "17s"}
	n := 0
	for _, k := range Keys() {
		if k.Live == "" {
			if _, err := LiveValue(k.Name, "1"); err == nil || !strings.Contains(err.Error(), "restart") && !strings.Contains(err.Error(), "which is over it") {
				t.Errorf("%s waits for a restart, and: %v", k.Name, err)
			}
			if err := ValidateBrokerConfig(k.Name, "1"); err == nil {
				t.Errorf("%s waits for a restart, and can be set on a broker", k.Name)
			}
			continue
		}
		n++
		value := other[k.Type]
		switch k.Name {
		case "operations.log_level":
			value = "error"
		case "broker.auto_create_topics":
			value = "false"
		}
		said, err := LiveValue(k.Name, value)
		if err != nil {
			t.Errorf("%s = %s: %v", k.Name, value, err)
			continue
		}
		name := LiveName(k.Name)
		if err := ValidateBrokerConfig(name, said); err != nil {
			t.Errorf("%s = %s: %v", name, said, err)
		}
		if err := ValidateBrokerConfig(name, "nonsense"); err == nil {
			t.Errorf("%s takes nonsense", name)
		}
		if back := ShownLive(name, said); back != value {
			t.Errorf("%s = %s is shown as %s", k.Name, value, back)
		}
		is, problems := Default().Live(map[string]string{name: said}, nil)
		if is.ValueOf(k.Name) != value || len(problems) > 0 || is.Origin(k.Name) != OriginCluster {
			t.Errorf("%s = %s becomes %s from %s: %v", k.Name, value, is.ValueOf(k.Name), is.Origin(k.Name), problems)
		}
		if changed := Changed(Default(), is); !slices.Equal(changed, []string{k.Name}) {
			t.Errorf("%s changes %v", k.Name, changed)
		}
		if OfAllBrokers(name) != (k.Live == LiveCluster) {
			t.Errorf("%s is for %s", k.Name, k.Live)
		}
	}
	if n < 10 {
		t.Errorf("%d keys are live", n)
	}
}

// What a live key cannot be is refused, with what can be done.
func TestLiveValuesAreRefused(t *testing.T) {
	for _, c := range []struct{ key, value, why string }{
		{"network.max_connections", "0", "out of range"},
		{"network.max_connections", "many", "whole number"},
		{"broker.auto_create_topics", "auto", "in the configuration of each"},
		{"network.bind", "10.0.0.1", "restart them one by one"},
		{"broker.message_max_bytes", "2MiB", "message.max.bytes"},
		{"network.max_conections", "5", "did you mean network.max_connections"},
		{"operations.graceful_shutdown_timeout", "1ms", "1s at least"},
		{"operations.graceful_shutdown_timeout", "999ms", "1s at least"},
	} {
		if _, err := LiveValue(c.key, c.value); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s = %s: %v, want %q", c.key, c.value, err, c.why)
		}
	}
	if err := ValidateBrokerConfig("network.max_connections", "5"); err == nil || !strings.Contains(err.Error(), "max.connections") {
		t.Errorf("by its own name: %v", err)
	}
}

// One broker's value is over that of all, and that over what its sources say; what does not
// go together with those is left out.
func TestLiveValuesAreOverTheSources(t *testing.T) {
	base, err := Load(Sources{Set: []string{"operations.log_level=warn", "network.max_connections=10", "network.max_frame=64MiB"}})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"operations.log_level": "debug", "max.connections": "20", "log.retention.ms": "5"}
	is, problems := base.Live(all, map[string]string{"max.connections": "30"})
	got := map[string]string{}
	for _, key := range []string{"operations.log_level", "network.max_connections", "network.max_frame"} {
		got[key] = is.ValueOf(key) + " " + string(is.Origin(key))
	}
	want := map[string]string{
		"operations.log_level": "debug cluster", "network.max_connections": "30 cluster node", "network.max_frame": "64MiB --set",
	}
	if !maps.Equal(got, want) || len(problems) > 0 {
		t.Errorf("%v, %v, want %v", got, problems, want)
	}
	if base.ValueOf("operations.log_level") != "warn" || base.Origin("network.max_connections") != "--set" {
		t.Error("the sources' own configuration has changed")
	}
	is, problems = base.Live(map[string]string{"operations.log_level": "loud"}, nil)
	if is.ValueOf("operations.log_level") != "warn" || len(problems) != 1 || problems[0].Key != "operations.log_level" {
		t.Errorf("what cannot be is %s: %v", is.ValueOf("operations.log_level"), problems)
	}
}

// Of a configuration that is read again live keys are taken, and the others named.
func TestReloadedConfigurationTakesLiveKeys(t *testing.T) {
	before, err := Load(Sources{Set: []string{"network.max_connections=10"}})
	if err != nil {
		t.Fatal(err)
	}
	after, err := Load(Sources{Set: []string{"network.max_connections=20", "network.kafka_port=1", "operations.log_level=debug"}})
	if err != nil {
		t.Fatal(err)
	}
	is, changed, waiting := before.Reloaded(after)
	if !slices.Equal(changed, []string{"network.max_connections", "operations.log_level"}) || !slices.Equal(waiting, []string{"network.kafka_port"}) {
		t.Errorf("changed %v, waiting %v", changed, waiting)
	}
	if is.ValueOf("network.max_connections") != "20" || is.ValueOf("network.kafka_port") != "9092" || is.Origin("network.kafka_port") != fromDefault || is.Origin("operations.log_level") != "--set" {
		t.Errorf("%s, %s from %s", is.ValueOf("network.max_connections"), is.ValueOf("network.kafka_port"), is.Origin("network.kafka_port"))
	}
}

// What is shown of a URL has nothing that is secret.
func TestURLsAreShownWithoutSecrets(t *testing.T) {
	c := Default()
	c.Storage.URL = "s3://user:secret@bucket/path?secret=1"
	for _, k := range Keys() {
		if shown := c.Shown(k); strings.Contains(shown, "secret") && strings.Contains(k.Name, "object_storage.url") {
			t.Errorf("%s is shown as %s", k.Name, shown)
		}
	}
}
