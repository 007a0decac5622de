//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/tally"
)

// drill leads servers through their lives, one after the other in one data
// directory.
type drill struct {
	t      *testing.T
	rng    *rand.Rand
	bin    string
	dir    string
	set    []string
	board  *switchboard
	bucket bool          // records of early lives are in the bucket only: see [drill.throughBucket]
	end    func(*server) // of a life

	lives   int
	lasting *history // written by one client
	fresh   *history // by another in each life
	topics  []string // whose creation was answered, and no deletion asked for
	unsure  int64

	cold      int   // lives in which records were read that only the bucket has
	coldBytes int64 // read of it
	filed     int   // the most ranges that were in manifests, in any life
	counts    tally.Counts
}

func newDrill(t *testing.T, dir string, end func(*server)) *drill {
	t.Helper()
	return &drill{
		t: t, rng: newRand(t), bin: program(t), dir: dir, board: &switchboard{}, end: end,
		// Segments turn over within a test.
		set:     []string{"wal.segment_size=8MiB", "wal.capacity=1GiB", "wal.memory=16MiB"},
		lasting: newHistory("lasting"), fresh: newHistory("fresh"), counts: tally.Counts{},
	}
}

// begin starts the next server; the ways to write take turns.
func (d *drill) begin() *server {
	d.t.Helper()
	io := []string{"pwrite", "io_uring"}[d.lives%2]
	d.lives++
	s := start(d.t, d.bin, d.dir, append([]string{"wal.io=" + io}, d.set...)...)
	d.t.Cleanup(s.kill)
	return s
}

func (d *drill) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.rng.Int64N(int64(high-low)))
}

// run leads lives until more says that it is enough, or until one breaks a
// promise, which is the error.
func (d *drill) run(more func() bool) error {
	t := d.t
	t.Helper()
	s := d.begin()
	d.board.connect(s.address(t))
	for _, h := range []*history{d.lasting, d.fresh} {
		must(t, d.create(h.topic))
	}
	writer, err := newProducer(d.board, d.lasting, 1, 2000, true)
	must(t, err)
	t.Cleanup(writer.drop)
	reader, err := newConsumer(d.board, d.lasting)
	must(t, err)
	t.Cleanup(reader.close)
	for more() {
		d.live(s)
		if d.lives%5 == 0 {
			// A life that ends before it is ready, often in its recovery.
			s = d.begin()
			<-time.After(d.between(0, 400*time.Millisecond))
			d.end(s)
		}
		s = d.begin()
		d.board.connect(s.address(t))
		if err := d.check(s); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := writer.finish(ctx); err != nil {
		return fmt.Errorf("what the lasting client sent was not acked within a minute: %w\n%s", err, s.log.String())
	}
	if acked, _ := d.lasting.counts(); int64(acked) != writer.sent.Load() {
		return fmt.Errorf("the lasting client sent %d records, %d were acked", writer.sent.Load(), acked)
	}
	if err := d.check(s); err != nil {
		return err
	}
	if d.bucket {
		if err := d.checkBucket(s); err != nil {
			return err
		}
	}
	s.kill()
	lasting, _ := d.lasting.counts()
	fresh, held := d.fresh.counts()
	d.counts["records"] += int64(lasting + fresh)
	t.Logf("%d lives; acked and there, once, in their place: %d records of a client that outlived them, %d of others (and %d of their %d without an answer), %d topics",
		d.lives, lasting, fresh, held-fresh, d.unsure, len(d.topics))
	return nil
}

// live loads a server until its end.
func (d *drill) live(s *server) {
	d.t.Helper()
	p, err := newProducer(d.board, d.fresh, uint32(d.lives)+1, 5000, false)
	must(d.t, err)
	topic := fmt.Sprintf("made-in-life-%d", d.lives)
	must(d.t, d.create(topic))
	if d.bucket {
		must(d.t, d.replace(topic))
	}
	<-time.After(d.between(50*time.Millisecond, 450*time.Millisecond))
	d.end(s)
	d.board.connect("")
	p.drop()
	d.unsure += p.unsure.Load()
}

// check reads everything; the error says which promises are broken.
func (d *drill) check(s *server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := d.checkTopics(ctx)
	for _, h := range []*history{d.lasting, d.fresh} {
		if err == nil {
			err = readAll(ctx, d.board, h)
		}
		if found := h.found(); len(found) > 0 {
			err = errors.Join(errors.New(strings.Join(found, "\n")), err)
		}
	}
	if err == nil && d.bucket {
		err = d.noteCold(s)
	}
	if err != nil {
		return fmt.Errorf("life %d: %w\nthe server says:\n%s", d.lives, err, s.log.String())
	}
	return nil
}

// checkTopics looks for every topic whose creation was answered.
func (d *drill) checkTopics(ctx context.Context) error {
	client, err := kgo.NewClient(clientOptions(d.board)...)
	if err != nil {
		return err
	}
	defer client.Close()
	got, err := kadm.NewClient(client).ListTopics(ctx, d.topics...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, topic := range d.topics {
		if err := got[topic].Err; err != nil || len(got[topic].Partitions) != partitions {
			return fmt.Errorf("topic %s was made, and now has %d partitions: %w", topic, len(got[topic].Partitions), err)
		}
	}
	return nil
}

func (d *drill) create(topic string) error {
	client, err := kgo.NewClient(clientOptions(d.board)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	d.topics = append(d.topics, topic)
	return nil
}

// newPowerDrill is a drill whose lives end by power cuts, which it counts.
func newPowerDrill(t *testing.T, cuts *int) *drill {
	t.Helper()
	v := newVolume(t, 4<<30)
	d := newDrill(t, v.dir+"/data", nil)
	d.end = func(s *server) {
		must(t, v.cut())
		// What it acks now, it acks without a disk.
		<-time.After(d.between(0, 30*time.Millisecond))
		s.kill()
		must(t, v.powerUp())
		*cuts++
	}
	return d
}

func TestPowerCuts(t *testing.T) {
	t.Parallel()
	cuts := 0
	d := newPowerDrill(t, &cuts)
	d.throughBucket()
	begin, least := time.Now(), soak(t)
	must(t, d.run(func() bool { return cuts < 30 || time.Since(begin) < least }))
	d.counts["power_cuts"] += int64(cuts)
	tally.Log(t, d.counts)
	t.Logf("%d power cuts in %v", cuts, time.Since(begin).Round(time.Second))
}

// Acks that come before the sync are lost in a power cut: if this drill finds
// nothing, the others prove nothing.
func TestPowerCutsFindAcksBeforeTheSync(t *testing.T) {
	t.Parallel()
	cuts := 0
	d := newPowerDrill(t, &cuts)
	d.set = append(d.set, "wal.sync=interval", "wal.sync_interval=1s")
	err := d.run(func() bool { return cuts < 20 })
	if err == nil || !strings.Contains(err.Error(), "acked") {
		t.Fatalf("%d power cuts, and no ack before the sync was missed: %v", cuts, err)
	}
	t.Logf("found after %d cuts: %.300s", cuts, err)
}

func TestKillLoop(t *testing.T) {
	t.Parallel()
	d := newDrill(t, t.TempDir()+"/data", (*server).kill)
	d.throughBucket()
	begin, least := time.Now(), max(25*time.Second, soak(t))
	must(t, d.run(func() bool { return time.Since(begin) < least }))
	d.counts["kills"] += int64(d.lives)
	tally.Log(t, d.counts)
	t.Logf("%d times SIGKILL in %v", d.lives, time.Since(begin).Round(time.Second))
}
