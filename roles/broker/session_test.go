package broker

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inSession makes q the next request of a session.
func inSession(q *kmsg.FetchRequest, id, epoch int32) *kmsg.FetchRequest {
	q.SessionID, q.SessionEpoch = id, epoch
	return q
}

// next is a request of a session that changes nothing.
func next(id, epoch int32, wait time.Duration) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes = int32(wait.Milliseconds()), 1, 1<<20
	return inSession(q, id, epoch)
}

func TestFetchSession(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	reader, writer := n.connect(), n.connect()
	writer.produce("events", 0, "a")

	p := ask[*kmsg.FetchResponse](reader, 12, inSession(with(fetchFrom("events", 0, 0, 0), 1, 2), 0, 0))
	id := p.SessionID
	if got := fetched(t, p); id == 0 || len(got) != 3 || !slices.Equal(got["events-0"], []string{"a"}) {
		t.Fatalf("session %d begins with %v, want all three partitions", id, got)
	}

	// The client has read "a" and says so; nothing is new.
	moved := fetchFrom("events", 0, 1, 0)
	if got := fetched(t, ask[*kmsg.FetchResponse](reader, 12, inSession(moved, id, 1))); len(got) != 0 {
		t.Errorf("a request without news brought %v", got)
	}

	// A partition that was not named again is fetched all the same.
	writer.produce("events", 2, "c")
	if got := fetched(t, ask[*kmsg.FetchResponse](reader, 12, next(id, 2, 0))); len(got) != 1 || !slices.Equal(got["events-2"], []string{"c"}) {
		t.Errorf("got %v, want only events-2", got)
	}

	// A forgotten one is not, but one that stays comes again until it is read.
	writer.produce("events", 1, "b")
	q := next(id, 3, 0)
	q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: "events", Partitions: []int32{1}}}
	if got := fetched(t, ask[*kmsg.FetchResponse](reader, 12, q)); len(got) != 1 || len(got["events-2"]) != 1 {
		t.Errorf("got %v, want events-2 once more", got)
	}

	for name, tc := range map[string]struct {
		q    *kmsg.FetchRequest
		want *kerr.Error
	}{
		"epoch of the past":   {next(id, 3, 0), kerr.InvalidFetchSessionEpoch},
		"epoch of the future": {next(id, 17, 0), kerr.InvalidFetchSessionEpoch},
		"unknown":             {next(id+1, 1, 0), kerr.FetchSessionIDNotFound},
	} {
		if got := ask[*kmsg.FetchResponse](reader, 12, tc.q).ErrorCode; got != tc.want.Code {
			t.Errorf("%s: %v, want %v", name, kerr.ErrorForCode(got), tc.want)
		}
	}
	if got := ask[*kmsg.FetchResponse](writer, 12, next(id, 4, 0)).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("another connection may use the session: %v", kerr.ErrorForCode(got))
	}
	if got := ask[*kmsg.FetchResponse](reader, 13, next(id, 4, 0)).ErrorCode; got != kerr.FetchSessionTopicIDError.Code {
		t.Errorf("a session by name goes on by id: %v", kerr.ErrorForCode(got))
	}

	ask[*kmsg.FetchResponse](reader, 12, inSession(fetchFrom("events", 0, 0, 0), id, -1))
	if got := ask[*kmsg.FetchResponse](reader, 12, next(id, 4, 0)).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("the session outlives its end: %v", kerr.ErrorForCode(got))
	}
	if sessions, partitions := n.sessions.counts(); sessions != 0 || partitions != 0 {
		t.Errorf("%d sessions with %d partitions are counted", sessions, partitions)
	}
}

// In a session of many partitions a record is answered at once, and only it.
func TestFetchSessionWakesForOneOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		const partitions = 500
		n.controller.createTopic("events", partitions)
		n.settle(t.Context())
		reader, writer := n.connect(), n.connect()
		q := fetchFrom("events", 0, 0, 0)
		for p := range int32(partitions - 1) {
			with(q, p+1)
		}
		id := ask[*kmsg.FetchResponse](reader, 12, inSession(q, 0, 0)).SessionID
		for epoch := int32(1); epoch <= 20; epoch++ {
			q := next(id, epoch, time.Minute)
			if epoch > 1 {
				moved := fetchFrom("events", 7*(epoch-1), 1, time.Minute)
				q = inSession(moved, id, epoch)
			}
			q.Version = 12
			reader.send(q)
			synctest.Wait()
			began := time.Now()
			writer.produce("events", 7*epoch, "v")
			got := fetched(t, reader.receive().(*kmsg.FetchResponse))
			if waited := time.Since(began); waited > time.Second || len(got) != 1 || len(got[fmt.Sprintf("events-%d", 7*epoch)]) != 1 {
				t.Fatalf("epoch %d: after %v %v", epoch, waited, got)
			}
		}
	})
}

