package roles_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMetricsOfRequests asks once and finds it counted; the request after it
// proves that the answer had left.
func TestMetricsOfRequests(t *testing.T) {
	n := node(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()))
	must(t, err)
	defer cl.Close()
	for range 2 {
		_, err = kmsg.NewPtrDescribeClusterRequest().RequestWith(t.Context(), cl)
		must(t, err)
	}
	resp, err := http.Get("http://" + n.HTTP() + "/metrics")
	must(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{
		`rustmq_kafka_requests_total{api="DescribeCluster"} 2`,
		`rustmq_kafka_answer_queue_seconds_count{api="DescribeCluster"}`,
		`rustmq_kafka_request_memory_bytes `,
		`rustmq_kafka_unsent_bytes `,
		`rustmq_broker_request_duration_seconds_count{api="DescribeCluster"}`,
	} {
		if !strings.Contains(string(text), "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestNodeSaysWhoItIs holds that a client which asks for another node is told
// that it did not reach it (KIP-1242).
func TestNodeSaysWhoItIs(t *testing.T) {
	n := node(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()))
	must(t, err)
	defer cl.Close()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.Context(), cl)
	must(t, err)
	for _, k := range resp.ApiKeys {
		if k.ApiKey == int16(kmsg.ApiVersions) && k.MaxVersion < 5 {
			t.Errorf("ApiVersions is served up to v%d", k.MaxVersion)
		}
	}
}
