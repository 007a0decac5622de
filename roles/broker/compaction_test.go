package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/storage/bucket"
)

// TestCompactedRecordsAreRead: while more is produced than the WAL holds, what is in
// the bucket is rewritten into fewer and larger objects, the old ones are deleted,
// and every record is read back, once and in order.
func TestCompactedRecordsAreRead(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	n, addr := startTiered(t, bucket.NewMemory(), func(tier *Tier) {
		limits := compact.DefaultLimits()
		limits.MinObject, limits.TargetObject, limits.MaxRanges = 1<<20, 8<<20, 8
		tier.Compact = &Compaction{Limits: limits, Interval: 20 * time.Millisecond}
	})
	cl := newClient(t, addr, kgo.ProducerBatchMaxBytes(128<<10), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProduceRequestTimeout(time.Minute))
	adm := kadm.NewClient(cl)
	const records, size, partitions = 3000, 16 << 10, 3
	_, err := adm.CreateTopics(ctx, partitions, 1, nil, "t")
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, size)
	for i := range records {
		r := &kgo.Record{Topic: "t", Partition: int32(i % partitions), Value: append(fmt.Appendf(nil, "%08d", i), value...)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// It goes slowly while somebody produces, and a reader is to meet what it leaves.
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s, _ := n.Compactions(); s.Objects == 0 || s.RangesIn <= 2*s.RangesOut; s, _ = n.Compactions() {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("little is rewritten into less: %+v", s)
		}
	}
	reader := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	next := [partitions]int{0, 1, 2}
	for _, r := range consume(ctx, t, reader, records) {
		if want := fmt.Sprintf("%08d", next[r.Partition]); string(r.Value[:8]) != want {
			t.Fatalf("partition %d offset %d: record %s where %s was due", r.Partition, r.Offset, r.Value[:8], want)
		}
		next[r.Partition] += partitions
	}
	s, _ := n.Compactions()
	topic, _ := n.options.Controller.Image().Topic("t")
	ranges := 0
	for p := range topic.Partitions.All() {
		ranges += p.Ranges().Len()
	}
	t.Logf("%d uploads, %d ranges left; %+v", n.uploader.Stats().Objects, ranges, s)
}
