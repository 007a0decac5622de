package log

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 2))
}

var topicA = storage.TopicID{0xa}

func partition(topic storage.TopicID, index int32) storage.PartitionID {
	return storage.PartitionID{Topic: topic, Index: index}
}

// sentAt is when batches are sent, by the broker's clock, and what their first record
// says.
var sentAt = time.UnixMilli(1_700_000_000_000)

// small is a store of few segments, whose memory does not hold them all.
func small(fs disk.FS) Options {
	o := Options{FS: fs, Dir: "wal", Now: func() time.Time { return sentAt }}
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 8<<20, 128<<10, 32<<10, 256<<10
	return o
}

// onEveryDisk runs a test on a disk in memory, and on a directory once per wal.io.
func onEveryDisk(t *testing.T, test func(t *testing.T, fs disk.FS)) {
	t.Run("mem", func(t *testing.T) { test(t, disk.NewMem(disk.MemOptions{})) })
	for _, mode := range []disk.IOMode{disk.Auto, disk.Pwrite, disk.IOUring} {
		t.Run(mode.String(), func(t *testing.T) {
			fs, err := disk.OpenOSWith(t.TempDir(), disk.OSOptions{IO: mode})
			if err != nil {
				t.Fatal(err)
			}
			if got, why := fs.IO(); got != mode {
				t.Skipf("not to be had here: %v", why)
			}
			test(t, fs)
		})
	}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // again, where the test does: harmless
	return s
}

// lead makes a log and leads it.
func lead(t testing.TB, s *Store, id storage.PartitionID, epoch storage.Epoch) *Log {
	t.Helper()
	l, err := s.Create(id, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeLeader(epoch); err != nil {
		t.Fatal(err)
	}
	return l
}

// answer is where an append is answered.
type answer chan AppendResult

func (a answer) Appended(r AppendResult) { a <- r }

func (a answer) wait(t interface {
	Helper()
	Fatal(...any)
}) AppendResult {
	t.Helper()
	select {
	case r := <-a:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("an append was not answered within 30 s")
		return AppendResult{}
	}
}

func (a answer) pending() bool { return len(a) == 0 }

// send appends without waiting.
func send(t testing.TB, l *Log, b batch.Batch, o AppendOptions) answer {
	t.Helper()
	if err := l.store.Admit(context.Background(), len(b)); err != nil {
		t.Fatal(err)
	}
	a := make(answer, 1)
	l.Append(sentAt, b, o, a)
	return a
}

// appendAll appends batches and waits until all are answered.
func appendAll(t testing.TB, l *Log, batches ...batch.Batch) {
	t.Helper()
	answers := make([]answer, len(batches))
	for i, b := range batches {
		answers[i] = send(t, l, b, AppendOptions{Epoch: storage.NoEpoch})
	}
	for _, a := range answers {
		if r := a.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// awaitRoom waits until the WAL has found room for so many bytes: it takes old
// segments back while appends go on.
func awaitRoom(t testing.TB, s *Store, bytes int) {
	t.Helper()
	for {
		err := s.Admit(context.Background(), bytes)
		if err == nil {
			s.Unadmit(bytes)
			return
		}
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// values builds a batch of no producer, its records a second apart.
func values(t testing.TB, values ...string) batch.Batch {
	t.Helper()
	return build(t, batch.BuilderOptions{}, values...)
}

// from builds a batch of a producer.
func from(t testing.TB, id int64, epoch int16, sequence int32, texts ...string) batch.Batch {
	t.Helper()
	return build(t, batch.BuilderOptions{Producer: &batch.Producer{ID: id, Epoch: epoch, BaseSequence: sequence}}, texts...)
}

func build(t testing.TB, o batch.BuilderOptions, texts ...string) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(o)
	for i, v := range texts {
		w.Add(1_700_000_000_000+int64(i)*1000, nil, []byte(v))
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// contents reads the values of all records from an offset on.
func contents(t testing.TB, l *Log, from storage.Offset, isolation Isolation) []string {
	t.Helper()
	var out []string
	for {
		r, err := l.Read(ReadRequest{Offset: from, MaxBytes: 50_000, MinOne: true, Isolation: isolation})
		if err != nil {
			t.Fatalf("read at %d: %v", from, err)
		}
		if len(r.Batches) == 0 {
			return out
		}
		for _, raw := range r.Batches {
			b := batch.Batch(raw)
			it := b.Records(0)
			for it.Next() {
				if it.Record().Offset >= from {
					out = append(out, string(it.Record().Value))
				}
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			from = b.NextOffset()
		}
		r.Release()
	}
}

// evict fills the WAL's memory with another partition's batches, until those
// that were appended before can only be read from files.
func evict(t testing.TB, s *Store) {
	t.Helper()
	l, err := s.Create(partition(storage.TopicID{0xee}, 0), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeLeader(l.EpochAt(1<<40) + 1); err != nil {
		t.Fatal(err)
	}
	filler := string(make([]byte, 16<<10))
	for range s.o.WAL.Memory/(16<<10) + 4 {
		appendAll(t, l, values(t, filler))
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func wantCode(t testing.TB, err error, code batch.Code) {
	t.Helper()
	var e *batch.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %v", err, code)
	}
}

func wantOutOfRange(t testing.TB, err error) {
	t.Helper()
	if !errors.As(err, new(*OffsetOutOfRangeError)) {
		t.Fatalf("got %v, want an offset out of range", err)
	}
}

func wantCorrupt(t testing.TB, err error) {
	t.Helper()
	if !errors.As(err, new(*CorruptionError)) {
		t.Fatalf("got %v, want a corrupt partition", err)
	}
}

// readHex reads annotated hex: everything after # is a remark.
func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	raw, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
