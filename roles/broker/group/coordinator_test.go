package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"rustmq.dev/rustmq/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Kafka's own sums: Utils.abs("…".hashCode) % 50.
func TestPartitionIsKafkas(t *testing.T) {
	for id, want := range map[string]int32{
		"":                       0,
		"g":                      3,
		"my-group":               12, // a negative hash; without its sign bit it would be 36
		"console-consumer-12345": 6,
		"polygenelubricants":     0,  // the least int32, which has no absolute value
		"grüppe-😀":               14, // hashed over UTF-16
	} {
		if got := Partition(id); got != want {
			t.Errorf("group %q in partition %d, want %d", id, got, want)
		}
	}
}

func TestNobodyIsServedBeforeLoadOrAfterUnload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		wantCode(t, "not led", h.heartbeat("g", "m", 1), kerr.NotCoordinator)

		h.log.Reading = make(chan struct{})
		h.load(1)
		wantCode(t, "heartbeat while loading", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
		wantCode(t, "commit while loading", commitCode(now(t, h.commit("g", 1))), kerr.CoordinatorLoadInProgress)
		wantCode(t, "list while loading", now(t, call(h, h.ListGroups, kmsg.NewPtrListGroupsRequest())).ErrorCode, kerr.CoordinatorLoadInProgress)
		if st := h.Stats(); st.Loading != 1 || st.Loaded != 0 {
			t.Fatalf("%+v", st)
		}
		close(h.log.Reading)
		synctest.Wait()
		wantCode(t, "unknown member", h.heartbeat("g", "m", 1), kerr.UnknownMemberID)
		if st := h.Stats(); st.Loading != 0 || st.Loaded != 1 {
			t.Fatalf("%+v", st)
		}

		first := now(t, h.join("g", ""))
		waiting := h.join("g", "")
		none(t, waiting)
		h.Unload(Partition("g"))
		wantCode(t, "waiting join", now(t, waiting).ErrorCode, kerr.NotCoordinator)
		wantCode(t, "heartbeat", h.heartbeat("g", first.MemberID, 1), kerr.NotCoordinator)
		if st := h.Stats(); st != (Stats{}) {
			t.Fatalf("%+v", st)
		}
	})
}

func TestAwaitLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		wait := func(ctx context.Context) chan struct{} {
			done := make(chan struct{})
			go func() {
				h.AwaitLoad(ctx, Partition("g"))
				close(done)
			}()
			synctest.Wait()
			return done
		}
		isOver := func(what string, done chan struct{}, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case <-done:
				if !want {
					t.Fatalf("%s: not waited for", what)
				}
			default:
				if want {
					t.Fatalf("%s: waited for", what)
				}
			}
		}
		isOver("not led", wait(t.Context()), true)
		h.log.Reading = make(chan struct{})
		h.load(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		short, long := wait(ctx), wait(t.Context())
		time.Sleep(time.Second)
		isOver("out of time", short, true)
		isOver("loading", long, false)
		h.load(2)
		isOver("loading under the next epoch", long, false)
		close(h.log.Reading)
		isOver("loaded", long, true)
		isOver("loaded before", wait(t.Context()), true)
		h.log.Set(func(l *coordinatortest.Log) { l.Reading = make(chan struct{}) })
		h.load(3)
		unled := wait(t.Context())
		isOver("loading again", unled, false)
		h.Unload(Partition("g"))
		isOver("led no more", unled, true)
	})
}

// Who cannot say that nobody else coordinates a group answers no question about its offsets.
func TestWhoMayBeOpposedTellsNoOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 7))), nil)
		h.log.opposed = errors.New("cut off")
		one := kmsg.NewPtrOffsetFetchRequest()
		one.Version, one.Group, one.Topics = 7, "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		if resp := now(t, call(h, h.OffsetFetch, one)); resp.ErrorCode != kerr.NotCoordinator.Code {
			t.Errorf("version 7 answers %+v", resp)
		}
		many := kmsg.NewPtrOffsetFetchRequest()
		many.Version, many.Groups = 8, []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "h"}}
		for _, g := range now(t, call(h, h.OffsetFetch, many)).Groups {
			if g.ErrorCode != kerr.NotCoordinator.Code {
				t.Errorf("version 8 answers %+v", g)
			}
		}
	})
}

