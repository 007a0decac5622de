package broker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/kafka"
)

func TestDamageIsBelievedForAWhile(t *testing.T) {
	now, why := time.Unix(1000, 0), errors.New("damaged")
	d := damages{now: func() time.Time { return now }}
	here := damagedAt{in: inLog, partition: storage.PartitionID{Index: 1}, offset: 7}
	if err := d.find(here); err != nil {
		t.Fatal(err)
	}
	if !d.note(here, here.offset+1, why) {
		t.Error("it is not said")
	}
	now = now.Add(damagePause - 1)
	if err := d.find(here); err != why {
		t.Errorf("a moment later: %v", err)
	}
	for _, elsewhere := range []damagedAt{
		{in: inBucket, partition: here.partition, offset: 7},
		{in: inLog, partition: here.partition, offset: 8},
		{in: inLog, partition: here.partition, offset: 7, timestamp: 1},
		{in: inLog, offset: 7},
	} {
		if err := d.find(elsewhere); err != nil {
			t.Errorf("%+v: %v", elsewhere, err)
		}
	}
	now = now.Add(1)
	if err := d.find(here); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	if d.note(here, here.offset+1, why) {
		t.Error("it is said again at once")
	}
	if now = now.Add(damageSaid); !d.note(here, here.offset+1, why) {
		t.Error("it is never said again")
	}
	for offset := range storage.Offset(3 * maxDamages) {
		here.offset = offset
		d.note(here, here.offset+1, why)
	}
	if len(d.known) > maxDamages {
		t.Errorf("%d are remembered", len(d.known))
	}
}

// logLines takes what a broker logs.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// errors returns the lines of errors.
func (l *logLines) errors() []string { return l.at(slog.LevelError) }

// at returns the lines of a level.
func (l *logLines) at(level slog.Level) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, "level="+level.String()) {
			lines = append(lines, line)
		}
	}
	return lines
}

// flip turns a bit of the WAL's files where a text lies, and returns the file.
func flip(t *testing.T, of disk.FS, text string) (name string) {
	t.Helper()
	names, err := of.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := of.Open(path.Join("wal", name))
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		raw := make([]byte, size)
		if err == nil && size > 0 {
			_, err = f.ReadAt(raw, 0)
		}
		if at := bytes.Index(raw, []byte(text)); err == nil && at >= 0 {
			_, err = f.WriteAt([]byte{raw[at] ^ 1}, int64(at))
			defer func() { t.Logf("%s, byte %d", name, at) }()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(text)) {
			return path.Join("wal", name)
		}
	}
	t.Fatalf("%q is in no file", text)
	return ""
}

