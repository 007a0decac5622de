package roles_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/controller"
)

// bucketNode is a node that uploads at once.
type bucketNode struct {
	*testing.T
	*embed.Node
	dir string // of the bucket
}

func newBucketNode(t *testing.T, set map[string]string) *bucketNode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := &bucketNode{T: t, dir: filepath.Join(t.TempDir(), "bucket")}
	settings := map[string]string{"object_storage.url": "file://" + b.dir, "wal.upload_interval": "10ms", "object_storage.metadata_log_interval": "10ms"}
	for key, value := range set {
		settings[key] = value
	}
	n, err := embed.Start(ctx, embed.Options{Set: settings})
	must(t, err)
	b.Node = n
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		must(t, n.Close())
	})
	return b
}

// storage runs `rustmq admin storage …`.
func (b *bucketNode) storage(want int, args ...string) (stdout, stderr string) {
	b.Helper()
	code, stdout, stderr := rustmq(b.T, "", append([]string{"admin", "--url", "http://" + b.HTTP(), "storage"}, args...)...)
	if code != want {
		b.Fatalf("storage %v: exit %d, want %d: %s%s", args, code, want, stdout, stderr)
	}
	return stdout, stderr
}

func (b *bucketNode) produce(records string) {
	b.Helper()
	if code, _, stderr := rustmq(b.T, records, "produce", "t", "-b", b.Kafka()); code != 0 {
		b.Fatalf("produce: exit %d, %s", code, stderr)
	}
}

// read decodes the answer to a GET into out.
func (b *bucketNode) read(path string, out any) {
	b.Helper()
	resp, err := http.Get("http://" + b.HTTP() + path)
	must(b.T, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s", path, resp.Status)
	}
	must(b.T, json.NewDecoder(resp.Body).Decode(out))
}

// await asks for the state of the bucket until it is as wanted.
func (b *bucketNode) await(what string, is func(admin.BucketState) bool) (s admin.BucketState) {
	b.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-ticker.C {
		s = admin.BucketState{}
		if b.read("/api/v1/storage", &s); is(s) {
			return s
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: it never came to that: %+v", what, s)
		}
	}
}

func (b *bucketNode) awaitUploaded() admin.BucketState {
	b.Helper()
	return b.await("everything is uploaded", func(s admin.BucketState) bool {
		return s.Upload.WaitingBytes == 0 && s.Upload.Running == 0 && s.Objects["committed"].Objects > 0
	})
}

// object returns the file of the only object.
func (b *bucketNode) object() string {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "*", "00000001", "data", "*", "*"))
	must(b.T, err)
	if len(files) != 1 {
		b.Fatalf("%d objects, want 1", len(files))
	}
	return files[0]
}

func TestAdminStorageShowsTheBucket(t *testing.T) {
	b := newBucketNode(t, nil)
	b.produce("hello\nworld\n")
	s := b.awaitUploaded()
	if len(s.Warnings) > 0 || s.Circuit != "closed" || s.RecordBytes == 0 || s.Ranges != 1 || s.WAL.Capacity == 0 || s.Upload.Objects != 1 || s.Where != "file://"+b.dir {
		t.Errorf("%+v", s)
	}
	b.await("the metadata log is shipped", func(s admin.BucketState) bool { return s.MetadataLog.Shipped == s.MetadataLog.Applied })
	stdout, _ := b.storage(0)
	for _, want := range []string{"bucket      file://" + b.dir, "circuit     closed", "uploaded    1 object ", "committed      1 ", "put "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}

	var topic admin.Topic
	b.read("/api/v1/topics/t", &topic)
	p := topic.PartitionList[0]
	if topic.BucketBytes != s.RecordBytes || p.BucketBytes != s.RecordBytes || p.BucketEnd != 2 || p.LocalStart != 0 || p.HighWatermark != 2 || p.WALBytes == 0 {
		t.Errorf("%+v", topic)
	}

	stdout, _ = b.storage(0, "cost", "-o", "json")
	var c admin.Cost
	must(t, json.Unmarshal([]byte(stdout), &c))
	if c.RecordBytes != s.RecordBytes || c.RequestDollars == 0 || c.PerGiBWritten == 0 || c.Cheaper == 0 || !strings.Contains(c.Prices.Source, "https://") {
		t.Errorf("%+v", c)
	}
	if stdout, _ = b.storage(0, "confirm-clock"); !strings.Contains(stdout, "nothing to confirm") {
		t.Error(stdout)
	}
	if _, stderr := b.storage(2, "nonsense"); !strings.Contains(stderr, "nonsense") {
		t.Error(stderr)
	}
}

