package rpc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// examples are messages of every kind.
func examples() ([]*PushMessage, []*PushReply) {
	small, large := bytes.Repeat([]byte("s"), 100), bytes.Repeat([]byte("L"), 5000)
	return []*PushMessage{
			{Stamp: 1},
			{Stamp: 7, Entries: []Push{
				{Kind: PushOpen, Session: 1, Partition: storage.PartitionID{Topic: storage.TopicID{1, 2}, Index: 3}, LeaderEpoch: 4, MetadataOffset: 5},
				{Kind: PushTruncate, Session: 2, Offset: 99},
				{Kind: PushRestart, Session: 3, Offset: 12, Last: true, Data: [][]byte{small}},
				{Kind: PushRecords, Session: 4, Offset: 1 << 40, Data: [][]byte{large, small, large}},
				{Kind: PushRecords, Session: 5, Offset: 8},
			}},
		}, []*PushReply{
			{Stamp: 9, Fullness: 950},
			{Entries: []Reply{
				{Kind: ReplyHistory, Session: 1, History: log.History{
					Epoch: storage.NoEpoch, LogStart: 1, LocalStart: 2, HighWatermark: 3, Synced: 4, End: 5, Epochs: []log.EpochStart{{Epoch: 1, Start: 1}, {Epoch: 4, Start: 3}},
				}},
				{Kind: ReplyConfirm, Session: 2, Offset: 77},
				{Kind: ReplyRefused, Session: 3, Reason: "no room"},
			}},
		}
}

