//go:build chaos

package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/tally"
)

// outageLimit is far above what a node takes for any step of an outage: the
// longest is to notice a store that hangs.
const outageLimit = 60 * time.Second

// outage is a node whose bucket is an S3 server that fails. One client writes, one
// follows, from before the outage to after it.
type outage struct {
	*testing.T
	store  *s3
	drill  *drill
	server *server
	writer *producer
	tail   *consumer
}

// newOutage starts a node with a small log, and fills it until the first records
// are in the bucket only.
func newOutage(t *testing.T) *outage {
	t.Helper()
	o := &outage{T: t, store: newS3(t)}
	o.drill = newDrill(t, t.TempDir()+"/data", (*server).kill)
	o.drill.set = append([]string{
		"object_storage.url=" + o.store.url(), "wal.segment_size=1MiB", "wal.capacity=12MiB", "wal.memory=8MiB", "wal.upload_bytes=1MiB",
		"broker.message_max_bytes=256KiB", "cache.capacity=8MiB",
	}, collecting...)
	o.begin()
	h := o.drill.lasting
	must(t, o.drill.create(h.topic))
	fill := o.write(1, 20_000)
	o.until("records are in the bucket only", func() error {
		first, err := o.server.localStart(h.topic)
		if err == nil && first == 0 {
			err = errors.New("the log still has the first record")
		}
		return err
	})
	o.finish(fill)
	o.tail = o.follow()
	o.caughtUp(o.tail)
	o.writer = o.write(2, 100)
	return o
}

// begin starts the next server.
func (o *outage) begin() {
	o.Helper()
	o.server = o.drill.begin()
	o.drill.board.connect(o.server.address(o.T))
}

// restart ends the server without a word, and starts the next.
func (o *outage) restart() {
	o.Helper()
	o.server.kill()
	o.drill.board.connect("")
	begun := time.Now()
	o.begin()
	o.Logf("a restart in the outage took %v", time.Since(begun).Round(10*time.Millisecond))
}

func (o *outage) write(writer uint32, perSecond int) *producer {
	o.Helper()
	p, err := newProducer(o.drill.board, o.drill.lasting, writer, perSecond, true)
	must(o.T, err)
	o.Cleanup(p.drop)
	return p
}

func (o *outage) follow() *consumer {
	o.Helper()
	c, err := newConsumer(o.drill.board, o.drill.lasting)
	must(o.T, err)
	o.Cleanup(c.close)
	return c
}

func (o *outage) finish(p *producer) {
	o.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), outageLimit)
	defer cancel()
	if err := p.finish(ctx); err != nil {
		o.Fatalf("what was sent was not acked within %v: %v\n%s", outageLimit, err, o.server.log.String())
	}
}

// until tries until there is no error. The server must live meanwhile, and say
// that it is ready.
func (o *outage) until(what string, try func() error) {
	o.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for begin := time.Now(); ; <-ticker.C {
		select {
		case <-o.server.ended:
			o.Fatalf("%s: the server has ended:\n%s", what, o.server.log.String())
		default:
		}
		if err := o.server.ready(); err != nil {
			o.Fatalf("%s: the server is not ready: %v\n%s", what, err, o.server.log.String())
		}
		err := try()
		if err == nil {
			return
		}
		if time.Since(begin) > outageLimit {
			o.Fatalf("%s: not within %v: %v\n%s", what, outageLimit, err, o.server.log.String())
		}
	}
}

// goesOn waits for more to be acked, and read at the tail.
func (o *outage) goesOn() {
	o.Helper()
	const more = 100
	acked, _ := o.drill.lasting.counts()
	seen := o.tail.seen.Load()
	o.until("produce and tail go on", func() error {
		now, _ := o.drill.lasting.counts()
		if n := o.tail.seen.Load(); now < acked+more || n < seen+more {
			return fmt.Errorf("%d records acked, %d read", now-acked, n-seen)
		}
		return nil
	})
}

// caughtUp waits for a consumer to have read all that is acked.
func (o *outage) caughtUp(c *consumer) {
	o.Helper()
	o.until("a consumer reads everything", func() error {
		if acked, _ := o.drill.lasting.counts(); c.seen.Load() < int64(acked) {
			return fmt.Errorf("%d of %d records", c.seen.Load(), acked)
		}
		return nil
	})
}

// suffered waits for the fault to have met requests.
func (o *outage) suffered() {
	o.Helper()
	before := o.store.hit.Load()
	o.until("the fault is met", func() error {
		if n := o.store.hit.Load() - before; n < 3 {
			return fmt.Errorf("%d requests met it", n)
		}
		return nil
	})
}

// noticed waits for the server to have found that its bucket fails.
func (o *outage) noticed() {
	o.Helper()
	begin := time.Now()
	o.until("the outage is noticed", func() error {
		state, err := o.server.storage()
		if err == nil && state.LastErrorAt.Before(begin) {
			err = fmt.Errorf("the last error is %q of %v", state.LastError, state.LastErrorAt)
		}
		return err
	})
}

