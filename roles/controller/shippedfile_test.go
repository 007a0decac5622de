package controller

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// TestShippedIsRememberedInAnOutage, for who keeps what the bucket may not know of, and
// for nobody who deletes: somebody else may write there by now.
func TestShippedIsRememberedInAnOutage(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		k.topic("t", nil)
		pass(3 * time.Minute)
		shipped := k.c.Shipped()
		if shipped == 0 || k.c.ShippedOnce() != shipped {
			t.Fatalf("shipped up to %d, remembered %d", shipped, k.c.ShippedOnce())
		}
		k.bucket.Set(bucket.Rule{Err: errAway})
		for range 2 {
			k.reopen()
			pass(3 * time.Minute)
			if k.c.ShippedOnce() != shipped || k.c.Shipped() != 0 {
				t.Fatalf("in an outage: shipped up to %d, remembered %d of %d", k.c.Shipped(), k.c.ShippedOnce(), shipped)
			}
		}
		k.bucket.Set()
		pass(3 * time.Minute)
		if k.c.Shipped() <= shipped || k.c.ShippedOnce() != k.c.Shipped() {
			t.Errorf("after it: shipped up to %d, remembered %d", k.c.Shipped(), k.c.ShippedOnce())
		}
	})
}

// TestShippedFileThatIsNotBelieved counts for nothing, also at the next start: the
// metadata log may come to its index with other commands.
func TestShippedFileThatIsNotBelieved(t *testing.T) {
	silent := slog.New(slog.DiscardHandler)
	of := func(cluster string, incarnation uint32, index uint64) []byte {
		return (&shippedFile{cluster: cluster, incarnation: incarnation}).encode(index)
	}
	whole := of("c", 1, 10)
	flipped := append([]byte(nil), whole...)
	flipped[strings.Index(string(whole), "10")] ^= 4
	for name, data := range map[string][]byte{
		"beyond the log":         of("c", 1, 12),
		"of another cluster":     of("d", 1, 10),
		"of another incarnation": of("c", 2, 10),
		"damaged":                flipped,
		"cut off":                whole[:len(whole)-4],
		"empty":                  {},
		"noise":                  []byte(strings.Repeat(" \n", 100)),
	} {
		fs := disk.NewMem(disk.MemOptions{})
		for _, applied := range []uint64{11, 100} {
			if applied == 11 {
				if err := disk.WriteFileAtomic(fs, shippedName, data); err != nil {
					t.Fatal(err)
				}
			}
			if got := openShippedFile(fs, "c", 1, applied, silent).index.Load(); got != 0 {
				t.Errorf("%s: %d is believed, the log ends at %d", name, got, applied)
			}
		}
	}
	fs := disk.NewMem(disk.MemOptions{})
	openShippedFile(fs, "c", 1, 0, silent).wrote(10)
	if got := openShippedFile(fs, "c", 1, 10, silent).index.Load(); got != 10 {
		t.Errorf("%d instead of 10", got)
	}
}
