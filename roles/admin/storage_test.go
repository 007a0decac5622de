package admin

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// golden compares what a command prints with testdata.
func golden(t *testing.T, name string, print func(*env)) {
	t.Helper()
	var out bytes.Buffer
	print(&env{stdout: &out, output: "table"})
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("%s is now\n%s", file, out.String())
	}
}

func TestCost(t *testing.T) {
	prices := configs.Default().Storage.ListedPrices()
	counts := bucket.Counts{
		bucket.ClassPut: {Requests: 2000, Bytes: 16 << 30}, bucket.ClassGet: {Requests: 10_000, Bytes: 4 << 30},
		bucket.ClassList: {Requests: 100}, bucket.ClassHead: {Requests: 5000}, bucket.ClassDelete: {Requests: 1 << 40},
	}
	usage := Usage{Since: start, Now: start.Add(10 * time.Hour), Counts: counts, Uploaded: 10 << 30, Stored: 12 << 30, Records: 10 << 30, Prices: prices}
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want*0.999999 || got > want*1.000001 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	c := CostOf(usage)
	requests := 2*0.005 + 10*0.0004 + 0.1*0.005 + 5*0.0004
	near("requests", c.RequestDollars, requests)
	near("a GiB written", c.PerGiBWritten, requests/10)
	near("written twice, nearly", c.Amplification, 1.6)
	near("a GiB of records", c.PerGiBMonth, 0.023*1.2)
	near("a month of storage", c.Month.Storage, 12*0.023)
	near("a month of requests", c.Month.Requests, requests*73)
	near("disks", c.Disks.PerGiBMonth, 0.4)
	near("disks in all", c.Disks.Month, 4)
	near("copies in other zones", c.Disks.PerGiBWritten, 0.04)
	near("cheaper", c.Cheaper, 0.4/0.0276)
	golden(t, "cost", func(e *env) { e.showCost(c) })

	// Nothing is divided by what is not there.
	c = CostOf(Usage{Since: start, Now: start.Add(time.Second), Prices: prices})
	if c.PerGiBWritten != 0 || c.Month != (MonthCost{}) || c.PerGiBMonth != 0.023 || c.RequestDollars != 0 {
		t.Errorf("of nothing: %+v", c)
	}
	golden(t, "cost-of-nothing", func(e *env) { e.showCost(c) })
	if c = CostOf(Usage{Counts: counts, Stored: 1 << 30, Records: 1 << 30}); c.Cheaper != 0 || c.RequestDollars != 0 {
		t.Errorf("for nothing: %+v", c)
	}
}