// Of a request that names many groups, each partition is asked for once: what waits for the answers
// is not as much as a request can name.
func TestManyGroupsAreConfirmedByPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 7))), nil)
		many := kmsg.NewPtrOffsetFetchRequest()
		many.Version, many.Groups = 8, []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
		for i := range 1000 {
			many.Groups = append(many.Groups, kmsg.OffsetFetchRequestGroup{Group: fmt.Sprint("of many ", i)})
		}
		for i, g := range now(t, call(h, h.OffsetFetch, many)).Groups {
			here := Partition(many.Groups[i].Group) == Partition("g")
			if g.Group != many.Groups[i].Group || here != (g.ErrorCode == 0) {
				t.Errorf("group %d is answered %+v", i, g)
			}
		}
		if h.log.confirms > Partitions {
			t.Errorf("of %d partitions it was asked %d times", Partitions, h.log.confirms)
		}
	})
}

func TestLoadIsTriedUntilTheLogCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 7))), nil)
		h.Unload(Partition("g"))
		h.log.Set(func(l *coordinatortest.Log) { l.ReadErr = errors.New("input/output error") })
		h.load(2)
		wantCode(t, "heartbeat", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
		time.Sleep(10 * coordinator.LoadRetry)
		h.log.Set(func(l *coordinatortest.Log) {
			if l.Reads < 10 {
				t.Errorf("%d reads", l.Reads)
			}
			l.ReadErr = nil
		})
		time.Sleep(coordinator.LoadRetry + time.Millisecond)
		if got := h.fetched("g"); got != 7 {
			t.Fatalf("offset %d", got)
		}
	})
}

func TestSessionTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		m := now(t, h.join("g", "")).MemberID
		wantCode(t, "sync", now(t, h.sync("g", m, 1)).ErrorCode, nil)
		for range 10 {
			time.Sleep(9999 * time.Millisecond)
			wantCode(t, "heartbeat in time", h.heartbeat("g", m, 1), nil)
		}
		time.Sleep(10*time.Second + time.Millisecond) // one that comes with the deadline still counts
		wantCode(t, "heartbeat too late", h.heartbeat("g", m, 1), kerr.UnknownMemberID)
	})
}

func TestRebalanceEndsWithoutWhoDoesNotRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		dead := now(t, h.join("g", "")).MemberID
		wantCode(t, "sync", now(t, h.sync("g", dead, 1)).ErrorCode, nil)
		second := h.join("g", "")
		none(t, second)
		begin := time.Now()
		resp := <-second
		if took := time.Since(begin); took != 10*time.Second { // its session, shorter than the rebalance time-out
			t.Fatalf("after %v", took)
		}
		if resp.ErrorCode != 0 || resp.Generation != 2 || resp.LeaderID != resp.MemberID || len(resp.Members) != 1 {
			t.Fatalf("%+v", resp)
		}
	})
}

func TestRestartContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		m := now(t, h.join("g", "")).MemberID
		wantCode(t, "sync", now(t, h.sync("g", m, 1)).ErrorCode, nil)
		wantCode(t, "commit", commitCode(now(t, h.commit("other-g", 1))), kerr.NotCoordinator)
		req := commitRequest("g", 42)
		req.MemberID, req.Generation = m, 1
		wantCode(t, "commit", commitCode(now(t, call(h, h.OffsetCommit, req))), nil)
		before := h.Stats()
		h.load(2) // a new epoch: what another process would do
		if got := h.fetched("g"); got != 42 {
			t.Fatalf("offset %d", got)
		}
		wantCode(t, "heartbeat", h.heartbeat("g", m, 1), nil)
		if resp := now(t, h.sync("g", m, 1)); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "all" {
			t.Fatalf("%+v", resp)
		}
		if after := h.Stats(); after != before {
			t.Fatalf("%+v, before the restart %+v", after, before)
		}
		reads := h.log.Reads
		h.load(2)
		h.load(1)
		if h.log.Reads != reads {
			t.Fatal("loaded again under an epoch that is not higher")
		}
	})
}

// A commit is answered when it is in the log, and not seen before.
func TestAnswersWaitForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		h.log.Hold()
		commits := []<-chan *kmsg.OffsetCommitResponse{h.commit("g", 1), h.commit("g", 2), h.commit("g", 3)}
		none(t, commits[0])
		m := now(t, h.join("g", "")).MemberID
		sync := h.sync("g", m, 1)
		none(t, sync)
		if got := h.fetched("g"); got != -1 {
			t.Fatalf("offset %d was seen", got)
		}
		h.log.Release()
		for _, c := range commits {
			wantCode(t, "commit", commitCode(now(t, c)), nil)
		}
		wantCode(t, "sync", now(t, sync).ErrorCode, nil)
		if got := h.fetched("g"); got != 3 {
			t.Fatalf("offset %d", got)
		}
	})
}

