package pki_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

// Files that are written one after the other are told of once, when they are at rest: a key
// and its certificate are read together.
func TestFilesAreToldOfOnceTheyAreAtRest(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")
	write := func(file, content string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(cert, "1")
	write(key, "1")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		var told atomic.Int32
		go func() {
			defer close(done)
			pki.WatchFiles(ctx, []string{cert, key}, time.Second, func() { told.Add(1) })
		}()
		after := func(d time.Duration, want int32, what string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := told.Load(); got != want {
				t.Errorf("%s: told %d times, not %d", what, got, want)
			}
		}
		after(5500*time.Millisecond, 0, "nothing has changed")
		write(key, "22")
		after(time.Second, 0, "a key without its certificate")
		write(cert, "22")
		after(time.Second, 0, "both, just now")
		after(time.Second, 1, "both, at rest")
		after(time.Minute, 1, "nothing more")
		if err := os.Remove(cert); err != nil {
			t.Fatal(err)
		}
		after(3*time.Second, 2, "one is gone")
		write(cert, "333")
		after(3*time.Second, 3, "it is back")
		stop()
		<-done
	})
}
