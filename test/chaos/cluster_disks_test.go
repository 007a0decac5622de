//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newVolumeCluster starts size servers whose data directories, and bucket, are on volumes.
func newVolumeCluster(t *testing.T, number, size int, room int64, set ...string) *cluster {
	t.Helper()
	c := assemble(t, number, size, set...)
	for range size + 1 {
		c.volumes = append(c.volumes, newVolume(t, room))
	}
	c.begin()
	return c
}

// powerCut cuts the power of some servers, and has them begin again; of the bucket too if
// that is all of them.
func (c *cluster) powerCut(nodes ...int) {
	c.t.Helper()
	volumes := nodes
	if len(nodes) == len(c.nodes) {
		volumes = append(volumes, len(c.nodes))
	}
	for _, v := range volumes {
		must(c.t, c.volumes[v].cut())
	}
	<-time.After(c.between(0, 30*time.Millisecond)) // what they ack now, they ack without disks
	for _, i := range nodes {
		c.nodes[i].kill()
	}
	c.counts["power_cuts"] += int64(len(nodes))
	if len(nodes) == len(c.nodes) {
		c.counts["power_cuts_of_all"]++
	}
	c.powerUp(volumes)
	for _, i := range nodes {
		c.start(i)
	}
	for _, i := range nodes {
		c.nodes[i].address(c.t)
	}
}

// The power of one server fails, of two, and of all at once.
func TestClusterSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	d := newVolumeCluster(t, 77, 3, 1<<30).drill(2000)
	d.suffer(20*time.Second, func() string {
		<-time.After(d.between(0, time.Second))
		nodes := d.rng.Perm(len(d.nodes))[:[]int{1, 1, 2, 3, 3}[d.rng.IntN(5)]]
		d.powerCut(nodes...)
		return fmt.Sprintf("power cut of %v", nodes)
	})
	d.finish()
}

// fill takes all that is left on a volume.
func (v *volume) fill() error {
	f, err := os.Create(filepath.Join(v.dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(0)
	for size := int64(64 << 20); size >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, at, size)
		switch {
		case err == nil:
			at += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill %s: %w", v.dir, err)
		}
	}
	return nil
}

// The disk of one server is full for a while: writing goes on without it, and it comes
// back by itself once there is room.
func TestClusterSurvivesAFullDisk(t *testing.T) {
	t.Parallel()
	d := newVolumeCluster(t, 78, 3, 1<<30, "broker.message_max_bytes=256KiB", "wal.segment_size=2MiB").drill(2000)
	noticed, longest := 0, time.Duration(0)
	d.suffer(20*time.Second, func() string {
		i := d.rng.IntN(len(d.nodes))
		must(t, d.volumes[i].fill())
		for begin := time.Now(); time.Since(begin) < 6*time.Second; {
			step := time.Now()
			if err := d.settle(d.history); err != nil {
				d.judge(fmt.Errorf("while the disk of node %d is full: %w", i+1, err))
			}
			longest = max(longest, time.Since(step))
		}
		if strings.Contains(d.nodes[i].log.String(), "no space left on device") {
			noticed++
		}
		must(t, os.Remove(filepath.Join(d.volumes[i].dir, "filler")))
		d.judge(d.inSync(d.history.topic))
		d.counts["disks_full"]++
		return fmt.Sprintf("the disk of node %d was full", i+1)
	})
	d.finish()
	if noticed == 0 {
		t.Error("no server noticed that its disk was full: this drill proves nothing")
	}
	t.Logf("%d servers of %d met a full disk; the longest wait for acks was %v", noticed, len(d.done), longest)
}

// A server comes back with an empty data directory: its partitions come back to it, and
// nothing that was acked is lost with it.
func TestClusterSurvivesAWipedServer(t *testing.T) {
	t.Parallel()
	d := newCluster(t, 79, 3).drill(1000)
	d.judge(d.inSync(d.history.topic))
	wiped := d.rng.IntN(len(d.nodes))
	d.nodes[wiped].kill()
	must(t, os.RemoveAll(d.data(wiped)))
	d.start(wiped)
	d.counts["disks_lost"]++
	d.done = append(d.done, fmt.Sprintf("node %d was wiped", wiped+1))
	d.judge(d.settle(d.history))
	d.nodes[wiped].address(t)
	d.judge(d.inSync(d.history.topic))
	d.finish()
}