// What waits together is appended together.
func TestCommitsShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		s := h.shard("g")
		block := make(chan struct{})
		s.Submit(t.Context(), Request{Body: &DeleteGroup{Group: "none"}}, func(any) { <-block }, func(int16) {})
		synctest.Wait()
		var all []<-chan *kmsg.OffsetCommitResponse
		for i := range 100 {
			all = append(all, h.commit("g", int64(i)))
		}
		close(block)
		for _, c := range all {
			wantCode(t, "commit", commitCode(now(t, c)), nil)
		}
		if h.log.Appends != 1 {
			t.Fatalf("%d appends for commits that waited together", h.log.Appends)
		}
		if got := h.fetched("g"); got != 99 {
			t.Fatalf("offset %d", got)
		}
	})
}

func TestSlowCoreRefusesWhatItCannotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.MaxQueue = 3 })
		h.load(1)
		s := h.shard("g")
		block := make(chan struct{})
		s.Submit(t.Context(), Request{Body: &DeleteGroup{Group: "none"}}, func(any) { <-block }, func(int16) {})
		synctest.Wait()
		var all []<-chan *kmsg.OffsetCommitResponse
		for range 5 {
			all = append(all, h.commit("g", 1))
		}
		for _, c := range all[3:] {
			wantCode(t, "commit beyond the queue", commitCode(now(t, c)), kerr.CoordinatorNotAvailable)
		}
		close(block)
		for _, c := range all[:3] {
			wantCode(t, "commit", commitCode(now(t, c)), nil)
		}
	})
}

// The log is not read before all that the shard before has appended is there.
func TestNextEpochWaitsForAppendsOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		h.log.Hold()
		first := h.commit("g", 1)
		none(t, first)
		h.Unload(Partition("g"))
		h.Load(Partition("g"), 1)
		wantCode(t, "commit cut off", commitCode(now(t, first)), kerr.NotCoordinator)
		wantCode(t, "heartbeat", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
		h.log.Release()
		synctest.Wait()
		if got := h.fetched("g"); got != 1 {
			t.Fatalf("offset %d", got)
		}

		// An append that never ends keeps nobody from closing.
		h.log.Hold()
		none(t, h.commit("g", 2))
		h.load(2)
		h.load(3)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h.log.Release()
		wantCode(t, "closed", h.heartbeat("g", "m", 1), kerr.NotCoordinator)
		h.Load(Partition("g"), 4)
		wantCode(t, "closed", h.heartbeat("g", "m", 1), kerr.NotCoordinator)
	})
}

func TestFailedAppendIsAnsweredAsWhatItIs(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		commit *kerr.Error
	}{
		"not leader": {fmt.Errorf("append: %w", coordinator.ErrNotLeader), kerr.NotCoordinator},
		"fenced":     {kerr.FencedLeaderEpoch, kerr.NotCoordinator},
		"too large":  {kerr.MessageTooLarge, kerr.InvalidCommitOffsetSize},
		"other":      {errors.New("log is dead"), kerr.CoordinatorNotAvailable},
		"ISR":        {kerr.NotEnoughReplicas, kerr.CoordinatorNotAvailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t)
				h.load(1)
				wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
				h.log.Set(func(l *coordinatortest.Log) { l.Fail = c.err })
				wantCode(t, "commit", commitCode(now(t, h.commit("g", 2))), c.commit)
				if got := h.fetched("g"); got != 1 {
					t.Fatalf("offset %d", got)
				}
			})
		})
	}
}

// A join whose client hung up makes no member.
func TestJoinOfAClosedConnectionIsNotCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var answers int
		h.JoinGroup(ctx, "c", "/h", joinRequest("g", ""), func(*kmsg.JoinGroupResponse) { answers++ })
		synctest.Wait()
		if st := h.Stats(); st.Groups != 0 || answers != 1 {
			t.Fatalf("%+v, %d answers", st, answers)
		}
	})
}

