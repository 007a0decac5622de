package admin

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// tailedTopic is a topic with so many records a partition, of offsets from start to end, which a
// test changes between the turns of a tail.
type tailedTopic struct {
	Cluster
	Messages
	mu         sync.Mutex // of all that follows
	image      *metadata.Image
	start, end map[int32]int64
	unled      map[int32]string
	looks      int
	fails      error
}

func (f *tailedTopic) Image() *metadata.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.image
}

// change has the topic be another.
func (f *tailedTopic) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *tailedTopic) Holdings(_ context.Context, wanted []broker.PartitionNamed) []broker.Holding {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]broker.Holding, len(wanted))
	for i, w := range wanted {
		out[i] = broker.Holding{LogStart: storage.Offset(f.start[w.ID.Index]), HighWatermark: storage.Offset(f.end[w.ID.Index]), Unknown: f.unled[w.ID.Index]}
	}
	return out
}

func (f *tailedTopic) Peek(_ context.Context, q broker.PeekRequest) (*broker.Peeked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	if f.fails != nil {
		return nil, f.fails
	}
	at := q.Value
	if q.From == "start" {
		at = f.start[q.Partition]
	}
	is := &broker.Peeked{LogStart: f.start[q.Partition], HighWatermark: f.end[q.Partition]}
	for ; at < is.HighWatermark && len(is.Records) < q.Limit; at++ {
		is.Looked++
		is.Records = append(is.Records, broker.PeekedRecord{Offset: at, Value: fmt.Append(nil, at)})
	}
	is.Next = at
	return is, nil
}

// tailing is a tail under test.
type tailing struct {
	*testing.T
	topic *tailedTopic
	api   tailAPI

	mu    sync.Mutex
	told  []string // of events, in a word each; guarded by mu, as are the others
	ids   []string
	ended error
	over  bool
}

func newTailing(t *testing.T) *tailing {
	c, _ := alone(t)
	topic := &tailedTopic{image: c.Image(), start: map[int32]int64{}, end: map[int32]int64{}, unled: map[int32]string{}}
	return &tailing{T: t, topic: topic, api: newTailAPI(topic, topic, topic)}
}

// begin begins a tail, until ctx ends. Events come while the test waits.
func (w *tailing) begin(ctx context.Context, in tailInput) {
	w.Helper()
	in.Offset = -1 // as the route has it
	follow, err := w.api.open(ctx, &in)
	if err != nil {
		w.Fatal(err)
	}
	go func() {
		err := follow(ctx, func(event, id string, v any) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ids = append(w.ids, id)
			w.told = append(w.told, eventInAWord(event, v))
			return nil
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended, w.over = err, true
	}()
	synctest.Wait()
}

func eventInAWord(event string, v any) string {
	switch v := v.(type) {
	case tailRecords:
		var offsets []int64
		for _, m := range v.Records {
			offsets = append(offsets, m.Offset)
		}
		return fmt.Sprintf("%s %d%v", event, v.Partition, offsets)
	case tailSkipped:
		return fmt.Sprintf("%s %d[%d %d)", event, v.Partition, v.From, v.To)
	case tailTrouble:
		return fmt.Sprintf("%s %d %s", event, v.Partition, v.Detail)
	case tailGone:
		return event + " " + v.Detail
	}
	return event
}

// expects takes what was told since the last time.
func (w *tailing) expects(want ...string) {
	w.Helper()
	if got := strings.Join(w.take(), "; "); got != strings.Join(want, "; ") {
		w.Errorf("it told %q, want %q", got, strings.Join(want, "; "))
	}
}

// take returns what was told since the last time.
func (w *tailing) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

// turn lets so much time pass.
func turn(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func bubble(t *testing.T, test func(w *tailing, ctx context.Context)) {
	t.Helper()
	w := newTailing(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		test(w, ctx)
	})
}

// A tail shows what comes, and goes on by the id of an event where that ended.
func TestATailGoesOnWhereItEnded(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.topic.end[1] = 7
		first, cancel := context.WithCancel(ctx)
		w.begin(first, tailInput{Name: "orders", Partitions: "1-2", From: "end"})
		w.expects("begin")
		w.topic.change(func() { w.topic.end[1], w.topic.end[2] = 9, 1 })
		turn(tailEvery)
		w.expects("records 2[0]", "records 1[7 8]")
		last := w.ids[len(w.ids)-1]
		if last != "1:9,2:1" {
			t.Errorf("the id is %q", last)
		}
		cancel()
		synctest.Wait()
		w.topic.change(func() { w.topic.end[1] = 11 })
		w.begin(ctx, tailInput{Name: "orders", Partitions: "1-2", From: "end", LastEventID: last})
		w.expects("begin", "records 1[9 10]")
	})
}