// TestDamageOfTheLogIsTold: a bad block of the WAL's files is an error that clients
// try again and a person is told of, and is not read as fast as they ask. What lies
// before and behind it is served.
func TestDamageOfTheLogIsTold(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	faulty := disk.NewFaulty(mem)
	store, err := log.Open(t.Context(), log.Options{FS: faulty, Dir: "wal", WAL: wal.Options{
		Capacity: 64 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 2 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	var lines logLines
	clock := newHandClock()
	n := startNode(t, func(o *Options) { o.Store, o.Log, o.Now = store, lines.logger(), clock.now })
	n.controller.createTopic("events", 1)
	n.controller.createTopic("filler", 1)
	n.settle(t.Context())
	c := n.connect()
	for _, text := range []string{"before", "damaged record", "behind"} {
		c.produce("events", 0, text)
	}
	for range 30 {
		c.produce("filler", 0, strings.Repeat("x", 100_000)) // out of memory with it
	}
	file := flip(t, mem, "damaged record")
	read := func(offset int64) kmsg.FetchResponseTopicPartition {
		return ask[*kmsg.FetchResponse](c, 12, fetchFrom("events", 0, offset, time.Minute)).Topics[0].Partitions[0]
	}
	if part := read(0); part.ErrorCode != 0 || strings.Join(values(t, part.RecordBatches), " ") != "before" {
		t.Errorf("before it: %v, %q", kerr.ErrorForCode(part.ErrorCode), values(t, part.RecordBatches))
	}
	if part := read(2); part.ErrorCode != 0 || strings.Join(values(t, part.RecordBatches), " ") != "behind" {
		t.Errorf("behind it: %v, %q", kerr.ErrorForCode(part.ErrorCode), values(t, part.RecordBatches))
	}
	if said := lines.errors(); len(said) > 0 {
		t.Errorf("nobody asked for it yet: %q", said)
	}

	faulty.Set(disk.Rule{Op: disk.OpRead, Name: "wal/*", Hook: func(disk.Op, string) {}})
	reads := func() int { n, _ := faulty.Calls(0); return n }
	at := map[int64]int{}
	for round := range 3 {
		for range 5 {
			before := reads()
			if part := read(1); part.ErrorCode != kerr.KafkaStorageError.Code || len(part.RecordBatches) > 0 {
				t.Fatalf("round %d: %v, %d bytes", round, kerr.ErrorForCode(part.ErrorCode), len(part.RecordBatches))
			}
			at[int64(round)] += reads() - before
		}
		clock.advance(damagePause)
	}
	if at[0] == 0 || at[1] != at[0] || at[2] != at[0] || at[0] > 4 {
		t.Errorf("reads of the file in each pause, for 5 fetches: %v", at)
	}
	byTime := kmsg.NewPtrListOffsetsRequest()
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Timestamp = 1000
	byTime.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "events", Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
	faulty.Set(disk.Rule{Op: disk.OpRead, Name: file, Err: &fs.PathError{Op: "read", Path: file, Err: errors.New("input/output error")}})
	for range 5 {
		if p := ask[*kmsg.ListOffsetsResponse](c, 7, byTime).Topics[0].Partitions[0]; p.ErrorCode != kerr.KafkaStorageError.Code {
			t.Errorf("by time, and the disk fails: %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	said := lines.errors()
	if len(said) != 2 || !strings.Contains(said[0], file) || !strings.Contains(said[0], "offset=1 ") || !strings.Contains(said[1], "input/output error") || !strings.Contains(said[1], "timestamp=1000") {
		t.Errorf("a person is told: %q", said)
	}
	if d := n.Damage(); d.Corrupt != 0 || d.Last == nil || !strings.Contains(d.Last.Error(), "input/output error") || !d.LastAt.Equal(clock.now()) {
		t.Errorf("damage: %+v", d)
	}
	const want = `# HELP rustmq_broker_damage_total Reads for clients that failed because records are damaged or missing, by where they should be.
# TYPE rustmq_broker_damage_total counter
rustmq_broker_damage_total{where="bucket"} 0
rustmq_broker_damage_total{where="log"} 4
`
	if err := testutil.CollectAndCompare(n.Metrics(), strings.NewReader(want), "rustmq_broker_damage_total"); err != nil {
		t.Error(err)
	}
}

// handClock is a clock that stands until it is moved.
type handClock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func newHandClock() *handClock { return &handClock{at: time.Unix(1_000_000, 0)} }

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// nobody owns the frames of a log that a test writes to.
type nobody struct{}

func (nobody) Replay(wal.Header, wal.Ref, []byte) error { return nil }
func (nobody) Relocate(context.Context, uint32) error   { return nil }

// TestCorruptPartitionIsTold: clients by Metadata and by each answer, a person by
// the damage that the broker has met.
func TestCorruptPartitionIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		n := newBesideBucket(t, b)
		defer n.c.Close()
		if err := n.open(b); err != nil {
			t.Fatal(err)
		}
		id := n.produce()
		n.close()
		w, err := wal.Open(t.Context(), wal.Options{FS: n.fs, Dir: "wal", Capacity: 8 << 20, SegmentSize: 1 << 20, Memory: 2 << 20, Owner: nobody{}})
		if err != nil {
			t.Fatal(err)
		}
		stray := batchOf(t, "behind a gap")
		batch.Stamp(stray, 100, 1)
		if _, err := w.Append(wal.Header{Kind: wal.KindData, Partition: id, Epoch: 1, Offset: 100}, stray, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.open(b); err != nil {
			t.Fatal(err)
		}
		defer n.close()
		server := kafka.New(kafka.Options{Handler: n.b, EarlyOK: EarlyOK})
		defer server.Close()
		c := (&node{Broker: n.b, t: t, store: n.store, server: server}).connect()
		defer c.conn.Close()
		meta := kmsg.NewPtrMetadataRequest()
		meta.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}}
		described := kmsg.NewPtrDescribeTopicPartitionsRequest()
		described.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
		for what, got := range map[string]int16{
			"Metadata":                ask[*kmsg.MetadataResponse](c, 9, meta).Topics[0].Partitions[0].ErrorCode,
			"DescribeTopicPartitions": ask[*kmsg.DescribeTopicPartitionsResponse](c, 0, described).Topics[0].Partitions[0].ErrorCode,
			"Produce":                 ask[*kmsg.ProduceResponse](c, 9, produceTo("t", 0, -1, batchOf(t, "lost"))).Topics[0].Partitions[0].ErrorCode,
			"Fetch":                   ask[*kmsg.FetchResponse](c, 12, fetchFrom("t", 0, 0, time.Minute)).Topics[0].Partitions[0].ErrorCode,
		} {
			if got != kerr.KafkaStorageError.Code {
				t.Errorf("%s: %v", what, kerr.ErrorForCode(got))
			}
		}
		if d := n.b.Damage(); d.Corrupt != 1 || !errors.As(d.CorruptError, new(*log.CorruptionError)) || d.Last != nil {
			t.Errorf("damage: %+v", d)
		}
		const want = `# HELP rustmq_broker_corrupt_partitions Partitions that this broker is to lead and cannot, for their logs are corrupt.
# TYPE rustmq_broker_corrupt_partitions gauge
rustmq_broker_corrupt_partitions 1
`
		if err := testutil.CollectAndCompare(n.b.Metrics(), strings.NewReader(want), "rustmq_broker_corrupt_partitions"); err != nil {
			t.Error(err)
		}
	})
}

// TestNewerFormatInTheBucketIsTold as damage is: it does not pass by itself.
func TestNewerFormatInTheBucketIsTold(t *testing.T) {
	var lines logLines
	n := startNode(t, func(o *Options) { o.Log = lines.logger() })
	place := damagedAt{in: inBucket, offset: 3}
	for range 2 {
		if err := n.coldFailed(place, &object.UnknownFormatError{Object: 7, Part: "index", Version: 9}); code(err) != kerr.KafkaStorageError.Code {
			t.Errorf("a client is told %v", err)
		}
	}
	if err := n.damages.find(place); code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("a moment later: %v", err)
	}
	if said := lines.errors(); len(said) != 1 || !strings.Contains(said[0], "version 9 of the index") {
		t.Errorf("a person is told: %q", said)
	}
	if n.coldFailed(damagedAt{in: inBucket, offset: 4}, errors.New("503 slow down")); n.damages.find(damagedAt{in: inBucket, offset: 4}) != nil {
		t.Error("what may pass is believed for a while")
	}
}

// TestDamageMetByTimeIsNotThatOfTheLogStart: who asks for a time meets what is
// damaged in the middle. Who reads from the start is not refused for it; who asks
// again for the time is, for a while, and the store is not asked.
func TestDamageMetByTimeIsNotThatOfTheLogStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewFaulty(bucket.NewMemory())
		m := &ledger{t: t, n: newBesideBucket(t, b), rng: rand.New(rand.NewPCG(1, 7)), open: map[int64]*transaction{}, next: map[int64]int32{}}
		defer m.n.c.Close()
		m.start(b)
		defer m.stop()
		m.n.produce()
		m.end = 1
		time.Sleep(5 * time.Second)
		later := time.Now().UnixMilli()
		m.append(-1)
		time.Sleep(5 * time.Second)
		m.n.evict()
		l, _ := m.log()
		where, _ := m.n.b.inBucket(l.ID())
		if l.LocalStart() != storage.Offset(m.end) || where.Ranges.Len() != 2 {
			t.Fatalf("the WAL begins at %d of %d, %d ranges", l.LocalStart(), m.end, where.Ranges.Len())
		}
		b.Set(bucket.Rule{Op: bucket.OpRead, Prefix: m.n.b.objectKey(m.n.c.Image().ClusterID(), where.Ranges.At(1).Object), Flip: true})
		q := kmsg.NewPtrListOffsetsRequest()
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Timestamp = later
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
		c := m.connect()
		defer c.conn.Close()
		asked := [2]int{}
		for i := range asked {
			if p := ask[*kmsg.ListOffsetsResponse](c, 7, q).Topics[0].Partitions[0]; p.ErrorCode != kerr.KafkaStorageError.Code {
				t.Errorf("by time: %v", kerr.ErrorForCode(p.ErrorCode))
			}
			_, asked[i] = b.Calls(0)
		}
		if asked[0] == 0 || asked[1] != asked[0] {
			t.Errorf("reads of what is damaged, after each: %v", asked)
		}
		fetch := fetchFrom("t", 0, 0, time.Minute)
		fetch.MaxBytes = 1
		if p := ask[*kmsg.FetchResponse](c, 12, fetch).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			t.Errorf("from the log start: %v, %d bytes", kerr.ErrorForCode(p.ErrorCode), len(p.RecordBatches))
		}
	})
}

