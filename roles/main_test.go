package roles_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles"
)

// rustmq runs a command as a process would.
func rustmq(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = roles.Main(args, strings.NewReader(stdin), &out, &errs, nil)
	return code, out.String(), errs.String()
}

func node(t *testing.T) *embed.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestProduceAndConsume(t *testing.T) {
	n := node(t)
	code, _, stderr := rustmq(t, "hello\nworld\n", "produce", "t", "-b", n.Kafka())
	if code != 0 || !strings.Contains(stderr, "2 records acked") {
		t.Fatalf("produce: exit %d, %s", code, stderr)
	}
	code, stdout, stderr := rustmq(t, "", "consume", "t", "-b", n.Kafka(), "-e", "-f", `%t/%p@%o %v\n`)
	if code != 0 || stdout != "t/0@0 hello\nt/0@1 world\n" {
		t.Fatalf("consume: exit %d, %q, %s", code, stdout, stderr)
	}
	for _, group := range []string{"hello\n", "world\n"} {
		if _, stdout, stderr = rustmq(t, "", "consume", "t", "-b", n.Kafka(), "-g", "g", "-n", "1"); stdout != group {
			t.Fatalf("consume as a group: %q, want %q, %s", stdout, group, stderr)
		}
	}
	_, stdout, _ = rustmq(t, "", "consume", "t", "-b", n.Kafka(), "-e", "-o", "-1", "-f", "json")
	var record struct{ Value string }
	if err := json.Unmarshal([]byte(stdout), &record); err != nil || record.Value != "world" {
		t.Fatalf("json: %q, %v", stdout, err)
	}
}

func TestProduceOverQUIC(t *testing.T) {
	n := node(t)
	code, _, stderr := rustmq(t, `{"net":"us","mag":5}`+"\n", "produce", "q", "-b", n.Kafka(), "--transport", "quic", "--cafile", n.CAFile(), "--key-field", "net")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	if _, stdout, stderr := rustmq(t, "", "consume", "q", "-b", n.Kafka(), "-n", "1", "-f", `%k\n`); stdout != "us\n" {
		t.Fatalf("key %q, %s", stdout, stderr)
	}
}

func TestDeadAddressSaysWhatToStart(t *testing.T) {
	code, _, stderr := rustmq(t, "x\n", "produce", "t", "-b", "127.0.0.1:1")
	if code != 1 || !strings.Contains(stderr, "rustmq serve") {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	code, _, stderr = rustmq(t, "", "admin", "topics", "list", "--url", "http://127.0.0.1:1")
	if code != 1 || !strings.Contains(stderr, "rustmq serve") {
		t.Fatalf("exit %d, %s", code, stderr)
	}
}

func TestWrongUsageExitsWith2(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"produce"}, {"produce", "t", "--nonsense"}, {"produce", "t", "--acks", "7"}, {"consume", "t", "-o", "soon"},
		{"consume", "t", "-f", "%q"}, {"serve", "--ports", "many"}, {"serve", "--set", "wal.memroy=1"}, {"admin", "topics", "list", "-o", "xml"},
		{"admin", "topics", "alter", "t"}, {"admin", "quotas", "set", "request_percentage=5"}, {"admin", "quotas", "set", "--user", "a"},
		{"admin", "quotas", "set", "--user", "a", "producer_byte_rate=much"}, {"admin", "quotas", "set", "--user", "a", "--default-user", "request_percentage=5"}, {"bench", "nothing"}, {"verify", "--phase", "check"}, {"context", "use", "nowhere"},
		{"admin", "topics", "list", "--url", "127.0.0.1:9642"}, {"version", "-o", "xml"}, {"config", "default", "-o", "xml"}, {"debug", "wal", ".", "-o", "xml"},
		{"debug", "object", "main_test.go", "-o", "yaml"}, {"serve", "--ephemeral", "--set", "broker.data_dir=/nowhere"}, {"admin", "serve"},
	} {
		if code, _, stderr := rustmq(t, "", args...); code != 2 || stderr == "" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}

