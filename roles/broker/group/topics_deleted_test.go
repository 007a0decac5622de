package group

import (
	"errors"
	"fmt"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

func TestOffsetsOfUnknownPartitionsAreRefusedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.Topics = catalogue{} })
		h.load(1)
		partition := func(p int32, offset int64) kmsg.OffsetCommitRequestTopicPartition {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = p, offset
			return rp
		}
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group = 9, "g"
		req.Topics = []kmsg.OffsetCommitRequestTopic{
			{Topic: "unknown", Partitions: []kmsg.OffsetCommitRequestTopicPartition{partition(0, 1)}},
			{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{partition(2, 1), partition(1, 5), partition(-1, 1)}},
		}
		resp := now(t, call(h, h.OffsetCommit, req))
		got := []int16{resp.Topics[0].Partitions[0].ErrorCode, resp.Topics[1].Partitions[0].ErrorCode, resp.Topics[1].Partitions[1].ErrorCode, resp.Topics[1].Partitions[2].ErrorCode}
		unknown := kerr.UnknownTopicOrPartition.Code
		if want := []int16{unknown, unknown, 0, unknown}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("codes %v, want %v", got, want)
		}
		req.Topics = req.Topics[:1]
		wantCode(t, "only unknown", commitCode(now(t, call(h, h.OffsetCommit, req))), kerr.UnknownTopicOrPartition)

		// By ids, since version 10.
		req.Version = 10
		req.Topics = []kmsg.OffsetCommitRequestTopic{
			{TopicID: [16]byte{9}, Partitions: []kmsg.OffsetCommitRequestTopicPartition{partition(0, 1)}},
			{TopicID: [16]byte{1}, Partitions: []kmsg.OffsetCommitRequestTopicPartition{partition(0, 6)}},
		}
		resp = now(t, call(h, h.OffsetCommit, req))
		wantCode(t, "unknown id", resp.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
		wantCode(t, "known id", resp.Topics[1].Partitions[0].ErrorCode, nil)
		if resp.Topics[1].TopicID != [16]byte{1} {
			t.Fatalf("%+v", resp)
		}

		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version = 10
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{
			{Group: "g"}, // everything
			{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{TopicID: [16]byte{9}, Partitions: []int32{0}}, {TopicID: [16]byte{1}, Partitions: []int32{1, 0}}}},
		}
		all := now(t, call(h, h.OffsetFetch, fetch)).Groups
		if len(all[0].Topics) != 1 || all[0].Topics[0].TopicID != [16]byte{1} || len(all[0].Topics[0].Partitions) != 2 {
			t.Fatalf("%+v", all[0])
		}
		wantCode(t, "unknown id", all[1].Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
		if p := all[1].Topics[1].Partitions; p[0].Offset != 5 || p[1].Offset != 6 {
			t.Fatalf("%+v", p)
		}
	})
}

func TestDeletedTopicsLeaveNoOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		for _, g := range []string{"a", "b", "c"} {
			wantCode(t, "commit", commitCode(now(t, h.commit(g, 5))), nil)
		}
		h.TopicDeleted("t")
		synctest.Wait()
		for _, g := range []string{"a", "b", "c"} {
			if got := h.fetched(g); got != -1 {
				t.Fatalf("group %s: offset %d", g, got)
			}
		}
	})
}

// TestTopicDeletedWhileNobodyListens: the log is being read, or more wait already than
// may. It is said once only, and the name may be taken again by then.
func TestTopicDeletedWhileNobodyListens(t *testing.T) {
	for name, deafen := range map[string]func(h *house) (listen func()){
		"loading": func(h *house) func() {
			reading := make(chan struct{})
			h.log.Set(func(l *coordinatortest.Log) { l.Reading = reading })
			h.load(2)
			return func() { close(reading) }
		},
		"full": func(h *house) func() {
			busy := make(chan struct{})
			block := func(*kmsg.ListGroupsResponse) { <-busy }
			h.ListGroups(h.t.Context(), kmsg.NewPtrListGroupsRequest(), block)
			synctest.Wait()
			h.ListGroups(h.t.Context(), kmsg.NewPtrListGroupsRequest(), func(*kmsg.ListGroupsResponse) {})
			wantCode(h.t, "one more", commitCode(now(h.t, h.commit("g", 6))), kerr.CoordinatorNotAvailable)
			return func() { close(busy) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, func(o *Options) { o.MaxQueue = 1 })
				h.load(1)
				wantCode(t, "commit", commitCode(now(t, h.commit("g", 5))), nil)
				listen := deafen(h)
				h.TopicDeleted("t")
				listen()
				synctest.Wait()
				if got := h.fetched("g"); got != -1 {
					t.Fatalf("offset %d", got)
				}
				h.TopicDeleted("t") // of a shard that has ended, too
				h.Unload(Partition("g"))
				h.TopicDeleted("t")
			})
		})
	}
}

// changing are topics of which "t" comes and goes, and "other" stays.
type changing struct {
	catalogue
	gone atomic.Bool
}

func (c *changing) Partitions(name string) int32 {
	if c.Newest(name).IsZero() {
		return 0
	}
	return 2
}

func (c *changing) TopicID(name string) storage.TopicID { return c.Newest(name) }

func (c *changing) Newest(name string) storage.TopicID {
	switch {
	case name != "t":
		return storage.TopicID{9}
	case c.gone.Load():
		return storage.TopicID{}
	}
	return storage.TopicID{1}
}

// TestTopicsDeletedUnheardLeaveNoOffsets: while no coordinator had the partition, or
// without a word, or when it could not be written down. Offsets of topics that are there
// stay, however often it is looked.
func TestTopicsDeletedUnheardLeaveNoOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics := new(changing)
		h := open(t, func(o *Options) { o.Topics = topics })
		h.load(1)
		commit := func(topic string) {
			t.Helper()
			q := commitRequest("g", 5)
			q.Topics[0].Topic = topic
			wantCode(t, "commit", commitCode(now(t, call(h, h.OffsetCommit, q))), nil)
		}
		want := func(topics ...string) {
			t.Helper()
			q := kmsg.NewPtrOffsetFetchRequest()
			q.Version, q.Group = 7, "g"
			var got []string
			for _, topic := range now(t, call(h, h.OffsetFetch, q)).Topics {
				got = append(got, topic.Topic)
			}
			if !slices.Equal(got, topics) {
				t.Fatalf("offsets of %v, want of %v", got, topics)
			}
		}
		commit("other")
		commit("t")
		h.load(2)
		time.Sleep(2 * DefaultOffsetCheck)
		want("other", "t")

		h.Unload(Partition("g"))
		topics.gone.Store(true)
		h.load(3)
		want("other")
		topics.gone.Store(false) // made anew
		want("other")

		commit("t")
		topics.gone.Store(true)
		want("other", "t")
		time.Sleep(DefaultOffsetCheck + time.Second)
		want("other")
		h.load(4)
		want("other")

		topics.gone.Store(false)
		commit("t")
		topics.gone.Store(true)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = errors.New("no room") })
		h.TopicDeleted("t")
		want("other", "t")
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = nil })
		time.Sleep(DefaultOffsetCheck + time.Second)
		want("other")
	})
}
