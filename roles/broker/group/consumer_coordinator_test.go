package group

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"rustmq.dev/rustmq/storage"
)

// beatRequest joins, or goes on with an epoch and says nothing more.
func beatRequest(group, member string, epoch int32) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, group, member, epoch
	if epoch == joinEpoch {
		req.RebalanceTimeoutMillis = 20_000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return req
}

func (h *house) beat(group, member string, epoch int32) <-chan *kmsg.ConsumerGroupHeartbeatResponse {
	return call(h, func(ctx context.Context, req *kmsg.ConsumerGroupHeartbeatRequest, answer func(*kmsg.ConsumerGroupHeartbeatResponse)) {
		h.ConsumerGroupHeartbeat(ctx, "c", "/h", nil, req, answer)
	}, beatRequest(group, member, epoch))
}

// described is a group of the consumer protocol, on a line for each member.
func (h *house) described(group string) string {
	h.t.Helper()
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{group}
	g := now(h.t, call(h, h.ConsumerGroupDescribe, req)).Groups[0]
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d\n", code(g.ErrorCode), g.State, g.Epoch)
	for _, m := range g.Members {
		fmt.Fprintf(&b, "%s %d %v %v\n", m.MemberID, m.MemberEpoch, m.Assignment.TopicPartitions, m.TargetAssignment.TopicPartitions)
	}
	return b.String()
}

// withTopics tells a coordinator of topics; the function changes them.
func withTopics(first atlas) (func(*Options), func(atlas)) {
	var is atomic.Pointer[atlas]
	is.Store(&first)
	return func(o *Options) { o.Catalogue = func() Catalogue { return *is.Load() } }, func(a atlas) { is.Store(&a) }
}

func someTopics() atlas {
	return atlas{1, map[string]int32{}, map[string]storage.TopicID{}}.with("t", 4)
}

// Tools show the first reason they are given: a group that is not there is not one of
// another kind.
func TestDescriptionTellsWhetherThereIsAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		describe := kmsg.NewPtrConsumerGroupDescribeRequest()
		describe.Groups = []string{"g"}
		for _, want := range []string{"group g not found", "group g is not a consumer group"} {
			g := now(t, call(h, h.ConsumerGroupDescribe, describe)).Groups[0]
			if g.ErrorCode != kerr.GroupIDNotFound.Code || g.ErrorMessage == nil || *g.ErrorMessage != want {
				t.Errorf("%+v, want %q", g, want)
			}
			now(t, h.commit("g", 1))
		}
	})
}

// A topic that is no more has no name that a description could say, and tools that are
// told an empty one fail for all groups that they describe with this one.
func TestDescriptionLeavesOutDeletedTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, change := withTopics(someTopics())
		h := open(t, topics)
		h.load(1)
		now(t, h.beat("g", "m", 0))
		synctest.Wait()
		if got := h.described("g"); !strings.Contains(got, " t [0 1 2 3] ") {
			t.Fatalf("before: %s", got)
		}
		change(someTopics().with("t", 0))
		if got, want := h.described("g"), "ok Reconciling 2\nm 1 [] []\n"; got != want {
			t.Errorf("after: %q, want %q", got, want)
		}
	})
}

// A member is silent for as long as its group allows, and learns of its own interval.
func TestGroupsHaveTimesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, _ := withTopics(someTopics())
		own := map[string][2]time.Duration{"quick": {8 * time.Second, 2 * time.Second}, "half": {0, 3 * time.Second}, "wrong": {6 * time.Second, 7 * time.Second}}
		h := open(t, topics, func(o *Options) {
			o.Consumer.TimesOf = func(group string) (session, heartbeat time.Duration) { return own[group][0], own[group][1] }
		})
		for i := range int32(Partitions) {
			h.Load(i, 1)
		}
		synctest.Wait()
		for group, want := range map[string]struct{ session, heartbeat time.Duration }{
			"quick": {8 * time.Second, 2 * time.Second},
			"half":  {45 * time.Second, 3 * time.Second},
			"wrong": {45 * time.Second, 5 * time.Second},
			"plain": {45 * time.Second, 5 * time.Second},
		} {
			if resp := now(t, h.beat(group, "m", 0)); resp.HeartbeatIntervalMillis != int32(want.heartbeat.Milliseconds()) {
				t.Errorf("%s: heartbeats every %d ms", group, resp.HeartbeatIntervalMillis)
			}
			time.Sleep(want.session - time.Second)
			if got := h.described(group); !strings.Contains(got, "m 1") {
				t.Errorf("%s: gone within its session: %s", group, got)
			}
			time.Sleep(2 * time.Second)
			if got := h.described(group); strings.Contains(got, "m 1") {
				t.Errorf("%s: still there behind its session: %s", group, got)
			}
		}
	})
}

// Nobody hears of an epoch before it is committed, and whoever asked is told when
// it can not be.
func TestConsumerHeartbeatWaitsForItsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, _ := withTopics(someTopics())
		h := open(t, topics)
		wantCode(t, "not led", now(t, h.beat("g", "m", 0)).ErrorCode, kerr.NotCoordinator)
		h.load(1)
		h.log.Hold()
		joined := h.beat("g", "m", 0)
		again := h.beat("g", "m", 0)
		none(t, joined)
		none(t, again)
		h.log.Release()
		if resp := now(t, joined); resp.ErrorCode != 0 || resp.MemberEpoch != 1 || len(resp.Assignment.Topics[0].Partitions) != 4 {
			t.Fatalf("%+v", resp)
		}
		wantCode(t, "asked twice", now(t, again).ErrorCode, nil)
		if resp := now(t, h.beat("g", "m", 1)); resp.ErrorCode != 0 || resp.Assignment != nil {
			t.Fatalf("%+v", resp)
		}
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = coordinator.ErrNotLeader })
		wantCode(t, "not recorded", now(t, h.beat("g", "n", 0)).ErrorCode, kerr.NotCoordinator)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = nil })
		if got := h.described("g"); strings.Contains(got, "\nn ") {
			t.Fatalf("a member that was not recorded: %s", got)
		}
	})
}

