//go:build !race

package broker

import (
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/disk"
)

// From the socket to the WAL and back a produced batch allocates nothing, and a
// fetched one neither: not the broker, nor what is below it. What is counted are
// a few per hundred requests, of pools that the collector has emptied and of
// the index.
func TestHotPathAllocatesNothing(t *testing.T) {
	fs, err := disk.OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, func(o *Options) { o.Store = openStore(t, fs) })
	hotPathAllocatesNothing(t, n)
}

// So it is where each request is authorised.
func TestAuthorisedHotPathAllocatesNothing(t *testing.T) {
	fs, err := disk.OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := startAuthorising(t, func(o *Options) { o.Store = openStore(t, fs) })
	n.alter(false, allow("ANONYMOUS", acl.Write, acl.Topic, "events"), allow("ANONYMOUS", acl.Read, acl.Topic, "*"))
	hotPathAllocatesNothing(t, n)
}

func hotPathAllocatesNothing(t *testing.T, n *node) {
	t.Helper()
	n.controller.createTopic("events", 1)
	l := listenLoopback(t)
	n.serve(l)
	n.settle(t.Context())
	produce := produceTo("events", 0, -1, batchOf(t, "value"))
	produce.Version = 9
	fetch := fetchFrom("events", 0, 0, 0)
	fetch.Version = 12
	fetch.Topics[0].Partitions[0].PartitionMaxBytes = 100
	for name, q := range map[string]kmsg.Request{"produce": produce, "fetch": fetch} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, l.Addr().String())
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)
			ask := func(times int) uint64 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range times {
					if _, err := p.conn.Write(frame); err != nil {
						t.Fatal(err)
					}
					if err := p.skip(); err != nil {
						t.Fatal(err)
					}
				}
				runtime.ReadMemStats(&after)
				return after.Mallocs - before.Mallocs
			}
			ask(100)
			// What the broker does beside them counts too, and on a slow disk that is much: the
			// least of ten looks is theirs.
			const rounds = 200
			least := ask(rounds)
			for look := 1; look < 10 && least > rounds/4; look++ {
				least = min(least, ask(rounds))
			}
			if least > rounds/4 {
				t.Errorf("%d allocations for %d requests", least, rounds)
			}
		})
	}
}
