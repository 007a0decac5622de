package roles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
)

// looker looks into topics of a node.
type looker struct {
	*testing.T
	http string
}

func (l looker) look(topic, query string) (status int, is admin.PeekedMessages, said string) {
	l.Helper()
	resp, err := http.Get("http://" + l.http + "/api/v1/topics/" + topic + "/records?" + query)
	must(l.T, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(l.T, err)
	if resp.StatusCode == http.StatusOK {
		must(l.T, json.Unmarshal(raw, &is))
	}
	return resp.StatusCode, is, string(raw)
}

// looks is a look that succeeds.
func (l looker) looks(topic, query string) admin.PeekedMessages {
	l.Helper()
	status, is, said := l.look(topic, query)
	if status != http.StatusOK {
		l.Fatalf("%s: %d %s", query, status, said)
	}
	return is
}

func offsetsOf(is admin.PeekedMessages) (all []int64) {
	for _, m := range is.Records {
		all = append(all, m.Offset)
	}
	return all
}

// A look shows records as they are, from where it is asked to, as many as there is room for,
// whatever compresses them and wherever they lie.
func TestALookIntoATopic(t *testing.T) {
	b := newBucketNode(t, map[string]string{"wal.segment_size": "8MiB", "wal.capacity": "64MiB", "wal.memory": "8MiB", "wal.upload_bytes": "4MiB"})
	l := looker{t, b.HTTP()}
	// What is as old as those records are is to stay.
	for _, line := range []string{"topics create t -p 2 --config retention.ms=-1", "topics create big -p 1"} {
		if code, _, said := rustmq(t, "", append([]string{"admin", "--url", "http://" + b.HTTP()}, strings.Fields(line)...)...); code != 0 {
			t.Fatal(said)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	must(t, err)
	defer client.Close()
	begin := time.UnixMilli(1_700_000_000_000)
	binary := []byte{0xff, 0, 1}
	for i := range 20 {
		r := &kgo.Record{Topic: "t", Partition: 1, Timestamp: begin.Add(time.Duration(i) * time.Second), Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, "grüße ", i)}
		switch i {
		case 3:
			r.Key, r.Value = nil, nil
		case 4:
			r.Key, r.Value = []byte{}, binary
		case 5:
			r.Headers = []kgo.RecordHeader{{Key: "trace", Value: []byte("a<b>")}, {Key: "raw", Value: binary}, {Key: "none"}}
		}
		must(t, client.ProduceSync(t.Context(), r).FirstErr())
	}

	is := l.looks("t", "partition=1&from=start&limit=6")
	if len(is.Records) != 6 || is.Next != 6 || is.LogStart != 0 || is.HighWatermark != 20 {
		t.Fatalf("%+v", is)
	}
	m := is.Records
	if *m[0].Key != "k0" || *m[0].Value != "grüße 0" || m[0].Timestamp != begin.UTC().Format(time.RFC3339Nano) || m[0].Cut || m[0].Partition != 1 {
		t.Errorf("%+v", m[0])
	}
	if m[3].Key != nil || m[3].Value != nil || m[3].KeyBase64 != nil || m[4].Key == nil || *m[4].Key != "" || !bytes.Equal(m[4].ValueBase64, binary) {
		t.Errorf("%+v, %+v", m[3], m[4])
	}
	if h := m[5].Headers; len(h) != 3 || h[0].Key != "trace" || *h[0].Value != "a<b>" || !bytes.Equal(h[1].ValueBase64, binary) || h[2].Value != nil || m[5].HeaderCount != 3 {
		t.Errorf("%+v", m[5])
	}
	for query, want := range map[string]string{
		"partition=1&limit=3":                      "[17 18 19]",
		"partition=1&limit=3&offset=7":             "[7 8 9]",
		"partition=1&offset=20":                    "[]",
		"partition=0":                              "[]",
		"partition=1&limit=2&from=start&offset=18": "[18 19]",
		"partition=1&limit=2&time=" + url.QueryEscape(begin.Add(9500*time.Millisecond).Format(time.RFC3339Nano)): "[10 11]",
		"partition=1&time=" + url.QueryEscape(begin.Add(time.Hour).Format(time.RFC3339)):                         "[]",
		"partition=1&from=start&max_bytes=1&limit=9":                                                             "[0]",
	} {
		if got := fmt.Sprint(offsetsOf(l.looks("t", query))); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, want := range map[string]struct {
		status int
		says   string
	}{
		"partition=2":                            {http.StatusNotFound, "partitions 0 to 1"},
		"partition=1&offset=21":                  {http.StatusRequestedRangeNotSatisfiable, "from 0 to 20"},
		"partition=1&limit=0":                    {http.StatusUnprocessableEntity, "limit"},
		"partition=1&limit=1001":                 {http.StatusUnprocessableEntity, "limit"},
		"partition=1&max_bytes=2000000":          {http.StatusUnprocessableEntity, "max_bytes"},
		"partition=-1":                           {http.StatusUnprocessableEntity, "partition"},
		"partition=1&time=yesterday":             {http.StatusUnprocessableEntity, "time"},
		"offset=1&time=2026-01-01T00%3A00%3A00Z": {http.StatusBadRequest, "give one of them"},
	} {
		if status, _, said := l.look("t", query); status != want.status || !strings.Contains(said, want.says) {
			t.Errorf("%s: %d %s", query, status, said)
		}
	}
	if status, _, said := l.look("ghost", ""); status != http.StatusNotFound || !strings.Contains(said, "there is no topic ghost") {
		t.Errorf("%d %s", status, said)
	}

	// Of what is large the beginning is shown, in whole characters; a batch that expands to too
	// much is not expanded.
	large := strings.Repeat("ä", 40_000)
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: 0, Value: []byte("x" + large)}).FirstErr())
	is = l.looks("t", "partition=0")
	if m := is.Records[0]; !m.Cut || m.ValueBytes != 80_001 || m.Value == nil || len(*m.Value) != 64<<10-1 {
		t.Errorf("cut %v, %d of %d bytes", m.Cut, len(*m.Value), m.ValueBytes)
	}

	// What lies in the bucket alone is shown too.
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(i*i*7 + i>>8)
	}
	cold := func() bool { return localStart(t, b.HTTP(), "big") > 5 }
	plain, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	must(t, err)
	defer plain.Close()
	for i := 0; !cold(); i++ {
		if i == 2000 {
			t.Fatal("nothing leaves the log for the bucket")
		}
		must(t, plain.ProduceSync(t.Context(), &kgo.Record{Topic: "big", Value: append(fmt.Append(nil, i, "."), noise...)}).FirstErr())
	}
	is = l.looks("big", "from=start&limit=3")
	if fmt.Sprint(offsetsOf(is)) != "[0 1 2]" || !strings.HasPrefix(shownValue(is.Records[2]), "2.") {
		t.Errorf("%v", offsetsOf(is))
	}
}

