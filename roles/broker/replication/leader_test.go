package replication

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/rpc"
)

// asked is a controller that answers as a test likes.
type asked func(changes []metadata.PartitionChange) error

func (a asked) AlterPartitions(_ context.Context, _ int32, _ int64, changes []metadata.PartitionChange) []error {
	return slices.Repeat([]error{a(changes)}, len(changes))
}

// testLeader is broker 1, whose followers are reached by nobody.
func testLeader(t *testing.T, lag time.Duration, controller asked) *Leader {
	pushes := rpc.NewPushes(rpc.PushesOptions{
		Cluster: func() string { return "c" },
		Dial: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})},
	})
	l := NewLeader(LeaderOptions{
		Self: func() rpc.Incarnation { return rpc.Incarnation{Broker: 1, Epoch: 1} },
		Tail: pushes, CatchUp: pushes, Controller: controller, LagTime: lag,
	})
	t.Cleanup(func() {
		l.Close()
		pushes.Close()
	})
	return l
}

func testStore(t *testing.T) *log.Store {
	s, err := log.Open(t.Context(), log.Options{
		FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", WAL: wal.Options{Capacity: 64 << 20, SegmentSize: 4 << 20, Memory: 32 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// testLog is led at epoch 1.
func testLog(t *testing.T, s *log.Store, index int32, r log.Replicas) (storage.PartitionID, *log.Log) {
	id := storage.PartitionID{Topic: storage.TopicID{1}, Index: index}
	l, err := s.Create(id, log.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.SetReplicas(r)
	if err := l.BecomeLeader(1); err != nil {
		t.Fatal(err)
	}
	return id, l
}

type appended chan log.AppendResult

func (a appended) Appended(r log.AppendResult) { a <- r }

// write appends a record of so many bytes, and returns once it is on disk here.
func write(t *testing.T, s *log.Store, l *log.Log, bytes int) { writeMany(t, s, l, 1, bytes) }

// writeMany is write of a batch of so many records.
func writeMany(t *testing.T, s *log.Store, l *log.Log, n, bytes int) {
	b := batch.NewBuilder(batch.BuilderOptions{})
	for range n {
		b.Add(time.Now().UnixMilli(), nil, make([]byte, bytes))
	}
	records, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context(), len(records)); err != nil {
		t.Fatal(err)
	}
	done := make(appended, 1)
	l.Append(time.Now(), records, log.AppendOptions{Epoch: 1, LeaderOnly: true}, done)
	if r := <-done; r.Err != nil {
		t.Fatal(r.Err)
	}
}

// A controller that answers late tells nothing of a partition that has no followers any
// more, or is led under another epoch.
func TestALateAnswerSetsNobodyToWaitFor(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	l := testLeader(t, time.Millisecond, func([]metadata.PartitionChange) error {
		close(came)
		<-answer
		return &metadata.Error{Code: metadata.InvalidUpdateVersion}
	})
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}, MinInSync: 1})
	<-came
	l.Unlead(id)
	log1.SetReplicas(log.Replicas{})
	close(answer)
	l.Close()
	write(t, s, log1, 10)
	if at := log1.Progress(); at.HighWatermark != at.End {
		t.Errorf("the only replica has all, and its high watermark is %d of %d", at.HighWatermark, at.End)
	}
}

// RULES 3.1: what a broker confirmed under one registration counts for nothing under the
// next.
func TestWhatAnIncarnationConfirmedIsForgotten(t *testing.T) {
	l := testLeader(t, 0, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	peer := func(epoch int64) map[int32]Peer {
		return map[int32]Peer{2: {Incarnation: rpc.Incarnation{Broker: 2, Epoch: epoch}, Address: "two"}}
	}
	l.SetPeers(peer(5))
	l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}, MinInSync: 1})
	l.led[id].confirmed(time.Now(), nil, rpc.Incarnation{Broker: 2, Epoch: 5}, 1) // on disk there, and not yet here
	l.SetPeers(peer(6))
	write(t, s, log1, 10)
	if at := log1.Progress().HighWatermark; at != 0 {
		t.Errorf("committed to %d by the word of a registration that is over", at)
	}
}