// Who reads from the start is shown all, at the rate that was asked for.
func TestATailReadsNoFasterThanAsked(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.topic.end[0] = 100
		w.begin(ctx, tailInput{Name: "one", From: "start", Rate: 10})
		w.expects("begin", "records 0[0 1 2 3 4]")
		turn(tailEvery)
		w.expects("records 0[5 6 7 8 9]")
		turn(time.Minute)
		told := w.take()
		for _, event := range told {
			if !strings.HasPrefix(event, "records") {
				t.Errorf("it told %q", event)
			}
		}
		if n := len(told); n != 18 || told[n-1] != "records 0[95 96 97 98 99]" {
			t.Errorf("%d events, %v", n, told)
		}
	})
}

// A partition of which more comes than is shown is followed near its end, and it is said what
// was passed over.
func TestATailPassesOverWhatComesTooFast(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.begin(ctx, tailInput{Name: "one", From: "end", Rate: 10})
		w.expects("begin")
		shown, skipped := 0, int64(0)
		for range 40 {
			w.topic.change(func() { w.topic.end[0] += 1000 })
			turn(tailEvery)
		}
		for _, event := range w.take() {
			var from, to int64
			if n, _ := fmt.Sscanf(event, "skipped 0[%d %d)", &from, &to); n == 2 {
				skipped += to - from
			} else {
				shown += len(strings.Fields(event)) - 1
			}
		}
		if shown > 10*20 || shown == 0 || skipped < 30_000 {
			t.Errorf("%d shown in 20 s, %d passed over of 40000", shown, skipped)
		}
	})
}

// What retention took is passed over, and so is what was never there.
func TestATailStaysWithinTheLog(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.topic.start[0], w.topic.end[0] = 5, 6
		w.begin(ctx, tailInput{Name: "one", From: "end", At: "0:2"})
		w.expects("begin", "skipped 0[2 5)", "records 0[5]")
		w.topic.change(func() { w.topic.start[0], w.topic.end[0] = 0, 4 }) // an election that lost records
		turn(tailEvery)
		w.expects("skipped 0[6 4)")
	})
}

// Trouble is told when it comes and when it goes, and not each time it is met.
func TestATailTellsTroubleOnce(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.begin(ctx, tailInput{Name: "one", From: "end"})
		w.expects("begin")
		w.topic.change(func() { w.topic.unled[0] = "no leader" })
		turn(10 * tailEvery)
		w.expects("trouble 0 no leader")
		w.topic.change(func() {
			w.topic.unled[0], w.topic.end[0], w.topic.fails = "", 1, &broker.GroupError{Code: kerr.NotLeaderForPartition, Detail: "moved"}
		})
		turn(10 * tailEvery)
		w.expects("trouble 0 ", "trouble 0 NOT_LEADER_FOR_PARTITION: moved")
		w.topic.change(func() { w.topic.fails = nil })
		turn(10 * tailEvery)
		w.expects("trouble 0 ", "records 0[0]")
	})
}

// A tail ends with its topic, also where another has its name.
func TestATailEndsWithItsTopic(t *testing.T) {
	c, _ := alone(t)
	before := c.Image()
	remove := func() {
		if r := c.DeleteTopics(t.Context(), []controller.TopicRef{{Name: "one"}})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	remove()
	without := c.Image()
	if r := c.CreateTopics(t.Context(), []controller.NewTopic{{Name: "one", Partitions: 1, ReplicationFactor: 1}}, false)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	for name, next := range map[string]*metadata.Image{"deleted": without, "made anew": c.Image()} {
		bubble(t, func(w *tailing, ctx context.Context) {
			w.topic.image = before
			w.begin(ctx, tailInput{Name: "one", From: "end"})
			w.topic.change(func() { w.topic.image = next })
			turn(tailEvery)
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.told) != 2 || !strings.HasPrefix(w.told[1], "gone the topic was deleted") || !strings.Contains(w.told[1], name) || !w.over || w.ended != nil {
				t.Errorf("%s: %v, over %v: %v", name, w.told, w.over, w.ended)
			}
		})
	}
}