// Topics that grow reach the members without a word from them.
func TestTopicsThatGrowBeginAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, change := withTopics(someTopics())
		h := open(t, topics)
		h.load(1)
		wantCode(t, "join", now(t, h.beat("g", "m", 0)).ErrorCode, nil)
		change(someTopics().with("t", 5))
		h.TopicsChanged()
		synctest.Wait()
		if got := h.described("g"); !strings.HasPrefix(got, "ok Reconciling 2\n") {
			t.Fatal(got)
		}
		if resp := now(t, h.beat("g", "m", 1)); resp.MemberEpoch != 2 || len(resp.Assignment.Topics[0].Partitions) != 5 {
			t.Fatalf("%+v", resp)
		}
	})
}

// A log that was shortened says of members and their partitions what the whole one
// did.
func TestShortenedLogKeepsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, _ := withTopics(someTopics())
		h := open(t, compacting, topics)
		h.load(1)
		for _, m := range []string{"a", "b", "c"} {
			wantCode(t, "join", now(t, h.beat("g", m, 0)).ErrorCode, nil)
		}
		leave := beatRequest("g", "b", leaveEpoch)
		got := make(chan *kmsg.ConsumerGroupHeartbeatResponse, 1)
		h.ConsumerGroupHeartbeat(t.Context(), "c", "/h", nil, leave, func(p *kmsg.ConsumerGroupHeartbeatResponse) { got <- p })
		wantCode(t, "leave", now(t, got).ErrorCode, nil)
		h.churn()
		h.churn()
		was, stats := h.described("g"), h.Stats()
		h.load(2)
		if is := h.described("g"); is != was {
			t.Fatalf("before the restart\n%safter it\n%s", was, is)
		}
		if after := h.Stats(); after != stats {
			t.Fatalf("%+v, before the restart %+v", after, stats)
		}
		wantCode(t, "heartbeat", now(t, h.beat("g", "a", 1)).ErrorCode, nil)
	})
}

// BenchmarkConsumerHeartbeat is the heartbeat of a member that has all it is to
// have, and BenchmarkConsumerJoin the way of a whole group to there.
func BenchmarkConsumerHeartbeat(b *testing.B) {
	c := benchCore(b)
	at := time.Unix(1_700_000_000, 0)
	c.Step(at, TopicsChanged{Wall: at, Catalogue: someTopics()})
	commitAll(c, at, c.Step(at, Request{Call: 1, ClientID: "c", ClientHost: "/h", Wall: at, Body: beatRequest("g", "m", 0)}))
	req := Request{Call: 2, ClientID: "c", ClientHost: "/h", Wall: at, Body: beatRequest("g", "m", 1)}
	b.ReportAllocs()
	for b.Loop() {
		c.Step(at, req)
	}
}

func BenchmarkConsumerJoin(b *testing.B) {
	for _, n := range []int{100, 500} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			for b.Loop() {
				c := benchCore(b)
				at := time.Unix(1_700_000_000, 0)
				c.Step(at, TopicsChanged{Wall: at, Catalogue: someTopics().with("t", int32(2*n))})
				for i := range n {
					commitAll(c, at, c.Step(at, Request{Call: Call(i), ClientID: "c", ClientHost: "/h", Wall: at, Body: beatRequest("g", fmt.Sprint("m", i), 0)}))
				}
			}
		})
	}
}

// chart is an atlas whose topics are not to be gone through any more.
type chart struct {
	atlas
	t      *testing.T
	closed bool
}

func (c chart) Names() iter.Seq[string] {
	if c.closed {
		c.t.Error("all topics are looked at")
	}
	return c.atlas.Names()
}

func (c chart) Changed(earlier Catalogue) ([]string, bool) {
	before, ok := earlier.(chart)
	if !ok {
		return nil, false
	}
	return c.atlas.Changed(before.atlas)
}

// When topics come and go, patterns are held against those alone: there may be very many
// of both.
func TestPatternsAreHeldAgainstWhatChanged(t *testing.T) {
	topics, closed := someTopics(), false
	m := newMatcher(func() Catalogue { return chart{topics, t, closed} })
	defer m.close()
	want := func(names ...string) {
		t.Helper()
		found, err := m.find(t.Context(), "t.*", 0)
		if err != nil || !slices.Equal(found.Topics, names) || found.Catalogue.Version() != topics.version {
			t.Errorf("%v, %v, want %v", found, err, names)
		}
	}
	want("t")
	closed = true
	for _, change := range []struct {
		name string
		n    int32
		want []string
	}{
		{"t2", 1, []string{"t", "t2"}}, {"u", 1, []string{"t", "t2"}}, {"t1", 1, []string{"t", "t1", "t2"}},
		{"t2", 5, []string{"t", "t1", "t2"}}, {"t", 0, []string{"t1", "t2"}}, {"u", 0, []string{"t1", "t2"}}, {"t", 2, []string{"t", "t1", "t2"}},
	} {
		topics = topics.with(change.name, change.n)
		want(change.want...)
	}
	topics = topics.with("t2", 0).with("t2", 1) // made anew at once
	want("t", "t1", "t2")
}
