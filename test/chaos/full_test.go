//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/tally"
)

const (
	// fullRestarts is how often a node is killed whose log is full of what is not uploaded.
	fullRestarts = 5
	// serveLimit is what it may take until it serves, of the goal; nothing fails for it here.
	serveLimit = 5 * time.Second
	fullRecord = 64 << 10
)

// A node has 10 GiB that were not uploaded, for its bucket refuses everything, and is killed
// while more is written: how long it takes from the start of the process until a produce is
// acked in each partition, and the first record and the last are read. GIB=n has it be so many.
func TestANodeFullOfWhatIsNotUploadedIsKilledOverAndOver(t *testing.T) {
	gib := 10
	if text := os.Getenv("GIB"); text != "" {
		var err error
		gib, err = strconv.Atoi(text)
		must(t, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	store, board := newS3(t), &switchboard{}
	d := newDrill(t, t.TempDir()+"/data", nil)
	d.board = board
	begin := func() *server {
		s := start(t, d.bin, d.dir, fmt.Sprintf("wal.capacity=%dGiB", gib+4), "object_storage.url="+store.url())
		t.Cleanup(s.kill)
		board.connect(s.address(t))
		return s
	}
	s := begin()
	must(t, d.create("full"))
	store.suffer(throttled)
	f := &full{t: t, board: board, rng: rand.New(rand.NewPCG(1, 2))}
	begun := time.Now()
	f.fill(int64(gib) << 30)
	t.Logf("%d GiB were written in %v", gib, time.Since(begun).Round(time.Second))
	inTime := int64(0)
	for range fullRestarts {
		f.killed(s.kill)
		board.connect("")
		began := time.Now()
		s = begin()
		listens := time.Since(began)
		f.serves()
		took := time.Since(began)
		if took <= serveLimit {
			inTime++
		}
		t.Logf("it listened after %v, and served after %v, with %s", listens.Round(time.Millisecond), took.Round(time.Millisecond), s.processorTime())
	}
	if gib >= 10 {
		tally.Log(t, tally.Counts{"kills": fullRestarts, "full_restarts": fullRestarts, "full_restarts_in_time": inTime})
	}
}

// processorTime is what the process has taken of it.
func (s *server) processorTime() string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if err != nil || len(fields) < 13 {
		return "an unknown time of the processor"
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return fmt.Sprintf("%.2f s of the processor by itself and %.2f s by the kernel for it", user/100, system/100)
}

// full is who writes to and reads from a node with a full log.
type full struct {
	t     *testing.T
	board *switchboard
	rng   *rand.Rand
	acked [partitions]atomic.Int64 // records
}

// writer has large batches under way to all partitions at a time.
func (f *full) writer() *kgo.Client {
	f.t.Helper()
	client, err := kgo.NewClient(append(clientOptions(f.board), kgo.DefaultProduceTopic("full"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(400))...)
	must(f.t, err)
	return client
}

// send sends a record, and counts it once it is acked.
func (f *full) send(ctx context.Context, client *kgo.Client, partition int32, failed *atomic.Int64) {
	b := make([]byte, fullRecord)
	for at := 0; at < len(b); at += 512 { // so that no two sectors are the same
		v := f.rng.Uint64()
		for i := range 8 {
			b[at+i] = byte(v >> (8 * i))
		}
	}
	client.Produce(ctx, &kgo.Record{Partition: partition, Value: b}, func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Add(1)
			return
		}
		f.acked[partition].Add(1)
	})
}

// fill writes so many bytes.
func (f *full) fill(bytes int64) {
	f.t.Helper()
	client := f.writer()
	defer client.Close()
	var failed atomic.Int64
	for i := range bytes / fullRecord {
		f.send(f.t.Context(), client, int32(i%partitions), &failed)
	}
	must(f.t, client.Flush(f.t.Context()))
	if n := failed.Load(); n > 0 {
		f.t.Fatalf("%d records were refused", n)
	}
}

// killed writes for a moment, and ends the node meanwhile.
func (f *full) killed(kill func()) {
	client := f.writer()
	ctx, cancel := context.WithCancel(f.t.Context())
	var failed atomic.Int64 // who goes away is not told of all
	for i := range int64(300) {
		f.send(ctx, client, int32(i%partitions), &failed)
	}
	kill()
	cancel()
	client.Close()
}

// serves returns once each partition has acked a record, and given its first and its last.
func (f *full) serves() {
	f.t.Helper()
	client := f.writer()
	defer client.Close()
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Minute)
	defer cancel()
	for p := range int32(partitions) {
		known := f.acked[p].Load()
		acked, err := client.ProduceSync(ctx, &kgo.Record{Partition: p, Value: []byte("served")}).First()
		must(f.t, err)
		if acked.Offset < known {
			f.t.Fatalf("partition %d gave offset %d, and %d records were acked before", p, acked.Offset, known)
		}
		f.acked[p].Store(acked.Offset + 1)
		for _, at := range []int64{0, acked.Offset} {
			reader, err := kgo.NewClient(append(clientOptions(f.board), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"full": {p: kgo.NewOffset().At(at)}}),
				kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
			must(f.t, err)
			got := reader.PollRecords(ctx, 1)
			reader.Close()
			if records := got.Records(); len(records) != 1 || records[0].Offset != at {
				f.t.Fatalf("offset %d of partition %d was not read: %v", at, p, got.Errors())
			}
		}
	}
}