// Nor does what was taken off its stream just before, and comes to the log after that was told to
// forget it: whoever reads the stream may have been held up there.
func TestWhatAnEndedFeedConfirmsIsForgotten(t *testing.T) {
	l := testLeader(t, 0, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	of := func(epoch int64) rpc.Incarnation { return rpc.Incarnation{Broker: 2, Epoch: epoch} }
	l.SetPeers(map[int32]Peer{2: {Incarnation: of(5), Address: "two"}})
	l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}, MinInSync: 1})
	p := l.led[id]
	ended := (*p.feeds.Load())[0]
	l.SetPeers(map[int32]Peer{2: {Incarnation: of(6), Address: "two"}})
	write(t, s, log1, 10)
	p.confirmed(time.Now(), ended, of(5), 1)
	if at := log1.Progress().HighWatermark; at != 0 {
		t.Errorf("committed to %d by the word of a registration that is over", at)
	}
	if m := p.isr.member(2); m.epoch != 0 {
		t.Errorf("who has ended is known by registration %d", m.epoch)
	}
	p.confirmed(time.Now(), (*p.feeds.Load())[0], of(6), 1)
	if at := log1.Progress().HighWatermark; at != 1 {
		t.Errorf("committed to %d by the word of its registration", at)
	}
}

// What a follower has confirmed counts for nothing once it is to shorten its log, or does not take the
// partition any more: until it confirms anew, nothing is committed that it would count for.
func TestWhoIsShortenedOrRefusesHasConfirmedNothing(t *testing.T) {
	for name, ends := range map[string]func(l *lane, f *feed){
		"shortened": func(l *lane, f *feed) {
			f.state, f.session, l.sessions[2] = feedOpening, 2, f
			l.opened(time.Now(), f, &rpc.Reply{Session: 2, History: log.History{Epochs: []log.EpochStart{{Epoch: 0, Start: 0}}, End: 2, Synced: 2}})
		},
		"refuses": func(l *lane, _ *feed) { l.takeReply(time.Now(), &rpc.Reply{Kind: rpc.ReplyRefused, Session: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := testLeader(t, time.Hour, func([]metadata.PartitionChange) error { return nil })
			s := testStore(t)
			id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2, 3}})
			l.SetPeers(map[int32]Peer{2: {Incarnation: rpc.Incarnation{Broker: 2, Epoch: 5}, Address: "two"}, 3: {Incarnation: rpc.Incarnation{Broker: 3, Epoch: 6}, Address: "three"}})
			l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}, MinInSync: 1})
			l.stop() // the streams, which reach nobody
			l.running.Wait()
			writeMany(t, s, log1, 3, 10)
			f := (*l.led[id].feeds.Load())[0]
			f.state, f.session, f.next, f.lane.sessions[1] = feedStreams, 1, 3, f
			on := f.lane
			on.confirmed(time.Now(), f, &rpc.Reply{Session: 1, Offset: 3})
			ends(on, f)
			l.led[id].confirmed(time.Now(), nil, rpc.Incarnation{Broker: 3, Epoch: 6}, 3)
			if at := log1.Progress().HighWatermark; at != 0 {
				t.Errorf("committed to %d", at)
			}
		})
	}
}

// A feed whose log is led no more sends nothing: its high watermark is another leader's, of records that
// its followers may not have.
func TestWhatIsLedNoMoreIsNotPushed(t *testing.T) {
	lane, feeds, s := noticing(t, 1)
	is := feeds[0].p.log
	is.SetReplicas(log.Replicas{InSync: []int32{2}})
	write(t, s, is, 10)
	lane.push(feeds[0])
	if m := sends(lane.compose(time.Now(), true)); len(m) != 1 {
		t.Fatalf("it is pushed as %+v", m)
	}
	err := is.BecomeFollower(2)
	if err == nil {
		err = is.SetHighWatermark(1, 2)
	}
	if at := is.HighWatermark(); err != nil || at != 1 {
		t.Fatalf("committed to %d by who leads next: %v", at, err)
	}
	lane.push(feeds[0])
	if m := lane.compose(time.Now(), true); len(m.Entries) != 0 {
		t.Errorf("it is pushed as %+v", m.Entries)
	}
}

// A follower that is proposed has all that is committed, though that moves while it is
// looked at.
func TestWhoIsProposedHasWhatIsCommitted(t *testing.T) {
	const n = 20_000
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	writeMany(t, s, log1, n, 1)
	var has atomic.Int64 // broker 3, on its disk
	wrong := 0
	l := testLeader(t, time.Hour, func(changes []metadata.PartitionChange) error {
		if at := log1.Progress().HighWatermark; at > storage.Offset(has.Load()) && len(changes[0].ISR) == 3 {
			wrong++
		}
		return &metadata.Error{Code: metadata.IneligibleReplica}
	})
	l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2}, MinInSync: 1})
	l.stop() // the test asks itself
	l.running.Wait()
	p := l.led[id]
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range storage.Offset(n) {
			has.Store(int64(i))
			p.confirmed(time.Now(), nil, rpc.Incarnation{Broker: 3, Epoch: 1}, i)
			p.confirmed(time.Now(), nil, rpc.Incarnation{Broker: 2, Epoch: 1}, i+1)
		}
	}()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
			l.propose(t.Context(), []*led{p})
		}
	}
	if wrong > 0 {
		t.Errorf("%d times one was proposed that lacked what was committed", wrong)
	}
}