// told waits for the server to say that something is wrong with its bucket, and returns what
// it says then.
func (o *outage) told() (state admin.BucketState) {
	o.Helper()
	o.until("the outage is told", func() (err error) {
		state, err = o.server.storage()
		if err == nil && len(state.Warnings) == 0 {
			err = fmt.Errorf("no warning: %+v", state)
		}
		return err
	})
	return state
}

// toldSoon waits for a store that does not answer to be told of, everywhere: it must
// not take until the first request is given up.
func (o *outage) toldSoon() {
	o.Helper()
	begin := time.Now()
	givenUp := o.told().LastErrorAt.After(begin)
	o.until("/readyz tells", func() error {
		return o.server.get("/readyz", func(r *http.Response) error {
			text, err := io.ReadAll(r.Body)
			if err == nil && !strings.Contains(string(text), "warning: ") {
				err = fmt.Errorf("it says %q", text)
			}
			return err
		})
	})
	o.until("slow requests are counted", func() error {
		slow, err := o.server.metric("rustmq_bucket_slow_requests")
		if err == nil && slow == 0 {
			err = errors.New("there are none")
		}
		return err
	})
	if givenUp || !strings.Contains(o.server.log.String(), "the bucket does not answer") {
		o.Errorf("told after %v, when a request was given up: %v\n%s", time.Since(begin), givenUp, o.server.log.String())
	}
}

// named waits for an error of the store that says which object it is about.
func (o *outage) named() {
	o.Helper()
	o.until("the object is named", func() error {
		state, err := o.server.storage()
		if err == nil && !strings.Contains(state.LastError, "/data/") {
			err = fmt.Errorf("the last error is %q", state.LastError)
		}
		return err
	})
}

// over is asked when the store works again: all that was acked must be there, once
// and in order, also for who has waited for it; and the bucket must become clean.
func (o *outage) over(waiting ...*consumer) {
	o.Helper()
	begun := time.Now()
	o.finish(o.writer)
	for _, c := range append(waiting, o.tail) {
		o.caughtUp(c)
	}
	read := time.Since(begun)
	o.until("the outage is over", func() error {
		state, err := o.server.storage()
		if err == nil && len(state.Warnings) > 0 {
			err = errors.New(strings.Join(state.Warnings, "; "))
		}
		return err
	})
	over := time.Since(begun)
	report, _, err := o.server.awaitClean(o.drill.bin, o.store.objects)
	must(o.T, err)
	ctx, cancel := context.WithTimeout(context.Background(), outageLimit)
	defer cancel()
	must(o.T, readAll(ctx, o.drill.board, o.drill.lasting))
	if found := o.drill.lasting.found(); len(found) > 0 {
		o.Fatalf("%s\n%s", strings.Join(found, "\n"), o.server.log.String())
	}
	acked, _ := o.drill.lasting.counts()
	tally.Log(o.T, tally.Counts{"records": int64(acked), "bucket_outages": 1, "kills": int64(o.drill.lives - 1), "objects_audited": report.Committed.Objects})
	o.Logf("%d records acked, all there; after the outage all were read in %v, no warning stood after %v, the bucket was clean after %v: %d objects",
		acked, read.Round(100*time.Millisecond), over.Round(100*time.Millisecond), time.Since(begun).Round(100*time.Millisecond), report.Committed.Objects)
}

// TestBucketOutages lets an S3 store fail in every way, under load and with a
// restart in the middle. Neither produce nor the reading of the log may notice;
// reading what is in the bucket only may wait, and no more.
func TestBucketOutages(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	program(t)
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		o.store.shut()
		o.goesOn()
		o.told()
		o.restart()
		cold := o.follow()
		o.goesOn()
		o.told()
		must(t, o.store.open())
		o.over(cold)
	})
	for _, c := range []struct {
		name  string
		fault fault
		fails bool // rather than being wrong
	}{
		{"hanging", hanging, true},
		{"a byte a second", dripping, true},
		{"answers lost", forgetful, true},
		{"truncated answers", truncating, true},
		{"wrong ranges", wrongRanges, true},
		{"bit flips", flipping, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			o.store.suffer(c.fault)
			if c.name == "hanging" {
				o.toldSoon()
			}
			for life := range 2 {
				if life > 0 {
					o.restart()
				}
				cold := o.follow()
				o.goesOn()
				if life == 0 && c.fails {
					o.noticed() // after a timeout, where there is no answer
				} else {
					o.suffered()
				}
				if c.name == "wrong ranges" {
					o.named()
				}
				if life == 0 {
					cold.close()
					continue
				}
				if !c.fails { // clients ask again at once: that must not reach the store
					const most = 30
					asked := o.store.count(time.Second)
					t.Logf("%d requests in a second while all is damaged", asked)
					if asked > most {
						t.Errorf("%d requests in a second for what is damaged, of 2 clients and %d partitions", asked, partitions)
					}
				}
				o.store.heal()
				o.over(cold)
			}
		})
	}
	t.Run("stale lists", func(t *testing.T) { t.Parallel(); staleLists(t) })
	t.Run("503", func(t *testing.T) { t.Parallel(); throttledOutage(t) })
	t.Run("full log", func(t *testing.T) { t.Parallel(); fullLog(t) })
}

