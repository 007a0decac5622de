package roles_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStartWithoutTheBucketsDirectory: a file system that is not mounted yet, or a
// directory that somebody removed, keeps no log from being served, and nothing is made
// where the bucket was.
func TestStartWithoutTheBucketsDirectory(t *testing.T) {
	t.Parallel()
	dir, at := t.TempDir(), filepath.Join(t.TempDir(), "mount")
	set := map[string]string{"object_storage.url": "file://" + at, "wal.upload_interval": "100ms"}
	must(t, starts(t, dir, "a\n", set))
	must(t, os.Rename(at, at+"-away"))
	must(t, starts(t, dir, "b\n", set))
	if _, err := os.Stat(at); !os.IsNotExist(err) {
		t.Fatalf("the directory was made: %v", err)
	}
	must(t, os.Mkdir(at, 0o700)) // the mount point
	must(t, starts(t, dir, "c\n", set))
	if names, err := os.ReadDir(at); err != nil || len(names) > 0 {
		t.Fatalf("below the mount point there is %v, %v", names, err)
	}
	must(t, os.Remove(at))
	must(t, os.Rename(at+"-away", at))
	must(t, starts(t, dir, "d\n", set))
}