// localStart is where the log of a topic's first partition begins to be in the WAL.
func localStart(t *testing.T, at, name string) int64 {
	t.Helper()
	resp, err := http.Get("http://" + at + "/api/v1/topics/" + name)
	must(t, err)
	defer resp.Body.Close()
	var topic admin.Topic
	must(t, json.NewDecoder(resp.Body).Decode(&topic))
	return int64(topic.PartitionList[0].LocalStart)
}

func shownValue(m admin.Message) string {
	if m.Value != nil {
		return *m.Value
	}
	return string(m.ValueBase64)
}

// transacted produces a record in each of some transactions, and ends them as it is told.
func transacted(t *testing.T, client *kgo.Client, value string, ends ...kgo.TransactionEndTry) {
	t.Helper()
	for _, end := range ends {
		must(t, client.BeginTransaction())
		must(t, client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr())
		must(t, client.EndTransaction(t.Context(), end))
	}
}

func byTransactions(t *testing.T, n *embed.Node, id string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.TransactionalID(id), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// outcomesOf is what is said of each record's transaction.
func outcomesOf(is admin.PeekedMessages) string {
	var all []string
	for _, m := range is.Records {
		all = append(all, fmt.Sprintf("%d %s", m.Offset, m.Transaction))
	}
	return strings.Join(all, ", ")
}

// Records of transactions are shown below the high watermark, with what became of them, or those
// alone that consumers get that read what is committed; markers are not.
func TestALookSaysWhatBecameOfTransactions(t *testing.T) {
	n := node(t)
	l := looker{t, n.HTTP()}
	// 0 aborted, 1 its marker, 2 committed, 3 its marker, 4 open, 5 of none.
	transacted(t, byTransactions(t, n, "x"), "x", kgo.TryAbort, kgo.TryCommit)
	open := byTransactions(t, n, "open")
	must(t, open.BeginTransaction())
	must(t, open.ProduceSync(t.Context(), kgo.StringRecord("open")).FirstErr())
	plain, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.DefaultProduceTopic("t"))
	must(t, err)
	defer plain.Close()
	must(t, plain.ProduceSync(t.Context(), kgo.StringRecord("of none")).FirstErr())

	for query, want := range map[string]struct {
		said string
		next int64
	}{
		"from=start":                                {"0 aborted, 2 committed, 4 open, 5 ", 6},
		"from=start&isolation=read_committed":       {"2 committed", 4},
		"offset=5&isolation=read_committed":         {"", 5}, // it is behind what is open, and waits there
		"limit=2&isolation=read_committed":          {"2 committed", 4},
		"from=start&limit=1":                        {"0 aborted", 1},
		"offset=4&limit=1&isolation=read_committed": {"", 4},
	} {
		is := l.looks("t", query)
		if got := outcomesOf(is); got != want.said || is.Next != want.next || is.HighWatermark != 6 || is.LastStable != 4 {
			t.Errorf("%s: %q, next %d, high watermark %d, last stable %d; want %q, next %d", query, got, is.Next, is.HighWatermark, is.LastStable, want.said, want.next)
		}
	}
	if is := l.looks("t", "from=start"); !is.Records[0].Transactional || is.Records[3].Transactional {
		t.Errorf("%+v", is)
	}
	must(t, open.EndTransaction(t.Context(), kgo.TryCommit))
	eventually(t, "what was open is shown", func() bool {
		return outcomesOf(l.looks("t", "from=start&isolation=read_committed")) == "2 committed, 4 committed, 5 "
	})
	if status, _, said := l.look("t", "isolation=serializable"); status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", status, said)
	}
}