// staleLists has a store list what there was once, while objects come and go, and
// asks for repairs: nothing that is named may be deleted, or said to be missing.
func staleLists(t *testing.T) {
	o := newOutage(t)
	must(t, o.drill.create("short-lived"))
	must(t, o.drill.replace("short-lived"))
	o.until("all is uploaded", func() error {
		state, err := o.server.storage()
		if err == nil && state.Objects["committed"].Objects == 0 {
			err = fmt.Errorf("%+v", state.Objects)
		}
		return err
	})
	o.store.suffer(o.store.staleLists(t))
	fill := o.write(3, 20_000)
	o.finish(fill)
	client, err := kgo.NewClient(clientOptions(o.drill.board)...)
	must(t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).DeleteTopic(t.Context(), "short-lived")
	must(t, err)
	for life := range 2 {
		if life > 0 {
			o.restart()
		}
		cold := o.follow()
		o.goesOn()
		o.caughtUp(cold)
		cold.close()
		for range 3 { // audits, and repairs more than a grace apart
			o.suffered()
			_, _, err := o.server.check(o.drill.bin, "--repair", "--verify")
			must(t, err)
		}
	}
	o.store.heal()
	o.over()
}

// throttledOutage counts what a store is still asked that refuses everything.
func throttledOutage(t *testing.T) {
	o := newOutage(t)
	const window = 8 * time.Second
	base := 2 * o.store.count(window/2) // uploads, what commits them, and the metadata log
	o.store.suffer(throttled)
	cold := o.follow()
	asked := o.store.count(window)
	o.goesOn()
	o.told()
	later := o.store.count(window)
	t.Logf("requests in %v: %d before the outage, %d in its beginning, %d then", window, base, asked, later)
	if float64(asked) > 1.2*float64(base) || later > asked {
		t.Errorf("a store that refuses everything was asked %d times, then %d, and %d when it worked", asked, later, base)
	}
	tally.Log(t, tally.Counts{"calls_before_outage": base, "calls_in_outage": asked})
	cold.close()
	o.restart()
	cold = o.follow()
	o.goesOn()
	o.told()
	o.store.heal()
	o.over(cold)
}

// fullLog has an outage that is longer than the log has room for: producers are
// slowed, then refused so that they try again, and go on by themselves.
func fullLog(t *testing.T) {
	o := newOutage(t)
	o.store.suffer(throttled)
	fast := o.write(3, 20_000)
	must(t, o.drill.create("refused"))
	slowed := int32(0)
	refused := func() error {
		answer, err := o.produceOnce("refused")
		if err != nil {
			return err
		}
		slowed = max(slowed, answer.ThrottleMillis)
		code := answer.Topics[0].Partitions[0].ErrorCode
		if code == 0 {
			return errors.New("the log takes a record")
		}
		if err := kerr.ErrorForCode(code); !kerr.IsRetriable(err) {
			t.Fatalf("a full log refuses a record with %v, which no client tries again", err)
		}
		return nil
	}
	o.until("a producer is refused", refused)
	if slowed == 0 {
		t.Error("producers were refused before they were slowed")
	}
	o.caughtUp(o.tail) // readers do not suffer
	var full admin.BucketState
	o.until("how full it is is told", func() (err error) {
		full, err = o.server.storage()
		if err == nil && full.WAL.Fullness < 0.9 {
			err = fmt.Errorf("%+v", full.WAL)
		}
		return err
	})
	o.restart() // with a full log
	o.until("a producer is refused again", refused)
	o.caughtUp(o.tail)
	o.store.heal()
	o.until("a producer is heard again", func() error {
		if refused() == nil {
			return errors.New("the log is full")
		}
		return nil
	})
	o.finish(fast)
	o.over()
	t.Logf("full at %.2f of %d bytes; throttled by up to %d ms", full.WAL.Fullness, full.WAL.Capacity, slowed)
}

// produceOnce sends a record to the server by hand, and returns what it is told,
// once.
func (o *outage) produceOnce(topic string) (*kmsg.ProduceResponse, error) {
	conn, err := o.drill.board.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(outageLimit))
	if _, err := conn.Write(produceFrame(o.T, topic, batch.None, make([]byte, 1000))); err != nil {
		return nil, err
	}
	return readProduced(conn)
}

// readProduced takes the answer to a frame of [produceFrame].
func readProduced(conn net.Conn) (*kmsg.ProduceResponse, error) {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(conn, raw); err != nil {
		return nil, err
	}
	const header = 5 // the correlation id, and no tags
	answer := kmsg.NewPtrProduceResponse()
	answer.Version = 9
	if len(raw) < header {
		return nil, io.ErrUnexpectedEOF
	}
	return answer, answer.ReadFrom(raw[header:])
}
