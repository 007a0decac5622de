package roles_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
)

// call calls the admin API of a node; what it answers is read into into.
func call(t *testing.T, method, url, body string, into any) (status int, said string) {
	t.Helper()
	return callBy(t, http.DefaultClient, method, url, body, into)
}

// callBy is call by a client of one's own.
func callBy(t *testing.T, by *http.Client, method, url, body string, into any) (status int, said string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	resp, err := by.Do(q)
	must(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	if into != nil && resp.StatusCode < http.StatusBadRequest {
		must(t, json.Unmarshal(raw, into))
	}
	return resp.StatusCode, string(raw)
}

// A record by hand is there as it was sent, null told from empty and from bytes; what a producer's
// would be refused for, it is.
func TestRecordsSentByHand(t *testing.T) {
	n := node(t)
	api := "http://" + n.HTTP() + "/api/v1/topics"
	if status, said := call(t, http.MethodPost, api, `{"name":"t","partitions":3,"configs":{"max.message.bytes":"20000"}}`, nil); status != http.StatusCreated {
		t.Fatal(status, said)
	}
	send := func(body string) admin.SentRecord {
		t.Helper()
		var is admin.SentRecord
		if status, said := call(t, http.MethodPost, api+"/t/records", body, &is); status != http.StatusCreated {
			t.Fatal(status, said)
		}
		return is
	}
	send(`{"partition":1}`)
	send(`{"partition":1,"key":"","value":"","headers":[{"key":"none"},{"key":"","value":""},{"key":"raw","value_base64":"/wA="}]}`)
	send(`{"partition":1,"key_base64":"/wA=","value":"{\"a\":1}","timestamp":"2026-02-03T04:05:06.789Z"}`)
	l := looker{t, n.HTTP()}
	m := l.looks("t", "partition=1&from=start").Records
	if len(m) != 3 || m[0].Key != nil || m[0].KeyBase64 != nil || m[0].Value != nil || m[1].Key == nil || *m[1].Key != "" || *m[1].Value != "" {
		t.Fatalf("%+v", m)
	}
	if h := m[1].Headers; len(h) != 3 || h[0].Value != nil || h[0].ValueBase64 != nil || *h[1].Value != "" || !bytes.Equal(h[2].ValueBase64, []byte{0xff, 0}) {
		t.Errorf("%+v", h)
	}
	if !bytes.Equal(m[2].KeyBase64, []byte{0xff, 0}) || *m[2].Value != `{"a":1}` || m[2].Timestamp != "2026-02-03T04:05:06.789Z" {
		t.Errorf("%+v", m[2])
	}

	// Without a partition, the key decides as for producers; without key each has its turn.
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.DefaultProduceTopic("t"))
	must(t, err)
	defer client.Close()
	for i := range 8 {
		key := fmt.Sprint("key-", i)
		theirs := client.ProduceSync(t.Context(), kgo.KeySliceRecord([]byte(key), nil))
		must(t, theirs.FirstErr())
		if ours := send(fmt.Sprintf(`{"key":%q}`, key)); ours.Partition != theirs[0].Record.Partition {
			t.Errorf("%s goes to %d, of a client to %d", key, ours.Partition, theirs[0].Record.Partition)
		}
	}
	taken := map[int32]bool{}
	for range 3 {
		taken[send(`{"value":"x"}`).Partition] = true
	}
	if len(taken) != 3 {
		t.Errorf("without key, of three records: %v", taken)
	}

	for body, want := range map[string]struct {
		status int
		says   string
	}{
		`{"partition":3}`:                                 {http.StatusNotFound, "0 to 2"},
		`{"partition":-1}`:                                {http.StatusUnprocessableEntity, "partition"},
		`{"key":"a","key_base64":"AA=="}`:                 {http.StatusBadRequest, "not as both"},
		`{"value":"x","timestamp":"noon"}`:                {http.StatusBadRequest, "RFC 3339"},
		`{"timestamp":"2999-01-01T00:00:00Z"}`:            {http.StatusUnprocessableEntity, "INVALID_TIMESTAMP"},
		`{"value_base64":"%%%"}`:                          {http.StatusUnprocessableEntity, "value_base64"},
		`{"value":"` + strings.Repeat("x", 30_000) + `"}`: {http.StatusUnprocessableEntity, "MESSAGE_TOO_LARGE"},
	} {
		if status, said := call(t, http.MethodPost, api+"/t/records", body, nil); status != want.status || !strings.Contains(said, want.says) {
			t.Errorf("%.60s: %d %s", body, status, said)
		}
	}
	if status, said := call(t, http.MethodPost, api+"/ghost/records", `{}`, nil); status != http.StatusNotFound {
		t.Error(status, said)
	}
	g, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	must(t, g.PollFetches(t.Context()).Err0())
	must(t, g.CommitUncommittedOffsets(t.Context()))
	if status, said := call(t, http.MethodPost, api+"/__consumer_offsets/records", `{}`, nil); status != http.StatusUnprocessableEntity || !strings.Contains(said, "INVALID_TOPIC_EXCEPTION") {
		t.Error(status, said)
	}

	// What a group has committed is deleted once nobody subscribes to the topic.
	groups := "http://" + n.HTTP() + "/api/v1/groups"
	if status, said := call(t, http.MethodDelete, groups+"/g/offsets?topic=t", "", nil); status != http.StatusConflict || !strings.Contains(said, "GROUP_SUBSCRIBED_TO_TOPIC") {
		t.Error(status, said)
	}
	g.Close()
	var list struct{ Groups []struct{ Group string } }
	if call(t, http.MethodGet, groups+"?topic=t", "", &list); len(list.Groups) != 1 {
		t.Errorf("%+v", list)
	}
	if status, said := call(t, http.MethodDelete, groups+"/g/offsets?topic=t", "", nil); status != http.StatusNoContent {
		t.Error(status, said)
	}
	if call(t, http.MethodGet, groups+"?topic=t", "", &list); len(list.Groups) != 0 {
		t.Errorf("%+v", list)
	}

	// Records are deleted up to an offset, of some partitions though others fail.
	var done admin.DeletedRecords
	if status, said := call(t, http.MethodPost, api+"/t/delete-records", `{"partitions":[{"partition":1,"before":2},{"partition":9,"before":0},{"partition":0,"before":-1}]}`, &done); status != http.StatusOK {
		t.Fatal(status, said)
	}
	if p := done.Partitions; *p[0].LogStart != 2 || p[1].LogStart != nil || !strings.Contains(p[1].Error, "0 to 2") || p[2].LogStart == nil {
		t.Errorf("%+v", done)
	}
	if is := l.looks("t", "partition=1&from=start"); is.LogStart != 2 || is.Records[0].Offset != 2 {
		t.Errorf("%+v", is)
	}
	if is := l.looks("t", "partition=0&from=start"); is.LogStart != is.HighWatermark {
		t.Errorf("%+v", is)
	}
	if status, said := call(t, http.MethodPost, api+"/t/delete-records", `{"partitions":[{"partition":1,"before":2},{"partition":1,"before":2}]}`, nil); status != http.StatusBadRequest || !strings.Contains(said, "named twice") {
		t.Error(status, said)
	}
	if status, said := call(t, http.MethodPost, api, `{"name":"kept","configs":{"cleanup.policy":"compact"}}`, nil); status != http.StatusCreated {
		t.Fatal(status, said)
	}
	if status, said := call(t, http.MethodPost, api+"/kept/delete-records", `{"partitions":[{"partition":0,"before":-1}]}`, nil); status != http.StatusUnprocessableEntity || !strings.Contains(said, "has no delete") {
		t.Error(status, said)
	}
	if status, said := call(t, http.MethodPost, api+"/t/delete-records", `{"partitions":[{"partition":1,"before":900}]}`, nil); status != http.StatusRequestedRangeNotSatisfiable || !strings.Contains(said, "from 2 to") {
		t.Error(status, said)
	}
}