func TestMessagesOfReplicationComeBackAsTheyWere(t *testing.T) {
	c := NewCodec()
	pushes, replies := examples()
	for _, want := range pushes {
		released := 0
		want.Release = func() { released++ }
		wire, err := c.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := new(PushMessage)
		if err := c.Unmarshal(wire, got); err != nil {
			t.Fatal(err)
		}
		if got.Stamp != want.Stamp || len(got.Entries) != len(want.Entries) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		for i, e := range got.Entries {
			expect := want.Entries[i]
			if !bytes.Equal(slices.Concat(e.Data...), slices.Concat(expect.Data...)) {
				t.Errorf("entry %d has other data", i)
			}
			e.Data, expect.Data = nil, nil
			if !reflect.DeepEqual(e, expect) {
				t.Errorf("%+v, want %+v", e, expect)
			}
		}
		got.Done()
		wire.Free()
		if released != 1 {
			t.Errorf("the data was given back %d times", released)
		}
	}
	for _, want := range replies {
		wire, _ := c.Marshal(want)
		got := new(PushReply)
		if err := c.Unmarshal(wire, got); err != nil {
			t.Fatal(err)
		}
		if len(want.Entries) == 0 {
			got.Entries = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// Records that are worth it go without a copy.
func TestLargeBatchesAreLent(t *testing.T) {
	large := bytes.Repeat([]byte("L"), 5000)
	m := &PushMessage{Release: func() {}, Entries: []Push{{Kind: PushRecords, Data: [][]byte{large}}}}
	for _, b := range m.marshal() {
		if d := b.ReadOnlyData(); len(d) == len(large) && &d[0] == &large[0] {
			return
		}
	}
	t.Error("they were copied")
}

// What gRPC forgets, for its connection failed, is given back all the same.
func TestForgottenBuffersAreGivenBack(t *testing.T) {
	var released atomic.Bool
	m := &PushMessage{Release: func() { released.Store(true) }, Entries: []Push{{Kind: PushRecords, Data: [][]byte{make([]byte, 5000)}}}}
	if n := len(m.marshal()); n == 0 {
		t.Fatal("nothing")
	}
	m = nil
	for range 1000 {
		runtime.GC()
		if released.Load() {
			return
		}
		runtime.Gosched()
	}
	t.Error("the WAL's memory stays pinned")
}

func TestCutMessagesOfReplicationAreRefused(t *testing.T) {
	pushes, replies := examples()
	var whole []byte
	for _, b := range pushes[1].marshal() {
		whole = append(whole, b.ReadOnlyData()...)
	}
	for n := range whole {
		if new(PushMessage).unmarshal(whole[:n]) == nil {
			t.Fatalf("%d of %d bytes are taken for a message", n, len(whole))
		}
	}
	if new(PushMessage).unmarshal(append(whole, 0)) == nil {
		t.Error("a byte too many is taken")
	}
	whole = replies[1].marshal()
	for n := range whole {
		if new(PushReply).unmarshal(whole[:n]) == nil {
			t.Fatalf("%d of %d bytes are taken for an answer", n, len(whole))
		}
	}
	if new(PushReply).unmarshal(append(whole, 0)) == nil {
		t.Error("a byte too many is taken")
	}
}

func FuzzReplication(f *testing.F) {
	pushes, replies := examples()
	for _, m := range pushes {
		var b []byte
		for _, part := range m.marshal() {
			b = append(b, part.ReadOnlyData()...)
		}
		f.Add(b)
	}
	for _, m := range replies {
		f.Add(m.marshal())
	}
	f.Add((&pushHello{cluster: "c", leader: Incarnation{1, 2}, follower: Incarnation{3, 4}}).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(PushMessage)
		if m.unmarshal(b) == nil {
			size := 0
			for i := range m.Entries {
				size += m.Entries[i].size()
			}
			if size > len(b) {
				t.Errorf("%d bytes of data in %d", size, len(b))
			}
		}
		_ = new(PushReply).unmarshal(b)
		_ = new(pushHello).unmarshal(b)
	})
}

// echo is a follower that answers each message with its stamp.
type echo struct{ leader, follower chan Incarnation }

func (e echo) TakePushes(_ context.Context, leader, follower Incarnation, s *FollowerStream) error {
	e.leader <- leader
	e.follower <- follower
	if follower.Epoch != 4 {
		return status.Error(codes.FailedPrecondition, "another incarnation")
	}
	if err := s.Send(new(PushReply)); err != nil {
		return err
	}
	for {
		m, err := s.Receive()
		if err != nil {
			return err
		}
		m.Done()
		if err := s.Send(&PushReply{Stamp: m.Stamp}); err != nil {
			return err
		}
	}
}

func TestStreamsNameClusterAndIncarnations(t *testing.T) {
	door := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.ForceServerCodecV2(NewCodec()))
	heard := echo{make(chan Incarnation, 4), make(chan Incarnation, 4)}
	RegisterReplication(server, func() string { return "here" }, heard)
	go server.Serve(door)
	defer server.Stop()
	open := func(cluster string, epoch int64) (*PushStream, func(), error) {
		p := NewPushes(PushesOptions{Cluster: func() string { return cluster }, Dial: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) }),
		}})
		s, err := p.Open(t.Context(), "follower:9093", Incarnation{1, 2}, Incarnation{3, epoch})
		return s, func() { p.Close() }, err
	}
	s, end, err := open("here", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if a, b := <-heard.leader, <-heard.follower; a != (Incarnation{1, 2}) || b != (Incarnation{3, 4}) {
		t.Errorf("%v to %v", a, b)
	}
	released := make(chan struct{})
	m := &PushMessage{Stamp: 42, Release: func() { close(released) }, Entries: []Push{{Kind: PushRecords, Data: [][]byte{make([]byte, 1<<20)}}}}
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Receive(); err != nil || got.Stamp != 42 {
		t.Errorf("%+v, %v", got, err)
	}
	select {
	case <-released:
	case <-time.After(time.Minute):
		t.Error("what was sent is held")
	}
	s.Close()
	if _, err := s.Receive(); err == nil {
		t.Error("a closed stream is received from")
	}
	for name, c := range map[string]struct {
		cluster string
		epoch   int64
	}{"another cluster": {"elsewhere", 4}, "another incarnation": {"here", 5}} {
		_, end, err := open(c.cluster, c.epoch)
		end()
		if refused, ok := errors.AsType[interface {
			error
			GRPCStatus() *status.Status
		}](err); !ok || refused.GRPCStatus().Code() != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
	}
}