// Beyond the bounds nothing new is taken, and what exists goes on.
func TestStateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.MaxGroups = 2; o.MaxState = 1 << 20 })
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		wantCode(t, "first", commitCode(now(t, h.commit("a", 1))), nil)
		m := now(t, h.join("b", ""))
		wantCode(t, "second", m.ErrorCode, nil)
		wantCode(t, "third", commitCode(now(t, h.commit("c", 1))), kerr.CoordinatorNotAvailable)
		wantCode(t, "third", now(t, h.join("d", "")).ErrorCode, kerr.GroupMaxSizeReached)
		wantCode(t, "first again", commitCode(now(t, h.commit("a", 2))), nil)
		wantCode(t, "second again", h.heartbeat("b", m.MemberID, 1), nil)
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{"a", "b", "c"}
		codes := now(t, call(h, h.DeleteGroups, del)).Groups
		wantCode(t, "delete a", codes[0].ErrorCode, nil)
		wantCode(t, "delete b", codes[1].ErrorCode, kerr.NonEmptyGroup)
		wantCode(t, "delete c", codes[2].ErrorCode, kerr.GroupIDNotFound)
		wantCode(t, "third", commitCode(now(t, h.commit("c", 1))), nil)
	})
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.MaxState = 20_000 })
		h.load(1)
		taken := 0
		for i := range 1000 {
			req := commitRequest("g", 1)
			req.Topics[0].Topic = fmt.Sprint("topic-", i)
			if commitCode(now(t, call(h, h.OffsetCommit, req))) == 0 {
				taken++
			}
		}
		if st := h.Stats(); taken < 10 || taken > 150 || st.Bytes > 21_000 {
			t.Fatalf("%d offsets taken, %+v", taken, st)
		}
	})
}

// Every version of every request is answered, in a form that encodes and
// decodes; those that ask for several groups in their order.
func TestEveryVersionIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 5))), nil)
		wantCode(t, "commit", commitCode(now(t, h.commit("h", 6))), nil)
		roundTrip := func(resp kmsg.Response) {
			t.Helper()
			again := kmsg.RequestForKey(resp.Key()).ResponseKind()
			again.SetVersion(resp.GetVersion())
			if err := again.ReadFrom(resp.AppendTo(nil)); err != nil {
				t.Fatalf("%T version %d: %v", resp, resp.GetVersion(), err)
			}
		}
		for v := range int16(11) {
			fetch := kmsg.NewPtrOffsetFetchRequest()
			fetch.Version, fetch.Group = v, "g"
			fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
			fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "h"}, {Group: "g"}}
			resp := now(t, call(h, h.OffsetFetch, fetch))
			roundTrip(resp)
			switch {
			case v < 8 && resp.Topics[0].Partitions[0].Offset != 5, v >= 8 && resp.Groups[0].Group != "h":
				t.Fatalf("version %d: %+v", v, resp)
			}
			if v >= 2 && v < 8 {
				fetch.Topics = nil
				if resp := now(t, call(h, h.OffsetFetch, fetch)); len(resp.Topics) != 1 {
					t.Fatalf("version %d, all topics: %+v", v, resp)
				}
			}
			commit := commitRequest("g", 5)
			commit.Version = v
			roundTrip(now(t, call(h, h.OffsetCommit, commit)))
		}
		for v := range int16(10) {
			group := fmt.Sprint("v", v)
			req := joinRequest(group, "")
			req.Version = v
			join := func(ctx context.Context, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
				h.JoinGroup(ctx, "c", "/h", req, answer)
			}
			resp := now(t, call(h, join, req))
			roundTrip(resp)
			if v >= 4 {
				wantCode(t, "join", resp.ErrorCode, kerr.MemberIDRequired)
				req.MemberID = resp.MemberID
				resp = now(t, call(h, join, req))
				roundTrip(resp)
			}
			wantCode(t, "join", resp.ErrorCode, nil)
			roundTrip(now(t, h.sync(group, resp.MemberID, 1)))
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Version, leave.Group, leave.MemberID = min(v, 5), group, resp.MemberID
			leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: resp.MemberID}}
			left := now(t, call(h, h.LeaveGroup, leave))
			wantCode(t, "leave", left.ErrorCode, nil)
			roundTrip(left)
		}
		for v := range int16(7) {
			describe := kmsg.NewPtrDescribeGroupsRequest()
			describe.Version, describe.Groups = v, []string{"h", "v3", "none", "g"}
			resp := now(t, call(h, h.DescribeGroups, describe))
			roundTrip(resp)
			var states []string
			for _, g := range resp.Groups {
				states = append(states, g.Group+":"+g.State)
			}
			if got := strings.Join(states, " "); got != "h:Empty v3:Empty none:Dead g:Empty" {
				t.Fatalf("version %d: %s", v, got)
			}
			list := kmsg.NewPtrListGroupsRequest()
			list.Version = min(v, 5)
			roundTrip(now(t, call(h, h.ListGroups, list)))
		}
		if n := len(now(t, call(h, h.ListGroups, kmsg.NewPtrListGroupsRequest())).Groups); n != 12 {
			t.Fatalf("%d groups", n)
		}
		roundTrip(now(t, call(h, h.DescribeGroups, kmsg.NewPtrDescribeGroupsRequest())))
	})
}