// Under a limit of bytes every partition of a session gets its turn.
func TestFetchSessionIsFair(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 4)
	n.settle(t.Context())
	c := n.connect()
	for p := range int32(4) {
		for range 50 {
			c.produce("events", p, "0123456789")
		}
	}
	positions := map[int32]int64{}
	q := inSession(with(fetchFrom("events", 0, 0, 0), 1, 2, 3), 0, 0)
	var id int32
	for epoch := int32(1); epoch <= 8; epoch++ {
		q.MaxBytes = 100 // one batch
		p := ask[*kmsg.FetchResponse](c, 12, q)
		id = p.SessionID
		q = next(id, epoch, 0)
		for _, topic := range p.Topics {
			for _, part := range topic.Partitions {
				if n := len(values(t, part.RecordBatches)); n > 0 {
					positions[part.Partition] += int64(n)
					q.Topics = fetchFrom("events", part.Partition, positions[part.Partition], 0).Topics
				}
			}
		}
	}
	for p := range int32(4) {
		if positions[p] != 2 {
			t.Errorf("of eight batches each partition should bring two: %v", positions)
			break
		}
	}
}

func TestFetchSessionsAreBounded(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	first := ask[*kmsg.FetchResponse](c, 12, inSession(fetchFrom("events", 0, 0, 0), 0, 0)).SessionID
	for range maxSessionsConnection {
		if id := ask[*kmsg.FetchResponse](c, 12, inSession(fetchFrom("events", 0, 0, 0), 0, 0)).SessionID; id == 0 {
			t.Fatal("no session")
		}
	}
	if got := ask[*kmsg.FetchResponse](c, 12, next(first, 1, 0)).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("the first of too many sessions is kept: %v", kerr.ErrorForCode(got))
	}
	n.sessions.take(0, maxSessionPartitions-maxSessionsConnection)
	p := ask[*kmsg.FetchResponse](n.connect(), 12, inSession(fetchFrom("events", 0, 0, 0), 0, 0))
	if p.SessionID != 0 || len(p.Topics) != 1 {
		t.Errorf("beyond the bound a fetch is answered without a session: %+v", p)
	}
}

// TestNameOfAFetchIsKeptOnce: not for each partition, whatever its length, with a session
// and without. A session keeps no name that no topic can have.
func TestNameOfAFetchIsKeptOnce(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	for _, session := range []bool{true, false} {
		for _, length := range []int{249, 250, 64 << 10} {
			q := fetchFrom(strings.Repeat("x", length), 0, 0, 0)
			for i := range int32(10_000) {
				with(q, i+1)
			}
			q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: q.Topics[0].Topic, Partitions: make([]int32, 10_000)}}
			if session {
				inSession(q, 0, 0)
			}
			q.SetVersion(12)
			frame := c.append(nil, q)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := c.conn.Write(frame); err != nil {
				t.Fatal(err)
			}
			body, err := c.receiveBody()
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			p := kmsg.NewPtrFetchResponse()
			p.SetVersion(12)
			if err := p.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			if parts := p.Topics[0].Partitions; len(parts) != 10_001 || parts[7].ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("%d bytes of name: %d partitions, the 8th: %v", length, len(parts), kerr.ErrorForCode(parts[7].ErrorCode))
			}
			if kept := p.SessionID != 0; kept != (session && length <= 249) {
				t.Errorf("%d bytes of name: in session %d", length, p.SessionID)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
				t.Errorf("%d bytes of name, session: %t: a request of %d KiB takes %d", length, session, len(frame)>>10, took>>10)
			}
			if p.SessionID == 0 {
				continue
			}
			// Nor what a request in a session adds, and takes away.
			long := inSession(fetchFrom(strings.Repeat("x", 250), 0, 0, 0), p.SessionID, 1)
			if got := ask[*kmsg.FetchResponse](c, 12, long); got.ErrorCode != kerr.FetchSessionIDNotFound.Code {
				t.Errorf("a session takes a name of 250 bytes: %v", kerr.ErrorForCode(got.ErrorCode))
			}
		}
	}
}

// TestForgettingALongNameTakesNoTime: it is in no session, and not looked for.
func TestForgettingALongNameTakesNoTime(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	id := ask[*kmsg.FetchResponse](c, 12, inSession(fetchFrom("events", 0, 0, 0), 0, 0)).SessionID
	q := next(id, 1, 0)
	q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{
		{Topic: strings.Repeat("x", 1<<20), Partitions: make([]int32, 100_000)},
		{Topic: "events", Partitions: []int32{0}},
	}
	before := worked(t)
	if p := ask[*kmsg.FetchResponse](c, 12, q); p.ErrorCode != 0 || p.SessionID != id {
		t.Errorf("session %d: %v", p.SessionID, kerr.ErrorForCode(p.ErrorCode))
	}
	if took := worked(t) - before; took > 5*time.Second {
		t.Errorf("to forget what there is not is %v of work", took)
	}
	if sessions, partitions := n.sessions.counts(); sessions != 1 || partitions != 0 {
		t.Errorf("%d sessions have %d partitions, want one without", sessions, partitions)
	}
}
