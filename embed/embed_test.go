package embed_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/embed"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func start(t *testing.T, o embed.Options) *embed.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node, err := embed.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func client(t *testing.T, node *embed.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(node.Kafka()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// TestRestartKeepsWhatWasAcked also proves that topics, offsets of groups and
// the identity of the cluster are there again.
func TestRestartKeepsWhatWasAcked(t *testing.T) {
	dir := t.TempDir()
	node := start(t, embed.Options{DataDir: dir})
	cl := client(t, node, kgo.DefaultProduceTopic("t"))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := cl.ProduceSync(t.Context(), kgo.KeySliceRecord(fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 1, 7, -1)
	if err := adm.CommitAllOffsets(t.Context(), "g", offsets); err != nil {
		t.Fatal(err)
	}
	before, err := adm.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}

	node = start(t, embed.Options{DataDir: dir})
	defer node.Close()
	cl = client(t, node, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	adm = kadm.NewClient(cl)
	after, err := adm.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Cluster != after.Cluster || before.Topics["t"].ID != after.Topics["t"].ID {
		t.Errorf("cluster %s and topic %v became %s and %v", before.Cluster, before.Topics["t"].ID, after.Cluster, after.Topics["t"].ID)
	}
	got := map[string]string{}
	for len(got) < 100 {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[string(r.Key)] = string(r.Value) })
	}
	for i := range 100 {
		if got[fmt.Sprintf("k%d", i)] != fmt.Sprintf("v%d", i) {
			t.Errorf("record %d is %q", i, got[fmt.Sprintf("k%d", i)])
		}
	}
	committed, err := adm.FetchOffsets(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := committed.Lookup("t", 1); !ok || o.At != 7 {
		t.Errorf("the committed offset is %+v", o)
	}
}

func TestSecondNodeInOneDirectoryIsToldWhoIsThere(t *testing.T) {
	dir := t.TempDir()
	node := start(t, embed.Options{DataDir: dir})
	defer node.Close()
	_, err := embed.Start(t.Context(), embed.Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "is in use") || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("%v", err)
	}
}

func TestTakenPortNamesKeyAndHolder(t *testing.T) {
	node := start(t, embed.Options{})
	defer node.Close()
	_, port, _ := strings.Cut(node.Kafka(), ":")
	_, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"network.kafka_port": port}})
	if err == nil {
		t.Fatal("two nodes have one port")
	}
	for _, want := range []string{"network.kafka_port", fmt.Sprint(os.Getpid()), "--ports free"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestOtherAddressesNeedInsistence(t *testing.T) {
	_, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"network.bind": "0.0.0.0"}})
	if err == nil || !strings.Contains(err.Error(), "security.allow_insecure") {
		t.Fatalf("%v", err)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	node := start(t, embed.Options{})
	defer node.Close()
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ok", "/metrics": "rustmq_wal_commits_total", "/api/v1/topics": `"topics"`,
	} {
		resp, err := http.Get("http://" + node.HTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v: %.200s", path, resp.Status, err, body)
		}
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	node := start(t, embed.Options{})
	defer node.Close()
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		func(r *http.Request) { r.Host = "evil.example" },
	} {
		req, err := http.NewRequest(http.MethodDelete, "http://"+node.HTTP()+"/api/v1/topics/t", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("answered %s", resp.Status)
		}
	}
}
