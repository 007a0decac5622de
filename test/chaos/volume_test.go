//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is an ext4 on a loop device over a sparse file.
type volume struct {
	image, dir string
	mounted    bool
}

// EXT4_IOC_SHUTDOWN of fs/ext4, with the flag that keeps the journal in memory
// from being written.
const (
	ext4Shutdown   = 0x8004587d
	shutdownNoSync = 2
)

// newVolume makes and mounts a volume; it ends the test where that cannot be.
func newVolume(t *testing.T, size int64) *volume {
	t.Helper()
	if os.Geteuid() != 0 {
		unavailable(t, "needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, err.Error())
		}
	}
	base := t.TempDir()
	v := &volume{image: filepath.Join(base, "image"), dir: filepath.Join(base, "volume")}
	must(t, os.Mkdir(v.dir, 0o700))
	must(t, os.WriteFile(v.image, nil, 0o600))
	must(t, os.Truncate(v.image, size))
	must(t, run("mkfs.ext4", "-q", "-F", "-m", "0", v.image))
	if err := v.mount(); err != nil {
		unavailable(t, fmt.Sprintf("no ext4 over a loop device: %v", err))
	}
	t.Cleanup(func() {
		if err := v.unmount(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// mount replays the journal. The loop device goes with the mount.
func (v *volume) mount() error {
	err := run("mount", "-t", "ext4", "-o", "loop,noinit_itable", v.image, v.dir)
	v.mounted = err == nil
	return err
}

func (v *volume) unmount() error {
	if !v.mounted {
		return nil
	}
	// The kernel lets go of what a killed process wrote by io_uring a moment
	// after the process is gone.
	var err error
	for range 100 {
		if err = run("umount", v.dir); err == nil {
			v.mounted = false
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return err
}

// cut stops the file system now: what was not synced is lost, every later call
// fails. The processes that use it must end before it is mounted again.
func (v *volume) cut() error {
	f, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, shutdownNoSync); err != nil {
		return fmt.Errorf("shut %s down: %w", v.dir, err)
	}
	return nil
}

// powerUp mounts the volume again after a cut.
func (v *volume) powerUp() error {
	if err := v.unmount(); err != nil {
		return err
	}
	return v.mount()
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