func TestDollars(t *testing.T) {
	for v, want := range map[float64]string{0: "$0.00", 1234.5678: "$1234.57", 1: "$1.00", 0.4: "$0.40", 0.023: "$0.023", 0.005: "$0.005", 0.00012345: "$0.000123", 1e-15: "$0.00"} {
		if got := dollars(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

// TestWarnings: what does not go well is said, and what it means.
func TestWarnings(t *testing.T) {
	now := start.Add(time.Minute)
	closed := BucketState{Circuit: "closed"}
	failing := closed
	failing.Upload, failing.WAL = &UploadState{FailingSince: start, LastError: "503"}, &WALState{Fullness: 0.42}
	open := failing
	open.Circuit, open.CircuitSince = "open", start
	slow := closed
	slow.SlowSince = start
	short := closed
	short.WAL = &WALState{Fullness: 0.97, Short: "no space left on device"}
	nearly, lagging, late := closed, closed, closed
	nearly.WAL = &WALState{Fullness: 0.93}
	lagging.WAL = &WALState{RefusedPartition: &RefusedState{Since: start, Last: now, Error: "too much of it"}}
	late.Upload = &UploadState{WaitingSince: start, Interval: 15}
	punctual := closed
	punctual.Upload = &UploadState{WaitingSince: start, Interval: 30}
	corrupt, damaged, healed := closed, closed, closed
	corrupt.Damage = &DamageState{CorruptPartitions: 2, CorruptError: "a gap at offset 7"}
	damaged.Damage = &DamageState{LastError: "wal/segment-000003 is corrupt at byte 4096", LastErrorAt: start}
	healed.Damage = &DamageState{LastError: "was corrupt", LastErrorAt: start.Add(-damageShown)}
	for _, c := range []struct {
		state  BucketState
		health error
		want   []string
	}{
		{closed, nil, nil},
		{short, nil, []string{"no further file", "97 %", "no space left"}},
		{failing, nil, []string{"uploads have failed for 1m0s", "42 %", "503"}},
		{open, nil, []string{"not been reached for 1m0s", "produce"}},
		{slow, nil, []string{"not answered for 1m0s", "produce"}},
		{nearly, nil, []string{"slowed down", "93 %"}},
		{lagging, nil, []string{"REFUSED", "1m0s", "0s ago", "too much of it"}},
		{late, nil, []string{"waited for it for 1m0s", "produce"}},
		{punctual, nil, nil},
		{corrupt, nil, []string{"2 partitions", "not served", "a gap at offset 7", "docs/storage.md"}},
		{damaged, nil, []string{"1m0s ago", "segment-000003 is corrupt at byte 4096", "docs/storage.md"}},
		{healed, nil, nil},
		{closed, errors.New("the clock jumped"), []string{"the clock jumped"}},
	} {
		c.state.Warn(c.health, now)
		if (len(c.state.Warnings) > 0) != (c.want != nil) || len(c.state.Warnings) > 1 {
			t.Errorf("%+v: %q", c.state, c.state.Warnings)
		}
		for _, want := range c.want {
			if !strings.Contains(strings.Join(c.state.Warnings, "\n"), want) {
				t.Errorf("%q does not say %q", c.state.Warnings, want)
			}
		}
	}
}

// What producers feel is said before all else, and nothing else that they go on.
func TestRefusedProducersComeFirst(t *testing.T) {
	now := start.Add(time.Minute)
	s := BucketState{
		Circuit: "closed", Upload: &UploadState{FailingSince: start, LastError: "503"},
		WAL: &WALState{Fullness: 0.97, Refused: &RefusedState{Since: start, Last: start.Add(58 * time.Second), Error: "admit 70 bytes, 12 left"}},
	}
	s.Warn(nil, now)
	if len(s.Warnings) != 2 {
		t.Fatalf("%q", s.Warnings)
	}
	for _, want := range []string{"producers are REFUSED", "1m0s", "2s ago", "12 left", "97 %"} {
		if !strings.Contains(s.Warnings[0], want) {
			t.Errorf("%q does not say %q", s.Warnings[0], want)
		}
	}
	if strings.Contains(s.Warnings[1], "go on") || !strings.Contains(s.Warnings[1], "503") {
		t.Errorf("%q", s.Warnings[1])
	}
}

// Who is refused for want of room elsewhere is not sent to make room here.
func TestRoomIsMadeWhereItLacks(t *testing.T) {
	for said, want := range map[string]string{"no room: 12 left": makeRoom, broker.FollowerFull + ": no room": makeRoomThere} {
		s := BucketState{Circuit: "closed", WAL: &WALState{Refused: &RefusedState{Since: start, Last: start, Error: said}}}
		if all := s.Troubles(start); len(all) != 1 || all[0].Do != want {
			t.Errorf("%s: %+v", said, all)
		}
	}
}

func TestStorageAsItIsShown(t *testing.T) {
	state := BucketState{
		Where: "s3://streams", Prefix: "production/Xy/", Circuit: "open", CircuitSince: start, LastError: "bucket: put x: 503", LastErrorAt: start,
		Retries: 7, Refused: 40, RecordBytes: 3 << 30, Ranges: 5000, Filed: 4936, Manifests: 2,
		Objects:     map[string]controller.Tally{"committed": {Objects: 11, Bytes: 3<<30 + 700}, "condemned": {Objects: 2, Bytes: 99}},
		Upload:      &UploadState{WaitingBytes: 5 << 20, WaitingSince: start, Partitions: 3, Running: 1, Objects: 11, Bytes: 3 << 30, Failures: 4},
		WAL:         &WALState{Capacity: 10 << 30, Used: 4 << 30, Fullness: 0.4},
		MetadataLog: MetadataLogState{Applied: 120, Shipped: 118},
		Requests:    RequestCounts(bucket.Counts{bucket.ClassPut: {Calls: 20, Requests: 22, Errors: 4, Bytes: 3 << 30, Time: time.Second}}),
	}
	now := start.Add(90 * time.Second)
	state.Warn(nil, now)
	golden(t, "storage", func(e *env) { e.showBucket(state, now) })

	report := bucket.Report{Skew: -90 * time.Second, Steps: []bucket.Step{
		{Name: "put", Took: 12 * time.Millisecond}, {Name: "put if absent", Took: time.Millisecond, Err: bucket.ErrUnsupported},
		{Name: "put if absent, when there", Took: time.Millisecond, Err: bucket.ErrUnsupported},
	}}
	golden(t, "probe", func(e *env) { e.showProbe(NewProbe("s3://streams", report)) })

	check := &controller.CheckReport{Verified: controller.Tally{Objects: 2, Bytes: 1000}, Corrupt: controller.Tally{Objects: 1, Bytes: 500}, Findings: []controller.Finding{
		{Kind: controller.FoundMissing, Key: "c/00000001/data/2a/000000000000002a", Detail: "named by the catalogue, and not in the bucket"},
		{Kind: controller.FoundCorrupt, Key: "c/00000001/data/2b/000000000000002b", Detail: "crc32c", Range: &controller.FindingRange{Topic: "t", Partition: 3, Base: 10, End: 20}},
	}}
	check.Missing.Objects, check.Foreign.Objects, check.Unjudged.Objects = 1, 1, 1
	golden(t, "check", func(e *env) { e.showCheck(check, controller.CheckRequest{Verify: true, Repair: true}) })
}

// TestEachStepOfAProbeHasAReason walks all steps there are.
func TestEachStepOfAProbeHasAReason(t *testing.T) {
	for _, s := range bucket.Probe(t.Context(), bucket.NewMemory(), "p").Steps {
		if strings.Contains(needed(s.Name), "rustmq needs it") {
			t.Errorf("nobody says what %q is needed for", s.Name)
		}
	}
}

// waitingBucket checks until its context ends.
type waitingBucket struct {
	Bucket
	asked chan struct{}
}

func (b waitingBucket) Check(ctx context.Context, _ controller.CheckRequest) (*controller.CheckReport, error) {
	close(b.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestCloseEndsACheck: a stop does not wait for one that reads the whole bucket.
func TestCloseEndsACheck(t *testing.T) {
	b := waitingBucket{asked: make(chan struct{})}
	s := New(Options{Metrics: prometheus.NewRegistry(), Cluster: struct{ Cluster }{}, Bucket: b})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	go func() { served <- s.Serve(l) }()
	go func() {
		c := newCaller("http://" + l.Addr().String())
		err := c.call(context.WithoutCancel(t.Context()), http.MethodPost, storagePath+"/check", controller.CheckRequest{}, nil)
		if err == nil || !strings.Contains(err.Error(), "not checked to its end") {
			served <- fmt.Errorf("the check ended with %w", err)
			return
		}
		c.http.CloseIdleConnections()
		served <- nil
	}()
	<-b.asked
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func TestProgressOfACheck(t *testing.T) {
	for next, want := range map[string]int{"": 0, "0": 0, "00/0000000000000000": 0, "80/0000000000000080": 50, "ff/00000000000000ff": 99, "zz": 0} {
		if got := checked(next); got != want {
			t.Errorf("%q: %d %%, want %d", next, got, want)
		}
	}
}