// TestManifestsTakeOverFromTheMetadata: with many ranges the oldest are listed in the
// bucket, and what is shown and checked has them all the same.
func TestManifestsTakeOverFromTheMetadata(t *testing.T) {
	b := newBucketNode(t, map[string]string{"object_storage.manifest_ranges": "2", "compaction.parallel": "0", "compaction.interval": "1s"})
	for i := range 5 {
		b.produce("hello\n")
		b.await("it is uploaded", func(s admin.BucketState) bool { return s.Upload.Objects == int64(i)+1 })
	}
	s := b.await("ranges are filed", func(s admin.BucketState) bool { return s.Ranges == 5 && s.Filed >= 3 })
	if s.Ranges != 5 || s.Manifests != 1 || s.Objects["committed"].Objects != 6 {
		t.Errorf("%+v", s)
	}
	if stdout, _ := b.storage(0); !strings.Contains(stdout, fmt.Sprintf("5 ranges, %d of them in 1 manifest", s.Filed)) {
		t.Error(stdout)
	}
	var topic admin.Topic
	if b.read("/api/v1/topics/t", &topic); topic.BucketBytes != s.RecordBytes || topic.PartitionList[0].BucketEnd != 5 {
		t.Errorf("%+v, the bucket has %d bytes of records", topic, s.RecordBytes)
	}
	if stdout, _ := b.storage(0, "check", "--verify"); !strings.Contains(stdout, "verified") {
		t.Error(stdout)
	}
}

func TestAdminStorageCheck(t *testing.T) {
	b := newBucketNode(t, map[string]string{"object_storage.grace": "1h"})
	b.produce("hello\n")
	b.awaitUploaded()
	check := func(want int, args ...string) (r controller.CheckReport) {
		t.Helper()
		stdout, _ := b.storage(want, append([]string{"check", "-o", "json"}, args...)...)
		must(t, json.Unmarshal([]byte(stdout), &r))
		return r
	}
	if r := check(0, "--verify"); r.Committed.Objects != 1 || r.Verified.Objects != 1 || len(r.Findings) > 0 {
		t.Errorf("%+v", r)
	}
	file := b.object()
	whole, err := os.ReadFile(file)
	must(t, err)
	damaged := append([]byte(nil), whole...)
	damaged[150] ^= 1 // in the only batch
	must(t, os.WriteFile(file, damaged, 0o600))
	if r := check(0); len(r.Findings) > 0 {
		t.Errorf("without reading: %+v", r)
	}
	r := check(1, "--verify")
	if len(r.Findings) == 0 || r.Corrupt.Objects != 1 || r.Findings[0].Kind != controller.FoundCorrupt || *r.Findings[0].Range != (controller.FindingRange{Topic: "t", End: 1}) {
		t.Errorf("%+v", r)
	}
	must(t, os.Remove(file))
	if r := check(1, "--repair"); r.Missing.Objects != 1 || r.Committed.Objects != 0 || r.Findings[0].Kind != controller.FoundMissing {
		t.Errorf("%+v", r)
	}
	must(t, os.WriteFile(file, whole, 0o600))
	other := filepath.Join(filepath.Dir(filepath.Dir(file)), "ff", "00000000000000ff")
	must(t, os.MkdirAll(filepath.Dir(other), 0o700))
	must(t, os.WriteFile(other, []byte("of whom?"), 0o600))
	if r := check(0, "--repair"); r.Foreign.Objects != 1 || r.Deleted.Objects != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a foreign object is not left: %v", err)
	}
}

func TestAdminStorageProbe(t *testing.T) {
	b := newBucketNode(t, map[string]string{"object_storage.prefix": "p"})
	if stdout, _ := b.storage(0, "probe"); strings.Count(stdout, " ok") != 12 {
		t.Errorf("its own bucket:\n%s", stdout)
	}
	dir := t.TempDir()
	stdout, _ := b.storage(0, "probe", "file://"+dir, "--set", "object_storage.prefix=x/y", "-o", "json")
	var p admin.Probe
	must(t, json.Unmarshal([]byte(stdout), &p))
	if !p.OK || len(p.Steps) != 12 || p.Where != "file://"+dir {
		t.Errorf("%+v", p)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "x", "y", "*")); err != nil || len(left) > 0 {
		t.Errorf("it left %q, %v", left, err)
	}
	none := filepath.Join(dir, "typing", "error")
	if _, stderr := b.storage(1, "probe", "file://"+none); !strings.Contains(stderr, none) {
		t.Errorf("a directory that there is not: %s", stderr)
	}
	if _, err := os.Stat(filepath.Dir(none)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	for _, args := range [][]string{{"file://relative"}, {"ftp://x"}, {""}, {"--set", "object_storage.prefix=x"}, {"mem://", "--set", "object_storage.nonsense=1"}} {
		b.storage(2, append([]string{"probe"}, args...)...)
	}
	// The API probes no other bucket, whatever it is asked.
	resp, err := http.Post("http://"+b.HTTP()+"/api/v1/storage/probe", "application/json", strings.NewReader(`{"url":"file:///etc"}`))
	must(t, err)
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); !strings.Contains(string(answer), b.dir) {
		t.Errorf("%s", answer)
	}
}

