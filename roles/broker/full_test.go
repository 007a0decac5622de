package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// TestRefusedProducersAreSaid: from the first batch on that has no room, until one has
// again, it can be seen that producers are refused, and two lines say so.
func TestRefusedProducersAreSaid(t *testing.T) {
	store, err := log.Open(t.Context(), log.Options{FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", WAL: wal.Options{
		Capacity: 16 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 8 << 20, Reserve: 2 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	var lines logLines
	clock := newHandClock()
	n := startNode(t, func(o *Options) { o.Store, o.Log, o.Now = store, lines.logger(), clock.now })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	large := strings.Repeat("0123456789", 20_000)
	send := func() int16 {
		t.Helper()
		code := ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, large))).Topics[0].Partitions[0].ErrorCode
		if code != 0 && code != kerr.KafkaStorageError.Code {
			t.Fatal(kerr.ErrorForCode(code))
		}
		return code
	}
	for send() == 0 {
		if r := n.Refusals(); r != (Refusals{}) {
			t.Fatalf("before anybody was: %+v", r)
		}
	}
	began := clock.now()
	for range 4 {
		clock.advance(time.Second)
		if send() == 0 {
			t.Fatal("there is room again")
		}
	}
	clock.advance(5 * time.Minute)
	if r := n.Refusals(); !r.Log.Since.Equal(began) || !r.Log.Last.Equal(began.Add(4*time.Second)) || r.Log.Err == nil || r.Log.Batches != 5 || !r.Partition.Since.IsZero() {
		t.Errorf("while nobody sends, and nothing has changed: %+v", r)
	}
	if said := lines.at(slog.LevelWarn); len(said) != 1 || !strings.Contains(said[0], "producers are refused") {
		t.Errorf("%q", said)
	}
	const counted = "# HELP rustmq_broker_refused_total Batches of producers that were not appended, by the error that these were told; a try of the same is another.\n# TYPE rustmq_broker_refused_total counter\n"
	want := counted + "rustmq_broker_refused_total{error=\"KAFKA_STORAGE_ERROR\"} 5\n" +
		"# HELP rustmq_broker_full_seconds_total How long producers were refused for want of room, each time from the first batch that was refused to the last.\n# TYPE rustmq_broker_full_seconds_total counter\n" +
		"rustmq_broker_full_seconds_total{of=\"log\"} 4\nrustmq_broker_full_seconds_total{of=\"partition\"} 0\n"
	if err := testutil.CollectAndCompare(n.Metrics(), strings.NewReader(want), "rustmq_broker_refused_total", "rustmq_broker_full_seconds_total"); err != nil {
		t.Error(err)
	}

	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "events", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, q); p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("delete records: %+v", p)
	}
	for tries := 0; send() != 0 && tries < 100; tries++ {
		if err := store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	clock.advance(fullQuiet)
	if send() != 0 {
		t.Fatal("deleting every record made no room")
	}
	if r := n.Refusals(); r.Log != (Refusing{}) || r.Partition != (Refusing{}) || r.LogBefore.Spells != 1 || r.LogBefore.Batches < 5 || r.LogBefore.Lasted < 4*time.Second {
		t.Errorf("after it: %+v", r)
	}
	if said := lines.at(slog.LevelWarn); len(said) != 2 || !strings.Contains(said[1], "served again") {
		t.Errorf("%q", said)
	}
}

// A log at its limit serves some and refuses others in turns: that is one spell. What
// only some partitions are refused for is another.
func TestSpellsOfRefusals(t *testing.T) {
	clock := newHandClock()
	f := fullLog{now: clock.now}
	lag := fmt.Errorf("append: %w", log.ErrUploadLag)
	for _, step := range []struct {
		after        time.Duration
		err          error // nil: one is served
		kind         fullKind
		begins, ends bool
	}{
		{0, nil, 0, false, false},
		{0, log.ErrBehindRefused, 0, false, false},
		{0, kerr.MessageTooLarge, 0, false, false},
		{0, nil, 0, false, false},
		{0, log.ErrFull, fullWhole, true, false},
		{time.Second, nil, 0, false, false},
		{time.Second, log.ErrNoSegment, fullWhole, false, false},
		{fullQuiet - 1, nil, 0, false, false},
		{1, nil, 0, false, true},
		{0, nil, 0, false, false},
		{0, lag, fullPartition, true, false},
		{fullForgotten - 1, lag, fullPartition, false, false},
		{0, log.ErrFull, fullWhole, true, false},
		{fullForgotten, lag, fullPartition, true, false},
		{0, log.ErrFull, fullWhole, true, false},
	} {
		clock.advance(step.after)
		if step.err == nil {
			if _, ends := f.served(); ends != step.ends {
				t.Errorf("%+v: %v", step, ends)
			}
			continue
		}
		if kind, begins := f.refused(step.err); begins != step.begins || kind != step.kind {
			t.Errorf("%+v: %v, %v", step, kind, begins)
		}
	}
}

// Whoever is refused and served at the same time, no spell and no batch is lost or
// counted twice, and what is read meanwhile never goes back.
func TestSpellsOverlap(t *testing.T) {
	clock := newHandClock()
	f := fullLog{now: clock.now}
	const goroutines, each = 8, 500
	var run sync.WaitGroup
	var began, ended, batches atomic.Int64
	for i := range goroutines {
		run.Go(func() {
			for j := range each {
				switch {
				case j%50 == 49:
					clock.advance(fullQuiet)
				case (i+j)%2 == 0:
					batches.Add(1)
					if _, begins := f.refused(log.ErrFull); begins {
						began.Add(1)
					}
				default:
					if _, ends := f.served(); ends {
						ended.Add(1)
					}
				}
			}
		})
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		run.Wait()
	}()
	for last := (Refused{}); ; {
		s, _ := f.of(fullWhole)
		t0 := s.total()
		if t0.Spells < last.Spells || t0.Batches < last.Batches || t0.Lasted < last.Lasted {
			t.Fatalf("%+v after %+v", t0, last)
		}
		last = t0
		select {
		case <-over:
			s, _ := f.of(fullWhole)
			if got := s.total(); got.Spells != began.Load() || got.Batches != batches.Load() || s.ended.Spells < ended.Load() || ended.Load() == 0 {
				t.Errorf("%+v, of %d begun, %d ended, %d batches", s, began.Load(), ended.Load(), batches.Load())
			}
			return
		default:
		}
	}
}