// TestOutputForPrograms holds that version and config speak json and yaml, with
// the same names in both.
func TestOutputForPrograms(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[wal]\nmemroy = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string
		code int
		want string // JSON, once spaces are gone
	}{
		{"version", 0, `{"version":`},
		{"config default", 0, `{"key":"broker.id","value":"1","origin":"default"}`},
		{"config show", 0, `{"key":"broker.id","value":"1","origin":"default"}`},
		{"config check " + bad, 2, `"valid":false,"problems":[{"origin":"` + bad + `:2","key":"wal.memroy"`},
	} {
		args := strings.Fields(c.line)
		code, asJSON, stderr := rustmq(t, "", append(args, "-o", "json")...)
		if code != c.code || !strings.Contains(strings.Join(strings.Fields(asJSON), ""), c.want) {
			t.Errorf("%s: exit %d, %s%s", c.line, code, asJSON, stderr)
		}
		_, asYAML, _ := rustmq(t, "", append(args, "-o", "yaml")...)
		var a, b any
		if err := errors.Join(json.Unmarshal([]byte(asJSON), &a), yaml.Unmarshal([]byte(asYAML), &b)); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: json and yaml differ: %v", c.line, err)
		}
	}
}

// TestWrongWordsSayWhatWasMeant holds that no word is passed over: a script that
// calls a command that is not there must not go on as if it had been done.
func TestWrongWordsSayWhatWasMeant(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"consme t", "did you mean consume?"},
		{"admin pipelines list", "see `rustmq admin --help`"},
		{"admin topics lst", "did you mean list?"},
		{"config chek f", "did you mean check?"},
		{"context ad x", "did you mean add?"},
		{"context delete nowhere", "there is no context \"nowhere\""},
		{"debug objekt f", "did you mean object?"},
		{"broker sreve", "did you mean serve?"},
		{"completion tcsh", `unknown command "tcsh"`},
		{"produce", "want `rustmq produce TOPIC"},
		{"consume a b", "2 arguments given: want `rustmq consume TOPIC"},
		{"version x", "1 argument given: want `rustmq version"},
		{"consume t -n x", "--count \"x\": want a whole number; see"},
		{"consume t -n 99999999999999999999", "want a number that is nearer to 0"},
		{"consume t --timeout 5", "--timeout \"5\": want a duration, such as 250ms"},
		{"consume t --exit=x", "--exit \"x\": want true or false"},
		{"admin tokens create t --expires soon", "--expires \"soon\": want a time, such as 30d, 12h or 90m"},
		{"serve --ephemeral --node-id 7 --certs no-such-dir", "no-such-dir has no node-7.pem, the certificate of this node: `rustmq admin certs issue node-7 --profile broker,controller"},
		{"broker --ephemeral --node-id 7 --bind 127.0.0.1 --certs no-such-dir --bucket file:///b --peers 1@127.0.0.1", "certs issue node-7 --profile broker --cluster"},
		{"admin serve", "rustmq serve --roles admin,controller"},
		{"admin topics add-partitions t", "TOPIC TOTAL"},
		{"debug wal", "see `rustmq debug wal --help`"},
		{"version now", "want `rustmq version"},
	} {
		code, stdout, stderr := rustmq(t, "", strings.Fields(c.line)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q on stdout, %q; want 2 and %q", c.line, code, stdout, stderr, c.want)
		}
	}
	if code, stdout, stderr := rustmq(t, "", "admin", "topics"); code != 0 || !strings.Contains(stdout, "add-partitions") {
		t.Errorf("a command that only has others shows them: exit %d, %s", code, stderr)
	}
}

