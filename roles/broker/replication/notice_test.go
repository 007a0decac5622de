package replication

import (
	"sync"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// noticing is a lane of feeds whose followers have all that the logs have, but for what
// becomes of those.
func noticing(t *testing.T, feeds int) (*lane, []*feed, *log.Store) {
	l := testLeader(t, 0, nil)
	s := testStore(t)
	k := &link{leader: l}
	lane := newLane(k, nil)
	var out []*feed
	for i := range feeds {
		id, of := testLog(t, s, int32(i), log.Replicas{})
		out = append(out, &feed{p: &led{leader: l, id: id, log: of, epoch: 1}, link: k, lane: lane, state: feedStreams, session: uint32(i)})
	}
	return lane, out, s
}

// sends returns what a message has for each session.
func sends(m *rpc.PushMessage) map[uint32]rpc.Push {
	out := map[uint32]rpc.Push{}
	if m == nil {
		return out
	}
	for _, e := range m.Entries {
		out[e.Session] = e
	}
	if m.Release != nil {
		m.Release()
	}
	return out
}

// A high watermark that has moved is no message of its own while records may come: it goes
// with those of another partition, or when it has waited for long enough.
func TestAHighWatermarkWaitsForRecordsToGoWith(t *testing.T) {
	lane, feeds, s := noticing(t, 2)
	moved, other := feeds[0], feeds[1]
	write(t, s, moved.p.log, 10) // sent, and committed since
	moved.next = 1
	moved.mark()
	if m := lane.compose(lane.noticed, false); m != nil {
		t.Fatalf("%+v is sent at once", m.Entries)
	}
	write(t, s, other.p.log, 10)
	other.mark()
	got := sends(lane.compose(lane.noticed, false))
	if len(got) != 2 || len(got[1].Data) != 1 || len(got[0].Data) != 0 || got[0].Offset != 1 {
		t.Fatalf("with records of another partition goes %+v", got)
	}
	if m := lane.compose(lane.noticed.Add(noticeWait), false); m != nil {
		t.Fatalf("%+v is sent once more", m.Entries)
	}

	write(t, s, moved.p.log, 10)
	moved.next = 2
	moved.mark()
	if got := sends(lane.compose(lane.noticed.Add(noticeWait-1), false)); len(got) != 0 {
		t.Fatalf("%+v is sent too soon", got)
	}
	if got := sends(lane.compose(lane.noticed.Add(noticeWait), false)); len(got) != 1 || got[0].Offset != 2 {
		t.Fatalf("when it has waited %+v is sent", got)
	}
}

// A high watermark that has waited goes before records, of which there may always be more.
func TestAHighWatermarkIsNotKeptByRecordsWithoutEnd(t *testing.T) {
	lane, feeds, s := noticing(t, 2)
	moved, busy := feeds[0], feeds[1]
	write(t, s, moved.p.log, 10) // sent, and committed since
	moved.next = 1
	moved.mark()
	for range 3 * messageBytes / (100 << 10) {
		write(t, s, busy.p.log, 100<<10)
	}
	busy.mark()
	if got := sends(lane.compose(lane.noticed, false)); len(got[1].Data) == 0 || !busy.queued {
		t.Fatalf("there are records for more than a message: %+v", got)
	}
	got := sends(lane.compose(lane.noticed.Add(noticeWait), false))
	if at, there := got[0]; !there || at.Offset != 1 || len(got[1].Data) == 0 {
		t.Fatalf("when it has waited, and records have not ended, %+v is sent", got)
	}
}

// Records never wait with a high watermark, whoever marks them, and whenever.
func TestRecordsDoNotWaitWithAHighWatermark(t *testing.T) {
	lane, feeds, s := noticing(t, 1)
	f := feeds[0]
	for want := storage.Offset(1); want <= 300; want++ {
		var marking sync.WaitGroup
		for range 2 { // confirmations of others
			marking.Go(func() {
				for range 4 {
					f.mark()
				}
			})
		}
		write(t, s, f.p.log, 10)
		f.mark()
		marking.Wait()
		for m := lane.compose(lane.noticed, false); m != nil; m = lane.compose(lane.noticed, false) {
			sends(m)
		}
		if f.next != want {
			t.Fatalf("sent to %d of %d", f.next, want)
		}
		lane.flying, f.flights = 0, nil
	}
}

// Nor do they where both come at once, and who marks them finds that it is done.
func TestRecordsThatComeWithAHighWatermarkAreSeen(t *testing.T) {
	lane, feeds, s := noticing(t, 1)
	f := feeds[0]
	f.moved.Store(true) // by somebody who goes on below
	end := f.p.log.Progress().End
	write(t, s, f.p.log, 10)
	f.mark()
	if f.look(end) {
		t.Error("it takes a log that has records to send for one that has none")
	}
	f.mark()
	if got := sends(lane.compose(lane.noticed, false)); len(got[0].Data) != 1 {
		t.Errorf("%+v is sent", got)
	}
}

// That a message has come is said with what it brought, once that is on disk, and alone
// only after a while.
func TestAnAnswerWaitsForWhatIsConfirmed(t *testing.T) {
	f := testFollower()
	f.o.Store = testStore(t)
	in := &intake{f: f, wake: make(chan struct{}, 1), stamp: 7}
	if m := in.answers(false); m != nil || !in.owes() {
		t.Fatalf("%+v is said at once", m)
	}
	(&session{in: in, number: 3}).confirm(9)
	m := in.answers(false)
	if m == nil || m.Stamp != 7 || len(m.Entries) != 1 || m.Entries[0].Offset != 9 || in.owes() {
		t.Fatalf("with what is on disk it says %+v", m)
	}
	in.stamp = 8
	if m := in.answers(true); m == nil || m.Stamp != 8 || len(m.Entries) != 0 || in.answers(true) != nil {
		t.Errorf("after a while it says %+v", m)
	}
}
