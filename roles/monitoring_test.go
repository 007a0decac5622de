package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.yaml.in/yaml/v3"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/admin"
)

const monitoring = "../deploy/monitoring/"

// alert is a rule of deploy/monitoring/alerts.yml.
type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile(monitoring + "alerts.yml")
	must(t, err)
	var file struct{ Groups []struct{ Rules []alert } }
	must(t, yaml.Unmarshal(text, &file))
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// expressions are those of the alerts and the dashboards, by what they are of.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range alerts(t) {
		all[a.Alert] = a.Expr
	}
	files, err := filepath.Glob(monitoring + "grafana/*.json")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("there are no dashboards")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		must(t, json.Unmarshal(text, &dashboard))
		for _, p := range dashboard.Panels {
			for _, target := range p.Targets {
				all[fmt.Sprintf("%s: %s, %s", filepath.Base(file), p.Title, target.RefID)] = target.Expr
			}
		}
	}
	return all
}

// askedFor finds what expressions ask for: metrics of ours, with the labels that they choose by.
var (
	askedFor = regexp.MustCompile(`\b(rustmq_[a-z_]+)(?:\{([^}]*)\})?`)
	choosing = regexp.MustCompile(`([a-z_]+)\s*[=!]~?\s*"`)
	grouping = regexp.MustCompile(`\bby \(([a-z_, ]*)\)`)
)

// families are the names of metrics without what histograms add to theirs.
func familyOf(name string, listed map[string]roles.Metric) string {
	if _, is := listed[name]; is {
		return name
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if of, has := strings.CutSuffix(name, part); has && listed[of].Type == "histogram" {
			return of
		}
	}
	return name
}

func listedMetrics() map[string]roles.Metric {
	listed := map[string]roles.Metric{}
	for _, m := range roles.Metrics() {
		listed[m.Name] = m
	}
	return listed
}

// TestDashboardsAndAlertsAskForWhatIsExported: each name and label is of a metric.
func TestDashboardsAndAlertsAskForWhatIsExported(t *testing.T) {
	listed := listedMetrics()
	for of, expr := range expressions(t) {
		var labels []string
		for _, found := range askedFor.FindAllStringSubmatch(expr, -1) {
			name := familyOf(found[1], listed)
			m, is := listed[name]
			if !is {
				t.Errorf("%s asks for %s, which nobody exports", of, found[1])
			}
			has := append(slices.Clone(m.Labels), "instance", "job")
			if m.Type == "histogram" {
				has = append(has, "le")
			}
			labels = append(labels, has...)
			for _, label := range choosing.FindAllStringSubmatch(found[2], -1) {
				if !slices.Contains(has, label[1]) {
					t.Errorf("%s chooses %s by %s, which it has not", of, name, label[1])
				}
			}
		}
		for _, by := range grouping.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(by[1], ",") {
				if !slices.Contains(labels, strings.TrimSpace(label)) {
					t.Errorf("%s groups by %s, which it has not", of, label)
				}
			}
		}
	}
}

// TestEachAlertHasARunbook: a heading, what is seen, why, and what to do by which command.
func TestEachAlertHasARunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/runbooks.md")
	must(t, err)
	entries := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		name, entry, _ := strings.Cut(part, "\n")
		entries[name] = entry
	}
	for _, a := range alerts(t) {
		entry, has := entries[a.Alert]
		delete(entries, a.Alert)
		if !has {
			t.Errorf("docs/runbooks.md has no %s", a.Alert)
		}
		for _, part := range []string{"**What you see.** ", "**Why.** ", "**What to do.** ", "**Commands.** `"} {
			if !strings.Contains(entry, part) {
				t.Errorf("the runbook of %s has no %s", a.Alert, part)
			}
		}
		if want := "docs/runbooks.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want || a.Annotations["summary"] == "" {
			t.Errorf("%s has the annotations %v, want the runbook %s", a.Alert, a.Annotations, want)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s is of severity %q", a.Alert, s)
		}
	}
	for name := range entries {
		t.Errorf("docs/runbooks.md has %s, which is no alert", name)
	}
}