func TestAdminTopics(t *testing.T) {
	n := node(t)
	admin := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + n.HTTP(), "topics"}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s", args, code, want, stderr)
		}
		return stdout + stderr
	}
	admin(0, "create", "t", "--partitions", "2", "--config", "max.message.bytes=5000")
	if out := admin(1, "create", "t"); !strings.Contains(out, "already exists") {
		t.Errorf("create again: %s", out)
	}
	admin(0, "create", "t", "--if-not-exists")
	if out := admin(1, "create", "bad/name"); !strings.Contains(out, "bad/name") {
		t.Errorf("create bad/name: %s", out)
	}
	if out := admin(1, "create", "u", "--config", "segment.ms=often"); !strings.Contains(out, "segment.ms") {
		t.Errorf("unknown config: %s", out)
	}
	admin(0, "add-partitions", "t", "4")
	if out := admin(1, "alter", "t", "--delete", "retntion.ms"); !strings.Contains(out, "did you mean retention.ms") {
		t.Errorf("delete of a config that there is not: %s", out)
	}
	admin(0, "alter", "t", "--delete", "retention.ms") // is not set
	admin(0, "alter", "t", "--delete", "max.message.bytes", "--set", "compression.type=zstd")
	var topic struct {
		Partitions int
		Configs    map[string]string
		Durability string
	}
	if err := json.Unmarshal([]byte(admin(0, "describe", "t", "-o", "json")), &topic); err != nil {
		t.Fatal(err)
	}
	if topic.Partitions != 4 || len(topic.Configs) != 1 || topic.Configs["compression.type"] != "zstd" || !strings.Contains(topic.Durability, "synced") {
		t.Errorf("described as %+v", topic)
	}
	if out := admin(1, "alter", "t", "--set", "rustmq.durability=memory"); !strings.Contains(out, "fixed when a topic is made") {
		t.Errorf("another durability: %s", out)
	}
	if out := admin(1, "create", "m", "--config", "rustmq.durability=none"); !strings.Contains(out, "not one of wal, memory") {
		t.Errorf("an unknown durability: %s", out)
	}
	admin(0, "create", "m", "--config", "rustmq.durability=memory")
	if out := admin(0, "describe", "m"); !strings.Contains(out, "in this node's memory (rustmq.durability = memory)") {
		t.Errorf("a topic of memory is described as %s", out)
	}
	if code, _, stderr := rustmq(t, "hello\n", "produce", "m", "-b", n.Kafka()); code != 0 {
		t.Errorf("produce to it: exit %d, %s", code, stderr)
	}
	if code, stdout, stderr := rustmq(t, "", "consume", "m", "-b", n.Kafka(), "-n", "1"); code != 0 || stdout != "hello\n" {
		t.Errorf("consume from it: exit %d, %q, %s", code, stdout, stderr)
	}
	admin(0, "delete", "m")
	admin(0, "delete", "t", "--dry-run")
	if out := admin(0, "list", "-o", "yaml"); !strings.Contains(out, "name: t") {
		t.Errorf("list: %s", out)
	}
	admin(0, "delete", "t")
	if out := admin(1, "describe", "t"); !strings.Contains(out, "UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("describe after delete: %s", out)
	}
}

// Quotas that are set hold clients, and /metrics tells.
func TestAdminQuotas(t *testing.T) {
	n := node(t)
	admin := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + n.HTTP(), "quotas"}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s", args, code, want, stderr)
		}
		return stdout + stderr
	}
	admin(0, "set", "--default-user", "--client-id", "slow", "producer_byte_rate=1KiB", "request_percentage=12.5")
	admin(0, "set", "--user", "ANONYMOUS", "controller_mutation_rate=2")
	var quotas []struct {
		User        string             `json:"user"`
		DefaultUser bool               `json:"default_user"`
		ClientID    string             `json:"client_id"`
		Rates       map[string]float64 `json:"rates"`
	}
	if err := json.Unmarshal([]byte(admin(0, "list", "-o", "json")), &quotas); err != nil {
		t.Fatal(err)
	}
	if len(quotas) != 2 || !quotas[0].DefaultUser || quotas[0].ClientID != "slow" || quotas[0].Rates["producer_byte_rate"] != 1024 || quotas[1].User != "ANONYMOUS" {
		t.Errorf("listed as %+v", quotas)
	}
	admin(0, "set", "--user", "ANONYMOUS", "--delete", "controller_mutation_rate")
	if out := admin(0, "list"); strings.Contains(out, "ANONYMOUS") || !strings.Contains(out, "1.0 KiB/s") {
		t.Errorf("listed as %s", out)
	}
	for _, wrong := range [][]string{
		{"--user", "a", "connection_creation_rate=1"}, {"--user", "a", "producer_byte_rate=0"}, {"--user", "a", "--delete", "speed"},
	} {
		if out := admin(1, append([]string{"set"}, wrong...)...); !strings.Contains(out, "invalid request") {
			t.Errorf("%v: %s", wrong, out)
		}
	}
}

func TestVerifyAndBench(t *testing.T) {
	n := node(t)
	code, stdout, stderr := rustmq(t, "", "verify", "-b", n.Kafka(), "-n", "5000", "-o", "json")
	if code != 0 || !strings.Contains(stdout, `"acked":5000,"read":5000,"lost":0,"diverged":0,"duplicated":0,"reordered":0,"gaps":0`) {
		t.Fatalf("verify: exit %d, %s %s", code, stdout, stderr)
	}
	code, stdout, stderr = rustmq(t, "", "bench", "-b", n.Kafka(), "-n", "1000", "-o", "json")
	if code != 0 || strings.Count(stdout, "records_per_second") != 3 {
		t.Fatalf("bench: exit %d, %s %s", code, stdout, stderr)
	}
}

