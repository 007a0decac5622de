//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// FIFREEZE and FITHAW of linux/fs.h: writes to a frozen file system wait.
const (
	freeze = 0xC0045877
	thaw   = 0xC0045878
)

// slowDown has every write and sync of a volume take up to about half a second, until the
// function that it returns is called, or the test ends.
func (v *volume) slowDown(t *testing.T) (quick func()) {
	t.Helper()
	dir, err := os.Open(v.dir)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := unix.IoctlSetInt(int(dir.Fd()), freeze, 0); err != nil {
				t.Errorf("freeze %s: %v", v.dir, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
			if err := unix.IoctlSetInt(int(dir.Fd()), thaw, 0); err != nil {
				t.Errorf("thaw %s: %v", v.dir, err)
				return
			}
		}
	}()
	quick = sync.OnceFunc(func() {
		cancel()
		<-ended
		dir.Close()
	})
	t.Cleanup(quick)
	return quick
}

// acksWithin produces a record to every partition in turn, acks=all, for so long, and
// returns the p90 and the p99 of the time until the ack.
func (d *drilled) acksWithin(client *kgo.Client, window time.Duration) (p90, p99 time.Duration) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), window+time.Minute)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begin, i := time.Now(), int32(0); time.Since(begin) < window; i++ {
		sent := time.Now()
		client.Produce(ctx, &kgo.Record{Topic: "timed", Partition: i % partitions, Value: []byte("x")}, func(_ *kgo.Record, err error) {
			if err != nil {
				d.history.problem("a timed record: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(sent))
		})
		<-tick.C
	}
	if err := client.Flush(ctx); err != nil {
		d.judge(fmt.Errorf("timed records were not acked: %w", err))
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(took)
	return took[len(took)*90/100].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond)
}

// waitsFor returns the partitions of a topic that a server leads or is in sync with.
func (c *cluster) waitsFor(client *kgo.Client, topic string, node int) (waits []int32, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), syncLimit)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(ctx, topic)
	if err == nil {
		err = topics.Error()
	}
	for _, p := range topics[topic].Partitions.Sorted() {
		if id := int32(node) + 1; p.Leader == id || slices.Contains(p.ISR, id) {
			waits = append(waits, p.Partition)
		}
	}
	return waits, err
}

// The disk of one server comes to take half a second for every sync: others lead what it
// led, and it is out of sync, so that no ack waits for it (RULES 3.3). When the disk is quick
// again it comes back. What acks take is logged: how soon they are quick is judged in simulated
// time (package seeds), where it is not the machine's.
func TestClusterSurvivesASlowDisk(t *testing.T) {
	t.Parallel()
	d := newVolumeCluster(t, 80, 3, 1<<30).drill(500)
	d.create("timed", int16(len(d.nodes)))
	client, err := kgo.NewClient(append(clientOptions(d), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	must(t, err)
	defer client.Close()
	d.judge(d.inSync("timed"))
	_, before := d.acksWithin(client, 5*time.Second)
	leaders, err := d.leaders("timed")
	must(t, err)
	slow := leaders[0]
	quick := d.volumes[slow].slowDown(t)
	begin := time.Now()
	var windows [][2]time.Duration // p90 and p99
	for {
		p90, p99 := d.acksWithin(client, 2*time.Second)
		windows = append(windows, [2]time.Duration{p90, p99})
		waits, err := d.waitsFor(client, "timed", slow)
		if err == nil && len(waits) == 0 {
			break
		}
		if time.Since(begin) > syncLimit {
			d.judge(fmt.Errorf("%v with a slow disk, which is that of node %d: still led by it, or in sync there, are %v (%w); of acks p90 and p99 are %v", syncLimit, slow+1, waits, err, windows))
		}
	}
	quick()
	d.done = append(d.done, fmt.Sprintf("the disk of node %d was slow", slow+1))
	d.counts["disks_slow"]++
	d.counts["disks_left"]++
	t.Logf("p99 of acks: %v before; p90 and p99 by 2 s with a slow disk: %v", before, windows)
	if windows[0][1] < 200*time.Millisecond {
		t.Errorf("the disk was not slow: this drill proves nothing")
	}
	d.judge(d.inSync(d.history.topic))
	d.judge(d.inSync("timed"))
	d.finish()
}
