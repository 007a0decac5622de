package roles_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/admin"
)

// obeys waits until a node obeys a value, and returns where it has it from.
func (c *processes) obeys(at int, key, value string) (source string) {
	c.Helper()
	said := ""
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-ticker.C {
		var view admin.ConfigView
		must(c.T, json.Unmarshal([]byte(c.admin(at, "config", "list", "--all", "-o", "json")), &view))
		i := slices.IndexFunc(view.Settings, func(s admin.Setting) bool { return s.Key == key })
		if said = view.Settings[i].Value; said == value {
			return view.Settings[i].Source
		}
	}
	c.Fatalf("node %d: %s is %s, and was to be %s", at, key, said, value)
	return ""
}

// health waits until what a node says of the cluster is as wanted.
func (c *processes) health(at int, what string, is func(admin.ClusterHealth) bool) {
	c.Helper()
	said := ""
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		_, stdout, stderr := rustmq(c.T, "", "admin", "--url", "http://"+c.host(at)+":9642", "cluster", "health", "-o", "json")
		var h admin.ClusterHealth
		if said = stdout + stderr; json.Unmarshal([]byte(stdout), &h) == nil && is(h) {
			return
		}
	}
	c.Fatalf("node %d: %s never came: %s", at, what, said)
}

// TestConfigIsSetOnRunningNodes sets keys of a cluster while it runs: all nodes obey at once,
// one broker's value is over that of all, it outlasts restarts, Kafka's clients see and alter
// the same, and who changed what is told.
func TestConfigIsSetOnRunningNodes(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "config", "set", "operations.log_level=debug", "network.max_connections_per_ip=500")
	c.admin(2, "config", "set", "--node", "2", "network.max_connections_per_ip=7")
	for id, want := range map[int]string{1: "500", 2: "7", 3: "500"} {
		from := c.obeys(id, "network.max_connections_per_ip", want)
		if own := id == 2; own != (from == "cluster node") {
			t.Errorf("node %d has %s from %s", id, want, from)
		}
		if from := c.obeys(id, "operations.log_level", "debug"); from != "cluster" {
			t.Errorf("node %d has its level from %s", id, from)
		}
	}
	// Node 2 takes seven connections from here, and then none.
	var held []net.Conn
	for i := range 8 {
		conn, err := net.Dial("tcp", c.host(2)+":9092")
		must(t, err)
		defer conn.Close()
		held = append(held, conn)
		if i < 7 {
			asked(t, conn)
		}
	}
	must(t, held[7].SetReadDeadline(time.Now().Add(30*time.Second)))
	if _, err := held[7].Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the eighth connection: %v", err)
	}
	for _, conn := range held {
		_ = conn.Close()
	}

	// Kafka's clients.
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(1)+":9092", c.host(3)+":9092"))
	must(t, err)
	defer client.Close()
	adm := kadm.NewClient(client)
	value := "600"
	altered, err := adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.connections.per.ip", Value: &value}}, 1)
	must(t, err)
	must(t, altered[0].Err)
	c.obeys(1, "network.max_connections_per_ip", "600")
	described, err := adm.DescribeBrokerConfigs(t.Context(), 1)
	must(t, err)
	found := map[string]kadm.Config{}
	for _, d := range described {
		must(t, d.Err)
		for _, is := range d.Configs {
			found[is.Key] = is
		}
	}
	is := found["max.connections.per.ip"]
	var synonyms []string
	for _, s := range is.Synonyms {
		synonyms = append(synonyms, fmt.Sprintf("%s %v", *s.Value, s.Source))
	}
	if want := []string{"600 DYNAMIC_BROKER_CONFIG", "500 DYNAMIC_DEFAULT_BROKER_CONFIG", "20000 DEFAULT_CONFIG"}; is.MaybeValue() != "600" || !slices.Equal(synonyms, want) {
		t.Errorf("Kafka's clients are told %s: %v, want %v", is.MaybeValue(), synonyms, want)
	}
	if is := found["operations.log_level"]; is.MaybeValue() != "debug" || is.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("of the level they are told %s from %v", is.MaybeValue(), is.Source)
	}

	// A restart.
	c.end(2, syscall.SIGTERM)
	c.start(2, "--set", "wal.capacity=256MiB")
	c.await(2)
	c.obeys(2, "network.max_connections_per_ip", "7")

	// What does not go together with the configuration of some nodes they do not obey, and
	// whichever node is asked names them.
	c.admin(1, "config", "set", "wal.upload_bytes=16MiB")
	c.obeys(2, "wal.upload_bytes", "16MiB")
	for _, at := range []int{1, 2} {
		if from := c.obeys(at, "wal.upload_bytes", map[int]string{1: "8MiB", 2: "16MiB"}[at]); (from == "cluster") != (at == 2) {
			t.Errorf("node %d has it from %s", at, from)
		}
		c.health(at, "nodes that do not obey", func(h admin.ClusterHealth) bool {
			var of []string
			for _, p := range h.Problems {
				if p.Kind == "config" && strings.Contains(p.What, "an eighth of wal.capacity") && !p.Since.IsZero() {
					of = append(of, p.ID)
				}
			}
			return slices.Equal(of, []string{"config/1", "config/3"})
		})
	}
	c.admin(3, "config", "unset", "wal.upload_bytes")
	for at := 1; at <= 3; at++ {
		c.health(at, "health", func(h admin.ClusterHealth) bool { return h.Healthy })
	}

	// Away again, and what was done.
	c.admin(3, "config", "unset", "operations.log_level", "network.max_connections_per_ip")
	if from := c.obeys(3, "network.max_connections_per_ip", "20000"); from != "default" {
		t.Errorf("node 3 has it from %s", from)
	}
	c.obeys(2, "network.max_connections_per_ip", "7")
	var changes []admin.ConfigChange
	must(t, json.Unmarshal([]byte(c.admin(2, "config", "history", "-o", "json")), &changes))
	var told []string
	for _, change := range changes {
		if change.At == nil || time.Since(*change.At).Abs() > time.Hour {
			t.Errorf("change %d was at %v", change.Version, change.At)
		}
		for _, k := range change.Keys {
			show := func(v *string) string {
				if v == nil {
					return "-"
				}
				return *v
			}
			told = append(told, fmt.Sprintf("%d %s %s %s", change.Broker, k.Key, show(k.Old), show(k.New)))
		}
	}
	want := []string{
		"-1 network.max_connections_per_ip 500 -", "-1 operations.log_level debug -",
		"-1 wal.upload_bytes 16MiB -", "-1 wal.upload_bytes - 16MiB",
		"1 network.max_connections_per_ip - 600",
		"2 network.max_connections_per_ip - 7",
		"-1 network.max_connections_per_ip - 500", "-1 operations.log_level - debug",
	}
	if !slices.Equal(told, want) {
		t.Errorf("the history is\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// What cannot be set is refused with what to do, and a dry run changes nothing.
func TestConfigIsRefusedWithAReason(t *testing.T) {
	n := node(t)
	url := "http://" + n.HTTP()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"set", "network.bind=10.0.0.1"}, 1, "restart"},
		{[]string{"set", "network.max_connections=0"}, 1, "out of range"},
		{[]string{"set", "network.max_conections=1"}, 1, "did you mean network.max_connections"},
		{[]string{"set", "controller.max_partitions=10", "--node", "1"}, 1, "for all brokers"},
		{[]string{"set", "operations.log_level=debug", "--node", "9"}, 1, "not registered"},
		{[]string{"set", "operations.graceful_shutdown_timeout=1ms"}, 1, "1s at least"},
		{[]string{"set", "controller.feature_level=14"}, 1, "never falls"},
		{[]string{"unset", "operations.log_level"}, 1, "is not set on all nodes"},
		{[]string{"set"}, 2, "KEY=VALUE"},
		{[]string{"unset"}, 2, "config list"},
		{[]string{"set", "a=1", "--node", "0"}, 2, "begin with 1"},
		{[]string{"set", "operations.log_level=debug", "--dry-run"}, 0, ""},
		{[]string{"set", "log.retention.ms=86400000"}, 0, ""},
		{[]string{"unset", "log.retention.ms"}, 0, ""},
	} {
		code, _, stderr := rustmq(t, "", append(append([]string{"admin", "config"}, c.args...), "--url", url)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %s; want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
	if _, stdout, _ := rustmq(t, "", "admin", "config", "list", "--url", url); !strings.Contains(stdout, "nothing is set in the cluster") {
		t.Errorf("after a dry run:\n%s", stdout)
	}
	if _, stdout, _ := rustmq(t, "", "admin", "config", "history", "network.max_connections", "--url", url); !strings.Contains(stdout, "nobody has changed that") {
		t.Errorf("the history of what nobody has changed:\n%s", stdout)
	}
}

// TestLimitsOfTheControllerChange holds that what the controller and the HTTP server obey
// changes while they run.
func TestLimitsOfTheControllerChange(t *testing.T) {
	n := node(t)
	url := "http://" + n.HTTP()
	run := func(args ...string) (int, string) {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append(append([]string{"admin"}, args...), "--url", url)...)
		return code, stdout + stderr
	}
	want := func(code int, said string, args ...string) {
		t.Helper()
		if got, told := run(args...); got != code || !strings.Contains(told, said) {
			t.Errorf("%v: exit %d, %s; want %d and %q", args, got, told, code, said)
		}
	}
	// What was decided by what was set may come a moment later to where it is obeyed.
	eventually := func(what string, is func() bool) {
		t.Helper()
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for deadline := time.Now().Add(30 * time.Second); !is(); <-ticker.C {
			if time.Now().After(deadline) {
				t.Fatalf("%s never came", what)
			}
		}
	}
	want(0, "", "config", "set", "broker.num_partitions=3", "controller.max_partitions=4", "broker.auto_create_topics=false")
	made := 0
	eventually("three partitions by default", func() bool {
		made++
		name := fmt.Sprintf("t%d", made)
		code, told := run("topics", "create", name, "-o", "json")
		if code != 0 {
			t.Fatalf("create: %s", told)
		}
		three := strings.Contains(told, `"partitions": 3`)
		if !three {
			run("topics", "delete", name)
		}
		return three
	})
	want(1, "controller.max_partitions, 4", "topics", "create", "u")
	want(0, "", "config", "set", "security.rest.requests_per_ip=5")
	eventually("a limit of calls", func() bool {
		resp, err := http.Get(url + "/api/v1/topics")
		must(t, err)
		defer resp.Body.Close()
		return resp.Header.Get("RateLimit-Limit") == "20"
	})
}