// What became of transactions is known of records too that the bucket alone has.
func TestALookIntoTheBucketKnowsWhatWasAborted(t *testing.T) {
	b := newBucketNode(t, map[string]string{"wal.segment_size": "8MiB", "wal.capacity": "64MiB", "wal.memory": "8MiB", "wal.upload_bytes": "4MiB"})
	l := looker{t, b.HTTP()}
	transacted(t, byTransactions(t, b.Node, "x"), "x", kgo.TryAbort, kgo.TryCommit)
	noise := byTransactions(t, b.Node, "noise")
	large := strings.Repeat("n", 900<<10)
	for i := 0; localStart(t, b.HTTP(), "t") <= 4; i++ {
		if i == 400 {
			t.Fatal("nothing leaves the log for the bucket")
		}
		transacted(t, noise, large, kgo.TryCommit)
	}
	for query, want := range map[string]string{"from=start&limit=2": "0 aborted, 2 committed", "from=start&limit=1&isolation=read_committed": "2 committed"} {
		if got := outcomesOf(l.looks("t", query)); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// A batch that expands to more than a look may take is told of, and the rest is reached past it.
func TestALookDoesNotExpandWithoutEnd(t *testing.T) {
	n := node(t)
	l := looker{t, n.HTTP()}
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	must(t, err)
	defer client.Close()
	bomb := make([]byte, 20<<20)
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Value: bomb}).FirstErr())
	must(t, client.ProduceSync(t.Context(), kgo.StringRecord("behind it")).FirstErr())
	if status, _, said := l.look("t", "from=start"); status != http.StatusUnprocessableEntity || !strings.Contains(said, "`rustmq consume`") {
		t.Errorf("%d %s", status, said)
	}
	if is := l.looks("t", "offset=1"); len(is.Records) != 1 || shownValue(is.Records[0]) != "behind it" {
		t.Errorf("%+v", is)
	}
}
