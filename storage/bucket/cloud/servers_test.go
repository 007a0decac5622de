//go:build suites

package cloud_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/bucket/buckettest"
	"rustmq.dev/rustmq/storage/bucket/cloud"
	"rustmq.dev/rustmq/test/seeded"
)

// TestServers runs against servers that are given: RUSTMQ_BUCKET_URLS holds URLs,
// separated by semicolons.
func TestServers(t *testing.T) {
	all := os.Getenv("RUSTMQ_BUCKET_URLS")
	if all == "" {
		t.Skip("RUSTMQ_BUCKET_URLS names no server")
	}
	for address := range strings.SplitSeq(all, ";") {
		u, err := url.Parse(address)
		must(t, err)
		t.Run(u.Scheme, func(t *testing.T) {
			o := buckettest.Options{Seed: seeded.Seed(t), Large: 40<<20 + 5, Keys: 1200, PlainKeys: u.Query().Get("localemu") != ""}
			buckettest.Run(t, o, func(t testing.TB) bucket.Bucket { return open(t, address, cloud.Options{}) })
		})
	}
}
