package cold

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failer is a *testing.T, *testing.B or *rapid.T.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var topicA = storage.TopicID{0xa}

func partition(index int32) storage.PartitionID {
	return storage.PartitionID{Topic: topicA, Index: index}
}

// world is a bucket with objects, and what the catalogue knows of them.
type world struct {
	dir   *bucket.Dir
	b     *bucket.Faulty
	last  storage.ObjectID
	gets  gauge
	delay time.Duration // of each read of the bucket
}

func newWorld(t failer, fs disk.FS) *world {
	t.Helper()
	dir, err := bucket.NewDir(fs, "bucket")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: dir}
	w.b = bucket.NewFaulty(dir)
	w.faults()
	return w
}

func memory() disk.FS { return disk.NewMem(disk.MemOptions{}) }

// faults sets those of the bucket, besides the delay.
func (w *world) faults(rules ...bucket.Rule) {
	w.b.Set(append(rules, bucket.Rule{Op: bucket.OpRead, Hook: func(ctx context.Context, _ bucket.Op, key string) error {
		w.gets.enter(key)
		defer w.gets.leave()
		if w.delay == 0 {
			return nil
		}
		timer := time.NewTimer(w.delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return &bucket.Error{Op: "read", Key: key, Err: ctx.Err()}
		case <-timer.C:
			return nil
		}
	}})...)
}

// gauge counts reads of the bucket.
type gauge struct {
	mu        sync.Mutex
	all       int
	now, most int
	keys      map[string]int
}

func (g *gauge) enter(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.keys == nil {
		g.keys = map[string]int{}
	}
	g.keys[key]++
	g.all++
	g.now++
	g.most = max(g.most, g.now)
}

func (g *gauge) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
}

func (g *gauge) total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

func (g *gauge) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all, g.most, g.keys = 0, g.now, nil
}

func objectKey(id storage.ObjectID) string {
	return object.Key("", "c", 1, id)
}

// put makes an object with one range of a partition.
func (w *world) put(t failer, id storage.PartitionID, base, end storage.Offset, blockSize int, batches ...batch.Batch) metadata.Range {
	t.Helper()
	w.last++
	var out bytes.Buffer
	sum, err := object.Write(&out, object.Header{ID: w.last, Cluster: "c", Incarnation: 1}, []object.Range{{
		Partition: id, Topic: "a", Base: base, End: end, Holes: true, Cut: true,
		Batches: func(yield func(batch.Batch) error) error {
			for _, b := range batches {
				if err := yield(b); err != nil {
					return err
				}
			}
			return nil
		},
	}}, object.WriteOptions{BlockSize: blockSize})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dir.Put(context.Background(), objectKey(w.last), bucket.Bytes(out.Bytes())); err != nil {
		t.Fatal(err)
	}
	p := sum.Placements[0]
	return metadata.Range{
		Base: base, End: end, Object: w.last, Bytes: p.Bytes, MaxTimestamp: p.MaxTimestamp,
		IndexPosition: p.Index.Position, IndexLength: p.Index.Length, IndexCRC: p.Index.CRC,
	}
}

// fill puts n ranges of a partition, each of so many batches of one record, of
// size bytes each, in blocks of four.
func (w *world) fill(t failer, id storage.PartitionID, n, each, size int) Partition {
	t.Helper()
	var ranges []metadata.Range
	var next storage.Offset
	for range n {
		base := next
		var batches []batch.Batch
		for range each {
			batches = append(batches, build(t, next, int64(next), strings.Repeat("x", size-80)))
			next++
		}
		ranges = append(ranges, w.put(t, id, base, next, 4*size, batches...))
	}
	return Partition{ID: id, Ranges: metadata.NewRanges(ranges...)}
}

// build makes a batch of one record for each value, a millisecond apart.
func build(t failer, base storage.Offset, millis int64, values ...string) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{BaseOffset: base, LeaderEpoch: 1})
	for i, v := range values {
		w.Add(millis+int64(i), nil, []byte(v))
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) options() Options {
	return Options{
		Bucket: w.b, Key: objectKey, PieceSize: 16 << 10,
		IndexCache: 1 << 20, BlockCache: 1 << 20, ReadAhead: 512 << 10, MaxReadAhead: 128 << 10, Poison: true,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// open makes a reader, which the test has to close when it runs in a bubble.
func open(t failer, o Options) *Reader {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client reads as a fetch does: it is woken, and asks again.
type client struct {
	r     *Reader
	p     Partition
	woken chan struct{}
	pause time.Duration // of readAll, after each read: what is read ahead comes meanwhile
}

func newClient(r *Reader, p Partition) *client {
	return &client{r: r, p: p, woken: make(chan struct{}, 1)}
}

func (c *client) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// read returns once there are batches, or nothing is to come.
func (c *client) read(q Request) (Result, error) {
	if q.Reader == nil {
		q.Reader = c
	}
	patience := time.NewTimer(10 * time.Minute)
	defer patience.Stop()
	for {
		got, err := c.r.Read(c.p, q, c)
		if err != nil || got.Bytes > 0 || !got.Pending {
			return got, err
		}
		select {
		case <-c.woken:
		case <-patience.C:
			return got, fmt.Errorf("read %s at %d: no batch for 10 minutes: %+v", c.p.ID, q.Offset, c.r.Stats())
		}
	}
}

// readAll reads from an offset on until nothing is to come.
func (c *client) readAll(q Request) (bases []storage.Offset, err error) {
	for {
		got, err := c.read(q)
		if err != nil {
			return bases, err
		}
		if got.Bytes == 0 {
			return bases, nil
		}
		for _, b := range got.Batches {
			base := batch.Batch(b).BaseOffset()
			if !intact(b, base) {
				return bases, fmt.Errorf("behind %d batches one was changed", len(bases))
			}
			bases = append(bases, base)
		}
		got.Release()
		q.Offset = got.Next
		if c.pause > 0 {
			wait(c.pause)
		}
	}
}

// intact reports whether a batch is the one at an offset, with what it was made of.
func intact(b batch.Batch, base storage.Offset) bool {
	return b.BaseOffset() == base && b.CRC() == b.ComputeCRC()
}

func from(offset storage.Offset) Request {
	return Request{Offset: offset, MaxBytes: 16 << 10, MinOne: true}
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantBases fails unless they are from, from+1, … up to end.
func wantBases(t failer, got []storage.Offset, from, end storage.Offset) {
	t.Helper()
	for i, o := range got {
		if o != from+storage.Offset(i) {
			t.Fatalf("batch %d of %d is at %d, want %d", i, len(got), o, from+storage.Offset(i))
		}
	}
	if len(got) != int(end-from) {
		t.Fatalf("%d batches, want %d", len(got), end-from)
	}
}
