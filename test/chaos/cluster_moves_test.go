//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// acked is when records of each partition were acked.
type acked struct {
	mu     sync.Mutex
	last   [partitions]time.Time
	gap    time.Duration // the longest between two acks of one partition; guarded by mu, as is last
	failed error
}

func (a *acked) ack(p int32, err error) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed = err
		return
	}
	if was := a.last[p]; !was.IsZero() {
		a.gap = max(a.gap, now.Sub(was))
	}
	a.last[p] = now
}

// longest returns the longest gap since it was last called, one that lasts still counted.
func (a *acked) longest() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	gap := a.gap
	for _, last := range a.last {
		gap = max(gap, time.Since(last))
	}
	a.gap = 0
	return gap
}

// since waits until a record of each partition was acked after then, for a minute at most.
func (a *acked) since(then time.Time) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		a.mu.Lock()
		all := true
		for _, last := range a.last {
			all = all && last.After(then)
		}
		a.mu.Unlock()
		if all {
			return
		}
	}
}

// Leaders that are moved on purpose: who produces sees no error, and no wait like that of
// a failure. The gaps between two acks of a partition are logged, those of the same time
// without a move beside them.
func TestPlannedMoves(t *testing.T) {
	t.Parallel()
	d := newCluster(t, 81, 3).drill(300)
	d.create("timed", int16(len(d.nodes)))
	d.judge(d.inSync("timed"))
	client, err := kgo.NewClient(append(clientOptions(d), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var a acked
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for p := range int32(partitions) {
				client.Produce(context.Background(), &kgo.Record{Topic: "timed", Partition: p, Value: []byte("x")}, func(r *kgo.Record, err error) { a.ack(r.Partition, err) })
			}
			<-tick.C
		}
	})
	defer func() { cancel(); writing.Wait() }()
	settle := func() {
		d.judge(d.inSync("timed"))
		<-time.After(2 * time.Second)
	}
	gaps := map[string][]time.Duration{}
	note := func(what string, during func()) {
		settle()
		a.longest()
		during()
		a.since(time.Now().Add(2 * time.Second))
		gaps[what] = append(gaps[what], a.longest().Round(time.Millisecond))
	}
	admin := kadm.NewClient(client)
	for i, begin := 0, time.Now(); i < 2 || time.Since(begin) < soak(t); i++ {
		node := i % len(d.nodes)
		url := fmt.Sprintf("http://%s:9642", d.host((node+1)%len(d.nodes)))
		note("nothing", func() {})
		note("drain", func() { must(t, run(d.bin, "admin", "--url", url, "brokers", "drain", fmt.Sprint(node+1))) })
		must(t, run(d.bin, "admin", "--url", url, "brokers", "undrain", fmt.Sprint(node+1)))
		note("election", func() {
			_, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{"timed": {0: {}, 1: {}, 2: {}}})
			must(t, err)
		})
		note("SIGTERM", func() {
			must(t, d.nodes[node].cmd.Process.Signal(syscall.SIGTERM))
			<-d.nodes[node].ended
		})
		d.restart(node)
	}
	cancel()
	writing.Wait()
	must(t, client.Flush(t.Context()))
	if a.failed != nil {
		t.Errorf("a producer met the moves: %v", a.failed)
	}
	for what, all := range gaps {
		if what != "nothing" {
			for _, gap := range all {
				d.counts["planned_moves"]++
				if gap <= 100*time.Millisecond {
					d.counts["planned_moves_in_time"]++
				}
			}
		}
		t.Logf("longest gap between acks, %s: %v", what, all)
	}
	d.finish()
}
