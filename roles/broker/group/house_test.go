package group

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// house is a coordinator over a log in memory, inside a synctest bubble.
type house struct {
	*Coordinator
	t   *testing.T
	log *memoryLog
}

func open(t *testing.T, change ...func(*Options)) *house {
	t.Helper()
	h := &house{t: t, log: new(memoryLog)}
	ids := 0
	opt := Options{Log: h.log, NewID: func() string { ids++; return strconv.Itoa(ids) }}
	for _, c := range change {
		c(&opt)
	}
	var err error
	if h.Coordinator, err = Open(opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// load loads the partition of group "g", and waits until that is done.
func (h *house) load(epoch storage.Epoch) {
	h.t.Helper()
	h.Load(Partition("g"), epoch)
	synctest.Wait()
}

// shard is the one that coordinates a group, nil where none does.
func (h *house) shard(group string) *shard {
	for _, s := range h.shards.All() {
		if s.Partition == Partition(group) {
			return s
		}
	}
	return nil
}

// call asks and returns where the answer will be, in a channel that tells a
// second answer from the first.
func call[Q, P any](h *house, method func(context.Context, Q, func(P)), req Q) <-chan P {
	h.t.Helper()
	got := make(chan P, 2)
	method(h.t.Context(), req, func(p P) { got <- p })
	return got
}

// now returns an answer that must be there without any time passing.
func now[P any](t *testing.T, c <-chan P) P {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-c:
		return p
	default:
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func none[P any](t *testing.T, c <-chan P) {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-c:
		t.Fatalf("answered %v", p)
	default:
	}
}

func joinRequest(group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID = 3, group, member
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 20_000
	req.ProtocolType = consumerProtocol
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: new(kmsg.ConsumerMemberMetadata).AppendTo(nil)}}
	return req
}

func (h *house) join(group, member string) <-chan *kmsg.JoinGroupResponse {
	return call(h, func(ctx context.Context, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
		h.JoinGroup(ctx, "c", "/h", req, answer)
	}, joinRequest(group, member))
}

func (h *house) sync(group, member string, generation int32) <-chan *kmsg.SyncGroupResponse {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, group, member, generation
	req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: member, MemberAssignment: []byte("all")}}
	return call(h, h.SyncGroup, req)
}

func (h *house) heartbeat(group, member string, generation int32) int16 {
	h.t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, group, member, generation
	return now(h.t, call(h, h.Heartbeat, req)).ErrorCode
}

func commitRequest(group string, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = 8, group
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

func (h *house) commit(group string, offset int64) <-chan *kmsg.OffsetCommitResponse {
	return call(h, h.OffsetCommit, commitRequest(group, offset))
}

func commitCode(resp *kmsg.OffsetCommitResponse) int16 {
	return resp.Topics[0].Partitions[0].ErrorCode
}

// fetched returns the offset of t-0, or an error code below -1.
func (h *house) fetched(group string) int64 {
	h.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}
	g := now(h.t, call(h, h.OffsetFetch, req)).Groups[0]
	if g.ErrorCode != 0 {
		return -100 - int64(g.ErrorCode)
	}
	return g.Topics[0].Partitions[0].Offset
}

func wantCode(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	var code int16
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Fatalf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

// catalogue is what topics there are: t with two partitions.
type catalogue struct{}

func (catalogue) Partitions(name string) int32 {
	if name == "t" {
		return 2
	}
	return 0
}

func (c catalogue) Newest(name string) storage.TopicID { return c.TopicID(name) }

func (catalogue) TopicID(name string) storage.TopicID {
	if name == "t" {
		return storage.TopicID{1}
	}
	return storage.TopicID{}
}

func (catalogue) TopicName(id storage.TopicID) string {
	if id == (storage.TopicID{1}) {
		return "t"
	}
	return ""
}
