package roles_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles"
)

// TestReferenceOfMetrics holds that docs/reference/metrics.md is of this code.
func TestReferenceOfMetrics(t *testing.T) {
	got, err := os.ReadFile("../docs/reference/metrics.md")
	must(t, err)
	if string(got) != roles.MetricsReference() {
		t.Error("docs/reference/metrics.md is not what the code exports: make generate")
	}
}

// TestEveryMetricIsInTheReference scrapes nodes after they were used: what they export is
// listed, with its type and labels.
func TestEveryMetricIsInTheReference(t *testing.T) {
	listed := map[string]roles.Metric{}
	for _, m := range roles.Metrics() {
		if m.Help == "" || !strings.HasPrefix(m.Name, "rustmq_") {
			t.Errorf("%s has no help, or another prefix", m.Name)
		}
		listed[m.Name] = m
	}
	n, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"metrics.partitions": "all", "security.sasl.mechanisms": "SCRAM-SHA-512", "security.audit.record": "admin"}})
	must(t, err)
	defer func() { must(t, n.Close()) }()
	plain := node(t)
	for range 2 {
		for _, args := range [][]string{{"produce", "t", "-b", plain.Kafka()}, {"consume", "t", "-b", plain.Kafka(), "-g", "g", "-n", "1"}} {
			if code, _, stderr := rustmq(t, "hello\n", args...); code != 0 {
				t.Fatal(stderr)
			}
		}
	}
	seen := 0
	for _, at := range []string{n.HTTP(), plain.HTTP()} {
		families, err := expfmtParse(scrape(t, at))
		must(t, err)
		for name, f := range families {
			if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
				continue
			}
			seen++
			m, is := listed[name]
			if !is {
				t.Errorf("%s is exported and not in the reference", name)
				continue
			}
			if kind := strings.ToLower(f.GetType().String()); kind != m.Type {
				t.Errorf("%s is a %s, and a %s in the reference", name, kind, m.Type)
			}
			for _, series := range f.GetMetric() {
				for _, label := range series.GetLabel() {
					if !slices.Contains(m.Labels, label.GetName()) {
						t.Errorf("%s has a label %s, which the reference does not say", name, label.GetName())
					}
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d families are exported", seen)
	}
}

func expfmtParse(text string) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(strings.NewReader(text))
}

// scrape is what a node exports.
func scrape(t *testing.T, at string) string {
	t.Helper()
	resp, err := http.Get("http://" + at + "/metrics")
	must(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d: %.500s", resp.StatusCode, text)
	}
	return string(text)
}

// TestMetricsThatDocsNameExist: by their whole names, or the beginning of some (rustmq_topic_…).
func TestMetricsThatDocsNameExist(t *testing.T) {
	listed := listedMetrics()
	// Names of the ABI of modules, and of the crate for them.
	others := []string{"rustmq_abi", "rustmq_buffer", "rustmq_init", "rustmq_transform", "rustmq_etl"}
	pages, err := filepath.Glob("../docs/*.md")
	must(t, err)
	more, err := filepath.Glob("../docs/*/*.md")
	must(t, err)
	named := regexp.MustCompile(`\brustmq_[a-z][a-z0-9_]*`)
	found := 0
	for _, page := range append(append(pages, more...), "../README.md") {
		text, err := os.ReadFile(page)
		must(t, err)
		for _, name := range named.FindAllString(string(text), -1) {
			_, is := listed[familyOf(name, listed)]
			begins := strings.HasSuffix(name, "_") && slices.ContainsFunc(slices.Collect(maps.Keys(listed)), func(of string) bool { return strings.HasPrefix(of, name) })
			if !is && !begins && !slices.Contains(others, name) {
				t.Errorf("%s names %s, which is no metric", page, name)
			}
			found++
		}
	}
	if found < 200 {
		t.Errorf("the docs name %d metrics", found)
	}
}
