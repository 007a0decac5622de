package group

import (
	"bytes"
	"errors"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// twice is the topic t, deleted and made anew: known is the one that requests are
// answered from, newest the one that there is by the newest that was heard.
type twice struct{ known, newest atomic.Int32 }

func (c *twice) become(n int32) { c.known.Store(n); c.newest.Store(n) }

func (c *twice) Partitions(string) int32          { return 2 }
func (c *twice) TopicID(string) storage.TopicID   { return storage.TopicID{byte(c.known.Load())} }
func (c *twice) Newest(string) storage.TopicID    { return storage.TopicID{byte(c.newest.Load())} }
func (c *twice) TopicName(storage.TopicID) string { return "t" }

func openTwice(t *testing.T) (*house, *twice) {
	t.Helper()
	topics := new(twice)
	topics.become(1)
	h := open(t, func(o *Options) { o.Topics = topics })
	h.load(1)
	return h, topics
}

// wantNothing says that nobody sees an offset.
func (h *house) wantNothing() {
	h.t.Helper()
	h.wantOffset(-1)
	all := kmsg.NewPtrOffsetFetchRequest()
	all.Version, all.Group = 7, "g"
	if got := now(h.t, call(h, h.OffsetFetch, all)).Topics; len(got) != 0 {
		h.t.Fatalf("of all topics: %+v", got)
	}
	for _, most := range []int{0, 10} {
		told := make(chan Survey, 1)
		h.Survey(h.t.Context(), Partition("g"), most, func(s Survey) { told <- s })
		got := now(h.t, told)
		for _, g := range got.Groups {
			if len(g.Offsets) > 0 || got.Left > 0 {
				h.t.Fatalf("surveyed: %+v", got)
			}
		}
	}
}

// What was committed for a topic is not that of one made later under its name, though
// nobody could write down that the first was deleted: the process was killed, or the log
// had no room.
func TestTopicMadeAnewHasNoOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, topics := openTwice(t)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1000))), nil)
		h.load(2)
		h.wantOffset(1000)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = errors.New("no room") })
		topics.become(2)
		h.TopicDeleted("t")
		h.wantNothing()
		h.Unload(Partition("g")) // killed
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = nil })
		h.load(3)
		h.wantNothing()
		topics.become(1)
		h.wantNothing() // a tombstone is on record
		topics.become(2)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 3))), nil)
		h.wantOffset(3)
		time.Sleep(2 * DefaultOffsetCheck)
		h.load(4)
		h.wantOffset(3)
	})
}

// A commit that was let in for a topic, and comes to the coordinator when that is gone,
// is refused: nothing would take it back.
func TestCommitForATopicThatIsGoneIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, topics := openTwice(t)
		for _, newest := range []int32{0, 2} { // deleted; made anew
			topics.newest.Store(newest)
			wantCode(t, "commit", commitCode(now(t, h.commit("g", 1000))), kerr.UnknownTopicOrPartition)
			wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 1000)), kerr.UnknownTopicOrPartition)
			byID := commitRequest("g", 1000)
			byID.Version, byID.Topics[0].TopicID = 10, storage.TopicID{1}
			wantCode(t, "by id", commitCode(now(t, call(h, h.OffsetCommit, byID))), kerr.UnknownTopicID)
		}
		h.wantNothing()
		topics.become(2)
		byID := commitRequest("g", 1000)
		byID.Version, byID.Topics[0].TopicID = 10, storage.TopicID{1}
		wantCode(t, "by the id of the first", commitCode(now(t, call(h, h.OffsetCommit, byID))), kerr.UnknownTopicID)
		h.wantNothing()
	})
}

// A transaction that ends when the topic of its offsets was made anew commits nothing for
// that one.
func TestTransactionOfATopicMadeAnew(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, topics := openTwice(t)
			wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 1000)), nil)
			topics.become(2)
			if restart {
				h.load(2)
			}
			h.mark(7, true)
			h.wantNothing()
		})
	}
}

