package broker

import (
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// heap returns the bytes that are in use. What pools keep is not.
func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// worked is how long this process has been at work, on all processors: a clock tells of
// others, too.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sendTo sends the same request by so many clients, and returns them and how much more
// memory is in use for each.
func (n *node) sendTo(clients int, q kmsg.Request) (sent []*client, each int64) {
	for range clients {
		sent = append(sent, n.connect())
	}
	frames := make([][]byte, clients)
	for i, c := range sent {
		frames[i] = c.append(nil, q)
	}
	before := heap()
	for i, c := range sent {
		if _, err := c.conn.Write(frames[i]); err != nil {
			n.t.Fatal(err)
		}
		synctest.Wait()
	}
	each = (heap() - before) / int64(clients)
	runtime.KeepAlive(frames)
	return sent, each
}

// TestWaitingFetchesKeepNothingOfTheirRequests: neither the frame nor what was parsed of
// it, with a session and without.
func TestWaitingFetchesKeepNothingOfTheirRequests(t *testing.T) {
	for _, epoch := range []int32{finalSessionEpoch, initialSessionEpoch} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t)
			n.controller.createTopic("events", 1)
			n.settle(t.Context())
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version, q.SessionEpoch, q.Rack = 12, epoch, strings.Repeat("r", 300_000)
			q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: strings.Repeat("f", 200), Partitions: make([]int32, 100_000)}}
			sent, each := n.sendTo(20, q)
			if n.held() < 20*waitingFetch {
				t.Fatal("no fetch waits")
			}
			if each > 50_000 {
				t.Errorf("session epoch %d: each that waits takes %d bytes", epoch, each)
			}
			n.connect().produce("events", 0, "now")
			for _, c := range sent {
				if got := fetched(t, c.receive().(*kmsg.FetchResponse)); len(got["events-0"]) != 1 {
					t.Errorf("session epoch %d: %v", epoch, got)
				}
			}
		})
	}
}

// TestAnswersOfFetchesKeepNothingOfTheirRequests while nobody takes them.
func TestAnswersOfFetchesKeepNothingOfTheirRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		n.connect().produce("events", 0, "a")
		q := fetchFrom("events", 0, 0, time.Minute)
		q.Version = 4
		for i := range int32(3000) {
			with(q, i+1)
		}
		sent, each := n.sendTo(20, q)
		_, unsent := n.server.InUse()
		if unsent < 20*3000*30 {
			t.Fatalf("%d bytes are not sent", unsent)
		}
		if each > 2*unsent/20 {
			t.Errorf("each answer of %d bytes takes %d", unsent/20, each)
		}
		for _, c := range sent {
			c.receive()
		}
	})
}

// TestSessionTakesMemoryForWhatItHas: not for what was named again, or forgotten.
func TestSessionTakesMemoryForWhatItHas(t *testing.T) {
	const partitions = 50_000
	for _, what := range []string{"named again", "forgotten"} {
		n := startNode(t)
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		c := n.connect()
		ask[*kmsg.FetchResponse](c, 12, fetchFrom("events", 0, 0, 0))
		q := inSession(fetchFrom("events", 0, 0, 0), 0, 0)
		forgotten := kmsg.FetchRequestForgottenTopic{Topic: "events"}
		for i := range int32(partitions) {
			if what == "named again" {
				i = 0
			}
			with(q, i)
			if i > 0 {
				forgotten.Partitions = append(forgotten.Partitions, i)
			}
		}
		then := next(0, 1, 0)
		then.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{forgotten}
		before := heap()
		then.SessionID = ask[*kmsg.FetchResponse](c, 12, q).SessionID
		if p := ask[*kmsg.FetchResponse](c, 12, then); p.ErrorCode != 0 {
			t.Fatalf("%s: error %d", what, p.ErrorCode)
		}
		if took := heap() - before; took > 500_000 {
			t.Errorf("%s: a session of one partition takes %d bytes", what, took)
		}
		if sessions, has := n.sessions.counts(); sessions != 1 || has != 1 {
			t.Errorf("%s: %d sessions with %d partitions", what, sessions, has)
		}
		runtime.KeepAlive(q)
		runtime.KeepAlive(then)
		n.server.Close()
	}
}

// TestFullSessionsTakeWhatTheyHaveAgain: only what is new needs room.
func TestFullSessionsTakeWhatTheyHaveAgain(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	c := n.connect()
	q := with(fetchFrom("events", 0, 0, 0), 1)
	id := ask[*kmsg.FetchResponse](c, 12, inSession(q, 0, 0)).SessionID
	n.sessions.take(0, maxSessionPartitions-2)
	if p := ask[*kmsg.FetchResponse](c, 12, inSession(q, id, 1)); p.ErrorCode != 0 {
		t.Errorf("what it has: error %d", p.ErrorCode)
	}
	if p := ask[*kmsg.FetchResponse](c, 12, inSession(fetchFrom("events", 2, 0, 0), id, 2)); p.ErrorCode == 0 {
		t.Error("there is room for one more")
	}
	if _, has := n.sessions.counts(); has != maxSessionPartitions {
		t.Errorf("%d partitions are counted", has)
	}
}

// TestSessionPartitionTakesWhatIsReckoned, in a session and in a fetch that waits.
func TestSessionPartitionTakesWhatIsReckoned(t *testing.T) {
	const partitions = mostPartitions
	for _, epoch := range []int32{finalSessionEpoch, initialSessionEpoch} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t)
			n.controller.createTopic("events", partitions)
			n.settle(t.Context())
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version, q.SessionEpoch = 12, epoch
			for i := range int32(partitions - 1) {
				with(q, i+1)
			}
			sent, each := n.sendTo(10, q)
			if n.held() < 10*waitingFetch {
				t.Fatal("they do not wait")
			}
			if got := each / partitions; got > waitingPartition || got < waitingPartition/2 {
				t.Errorf("session epoch %d: a partition takes %d bytes, reckoned %d", epoch, got, waitingPartition)
			}
			for _, c := range sent {
				c.conn.Close()
			}
		})
	}
}