// A filter compares bytes, whatever they are, and the leader applies it to all of a record, also
// of what is cut where it is shown. Batches that cannot be shown are passed over by a tail.
func TestALookFindsBytes(t *testing.T) {
	n := node(t)
	l := looker{t, n.HTTP()}
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	must(t, err)
	defer client.Close()
	deep := append(bytes.Repeat([]byte{'a', 0xff}, 50_000), "needle"...)
	for _, r := range []*kgo.Record{
		{Key: []byte("k\xff\x00k"), Value: []byte("\xff\xfe needle \x00")},
		{Key: nil, Value: nil},
		{Key: []byte("needle"), Value: []byte("other")},
		{Value: deep},
		{Value: []byte("x"), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("a=b\xff")}, {Key: "raw\xff"}}},
	} {
		must(t, client.ProduceSync(t.Context(), r).FirstErr())
	}
	for query, want := range map[string]string{
		"value=needle":                  "[0 3]",
		"key=needle":                    "[2]",
		"key=needle&value=needle":       "[]",
		"header=trace":                  "[4]",
		"header=trace%3Da%3Db":          "[4]",
		"header=trace%3Dz":              "[]",
		"header=race":                   "[]",
		"value=%00":                     "[0]",
		"value=needle&limit=1":          "[0]",
		"value=needle&limit=1&offset=1": "[3]",
		"value=%F0%9F%98%80":            "[]",
	} {
		is := l.looks("t", "from=start&"+query)
		if got := fmt.Sprint(offsetsOf(is)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		if !strings.Contains(query, "limit") && (is.Next != 5 || is.Looked != 5) {
			t.Errorf("%s: it looked at %d, up to %d", query, is.Looked, is.Next)
		}
	}

	// One look reads so much, and says how far it has come.
	for range 4 {
		must(t, client.ProduceSync(t.Context(), &kgo.Record{Value: make([]byte, 12<<20)}).FirstErr())
	}
	if is := l.looks("t", "offset=5&value=nowhere"); len(is.Records) != 0 || is.Looked != 3 || is.Next != 8 {
		t.Errorf("it looked at %d, up to %d", is.Looked, is.Next)
	}

	for range 5 {
		large := &kgo.Record{Topic: "headers", Headers: []kgo.RecordHeader{{Key: "h", Value: make([]byte, 12<<20)}}}
		must(t, client.ProduceSync(t.Context(), large).FirstErr())
	}
	for _, query := range []string{"value=nowhere", "max_bytes=1048576"} {
		if is := l.looks("headers", "from=start&"+query); is.Looked != 3 || is.Next != 3 {
			t.Errorf("%s: of records with large headers it looked at %d, up to %d", query, is.Looked, is.Next)
		}
	}

	must(t, client.ProduceSync(t.Context(), &kgo.Record{Value: make([]byte, 20<<20)}).FirstErr())
	must(t, client.ProduceSync(t.Context(), kgo.StringRecord("behind it")).FirstErr())
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.HTTP()+"/api/v1/topics/t/tail?offset=8&rate=500", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(q)
	must(t, err)
	defer resp.Body.Close()
	var events []string
	id, deadline := "", time.Now().Add(time.Minute)
	for lines := bufio.NewScanner(resp.Body); lines.Scan() && time.Now().Before(deadline); {
		line := lines.Text()
		if event, is := strings.CutPrefix(line, "event: "); is {
			events = append(events, event)
		}
		if is, has := strings.CutPrefix(line, "id: "); has {
			id = is
		}
		if strings.Contains(line, "behind it") {
			break
		}
	}
	if !strings.Contains(strings.Join(events, " "), "begin records") || id != "0:11" {
		t.Errorf("%v, at %s", events, id)
	}
}

