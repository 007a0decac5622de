package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// Event is what a core is told.
type Event interface{ event() }

// Call names a request until it is answered.
type Call uint64

// WriteID names a write until it is known to be committed or not. Writes are
// committed in the order they were asked for.
type WriteID uint64

// Request asks something on behalf of a client. Body is a request of package
// kmsg, or one of the questions below; the core keeps none of its bytes.
type Request struct {
	Call                 Call
	ClientID, ClientHost string    // of a join
	Wall                 time.Time // the time that records carry
	Full                 bool      // no room for new groups, members or offsets
	// Newest is [Topics.Newest] of now; nil: nothing is known of topics.
	Newest func(topic string) storage.TopicID
	// Matched is what the pattern of a ConsumerGroupHeartbeat matches; nil: it is not
	// taken.
	Matched *Matched
	Rights  Rights // of the client of a ConsumerGroupHeartbeat; nil: nobody authorises
	Body    any
}

// gone reports whether a topic is no more: nothing has its name, or another topic. id is
// zero when it is not known which of that name it is.
func (r *Request) gone(topic string, id storage.TopicID) bool {
	return r.Newest != nil && isGone(r.Newest(topic), id)
}

// another reports whether the name of a topic is that of one made later.
func (r *Request) another(topic string, id storage.TopicID) bool {
	if r.Newest == nil || id.IsZero() {
		return false
	}
	newest := r.Newest(topic)
	return !guard.Check("group.offset-topic", newest.IsZero() || newest == id)
}

func isGone(newest, id storage.TopicID) bool {
	return newest.IsZero() || !id.IsZero() && id != newest
}

// Written tells the fate of writes.
type Written struct {
	IDs []WriteID
	Err error
}

// Tick says that the deadline has come.
type Tick struct{ Wall time.Time }

// ExpireOffsets says that it is time to look for offsets that have expired, by a time
// that is believed.
type ExpireOffsets struct{ Wall, Believed time.Time }

// TopicsChanged tells which topics there are from now on. Before the first, there
// are none for members of the consumer protocol.
type TopicsChanged struct {
	Wall      time.Time
	Catalogue Catalogue
}

// PatternsMatched tells what patterns match that were asked for.
type PatternsMatched struct {
	Wall    time.Time
	Matched []*Matched
}

// ForgetTopics says that topics are no more: Gone reports of which that is known; the id
// is zero where it is not known which topic of the name it was. What groups have
// committed for them is taken back.
type ForgetTopics struct {
	Wall time.Time
	Gone func(topic string, id storage.TopicID) bool
}

func (Request) event()         {}
func (Written) event()         {}
func (Tick) event()            {}
func (TopicsChanged) event()   {}
func (PatternsMatched) event() {}
func (ExpireOffsets) event()   {}
func (ForgetTopics) event()    {}

// Questions that concern one group, where the request of the protocol names
// several, and one about all groups of a core.
type (
	// FetchOffsets is answered by a *kmsg.OffsetFetchResponseGroup whose topics
	// come in the order asked for. Stable takes no offset for an answer that an
	// open transaction may replace (KIP-447).
	FetchOffsets struct {
		Group  string
		Topics []kmsg.OffsetFetchRequestGroupTopic
		All    bool
		Stable bool
		// Who asks, if it is a member: nil and -1, if it says nothing of that.
		Member *string
		Epoch  int32
	}
	// TxnCommit commits offsets in a producer's transaction. It is answered by a
	// *kmsg.OffsetCommitResponse.
	TxnCommit struct {
		Offsets       *kmsg.OffsetCommitRequest
		ProducerID    int64
		ProducerEpoch int16
		Verified      log.Guard
	}
	// EndTransaction ends a producer's transaction in this partition. It is
	// answered by an error, nil when the marker is committed.
	EndTransaction struct{ Marker log.Marker }
	// DescribeGroup is answered by a *kmsg.DescribeGroupsResponseGroup.
	DescribeGroup struct {
		Group   string
		Version int16
	}
	// DeleteGroup is answered by an error code, an int16.
	DeleteGroup struct{ Group string }
	// ListGroups is answered by a []kmsg.ListGroupsResponseGroup.
	ListGroups struct{ States, Types []string }
	// DeleteOffsets is answered by a *kmsg.OffsetDeleteResponse.
	DeleteOffsets struct {
		Request    *kmsg.OffsetDeleteRequest
		Partitions map[string]int32 // that the topics have; nil: any
	}
	// SurveyGroups is answered by a Survey, with at most so many committed offsets.
	SurveyGroups struct{ Most int }
	// EarlierLife is answered by a []EarlierOffset, ClampOffsets by a Clamped.
	EarlierLife  struct{}
	ClampOffsets struct{ Clamps []Clamp }
	// DescribeConsumerGroup is answered by a *kmsg.ConsumerGroupDescribeResponseGroup.
	DescribeConsumerGroup struct{ Group string }
)

