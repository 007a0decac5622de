package broker

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// startDamaged starts a node in whose WAL the second of three records of events-0,
// "damaged record", cannot be read.
func startDamaged(t *testing.T, change ...func(*Options)) (*node, *client) {
	t.Helper()
	mem := disk.NewMem(disk.MemOptions{})
	store, err := log.Open(t.Context(), log.Options{FS: mem, Dir: "wal", WAL: wal.Options{
		Capacity: 64 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 2 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := startNode(t, append(change, func(o *Options) { o.Store = store })...)
	n.controller.createTopic("events", 1)
	n.controller.createTopic("filler", 1)
	n.controller.createTopic("whole", 1)
	n.settle(t.Context())
	c := n.connect()
	for _, text := range []string{"before", "damaged record", "behind"} {
		c.produce("events", 0, text)
	}
	for range 30 {
		c.produce("filler", 0, strings.Repeat("x", 100_000)) // out of memory with it
	}
	c.produce("whole", 0, "whole")
	flip(t, mem, "damaged record")
	return n, c
}

// behindWhole asks for a partition that has a record, and events-0 behind it. It waits
// for more bytes than there are.
func behindWhole(offset int64) *kmsg.FetchRequest {
	q := fetchFrom("whole", 0, 0, 5*time.Second)
	q.MinBytes, q.MaxBytes = 1<<20, 10<<20
	q.Topics = append(q.Topics, fetchFrom("events", 0, offset, 0).Topics[0])
	return q
}

// TestDamageBehindRecordsIsTold as it is where it comes first: in the answer, at once,
// and to a person.
func TestDamageBehindRecordsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := startDamaged(t)
		began := time.Now()
		p := ask[*kmsg.FetchResponse](c, 12, behindWhole(1))
		if first := p.Topics[0].Partitions[0]; strings.Join(values(t, first.RecordBatches), " ") != "whole" {
			t.Errorf("the first partition brings %q", values(t, first.RecordBatches))
		}
		if got := p.Topics[1].Partitions[0].ErrorCode; got != kerr.KafkaStorageError.Code {
			t.Errorf("behind it: %v", kerr.ErrorForCode(got))
		}
		if n.Damage().Last == nil {
			t.Error("no person is told")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it waits %v", took)
		}
	})
}

// TestRecordsBeforeDamageDoNotWait for more, which cannot come.
func TestRecordsBeforeDamageDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := startDamaged(t)
		began := time.Now()
		p := ask[*kmsg.FetchResponse](c, 12, behindWhole(0))
		part := p.Topics[1].Partitions[0]
		if part.ErrorCode != 0 || strings.Join(values(t, part.RecordBatches), " ") != "before" {
			t.Errorf("%v, %q", kerr.ErrorForCode(part.ErrorCode), values(t, part.RecordBatches))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it waits %v", took)
		}
	})
}

// TestDamageThatWasNotReadIsTold: a fetch that has no room for the first batch has not
// read it.
func TestDamageThatWasNotReadIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newHandClock()
		n, c := startDamaged(t, func(o *Options) { o.Now = clock.now })
		ask[*kmsg.FetchResponse](c, 12, fetchFrom("events", 0, 1, 0))
		if n.Damage().Last == nil {
			t.Fatal("it is not told")
		}
		clock.advance(damagePause)
		q := behindWhole(1)
		q.Topics[1].Partitions[0].PartitionMaxBytes = 1
		ask[*kmsg.FetchResponse](c, 12, q)
		if n.Damage().Last == nil {
			t.Error("it was not read, and is told no more")
		}
	})
}

// TestDamageThatNobodyMeetsIsOver: it was read from an offset before it, its records are
// deleted, or its topic is, whichever way it was met.
func TestDamageThatNobodyMeetsIsOver(t *testing.T) {
	for _, at := range []storage.Offset{1, storage.NoOffset} {
		for what, end := range map[string]func(*node, *log.Log){
			"deleted records": func(n *node, l *log.Log) {
				if err := l.SetLogStart(3); err != nil {
					t.Error(err)
				}
			},
			"a deleted topic": func(n *node, l *log.Log) { n.remake("events", 1) },
			"all read":        func(n *node, l *log.Log) { n.damages.whole(damagedAt{in: inLog, partition: l.ID(), offset: 0}, 3) },
			"some read":       func(n *node, l *log.Log) { n.damages.whole(damagedAt{in: inLog, partition: l.ID(), offset: 0}, 1) },
			"another read":    func(n *node, l *log.Log) { n.damages.whole(damagedAt{in: inBucket, partition: l.ID(), offset: 0}, 3) },
			"records deleted before it": func(n *node, l *log.Log) {
				if err := l.SetLogStart(1); err != nil {
					t.Error(err)
				}
			},
		} {
			n := startNode(t)
			n.controller.createTopic("events", 1)
			n.settle(t.Context())
			n.connect().produce("events", 0, "a")
			n.connect().produce("events", 0, "b")
			n.connect().produce("events", 0, "c")
			l := n.table.byName([]byte("events")).partition(0).role.Load().log
			n.damaged(damagedAt{in: inLog, partition: l.ID(), offset: at}, errors.New("damaged"), "damaged")
			if n.Damage().Last == nil {
				t.Fatal("it is not told")
			}
			end(n, l)
			over := what == "deleted records" || what == "a deleted topic" || what == "all read" && at == 1
			if last := n.Damage().Last; (last == nil) != over {
				t.Errorf("met at %d, after %s: %v", at, what, last)
			}
		}
	}
}
