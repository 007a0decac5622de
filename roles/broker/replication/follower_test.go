package replication

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// testFollower is broker 1 in its epoch 5; broker 2 is registered with epoch 3, and leads
// all partitions at epoch 7.
func testFollower() *Follower {
	return NewFollower(FollowerOptions{
		Self:       func() rpc.Incarnation { return rpc.Incarnation{Broker: 1, Epoch: 5} },
		Await:      func(context.Context, uint64) error { return nil },
		Registered: func(int32) (int64, bool) { return 3, true },
		Following: func(storage.PartitionID) (*log.Log, int32, storage.Epoch) {
			return new(log.Log), 2, 7
		},
	})
}

// RULES 3.1, KIP-903.
func TestStreamsOfOtherIncarnationsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ leader, follower rpc.Incarnation }{
		"follower": {rpc.Incarnation{Broker: 2, Epoch: 3}, rpc.Incarnation{Broker: 1, Epoch: 4}},
		"leader":   {rpc.Incarnation{Broker: 2, Epoch: 2}, rpc.Incarnation{Broker: 1, Epoch: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			err := testFollower().TakePushes(t.Context(), c.leader, c.follower, nil)
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOnlyTheLeaderOpens(t *testing.T) {
	in := &intake{f: testFollower(), leader: rpc.Incarnation{Broker: 4, Epoch: 3}, wake: make(chan struct{}, 1), sessions: map[uint32]*session{}}
	err := in.begin(t.Context(), rpc.Push{Kind: rpc.PushOpen, Session: 1, LeaderEpoch: 7})
	if err == nil || !strings.Contains(err.Error(), "broker 2 leads at epoch 7") {
		t.Errorf("%v", err)
	}
}

func TestWhatComesLateInASessionIsLeftAside(t *testing.T) {
	in := &intake{f: testFollower(), wake: make(chan struct{}, 1), sessions: map[uint32]*session{}}
	s := &session{in: in, number: 1}
	s.ended.Store(true)
	in.sessions[1] = s
	if err := in.take(t.Context(), &rpc.PushMessage{Stamp: 9, Entries: []rpc.Push{{Kind: rpc.PushRecords, Session: 1}}}); err != nil || in.stamp != 9 {
		t.Errorf("%v, stamp %d", err, in.stamp)
	}
}

// What a leader of old opened may begin after what the next one did: that one goes on with
// a session that is over, unless it is told.
func TestWhoseSessionIsReplacedIsTold(t *testing.T) {
	f := testFollower()
	f.o.Store = testStore(t)
	old, next := &intake{f: f, wake: make(chan struct{}, 1)}, &intake{f: f, wake: make(chan struct{}, 1)}
	f.enter(&session{in: next, number: 3, epoch: 7})
	late := &session{in: old, number: 9, epoch: 6}
	f.enter(late)
	f.leave(late)
	m := next.answers(true)
	if m == nil || len(m.Entries) != 1 || m.Entries[0].Kind != rpc.ReplyRefused || m.Entries[0].Session != 3 {
		t.Errorf("it is told %+v", m)
	}
}

// That a message was taken is said behind all that it, or what came meanwhile, has ended: the leader
// takes it for the word of those that are left.
func TestAnAnswerComesBehindWhatHasEnded(t *testing.T) {
	f := testFollower()
	f.o.Store = testStore(t)
	in := &intake{f: f, wake: make(chan struct{}, 1), stamp: 9, said: 3, replies: make([]rpc.Reply, mostAnswers+1)}
	if m := in.answers(true); m == nil || len(m.Entries) != mostAnswers || m.Stamp != 3 {
		t.Errorf("with some: stamp %d, %d entries", m.Stamp, len(m.Entries))
	}
	if m := in.answers(true); m == nil || len(m.Entries) != 1 || m.Stamp != 9 {
		t.Errorf("with the last: stamp %d, %d entries", m.Stamp, len(m.Entries))
	}
}

func TestWhatAFollowerMayConfirm(t *testing.T) {
	k := &link{}
	l := newLane(k, nil)
	f := &feed{link: k, lane: l, state: feedStreams, session: 2, next: 10}
	if got := f.credible(11); got != 10 {
		t.Errorf("sent up to 10, and it has %d", got)
	}
	l.confirmed(time.Now(), f, &rpc.Reply{Session: 1, Offset: 5})
	if f.confirmed != 0 {
		t.Error("an earlier session confirms")
	}
}

// A follower that confirms nothing is sent no more than the window.
func TestTheWindowBoundsWhatIsUnconfirmed(t *testing.T) {
	k := &link{}
	l := newLane(k, nil)
	f := &feed{link: k, lane: l, state: feedStreams}
	l.flying = windowBytes
	l.push(f)
	if got, _ := l.take(time.Now(), true); got != nil {
		t.Error("it is sent more")
	}
	l.flying--
	if got, _ := l.take(time.Now(), true); got != f {
		t.Error("it is sent nothing")
	}
}

// A feed that has something to send when it moves to the other lane is served there.
func TestAFeedThatMovesIsServed(t *testing.T) {
	k := &link{}
	k.tail, k.catchUp = newLane(k, nil), newLane(k, nil)
	f := &feed{link: k, lane: k.catchUp, state: feedStreams}
	k.catchUp.push(f)
	k.catchUp.move(f, k.tail)
	if got, turn := k.tail.take(time.Now(), true); got != f || turn.state != feedOpening {
		t.Fatal("it is not opened")
	}
	f.state = feedStreams
	k.tail.push(f)
	if got, _ := k.catchUp.take(time.Now(), true); got != nil {
		t.Error("the lane that it left serves it")
	}
	if got, _ := k.tail.take(time.Now(), true); got != f {
		t.Error("it waits for ever")
	}
}

// A replica that is held to have all that was acknowledged gives none of it up, whatever a
// leader says; one that is not begins anew as its leader has it.
func TestWhoIsCountedUponDiscardsNothing(t *testing.T) {
	led, followed := testStore(t), testStore(t)
	id, leads := testLog(t, led, 0, log.Replicas{})
	state, at, err := leads.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	write(t, led, leads, 10)
	l, err := followed.Create(id, log.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeFollower(1); err != nil {
		t.Fatal(err)
	}
	read, err := leads.Read(log.ReadRequest{MaxBytes: 1 << 20, Isolation: log.LogEnd})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Release()
	if err := followed.AdmitReplica(t.Context(), read.Bytes); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.AppendReplicated(read.Batches[0], 1, nil), followed.Flush(t.Context()), l.SetHighWatermark(1, 1)); err != nil {
		t.Fatal(err)
	}
	counted := true
	f := testFollower()
	f.o.Counted = func(storage.PartitionID) bool { return counted }
	var said strings.Builder
	f.o.Log = slog.New(slog.NewTextHandler(&said, nil))
	s := &session{in: &intake{f: f}, partition: id, log: l, epoch: 1}
	for range 3 { // its leader tries on
		if err := s.restart(at, state); err == nil || l.HighWatermark() != 1 || f.Parted() != 1 {
			t.Errorf("%v, committed to %d; %d replicas are told to be fed nothing", err, l.HighWatermark(), f.Parted())
		}
	}
	if n := strings.Count(said.String(), "it is fed nothing"); n != 1 {
		t.Errorf("that is said %d times: %s", n, &said)
	}
	counted = false
	if err := s.restart(at, state); err != nil || l.End() != 0 || l.HighWatermark() != 0 {
		t.Errorf("%v, it ends at %d", err, l.End())
	}
	f.agree(id, 1)
	if f.Parted() != 0 {
		t.Error("it is fed, and told not to be")
	}
	if f.part(id, 1); f.Parted() != 1 {
		t.Error("it is not fed, and nothing is told")
	}
	if f.Changed(id, 2); f.Parted() != 0 {
		t.Error("of an epoch that is over it is told that nothing is fed")
	}
}

// Who is counted upon believes the leader, which was elected among such: of what its producers
// are as of, and its log lacks, it is sent the rest. Whoever is not begins anew.
func TestWhoIsCountedUponBelievesItsLeader(t *testing.T) {
	led, followed := testStore(t), testStore(t)
	id, leads := testLog(t, led, 0, log.Replicas{})
	write(t, led, leads, 10)
	state, at, err := leads.ReplicaState() // as of 1, from 0 on
	if err != nil {
		t.Fatal(err)
	}
	l, err := followed.Create(id, log.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.BecomeFollower(1), l.Restart(at, state, 1), leads.BecomeLeader(2), l.BecomeFollower(2)); err != nil {
		t.Fatal(err)
	}
	counted := true
	f := testFollower()
	f.o.Store = followed
	f.o.Counted = func(storage.PartitionID) bool { return counted }
	f.o.Following = func(storage.PartitionID) (*log.Log, int32, storage.Epoch) { return l, 2, 2 }
	in := &intake{f: f, leader: rpc.Incarnation{Broker: 2, Epoch: 3}, wake: make(chan struct{}, 1), sessions: map[uint32]*session{}}
	how := func(number uint32) plan {
		t.Helper()
		if err := in.begin(t.Context(), rpc.Push{Kind: rpc.PushOpen, Session: number, Partition: id, LeaderEpoch: 2}); err != nil {
			t.Fatal(err)
		}
		m := in.answers(true)
		if m == nil || m.Entries[len(m.Entries)-1].Kind != rpc.ReplyHistory {
			t.Fatalf("it answers %+v", m)
		}
		return planFor(leads.History(), m.Entries[len(m.Entries)-1].History)
	}
	counted = false
	if got := how(1); !got.restart {
		t.Errorf("not counted upon, it goes on as %+v", got)
	}
	counted = true
	if got := how(2); got != (plan{}) {
		t.Errorf("counted upon, it goes on as %+v", got)
	}
}