// TestDamageThatIsReadAgainIsOver: the warning stands as long as nobody was given what
// was damaged, and only of that.
func TestDamageThatIsReadAgainIsOver(t *testing.T) {
	now := time.Unix(1000, 0)
	d := damages{now: func() time.Time { return now }}
	one, two := damagedAt{offset: 1}, damagedAt{offset: 2}
	d.note(one, one.offset+1, errors.New("one"))
	now = now.Add(time.Second)
	if !d.note(two, two.offset+1, errors.New("two")) {
		t.Error("it is not said")
	}
	d.whole(damagedAt{offset: 3}, 4)
	if at, err := d.met(); err == nil || err.Error() != "two" || !at.Equal(now) {
		t.Errorf("met last: %v at %v", err, at)
	}
	d.whole(two, two.offset+1)
	d.whole(two, two.offset+1)
	if _, err := d.met(); err == nil || err.Error() != "one" {
		t.Errorf("what is left: %v", err)
	}
	d.whole(one, one.offset+1)
	if _, err := d.met(); err != nil {
		t.Errorf("all was read, and there is %v", err)
	}
	if d.note(two, two.offset+1, errors.New("two")) {
		t.Error("it is said again within the hour")
	}
	if _, err := d.met(); err == nil {
		t.Error("it is damaged again, and nothing says so")
	}
}