// TestHangupReloadsTheConfiguration has a node read its file again: live keys are obeyed, what
// waits for a restart is said, and a file that is wrong changes nothing.
func TestHangupReloadsTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.toml")
	write := func(text string) { put(t, file, []byte(text)) }
	write("[operations]\nlog_level = \"info\"\n")
	p := serve(t, "--ephemeral", "--config", file)
	write("[operations]\nlog_level = \"debug\"\n[wal]\nmemory = \"64MiB\"\n")
	p.signal(t, syscall.SIGHUP)
	if line := p.awaitLog(t, "the configuration changed"); !strings.Contains(line, "operations.log_level") || !strings.Contains(line, "debug") {
		t.Errorf("what has changed: %s", line)
	}
	if line := p.awaitLog(t, "wait for a restart"); !strings.Contains(line, "wal.memory") || strings.Contains(line, "data_dir") || strings.Contains(line, "port") {
		t.Errorf("what waits: %s", line)
	}
	write("[operations]\nlog_level = \"loud\"\n")
	p.signal(t, syscall.SIGHUP)
	if line := p.awaitLog(t, "stays as it was"); !strings.Contains(line, "loud") {
		t.Errorf("what is wrong: %s", line)
	}
	must(t, os.Remove(file))
	p.signal(t, syscall.SIGHUP)
	p.awaitLog(t, "stays as it was")
	code, stdout, stderr := rustmq(t, "", "admin", "config", "list", "--url", "http://"+p.says.HTTP, "-o", "json")
	var view admin.ConfigView
	if code != 0 || json.Unmarshal([]byte(stdout), &view) != nil {
		t.Fatalf("exit %d, %s, %s", code, stdout, stderr)
	}
	for _, s := range view.Settings {
		switch s.Key {
		case "operations.log_level":
			if s.Value != "debug" || !strings.Contains(s.Source, "node.toml:2") {
				t.Errorf("%+v", s)
			}
		case "wal.memory":
			if s.Value != "256MiB" || !s.Waits {
				t.Errorf("%+v", s)
			}
		}
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}