// Partitions are served in turn, though a batch of one is large, and others always have
// more.
func TestALargeBatchHasItsTurn(t *testing.T) {
	l := testLeader(t, 0, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	k := &link{leader: l}
	lane := newLane(k, nil)
	for index, bytes := range []int{100 << 10, 100 << 10, 300 << 10} {
		id, of := testLog(t, s, int32(index), log.Replicas{})
		for range map[bool]int{true: 60, false: 1}[index < 2] {
			write(t, s, of, bytes)
		}
		lane.push(&feed{p: &led{leader: l, id: id, log: of, epoch: 1}, link: k, lane: lane, state: feedStreams, session: uint32(index)})
	}
	for range 3 {
		m := lane.compose(time.Now(), true)
		served := slices.ContainsFunc(m.Entries, func(e rpc.Push) bool { return e.Session == 2 && len(e.Data) > 0 })
		if m.Release != nil {
			m.Release()
		}
		if served {
			return
		}
	}
	t.Error("it is not in three messages")
}

type committed func()

func (c committed) Appended(log.AppendResult) { c() }

// What is appended while a leader begins is pushed to a follower whose feed streams by then:
// nothing else may come for long, for who produces waits.
func TestWhatIsAppendedWhileALeaderBeginsIsPushed(t *testing.T) {
	l := testLeader(t, time.Hour, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, lg := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	l.SetPeers(map[int32]Peer{2: {rpc.Incarnation{Broker: 2, Epoch: 1}, "2:1"}})
	b := batch.NewBuilder(batch.BuilderOptions{})
	b.Add(1, nil, []byte("x"))
	records, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context(), len(records)); err != nil {
		t.Fatal(err)
	}
	var f *feed
	lg.Append(time.Now(), records, log.AppendOptions{Epoch: 1}, committed(func() { // when Lead says that nobody is waited for
		l.mu.Lock()
		f = (*l.led[id].feeds.Load())[0]
		l.mu.Unlock()
		f.link.mu.Lock()
		f.state, f.queued = feedStreams, false // it was opened, and looked at
		f.moved.Store(false)
		f.link.mu.Unlock()
		write(t, s, lg, 10)
	}))
	write(t, s, lg, 10) // the first is on disk too
	l.Lead(time.Now(), Partition{ID: id, Log: lg, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1}, MinInSync: 1})
	if f == nil {
		t.Fatal("nothing was committed")
	}
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	if !f.queued {
		t.Error("what was appended is not to be sent")
	}
}

// A broker that is new is sent tails: what the bucket has is left to the bucket, though the
// leader's WAL has it yet. Who holds most of it already goes on where it is, and so does
// everybody where the WAL keeps all.
func TestWhoIsNewIsSentTheTail(t *testing.T) {
	led, followed := testStore(t), testStore(t)
	id, leads := testLog(t, led, 0, log.Replicas{})
	for range 20 {
		write(t, led, leads, 10)
	}
	if err := leads.SetUploaded(15); err != nil {
		t.Fatal(err)
	}
	ours := leads.History()
	follower, err := followed.Create(id, log.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := planFor(ours, follower.History()); !got.restart {
		t.Errorf("a new replica goes on as %+v", got)
	}
	state, at, err := leads.ReplicaState()
	if err != nil || at != 15 {
		t.Fatalf("it begins at %d: %v", at, err)
	}
	if err := errors.Join(follower.BecomeFollower(1), follower.Restart(at, state, 1)); err != nil {
		t.Fatal(err)
	}
	if got := planFor(ours, follower.History()); got != (plan{at: 15}) {
		t.Errorf("and then it goes on as %+v", got)
	}
	has := func(local, end storage.Offset) log.History {
		return log.History{LocalStart: local, End: end, Synced: end, Epochs: ours.Epochs}
	}
	for _, c := range []struct {
		local, end storage.Offset
		want       plan
	}{{0, 7, plan{restart: true}}, {0, 8, plan{at: 8}}, {5, 9, plan{restart: true}}, {5, 10, plan{at: 10}}, {0, 15, plan{at: 15}}, {12, 18, plan{at: 18}}} {
		if got := planFor(ours, has(c.local, c.end)); got != c.want {
			t.Errorf("who has %d to %d goes on as %+v, want %+v", c.local, c.end, got, c.want)
		}
	}
	leads.SetConfig(log.Config{KeepLocal: true})
	if got := planFor(leads.History(), has(0, 0)); got != (plan{}) {
		t.Errorf("where all is kept, a new replica goes on as %+v", got)
	}
}