// What is committed for the topic made anew is not taken back with what was for the first.
func TestTombstonesSpareTheTopicMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, topics := openTwice(t)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1000))), nil)
		topics.become(2)
		h.log.Hold()
		second := h.commit("g", 5)
		none(t, second)
		time.Sleep(DefaultOffsetCheck + time.Second) // it is looked for offsets of the first
		h.log.Release()
		wantCode(t, "commit", commitCode(now(t, second)), nil)
		h.wantOffset(5)
		h.load(2)
		h.wantOffset(5)
	})
	synctest.Test(t, func(t *testing.T) {
		h, topics := openTwice(t)
		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 1000)), nil)
		topics.become(2)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 5))), nil)
		time.Sleep(DefaultOffsetCheck + time.Second)
		h.load(2)
		h.wantOffset(5)
		h.mark(7, true)
		h.wantOffset(5)

		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 8, 9)), nil)
		topics.become(3)
		wantCode(t, "of the third", h.txnCommit(txnCommitRequest("g", 9, 2)), nil)
		time.Sleep(DefaultOffsetCheck + time.Second)
		h.mark(9, true)
		h.wantOffset(2)
	})
}

// The snapshot of a compaction, too, says of which topic an offset is.
func TestSnapshotKeepsTheTopicOfAnOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := openTwice(t)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 2)), nil)
		for _, w := range h.shard("g").core.Current("g") {
			for _, r := range w.Records {
				if r.TopicID != (storage.TopicID{1}) {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}

// Offsets of before the id was noted, by this server or another, are those of the topic
// that has the name. Kafka's value has the id in it.
func TestRecordsThatSayNothingOfTheTopic(t *testing.T) {
	const goldenTopicCommit = `
		0004                               version
		000000000000002a                   offset 42
		00000005                           leader epoch
		03 6d64                            metadata "md"
		0000018bcfe56800                   committed at 1700000000000
		01 00 10                           one tagged field: 0, of 16 bytes
		01000000000000000000000000000000   topic id`
	header := func(name string, value []byte) []batch.Header {
		return []batch.Header{{Key: []byte("other"), Value: []byte("x")}, {Key: []byte(name), Value: value}}
	}
	one := append([]byte{1}, make([]byte, 15)...)
	for name, c := range map[string]struct {
		value         string
		headers       []batch.Header
		first, second int64
		damaged       bool
	}{
		"no id":          {value: goldenCommit, first: 42, second: 42},
		"that expires":   {value: goldenExpiringCommit, first: 42, second: 42},
		"in the value":   {value: goldenTopicCommit, first: 42, second: -1},
		"in a header":    {value: goldenCommit, headers: header(topicHeader, one), first: 42, second: -1},
		"expiring, too":  {value: goldenExpiringCommit, headers: header(topicHeader, one), first: 42, second: -1},
		"another header": {value: goldenCommit, headers: header("else", one), first: 42, second: 42},
		"cut header":     {value: goldenCommit, headers: header(topicHeader, one[:15]), damaged: true},
		"long header":    {value: goldenCommit, headers: header(topicHeader, append(bytes.Clone(one), 0)), damaged: true},
		"null header":    {value: goldenCommit, headers: header(topicHeader, nil), damaged: true},
		"cut life":       {value: goldenCommit, headers: header(beforeHeader, []byte{0, 16, 0}), damaged: true},
		"no life":        {value: goldenCommit, headers: header(beforeHeader, []byte{0, 0, 0, 0}), damaged: true},
		"negative life":  {value: goldenCommit, headers: header(beforeHeader, []byte{255, 16, 0, 0}), damaged: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := new(batch.Builder)
			key := kmsg.OffsetCommitKey{Version: commitKeyVersion, Group: "g", Topic: "t"}
			w.Add(stamp, key.AppendTo(nil), unhex(t, c.value), c.headers...)
			b, err := w.Build()
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range map[int32]int64{1: c.first, 2: c.second} {
				synctest.Test(t, func(t *testing.T) {
					topics := new(twice)
					topics.become(id)
					h := open(t, func(o *Options) { o.Topics = topics })
					h.log.Append(Partition("g"), 0, b, log.Guard{}, func(storage.Offset, error) {})
					h.load(1)
					if c.damaged {
						wantCode(t, "heartbeat", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
						return
					}
					h.wantOffset(want)
				})
			}
		})
	}
}
