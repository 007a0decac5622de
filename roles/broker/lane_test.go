package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
)

// TestDuplicatesInTheLaneAreNotRoutedTwice: the first, and what comes behind it, is still
// on its way when they come again on another connection.
func TestDuplicatesInTheLaneAreNotRoutedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, _ := startTransforming(t, "")
		open := w.shut(t)
		first, second := n.connect(), n.connect()
		for _, c := range []*client{first, second} {
			for i := range int32(3) {
				q := produceTo("in", 0, -1, fromProducer(t, i, fmt.Sprint("to:out:", i)))
				q.Version = 9
				c.send(q)
			}
			synctest.Wait()
		}
		open()
		for _, c := range []*client{first, second} {
			for i := range int64(3) {
				requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
			}
		}
		first.wants("out", 0, "0 to:out:0", "1 to:out:1", "2 to:out:2")
	})
}

// TestNothingIsAppendedBeforeWhatItRoutes: while that is on its way, neither is what came
// behind; that is transformed meanwhile, and what it routes leaves together.
func TestNothingIsAppendedBeforeWhatItRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := &modules{t: t}, &wordy{}
		m.use(w, "")
		disk := &gatedFS{FS: disk.NewMem(disk.MemOptions{})}
		n := startNode(t, func(o *Options) {
			o.Transforms, o.Store = m.set.Load, openStore(t, disk)
		})
		n.controller.createTopic("in", 1)
		n.controller.createTopic("out", 1)
		n.settle(t.Context())
		t.Cleanup(disk.let)
		c := n.connect()
		const batches = 20
		disk.hold()
		var want []string
		for i := range int32(batches) {
			value := fmt.Sprint("to:out:", i)
			if i%4 == 3 {
				value = fmt.Sprint("stays ", i)
				want = append(want, fmt.Sprintf("%d %s", i, value))
			}
			q := produceTo("in", 0, 1, fromProducer(t, i, value))
			q.Version = 9
			c.send(q)
			synctest.Wait()
		}
		if got := len(w.shown()); got != batches {
			t.Errorf("%d batches are transformed while the first is on its way", got)
		}
		if end := n.logOf("in", 0).End(); end != 0 {
			t.Errorf("the log has %d records while what the first routes is on no disk", end)
		}
		disk.let()
		for i := range int64(batches) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
		}
		c.wants("in", 0, want...)
		if got := len(c.all("out", 0)); got != batches-len(want) {
			t.Errorf("%d records are routed", got)
		}
		read, err := n.logOf("out", 0).Read(log.ReadRequest{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer read.Release()
		if len(read.Batches) != 2 {
			t.Errorf("they left in %d batches", len(read.Batches))
		}
	})
}

// TestBatchesOfALaneKeepTheirOrder, those behind a slow module too, and where the modules go
// away meanwhile; other partitions, and other topics on the same connection, do not wait.
func TestBatchesOfALaneKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, m := startTransforming(t, "")
		open := w.shut(t)
		c, other := n.connect(), n.connect()
		var want []string
		for i := range int32(30) {
			if i == 20 {
				m.set.Store(nil)
			}
			if i == 1 {
				synctest.Wait() // the module has the first
			}
			value := []string{"a", "up", "drop", "to:out"}[i%4]
			q := produceTo("in", 0, -1, fromProducer(t, i, value+fmt.Sprint(i)))
			q.Version = 9
			c.send(q)
			want = append(want, value+fmt.Sprint(i))
		}
		q := produceTo("out", 1, -1, batchOf(t, "elsewhere"))
		q.Version = 9
		c.send(q)
		synctest.Wait()
		other.wants("out", 1, "0 elsewhere")
		other.wants("in", 0)
		open()
		for i := range int64(30) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
		}
		requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, 0)
		// The first was in its hands when the set changed: the others pass as they are.
		for i := range want {
			want[i] = fmt.Sprintf("%d %s", i, want[i])
		}
		other.wants("in", 0, want...)
	})
}

// TestLanesHoldNoMoreThanTheirShare: who sends on behind a module that does not come to an
// end is not read any more, and others are.
func TestLanesHoldNoMoreThanTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, _ := startTransforming(t, "")
		open := w.shut(t)
		c, other := n.connect(), n.connect()
		value := strings.Repeat("v", 100<<10)
		var frames []byte
		const batches = 120
		for range batches {
			q := produceTo("in", 0, -1, batchOf(t, value))
			q.Version = 9
			frames = c.append(frames, q)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := c.conn.Write(frames)
			sent <- err
		}()
		synctest.Wait()
		if held := n.transforms.waiting.inUse(); held > laneBytes || held < laneBytes/2 {
			t.Errorf("%d bytes wait in the lane", held)
		}
		other.produce("out", 0, "elsewhere")
		open()
		for i := range int64(batches) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if held := n.transforms.waiting.inUse() + n.transforms.memory.inUse(); held != 0 {
			t.Errorf("%d bytes are held by nobody", held)
		}
	})
}

// TestWaitingForALaneIsNotChargedAsTime: what a connection waits for room behind a module is
// not the broker's time.
func TestWaitingForALaneIsNotChargedAsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, _ := startTransforming(t, "")
		n.hold(metadata.RequestPercentage, 1) // a tenth of a second at once
		open := w.shut(t)
		c := n.connect()
		var frames []byte
		const batches = 120 // of a tenth of a MiB: more than the lane takes
		for range batches {
			q := produceTo("in", 0, -1, batchOf(t, strings.Repeat("v", 100<<10)))
			q.Version = 9
			frames = c.append(frames, q)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := c.conn.Write(frames)
			sent <- err
		}()
		time.Sleep(5 * time.Second) // of the bubble
		if len(sent) > 0 {
			t.Error("nothing waits")
		}
		open()
		for i := range int64(batches) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
		}
		if p := ask[*kmsg.MetadataResponse](c, 9, metadataOf()); p.ThrottleMillis != 0 {
			t.Errorf("told to wait %d ms", p.ThrottleMillis)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// TestBudgetIsSharedInOrder: nobody takes what is not there, who came first is first, and
// what is larger than all of it passes alone.
func TestBudgetIsSharedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 10}
		ctx, cancel := context.WithCancel(t.Context())
		if !b.tryTake(6) || b.tryTake(5) {
			t.Fatal("it gives more than it has")
		}
		var mu sync.Mutex
		var got []string
		asked := 0
		wait := func(name string, ctx context.Context, n int64) {
			go func() {
				err := b.take(ctx, n, func() { asked++ })
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(name, " ", err))
			}()
			synctest.Wait()
		}
		wait("large", t.Context(), 20)
		wait("gone", ctx, 1)
		wait("small", t.Context(), 3)
		if b.tryTake(1) {
			t.Error("somebody goes before those who wait")
		}
		cancel()
		synctest.Wait()
		b.give(6)
		synctest.Wait()
		b.give(20)
		synctest.Wait()
		if want := []string{"gone context canceled", "large <nil>", "small <nil>"}; !slices.Equal(got, want) || asked != 3 {
			t.Errorf("served were %q, %d asked to wait", got, asked)
		}
		if b.inUse() != 3 {
			t.Errorf("%d bytes are in use", b.inUse())
		}
	})
}