// TestOutageIsToldAndNotFelt takes the bucket away from a running node: it stays
// ready, takes records and says what is wrong, until the bucket is back.
func TestOutageIsToldAndNotFelt(t *testing.T) {
	b := newBucketNode(t, nil)
	b.produce("before\n")
	b.awaitUploaded()
	away := b.dir + "-away"
	must(t, os.Rename(b.dir, away))
	b.produce("during\n")
	s := b.await("the outage is told", func(s admin.BucketState) bool { return len(s.Warnings) > 0 })
	if s.Upload.WaitingBytes == 0 || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		resp, err := http.Get("http://" + b.HTTP() + path)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != http.StatusOK || strings.Contains(string(body), "warning: ") != (path == "/readyz") {
			t.Errorf("%s answers %s: %s", path, resp.Status, body)
		}
	}
	if stdout, _ := b.storage(0); !strings.Contains(stdout, "WARNING") {
		t.Errorf("not told in\n%s", stdout)
	}
	if stdout, _ := b.storage(1, "probe"); !strings.Contains(stdout, "FAILED") || !strings.Contains(stdout, "nothing can be uploaded") {
		t.Errorf("not told in\n%s", stdout)
	}
	if _, stderr := b.storage(1, "check"); !strings.Contains(stderr, "nonce") {
		t.Errorf("check: %s", stderr)
	}
	// A put that had begun may have made its directory anew; the object did not
	// follow.
	must(t, os.RemoveAll(b.dir))
	must(t, os.Rename(away, b.dir))
	b.await("the outage is over", func(s admin.BucketState) bool { return len(s.Warnings) == 0 && s.Upload.WaitingBytes == 0 })
}

// TestDamageIsToldByReadyz: a reader meets a bad block of the log, and the node
// names it to a person.
func TestDamageIsToldByReadyz(t *testing.T) {
	b := newBucketNode(t, map[string]string{"wal.memory": "8MiB", "wal.upload_interval": "1h"})
	b.produce("a record that goes bad\n")
	b.produce(strings.Repeat(strings.Repeat("x", 99_999)+"\n", 120)) // out of memory with it
	segments, err := filepath.Glob(filepath.Join(b.DataDir(), "wal", "segment-*"))
	must(t, err)
	bad := ""
	for _, name := range segments {
		raw, err := os.ReadFile(name)
		must(t, err)
		if at := bytes.Index(raw, []byte("a record that goes bad")); at >= 0 {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte{raw[at] ^ 1}, int64(at))
			must(t, errors.Join(err, f.Close()))
			bad = filepath.Base(name)
		}
	}
	if bad == "" {
		t.Fatal("the record is in no file")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	defer reader.Close()
	done := make(chan kgo.Fetches, 1)
	go func() { done <- reader.PollFetches(ctx) }()
	s := b.await("the damage is told", func(s admin.BucketState) bool { return len(s.Warnings) > 0 })
	if !strings.Contains(s.Warnings[0], bad) {
		t.Errorf("%q does not name %s", s.Warnings, bad)
	}
	resp, err := http.Get("http://" + b.HTTP() + "/readyz")
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "warning: ") || !strings.Contains(string(body), bad) {
		t.Errorf("/readyz answers %s: %s", resp.Status, body)
	}
	cancel()
	if fetches := <-done; fetches.NumRecords() > 0 {
		t.Errorf("%d records came", fetches.NumRecords())
	}
}

func TestMetricsOfTheBucket(t *testing.T) {
	b := newBucketNode(t, nil)
	b.produce("hello\n")
	b.awaitUploaded()
	resp, err := http.Get("http://" + b.HTTP() + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{
		`rustmq_bucket_requests_total{class="put"} `, `rustmq_bucket_bytes_total{class="put"} `, `rustmq_bucket_failures_total{class="get"} 0`,
		`rustmq_bucket_seconds_total{class="list"} `, `rustmq_bucket_circuit_open 0`, `rustmq_bucket_slow_requests 0`, `rustmq_upload_objects_total 1`, `rustmq_upload_failures_total 0`,
		`rustmq_upload_waiting_bytes 0`, `rustmq_upload_oldest_waiting_seconds 0`, `rustmq_catalogue_objects{state="committed"} 1`,
		`rustmq_catalogue_bytes{state="committed"} `, `rustmq_catalogue_ranges 1`, `rustmq_metadata_log_unshipped_entries `,
	} {
		if !strings.Contains(string(text), "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}