// Nothing is read for who does not take what was sent, and it is let go with its connection.
func TestATailWaitsForItsReader(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		w.topic.end[0] = 1000
		follow, err := w.api.open(ctx, &tailInput{Name: "one", From: "start", Offset: -1})
		if err != nil {
			t.Fatal(err)
		}
		taken := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- follow(ctx, func(event, _ string, _ any) error {
				if event == "records" {
					<-taken
					return errStreamOver
				}
				return nil
			})
		}()
		turn(time.Hour)
		w.topic.mu.Lock()
		looks := w.topic.looks
		w.topic.mu.Unlock()
		if looks != 1 {
			t.Errorf("%d looks for a reader that takes nothing", looks)
		}
		close(taken)
		if err := <-ended; err == nil {
			t.Error("it goes on")
		}
		if len(w.api.places) != 0 {
			t.Error("it keeps its place")
		}
	})
}

// There are so many tails at once.
func TestTailsAreBounded(t *testing.T) {
	bubble(t, func(w *tailing, ctx context.Context) {
		var begun atomic.Int32
		refused := make(chan error, 1)
		for range maxTails + 1 {
			follow, err := w.api.open(ctx, &tailInput{Name: "one", From: "end", Offset: -1})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if err := follow(ctx, func(string, string, any) error { begun.Add(1); return nil }); ctx.Err() == nil {
					refused <- err
				}
			}()
		}
		synctest.Wait()
		if begun.Load() != maxTails || maxTails <= maxCallerStreams { // or one caller keeps all others out
			t.Errorf("%d have begun", begun.Load())
		}
		if err := <-refused; err == nil || !strings.Contains(err.Error(), "close another") {
			t.Error(err)
		}
	})
}

// What cannot be followed is said before anything is.
func TestTailsThatAreNone(t *testing.T) {
	a := newAsking(t)
	for query, want := range map[string]struct {
		status int
		says   string
	}{
		"orders/tail?partitions=12":                                     {http.StatusBadRequest, "0 to 11"},
		"orders/tail?partitions=3-1":                                    {http.StatusBadRequest, "as 0,3-5"},
		"orders/tail?partitions=x":                                      {http.StatusBadRequest, "as 0,3-5"},
		"orders/tail?partitions=0-99999999999":                          {http.StatusBadRequest, "as 0,3-5"},
		"orders/tail?at=0":                                              {http.StatusBadRequest, "partition:offset"},
		"orders/tail?at=0:-1":                                           {http.StatusBadRequest, "partition:offset"},
		"orders/tail?rate=501":                                          {http.StatusUnprocessableEntity, "rate"},
		"orders/tail?offset=1&time=2026-01-01T00%3A00%3A00Z":            {http.StatusBadRequest, "one of them"},
		"ghost/tail":                                                    {http.StatusNotFound, "no topic ghost"},
		"orders/tail?key=" + strings.Repeat("k", 1001):                  {http.StatusUnprocessableEntity, "key"},
		"orders/records?partition=0&value=" + strings.Repeat("v", 1001): {http.StatusUnprocessableEntity, "value"},
	} {
		a.want(query, want.status, a.do(http.MethodGet, "/api/v1/topics/"+query, "", "Authorization", "Bearer "+a.local), want.says)
	}
}

// Ranges that say the same again and again take no more than the topic has partitions.
func TestRangesOfPartitionsOverlap(t *testing.T) {
	const partitions = 100_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	all, err := partitionNumbers(strings.Repeat("0-99999,", 120)+"7", partitions)
	runtime.ReadMemStats(&after)
	if err != nil || len(all) != partitions || all[partitions-1] != partitions-1 {
		t.Fatalf("%d, %v", len(all), err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 40*partitions {
		t.Errorf("it takes %d bytes", took)
	}
}