// TestEachProblemHasARunbook: docs/runbooks.md leads from each problem of cluster health that
// docs/cluster.md lists to an entry.
func TestEachProblemHasARunbook(t *testing.T) {
	listed, err := os.ReadFile("../docs/cluster.md")
	must(t, err)
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	must(t, err)
	_, table, _ := strings.Cut(string(listed), "| problem | severity |")
	table, _, _ = strings.Cut(table, "\n\n")
	_, leads, _ := strings.Cut(string(runbooks), "| problem of `cluster health` |")
	leads, _, _ = strings.Cut(leads, "\n\n")
	found := 0
	for _, row := range strings.Split(table, "\n")[2:] {
		problems, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		for _, problem := range strings.Split(problems, ", ") {
			id, _, _ := strings.Cut(strings.TrimSuffix(problem, "`"), "…") // controllers/… is several
			if found++; !strings.Contains(leads, id) {
				t.Errorf("docs/runbooks.md does not say what helps with %s", problem)
			}
		}
	}
	if found < 15 {
		t.Errorf("docs/cluster.md lists %d problems", found)
	}
	for _, link := range strings.Split(leads, "](#")[1:] {
		to, _, _ := strings.Cut(link, ")")
		if !strings.Contains(strings.ToLower(string(runbooks)), "\n## "+to+"\n") {
			t.Errorf("docs/runbooks.md leads to %s, which is not there", to)
		}
	}
}

// TestEachProblemIsListed: docs/cluster.md, the head of docs/runbooks.md and docs/troubleshooting.md
// know each kind of problem that cluster health has, and the last leads to each runbook too.
func TestEachProblemIsListed(t *testing.T) {
	kind, _ := reflect.TypeFor[admin.Problem]().FieldByName("Kind")
	kinds := strings.Split(kind.Tag.Get("enum"), ",")
	if len(kinds) < 15 {
		t.Fatalf("cluster health has the kinds %q", kinds)
	}
	for _, page := range []string{"cluster.md", "runbooks.md", "troubleshooting.md"} {
		text, err := os.ReadFile("../docs/" + page)
		must(t, err)
		for _, kind := range kinds {
			if !regexp.MustCompile("`" + kind + "[/`]").Match(text) {
				t.Errorf("docs/%s does not know the problem %s", page, kind)
			}
		}
		for _, a := range alerts(t) {
			if to := "](runbooks.md#" + strings.ToLower(a.Alert) + ")"; page == "troubleshooting.md" && !strings.Contains(string(text), to) {
				t.Errorf("docs/%s does not lead to the runbook of %s", page, a.Alert)
			}
		}
	}
}

// still are metrics that dashboards and alerts ask for and that do not move below, with why.
var still = map[string]string{
	"rustmq_broker_corrupt_partitions":      "needs a disk that gives back other bytes: TestRotIsHealed and its like",
	"rustmq_broker_damage_total":            "likewise",
	"rustmq_broker_healing_replicas":        "likewise",
	"rustmq_broker_full_seconds_total":      "needs a log that is full: TestProducersAreRefusedInTime",
	"rustmq_wal_short":                      "needs a disk that is full",
	"rustmq_bucket_circuit_open":            "needs a store that fails",
	"rustmq_bucket_failures_total":          "likewise",
	"rustmq_bucket_slow_requests":           "needs a store that is slow",
	"rustmq_upload_failures_total":          "likewise",
	"rustmq_compaction_failures_total":      "likewise",
	"rustmq_cold_streams":                   "needs a consumer that reads while it is looked at",
	"rustmq_broker_fetch_memory_bytes":      "of the moment between an answer and its last byte",
	"rustmq_kafka_request_memory_bytes":     "likewise",
	"rustmq_kafka_unsent_bytes":             "likewise",
	"rustmq_cold_requests_total":            "needs records that only the bucket has: roles/broker/cold",
	"rustmq_cache_misses_total":             "likewise",
	"rustmq_cache_hits_total":               "needs two consumers of them",
	"rustmq_compaction_written_bytes_total": "needs many objects: roles/broker/compact",
	"rustmq_certificate_not_after_seconds":  "of a certificate that stays",
	"rustmq_cluster_feature_level":          "rises with the first node of a cluster that knows it",
	"rustmq_broker_healthy":                 "of a broker that is well",
	"rustmq_audit_failing_seconds":          "needs an audit log that cannot be written",
	"rustmq_cleaning_max_dirty_ratio":       "needs a topic that is compacted by key",
	"rustmq_broker_throttle_seconds_total":  "needs a quota: TestClientsAreHeldToTheirQuotas and its like",
}