// Effects are what the shell must do after a step.
type Effects struct {
	Answers []Answer
	Writes  []Write
	Notes   []Note
	Match   []string // patterns that a [PatternsMatched] is wanted for, some twice
}

// Answer ends a call.
type Answer struct {
	Call Call
	Body any
}

// Write asks for records to be committed, all or none; a [Written] answers it.
// They are part of a transaction, or its end, if it says so.
type Write struct {
	ID      WriteID
	Records []Record
	Txn     *TxnWrite
	Marker  *log.Marker
}

// TxnWrite says which transaction records are part of.
type TxnWrite struct {
	ProducerID    int64
	ProducerEpoch int16
	Verified      log.Guard
}

// Record is a record of the topic; a nil value takes back the key. TopicID is of an
// offset commit: the topic that has the name in the key, zero where it is not known.
type Record struct {
	Key, Value []byte
	TopicID    storage.TopicID
	Before     storage.Epoch // see commit
}

// Note is something worth a line in the log.
type Note struct {
	Group, Member, What string
	Generation          int32
	Members             int
}

// Core holds the groups of one partition of the topic and decides what becomes
// of them. It belongs to one goroutine.
type Core struct {
	opt    Options
	groups map[string]*group
	alarms coordinator.Alarms[*group] // of every group that has a deadline
	writes map[WriteID]func(now time.Time, err error)
	lastID WriteID
	// Groups with offsets in the open transaction of a producer, by producer id.
	producers map[int64]map[*group]bool
	order     uint64        // of the newest offset, committed or in a transaction
	earlier   storage.Epoch // of what is replayed: see commit.before
	bytes     int64
	names     int64 // bytes of the groups' ids
	skips     int   // records of kinds that are not known here

	catalogue Catalogue // what members of the consumer protocol can be given

	fx   Effects
	wall time.Time
}

// NewCore returns a core without groups. Of the options it uses the limits and
// NewID.
func NewCore(opt Options) *Core {
	return &Core{opt: opt, groups: map[string]*group{}, writes: map[WriteID]func(time.Time, error){}, producers: map[int64]map[*group]bool{}, catalogue: nothing{}}
}

// Step applies one event and returns what the shell must do. now never goes
// back.
func (c *Core) Step(now time.Time, ev Event) Effects {
	c.fx = Effects{}
	switch ev := ev.(type) {
	case Request:
		c.wall = ev.Wall
		c.request(now, ev)
	case Written:
		for _, id := range ev.IDs {
			then := c.writes[id]
			delete(c.writes, id)
			then(now, ev.Err)
		}
	case TopicsChanged:
		c.wall = ev.Wall
		c.catalogue = ev.Catalogue
		for _, g := range c.sorted() {
			if g.consumer != nil && !g.deleting {
				g.consumer.refresh()
				g.persist(now, nil)
			}
		}
	case PatternsMatched:
		c.wall = ev.Wall
		for _, g := range c.sorted() {
			if g.consumer != nil && !g.deleting && g.consumer.subscribesAny(ev.Matched) {
				g.consumer.takeMatched(ev.Matched)
				g.persist(now, nil)
			}
		}
	case ExpireOffsets:
		c.wall = ev.Wall
		c.expireOffsets(ev.Believed)
	case ForgetTopics:
		c.wall = ev.Wall
		c.forgetTopics(ev.Gone)
	case Tick:
		c.wall = ev.Wall
		for g := range c.alarms.Due(now) {
			g.expire(now)
			c.sleep(g)
			c.dropIfBare(g)
		}
	}
	return c.fx
}

// Deadline is when the core wants a [Tick]; zero: it does not.
func (c *Core) Deadline() time.Time { return c.alarms.Next() }

// Size returns the number of groups and an estimate of their bytes.
func (c *Core) Size() (groups int, bytes int64) { return len(c.groups), c.bytes }

// Skipped returns how many replayed records were of unknown kinds.
func (c *Core) Skipped() int { return c.skips }