// A group may have more offsets than a batch has room for.
func TestManyOffsetsTakeSeveralBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.log.Limit = 1 << 20
		h.load(1)
		const partitions = 30_000
		req := commitRequest("g", 1)
		req.Topics[0].Partitions = nil
		for p := range int32(partitions) {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = p, int64(p)
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
		}
		for _, p := range now(t, call(h, h.OffsetCommit, req)).Topics[0].Partitions {
			wantCode(t, "commit", p.ErrorCode, nil)
		}
		h.load(2)
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = 7, "g"
		resp := now(t, call(h, h.OffsetFetch, fetch))
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != partitions {
			t.Fatal("not all were committed")
		}
		for i, p := range resp.Topics[0].Partitions {
			if p.Partition != int32(i) || p.Offset != int64(i) {
				t.Fatalf("%+v", p)
			}
		}
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{"g"}
		wantCode(t, "delete", now(t, call(h, h.DeleteGroups, del)).Groups[0].ErrorCode, nil)
		h.load(3)
		if st := h.Stats(); st.Groups != 0 || st.Bytes != 0 {
			t.Fatalf("%+v after its deletion", st)
		}

		// What no batch has room for is refused: here, an assignment.
		m := now(t, h.join("g", "")).MemberID
		big := kmsg.NewPtrSyncGroupRequest()
		big.Version, big.Group, big.MemberID, big.Generation = 3, "g", m, 1
		big.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m, MemberAssignment: make([]byte, 2<<20)}}
		wantCode(t, "sync", now(t, call(h, h.SyncGroup, big)).ErrorCode, kerr.UnknownServerError)
		wantCode(t, "heartbeat", h.heartbeat("g", m, 1), kerr.RebalanceInProgress)
	})
}

// All members of a group together are bounded too.
func TestGroupIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.MaxMember = maxGroupBytes })
		h.load(1)
		join := func(size int) <-chan *kmsg.JoinGroupResponse {
			req := joinRequest("g", "")
			req.Protocols[0].Metadata = make([]byte, size)
			return call(h, func(ctx context.Context, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
				h.JoinGroup(ctx, "c", "/h", req, answer)
			}, req)
		}
		wantCode(t, "one that is large", now(t, join(maxGroupBytes/2)).ErrorCode, nil)
		wantCode(t, "another", now(t, join(maxGroupBytes/2)).ErrorCode, kerr.GroupMaxSizeReached)
		none(t, join(1000))
	})
}

// Many clients at once, for the race detector.
func TestManyClientsAtOnce(t *testing.T) {
	h := open(t, func(o *Options) { o.Logger = slog.New(slog.DiscardHandler); o.NewID = nil })
	for p := range int32(Partitions) {
		h.Load(p, 1)
	}
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() {
			group := fmt.Sprint("g", i%8)
			member := ""
			for range 50 {
				joined := <-h.join(group, member)
				if joined.ErrorCode != 0 {
					member = ""
					continue
				}
				member = joined.MemberID
				<-h.sync(group, member, joined.Generation)
				req := commitRequest(group, 1)
				req.MemberID, req.Generation = member, joined.Generation
				<-call(h, h.OffsetCommit, req)
				<-call(h, h.ListGroups, kmsg.NewPtrListGroupsRequest())
				describe := kmsg.NewPtrDescribeGroupsRequest()
				describe.Groups = []string{group}
				(<-call(h, h.DescribeGroups, describe)).AppendTo(nil)
			}
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Group, leave.MemberID = group, member
			<-call(h, h.LeaveGroup, leave)
		})
	}
	for e := range storage.Epoch(20) {
		h.Load(Partition("g1"), e+2)
		h.Unload(Partition("g2"))
		h.Load(Partition("g2"), e+2)
	}
	clients.Wait()
}