// The configuration of a topic says where each value comes from, and a change that is only tried
// changes nothing.
func TestConfigsOfATopicSayWhereTheyComeFrom(t *testing.T) {
	n := node(t)
	api := "http://" + n.HTTP() + "/api/v1/topics"
	if status, said := call(t, http.MethodPost, api, `{"name":"t","configs":{"retention.ms":"5000"}}`, nil); status != http.StatusCreated {
		t.Fatal(status, said)
	}
	of := func(key string) admin.TopicConfig {
		t.Helper()
		var all struct{ Configs []admin.TopicConfig }
		if status, said := call(t, http.MethodGet, api+"/t/configs", "", &all); status != http.StatusOK {
			t.Fatal(status, said)
		}
		for _, c := range all.Configs {
			if c.Key == key {
				return c
			}
		}
		t.Fatalf("%s is not told", key)
		return admin.TopicConfig{}
	}
	if c := of("retention.ms"); c.Value != "5000" || c.Source != "topic" || c.Default != "604800000" {
		t.Errorf("%+v", c)
	}
	if c := of("min.insync.replicas"); c.Value != "1" || c.Source != "default" {
		t.Errorf("%+v", c)
	}
	if status, said := call(t, http.MethodPatch, "http://"+n.HTTP()+"/api/v1/config", `{"set":{"log.retention.ms":"7000"}}`, nil); status != http.StatusOK {
		t.Fatal(status, said)
	}
	if c := of("retention.ms"); c.Value != "5000" || c.Default != "7000" {
		t.Errorf("%+v", c)
	}
	var would admin.Topic
	if status, said := call(t, http.MethodPatch, api+"/t", `{"delete":["retention.ms"],"set":{"cleanup.policy":"compact"},"dry_run":true}`, &would); status != http.StatusOK || len(would.Configs) != 1 {
		t.Error(status, said)
	}
	if status, said := call(t, http.MethodPatch, api+"/t", `{"set":{"retention.ms":"soon"},"dry_run":true}`, nil); status != http.StatusBadRequest {
		t.Error(status, said)
	}
	if c := of("retention.ms"); c.Source != "topic" {
		t.Errorf("after a try: %+v", c)
	}
	if status, said := call(t, http.MethodPatch, api+"/t", `{"delete":["retention.ms"]}`, nil); status != http.StatusOK {
		t.Error(status, said)
	}
	if c := of("retention.ms"); c.Value != "7000" || c.Source != "cluster" {
		t.Errorf("%+v", c)
	}
}
