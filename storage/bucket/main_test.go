package bucket_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/bucket/buckettest"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 1))
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func openDir(t testing.TB, fsys disk.FS) *bucket.Dir {
	t.Helper()
	d, err := bucket.NewDir(fsys, "data/bucket")
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	for name, open := range map[string]func(testing.TB) bucket.Bucket{
		"memory": func(testing.TB) bucket.Bucket { return bucket.NewMemory() },
		"dir":    func(t testing.TB) bucket.Bucket { return openDir(t, disk.NewMem(disk.MemOptions{})) },
		"dir at the root": func(t testing.TB) bucket.Bucket {
			d, err := bucket.NewDir(disk.NewMem(disk.MemOptions{}), ".")
			must(t, err)
			return d
		},
		"dir on disk": func(t testing.TB) bucket.Bucket {
			fsys, err := disk.OpenOS(t.TempDir())
			must(t, err)
			return openDir(t, fsys)
		},
		"wrapped": func(testing.TB) bucket.Bucket {
			inner := bucket.NewFaulty(bucket.NewMemory())
			return bucket.NewResilient(bucket.NewCounted(inner, 0), bucket.ResilientOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) { buckettest.Run(t, buckettest.Options{Seed: seeded.Seed(t)}, open) })
	}
}