// TestVerifyFindsWhatIsPlanted takes a topic whose records were changed behind
// its back for one that lost, moved and doubled acked records.
func TestVerifyFindsWhatIsPlanted(t *testing.T) {
	n := node(t)
	state := filepath.Join(t.TempDir(), "acks")
	flags := []string{"verify", "-b", n.Kafka(), "--topic", "v", "--state", state, "-n", "100"}
	if code, _, stderr := rustmq(t, "", append(flags, "--phase", "produce")...); code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	acks, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	const ack = 20
	planted := bytes.Clone(acks)
	planted[12]++                                      // another record was acked at this offset
	planted = append(planted, acks[len(acks)-ack:]...) // and one
	planted[len(planted)-ack+5] = 9                    // far behind the end
	if err := os.WriteFile(state, planted, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := rustmq(t, "", append(flags, "--phase", "check")...)
	if code != 1 || !strings.Contains(stdout, "1 lost, 1 diverged") {
		t.Fatalf("exit %d, %s", code, stdout)
	}
}

func TestDebugShowsWhatIsStored(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := rustmq(t, strings.Repeat("hello ", 500)+"\n", "produce", "t", "-b", n.Kafka(), "-z", "gzip"); code != 0 {
		t.Fatal(stderr)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := rustmq(t, "", "debug", "wal", filepath.Join(dir, "wal"), "-o", "json")
	if code != 0 || !strings.Contains(stdout, `"codec":"gzip"`) || !strings.Contains(stdout, `"crc":"ok"`) {
		t.Fatalf("exit %d, %s %s", code, stdout, stderr)
	}
	var first struct {
		File string
		At   int64
	}
	must(t, json.NewDecoder(strings.NewReader(stdout)).Decode(&first))
	f, err := os.OpenFile(filepath.Join(dir, "wal", first.File), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{0xff, 0xff}, first.At+60)
	must(t, err)
	must(t, f.Close())
	code, stdout, stderr = rustmq(t, "", "debug", "wal", filepath.Join(dir, "wal"))
	if want := fmt.Sprintf("%s@%d DAMAGED: ", first.File, first.At); code != 0 || !strings.Contains(stdout, want) || !strings.Contains(stdout, "codec=gzip") {
		t.Fatalf("exit %d, want %q, %s %s", code, want, stdout, stderr)
	}
}

func TestContextsAndConfig(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	n := node(t)
	if code, _, stderr := rustmq(t, "", "context", "add", "here", "-b", n.Kafka(), "--url", "http://"+n.HTTP()); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := rustmq(t, "x\n", "produce", "t"); code != 0 {
		t.Fatalf("produce by context: %s", stderr)
	}
	if code, stdout, stderr := rustmq(t, "", "admin", "topics", "list"); code != 0 || !strings.Contains(stdout, "t ") {
		t.Fatalf("admin by context: %s %s", stdout, stderr)
	}
	if code, _, stderr := rustmq(t, "", "context", "add", "a-longer-name", "-b", "b:9092", "--tls", "--user", "alice"); code != 0 {
		t.Fatal(stderr)
	}
	_, stdout, _ := rustmq(t, "", "context", "list")
	var rows []string
	for line := range strings.Lines(stdout) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	if want := []string{"CONTEXT BROKERS ADMIN URL USER", "a-longer-name b:9092 - alice", "* here " + n.Kafka() + " http://" + n.HTTP() + " -"}; !slices.Equal(rows, want) {
		t.Errorf("context list: %q", rows)
	}
	for _, name := range []string{"a-longer-name", "here"} { // the second is in use
		if code, _, stderr := rustmq(t, "", "context", "delete", name); code != 0 {
			t.Fatal(stderr)
		}
	}
	if code, stdout, stderr := rustmq(t, "", "context", "list"); code != 0 || stdout != "" || !strings.Contains(stderr, "no contexts") {
		t.Errorf("after both were deleted: exit %d, %q, %s", code, stdout, stderr)
	}
	code, stdout, _ := rustmq(t, "", "config", "default")
	if code != 0 || stdout != configs.Default().TOML() {
		t.Errorf("config default: exit %d", code)
	}
	if code, stdout, _ = rustmq(t, "", "config", "show", "--set", "broker.id=3"); code != 0 || !strings.Contains(stdout, "--set") {
		t.Errorf("config show: exit %d, %s", code, stdout)
	}
}
