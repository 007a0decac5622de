package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
)

// TestFiledRecordsAreRead: of more than the WAL holds, most lies in objects that only
// manifests name. It is read back by a broker that has just started, once and in
// order, and found by time; a check of every byte finds nothing wrong; records are
// deleted from the middle of a manifest on; and with the topic all of it goes.
func TestFiledRecordsAreRead(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	memory := bucket.NewMemory()
	n, addr := startTiered(t, memory, func(tier *Tier) {
		limits := filing.DefaultLimits()
		limits.Ranges, limits.ManifestRanges, limits.Large, limits.DropAfter = 4, 7, 0, 50*time.Millisecond
		tier.File = &Filing{Limits: limits, Interval: 10 * time.Millisecond}
	})
	c := n.options.Controller.(*controller.Controller)
	cl := newClient(t, addr, kgo.ProducerBatchMaxBytes(128<<10), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProduceRequestTimeout(time.Minute))
	if _, err := kadm.NewClient(cl).CreateTopics(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	const records, size = 2500, 16 << 10
	value := make([]byte, size)
	begun := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range records {
		r := &kgo.Record{Topic: "t", Value: append(fmt.Appendf(nil, "%08d", i), value...), Timestamp: begun.Add(time.Duration(i) * time.Millisecond)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	partition := func() *metadata.Partition {
		topic, _ := c.Image().Topic("t")
		return topic.Partition(0)
	}
	until(ctx, t, c, "all but a few ranges are filed", func() bool {
		p := partition()
		return p.CommittedEnd() == records && len(p.Filed()) > 1 && p.Ranges().Len() <= 4
	})
	t.Logf("%d manifests, %d ranges in the metadata, %+v", len(partition().Filed()), partition().Ranges().Len(), n.filer.Stats())

	// A broker that has just started has nothing in its caches.
	n.server.Close()
	if err := n.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	l := listenLoopback(t)
	n.options.Listeners[0].Port = portOf(l)
	n.open()
	n.serve(l)
	addr = l.Addr().String()
	tp := n.table.byName([]byte("t"))
	local := tp.partition(0).role.Load().log.LocalStart()
	filed := partition().Filed()
	if filed[len(filed)-1].End < local/2 || local == 0 {
		t.Fatalf("the WAL has all from %d on, manifests up to %d: the test shows nothing", local, filed[len(filed)-1].End)
	}
	// How far a group is behind is known within a manifest, a range and a batch.
	partitionLog := tp.partition(0).role.Load().log
	for at, until := range map[storage.Offset]storage.Offset{0: filed[0].End, filed[len(filed)-1].End: records, records - 1: records} {
		before := time.Now()
		is := n.lagOf(partitionLog, int64(at))
		least, most := before.Sub(begun.Add(time.Duration(until)*time.Millisecond)), time.Since(begun.Add(time.Duration(at)*time.Millisecond))
		if is.records != int64(records-at) || !is.timed || is.behind < least || is.behind > most {
			t.Errorf("who has committed %d is behind by %+v, want %v to %v", at, is, least, most)
		}
	}

	reader := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for i, r := range consume(ctx, t, reader, records) {
		if want := fmt.Sprintf("%08d", i); string(r.Value[:8]) != want || r.Offset != int64(i) {
			t.Fatalf("offset %d: record %s where %s was due", r.Offset, r.Value[:8], want)
		}
	}
	adm := kadm.NewClient(newClient(t, addr))
	for _, of := range []int64{0, 2, 1000, int64(local) - 1, records - 2} {
		found, err := adm.ListOffsetsAfterMilli(ctx, begun.Add(time.Duration(of)*time.Millisecond).UnixMilli(), "t")
		if err != nil {
			t.Fatal(err)
		}
		if o, _ := found.Lookup("t", 0); o.Err != nil || o.Offset != of {
			t.Errorf("the record %d ms in: offset %d, %v", of, o.Offset, o.Err)
		}
	}
	check := func() *controller.CheckReport {
		t.Helper()
		report, err := c.CheckBucket(ctx, controller.CheckRequest{Verify: true, Budget: time.Minute})
		if err != nil || report.Next != "" {
			t.Fatalf("%+v, %v", report, err)
		}
		if report.Damaged() || len(report.Findings) > 0 || report.Unjudged.Objects > 0 || report.Verified != report.Committed {
			t.Fatalf("%+v", report)
		}
		return report
	}
	if all := check(); all.Verified.Objects < int64(c.Image().FiledRanges()) || c.Image().FiledRanges() < 10 {
		t.Fatalf("%+v of %d ranges in manifests", all, c.Image().FiledRanges())
	}

	// The log start moves into a manifest, which is made anew without what lies below.
	first := partition().Filed()[0]
	from := int64(first.Base+first.End) / 2
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "t", At: from})
	if _, err := adm.DeleteRecords(ctx, offsets); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, c, "the manifest is made anew", func() bool { return partition().Filed()[0].Base > first.Base })
	starts, err := adm.ListStartOffsets(ctx, "t")
	if o, _ := starts.Lookup("t", 0); err != nil || o.Offset != from {
		t.Fatalf("%+v, %v", o, err)
	}
	reader = newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for i, r := range consume(ctx, t, reader, records-int(from)) {
		if r.Offset != from+int64(i) {
			t.Fatalf("offset %d, want %d", r.Offset, from+int64(i))
		}
	}
	reader.Close()
	check()

	if _, err := adm.DeleteTopics(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, c, "all of the topic is gone", func() bool {
		m := c.Image()
		return m.NumManifests() == 0 && m.NumObjects(metadata.Committed)+m.NumObjects(metadata.Condemned) == 0
	})
	until(ctx, t, c, "the bucket is empty", func() bool {
		report := check()
		return report.Committed.Objects+report.Condemned.Objects+report.Orphans.Objects == 0
	})
}

// until waits for images until something is so.
func until(ctx context.Context, t testing.TB, c Controller, what string, is func() bool) {
	t.Helper()
	changed := make(chan struct{}, 1)
	defer c.Subscribe(func(*metadata.Image) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: it never came to that", what)
		case <-changed:
		}
	}
}
