//go:build suites

package cloud_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/bucket/buckettest"
	"rustmq.dev/rustmq/storage/bucket/cloud"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) {
	// A library of the GCS client starts the first when it is linked. Azure's client
	// keeps connections of the process, which end when they are idle for long.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func open(t testing.TB, address string, o cloud.Options) bucket.Bucket {
	t.Helper()
	b, err := cloud.Open(t.Context(), address, o)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

// s3 starts an S3 server in this process and returns the URL of a bucket of it.
func s3(t testing.TB) string {
	t.Helper()
	backend := s3mem.New()
	must(t, backend.CreateBucket("b"))
	return s3URL(t, gofakes3.New(backend).Server())
}

func s3URL(t testing.TB, handler http.Handler) string {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return "s3://b?region=us-east-1&use_path_style=true&endpoint=" + url.QueryEscape(serve(t, handler))
}

func serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// gcs starts a GCS server in this process.
func gcs(t testing.TB) string {
	t.Helper()
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1"})
	must(t, err)
	t.Cleanup(server.Stop)
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "b"})
	return "gs://b?anonymous=true&endpoint=" + url.QueryEscape(server.URL())
}

func TestConformance(t *testing.T) {
	run := func(name string, large int, start func(t testing.TB) string) {
		t.Run(name, func(t *testing.T) {
			address := start(t)
			o := buckettest.Options{Seed: seeded.Seed(t), Large: large}
			buckettest.Run(t, o, func(t testing.TB) bucket.Bucket { return open(t, address, cloud.Options{}) })
		})
	}
	// The largest object has several parts, or chunks.
	run("mem", 1<<20, func(testing.TB) string { return "mem://" })
	run("s3", 17<<20+5, s3)
	run("s3 with prefix", 1<<20, func(t testing.TB) string { return s3(t) + "&prefix=some/where&checksums=when_required" })
	run("gcs", 6<<20, func(t testing.TB) string { return gcs(t) + "&part_size=5242880" })
}
