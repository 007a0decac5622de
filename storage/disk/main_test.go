package disk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 1))
}

// children are what this test binary does as a process of its own, where a test
// needs one: limits and locks belong to processes.
var children = map[string]func(dir string) error{
	"hold-lock":        holdLock,
	"no-files":         func(dir string) error { return outOfFiles(dir, disk.Pwrite) },
	"no-files-uring":   func(dir string) error { return outOfFiles(dir, disk.IOUring) },
	"file-limit":       func(dir string) error { return beyondFileLimit(dir, disk.Pwrite) },
	"file-limit-uring": func(dir string) error { return beyondFileLimit(dir, disk.IOUring) },
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("DISK_TEST_CHILD")]; child != nil {
		if err := child(os.Getenv("DISK_TEST_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