func (c *Core) request(now time.Time, r Request) {
	switch body := r.Body.(type) {
	case *kmsg.JoinGroupRequest:
		c.join(now, r, body)
	case *kmsg.SyncGroupRequest:
		c.sync(now, r, body)
	case *kmsg.HeartbeatRequest:
		c.heartbeat(now, r, body)
	case *kmsg.LeaveGroupRequest:
		c.leave(now, r, body)
	case *kmsg.ConsumerGroupHeartbeatRequest:
		c.consumerHeartbeat(now, r, body)
	case *kmsg.OffsetCommitRequest:
		c.commit(now, r, body, nil)
	case *TxnCommit:
		c.commit(now, r, body.Offsets, body)
	case *EndTransaction:
		c.endTransaction(r, body.Marker)
	case *FetchOffsets:
		c.answer(r.Call, c.fetch(r, body))
	case *DescribeGroup:
		c.answer(r.Call, c.describe(body))
	case *DescribeConsumerGroup:
		c.answer(r.Call, c.describeConsumers(body))
	case *ListGroups:
		c.answer(r.Call, c.list(body))
	case *SurveyGroups:
		c.answer(r.Call, c.survey(r, body.Most))
	case *EarlierLife:
		c.answer(r.Call, c.earlierOffsets(r))
	case *ClampOffsets:
		c.clamp(r, body.Clamps)
	case *DeleteGroup:
		c.delete(r, body)
	case *DeleteOffsets:
		c.deleteOffsets(r, body)
	default:
		panic(fmt.Sprintf("group: request of type %T", r.Body))
	}
}

func (c *Core) answer(call Call, body any) {
	c.fx.Answers = append(c.fx.Answers, Answer{call, body})
}

// write asks for w to be committed, and runs then when that is known.
func (c *Core) write(w Write, then func(now time.Time, err error)) WriteID {
	c.lastID++
	c.writes[c.lastID] = then
	w.ID = c.lastID
	c.fx.Writes = append(c.fx.Writes, w)
	return c.lastID
}

// make returns the group of that id, made now if it was not there.
func (c *Core) make(id string) *group {
	if g := c.groups[id]; g != nil {
		return g
	}
	id = strings.Clone(id)
	g := &group{
		core: c, id: id,
		members: map[string]*member{}, support: map[string]int{}, instances: map[string]*member{}, pending: map[string]time.Time{},
		offsets: map[string]map[int32]commit{},
	}
	c.groups[id] = g
	c.bytes += groupBytes + int64(len(id))
	c.names += int64(len(id))
	return g
}

// dropIfBare forgets a group of which nothing is left, here or in the log.
func (c *Core) dropIfBare(g *group) {
	if g.state == empty && g.record == nil && g.writing == 0 && len(g.members)+len(g.pending)+len(g.offsets)+len(g.committed)+len(g.transactions) == 0 && g.consumer == nil && c.groups[g.id] == g {
		c.drop(g)
	}
}

// drop forgets a group, members and offsets with it.
func (c *Core) drop(g *group) {
	for _, m := range g.ordered() {
		g.remove(m)
	}
	for id := range g.pending {
		g.unexpect(id)
	}
	for topic, partitions := range g.offsets {
		for p := range partitions {
			g.unset(topic, p)
		}
	}
	for key := range g.committed {
		g.noteCommitted(key, nil)
	}
	for id := range g.transactions {
		g.endTransaction(id, false)
	}
	g.recorded(nil)
	delete(c.groups, g.id)
	c.bytes -= groupBytes + int64(len(g.id))
	c.names -= int64(len(g.id))
	c.alarms.Set(g, time.Time{})
}

// wakeBy makes sure that g is looked at by then.
func (c *Core) wakeBy(g *group, at time.Time) {
	if wakes := g.WakesAt(); wakes.IsZero() || at.Before(wakes) {
		c.alarms.Set(g, at)
	}
}

// sleep lets g be until its next deadline. Deadlines that moved back since the
// last time cost nothing until here: a heartbeat does not touch the alarms.
func (c *Core) sleep(g *group) {
	if !g.WakesAt().IsZero() {
		c.alarms.Set(g, g.nextDeadline())
	}
}

// Loaded begins the sessions of the members that were replayed.
func (c *Core) Loaded(now time.Time) {
	for _, g := range c.sorted() {
		for _, m := range g.members {
			g.beat(now, m)
		}
		if g.record == nil {
			g.rebuild(now)
		}
		c.dropIfBare(g)
	}
}

// sorted returns the groups by id.
func (c *Core) sorted() []*group {
	return slices.SortedFunc(maps.Values(c.groups), func(a, b *group) int { return cmp.Compare(a.id, b.id) })
}