// absent are metrics that exist only where what they are of is on, with why.
var absent = map[string]string{
	"rustmq_etl_budget_failures_total":         "of modules that fail",
	"rustmq_etl_async_lag_records":             "of asynchronous modules, which have tests of their own",
	"rustmq_etl_async_records_total":           "likewise",
	"rustmq_etl_inline_failures_total":         "of modules that fail",
	"rustmq_kafka_connections_refused_total":   "of a server that is full",
	"rustmq_broker_authorization_denied_total": "of clients that may not what they ask for",
}

// TestWhatDashboardsAskForIsExportedAndMoves has a cluster do what clusters do, and looks at
// what dashboards and alerts ask for before and after.
func TestWhatDashboardsAskForIsExportedAndMoves(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	secured, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"security.sasl.mechanisms": "SCRAM-SHA-512", "security.audit.record": "denied,login,admin", "operations.slow_request": "1us"}})
	must(t, err)
	defer func() { must(t, secured.Close()) }()
	listed := listedMetrics()
	wanted := map[string]bool{}
	for _, expr := range expressions(t) {
		for _, found := range askedFor.FindAllStringSubmatch(expr, -1) {
			wanted[familyOf(found[1], listed)] = true
		}
	}
	// What was seen of a family: each series, by the process and its labels.
	type values map[string]float64
	seen := map[string][]values{}
	look := func() {
		t.Helper()
		now := map[string]values{}
		at := []string{secured.HTTP()}
		for id := range c.nodes {
			at = append(at, c.host(id)+":9642")
		}
		for _, at := range at {
			families, err := expfmtParse(scrape(t, at))
			must(t, err)
			for name, f := range families {
				if !wanted[name] {
					continue
				}
				if now[name] == nil {
					now[name] = values{}
				}
				for _, m := range f.GetMetric() {
					now[name][at+fmt.Sprint(m.GetLabel())] = valueOf(m)
				}
			}
		}
		for name := range wanted {
			seen[name] = append(seen[name], now[name])
		}
	}
	look()

	brokers := kgo.SeedBrokers(c.host(1)+":9092", c.host(2)+":9092", c.host(3)+":9092")
	client, err := kgo.NewClient(brokers, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.TransactionalID("x"), kgo.ProducerBatchMaxBytes(900<<10))
	must(t, err)
	defer client.Close()
	adm := kadm.NewClient(client)
	_, err = adm.CreateTopics(t.Context(), 6, 3, nil, "t")
	must(t, err)
	c.admin(1, "etl", "deploy", "masks", "--battery", "headers", "--topics", "t", "--config", `{"set":[{"name":"a","value":"b"}]}`)
	produce := func(n int) {
		t.Helper()
		must(t, client.BeginTransaction())
		for range n {
			client.Produce(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 100<<10)}, nil)
		}
		must(t, client.Flush(t.Context()))
	}
	produce(200)
	eventually(t, "what is open is seen", func() bool {
		look()
		return lastMax(seen["rustmq_transactions_open"]) > 0 && lastMax(seen["rustmq_transaction_oldest_open_seconds"]) > 0
	})
	must(t, client.EndTransaction(t.Context(), kgo.TryCommit))
	reader, err := kgo.NewClient(brokers, kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	must(t, err)
	for got := 0; got < 50; {
		f := reader.PollRecords(t.Context(), 50)
		must(t, f.Err())
		got += f.NumRecords()
	}
	must(t, reader.CommitUncommittedOffsets(t.Context()))
	reader.Close()
	// What is refused: who is not known, what is too large for its topic, a name that no label can have.
	stranger, err := kgo.NewClient(kgo.SeedBrokers(secured.Kafka()), kgo.SASL(scram.Auth{User: "u", Pass: "p"}.AsSha512Mechanism()))
	must(t, err)
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := stranger.Ping(within); err == nil {
		t.Error("a stranger was let in")
	}
	stranger.Close()
	plain, err := kgo.NewClient(brokers, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	must(t, err)
	defer plain.Close()
	small := "100"
	_, err = adm.CreateTopic(t.Context(), 1, 3, map[string]*string{"max.message.bytes": &small}, "small")
	must(t, err)
	if err := plain.ProduceSync(within, &kgo.Record{Topic: "small", Value: make([]byte, 1000)}).FirstErr(); err == nil {
		t.Error("a record that is too large was taken")
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 0, 1, -1)
	must(t, adm.CommitAllOffsets(within, "\xff", offsets))
	eventually(t, "records are in the bucket", func() bool {
		look()
		return lastMax(seen["rustmq_upload_bytes_total"]) > 0 && lastMax(seen["rustmq_catalogue_record_bytes"]) > 0
	})
	leader := int(c.group(1, "one leads", func(g admin.ControllerGroup) bool { return g.Leader != 0 }).Leader)
	c.end(leader, syscall.SIGKILL)
	c.group(1+leader%3, "another leads", func(g admin.ControllerGroup) bool { return g.Leader != 0 && int(g.Leader) != leader })
	produce(5)
	must(t, client.EndTransaction(t.Context(), kgo.TryCommit))
	eventually(t, "a broker is lost", func() bool {
		look()
		return sum(lastOf(seen["rustmq_cluster_brokers"], "fenced")) > 0 && sum(lastOf(seen["rustmq_cluster_partitions"], "under_replicated")) > 0
	})
	c.start(leader)
	c.await(leader)
	eventually(t, "it is in sync again", func() bool {
		look()
		return sum(lastOf(seen["rustmq_broker_isr_changes_total"], "growth")) > 0 && lastMax(seen["rustmq_audit_records_written_total"]) > 0
	})

	// What is of a moment is seen while something goes on.
	lacking := func() (all []string) {
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			exported := slices.ContainsFunc(seen[name], func(v values) bool { return len(v) > 0 })
			switch {
			case !exported && absent[name] == "":
				all = append(all, name+" is not exported")
			case exported && absent[name] == "" && still[name] == "" && !moves(seen[name]):
				all = append(all, name+" does not move")
			}
		}
		return all
	}
	for deadline := time.Now().Add(30 * time.Second); len(lacking()) > 0 && time.Now().Before(deadline); {
		produce(5)
		look()
		must(t, client.EndTransaction(t.Context(), kgo.TryCommit))
	}
	for _, what := range lacking() {
		t.Error(what)
	}
	for name := range still {
		if !wanted[name] {
			t.Errorf("nothing asks for %s", name)
		}
	}
	for name := range absent {
		if !wanted[name] {
			t.Errorf("nothing asks for %s", name)
		}
	}
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Histogram != nil:
		return float64(m.GetHistogram().GetSampleCount())
	case m.Counter != nil:
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

// moves reports whether a series has had two values, or has come with one that is not 0 after
// the first look.
func moves[V ~map[string]float64](looks []V) bool {
	first := looks[0]
	for _, later := range looks[1:] {
		for series, v := range later {
			if was, is := first[series]; is && was != v || !is && v != 0 {
				return true
			}
		}
	}
	return false
}

func lastOf[V ~map[string]float64](looks []V, label string) (values []float64) {
	if len(looks) == 0 {
		return nil
	}
	for series, v := range looks[len(looks)-1] {
		if strings.Contains(series, `"`+label+`"`) {
			values = append(values, v)
		}
	}
	return values
}

func lastMax[V ~map[string]float64](looks []V) (most float64) {
	if len(looks) == 0 {
		return 0
	}
	for _, v := range looks[len(looks)-1] {
		most = max(most, v)
	}
	return most
}

func sum(values []float64) (all float64) {
	for _, v := range values {
		all += v
	}
	return all
}
