package group

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestRandomCrews lets consumers of both protocols join one group, let partitions
// go and take others, leave, die, come back under their instance ids and lose
// answers, while topics come, grow and go, writes are late, fail, or are cut off
// by restarts. It holds that
//
//   - nobody takes a partition that another member still has;
//   - a partition has one owner in the coordinator's eyes, and no member is ahead
//     of its group;
//   - an epoch that was told never comes again for something else: what is told
//     later is not lower;
//   - a call is answered once;
//   - once the trouble ends, every partition that somebody subscribes is with a
//     member that does, and what members think is what the coordinator does;
//   - the state is the one that the log gives.
func TestRandomCrews(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		s := newShore(rt)
		for range rapid.IntRange(10, 200).Draw(rt, "steps") {
			s.disturb()
			s.check()
		}
		s.settle()
	})
}

// shore is a core, the log behind it and the consumers before it.
type shore struct {
	t     *rapid.T
	opt   Options
	core  *Core
	atlas atlas
	now   time.Time
	ids   int
	call  Call
	open  map[Call]func(any)
	hands []*hand
	log   []Record
	held  []Write
	told  int32 // highest epoch that an answer has told
	grown int32 // highest epoch of this life of the group
	quiet bool  // the trouble has ended
}

// hand is a consumer, as well-behaved as the world lets it be.
type hand struct {
	name     string
	classic  bool
	instance *string
	topics   []string
	pattern  string
	assignor string

	member string
	epoch  int32
	owned  assignment // what it consumes
	given  assignment // what it was told to consume
	unsure bool       // an answer was lost: it says all again
	asked  int        // counts its requests; an answer to an earlier one is lost
	busy   bool       // waits for an answer
	dead   bool
	phase  string // of the classic protocol: "", joined, stable
	plan   []kmsg.SyncGroupRequestGroupAssignment
}

func newShore(t *rapid.T) *shore {
	s := &shore{t: t, now: time.Unix(1_700_000_000, 0), open: map[Call]func(any){}}
	s.opt = Options{Log: new(memoryLog), NewID: func() string { s.ids++; return "n" + strconv.Itoa(s.ids) }}
	s.opt.Consumer.Session = 30 * time.Second
	if err := s.opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	s.atlas = atlas{0, map[string]int32{}, map[string]storage.TopicID{}}.with("a", 3).with("b", 2)
	s.begin()
	for range rapid.IntRange(1, 4).Draw(t, "hands") {
		s.birth()
	}
	return s
}

func (s *shore) begin() {
	s.core = NewCore(s.opt)
	for _, r := range s.log {
		if err := s.core.Replay(r); err != nil {
			s.t.Fatal(err)
		}
	}
	s.core.Loaded(s.now)
	s.grown = 0
	s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
}

func (s *shore) birth() {
	h := &hand{name: fmt.Sprint("h", len(s.hands)), classic: rapid.IntRange(0, 2).Draw(s.t, "classic") == 0}
	if rapid.IntRange(0, 2).Draw(s.t, "static") == 0 {
		h.instance = new("i-" + h.name)
	}
	s.reborn(h)
	s.resubscribe(h)
	s.hands = append(s.hands, h)
}

// reborn begins the life of a process.
func (s *shore) reborn(h *hand) {
	s.ids++
	h.member = ""
	if !h.classic {
		h.member = "m" + strconv.Itoa(s.ids)
	}
	h.dead, h.busy, h.unsure = false, false, false
	h.abandon()
}

// abandon lets go of everything; the next request joins.
func (h *hand) abandon() {
	h.asked++
	h.busy = false
	h.epoch, h.owned, h.given, h.phase, h.plan = 0, nil, nil, "", nil
}

func (s *shore) resubscribe(h *hand) {
	h.topics = rapid.SampledFrom([][]string{{"a"}, {"a", "b"}, {"b"}, {"a", "c"}, {}}).Draw(s.t, "topics")
	h.pattern, h.assignor = "", rapid.SampledFrom([]string{"uniform", "range"}).Draw(s.t, "assignor")
	if !h.classic {
		h.pattern = rapid.SampledFrom([]string{"", "", "[ab]", ".*"}).Draw(s.t, "pattern")
	}
	h.unsure = true
}

func (s *shore) step(ev Event) {
	fx := stepMatching(s.core, s.now, ev)
	s.held = append(s.held, fx.Writes...)
	for _, a := range fx.Answers {
		then := s.open[a.Call]
		if then == nil {
			s.t.Fatalf("call %d answered twice, or never made: %v", a.Call, a.Body)
		}
		delete(s.open, a.Call)
		s.t.Logf("%d is answered %s", a.Call, spoken(a.Body))
		then(a.Body)
	}
	if s.core.groups[modelGroup] == nil {
		s.told, s.grown = 0, 0 // deleted, or never recorded
	}
}

func (s *shore) ask(body any, then func(any)) {
	s.call++
	s.t.Logf("%d: %s", s.call, spoken(body))
	s.open[s.call] = then
	s.step(Request{Call: s.call, ClientID: "c", ClientHost: "/h", Wall: s.now, Body: body})
}

// request sends what h asks; hear gets the answer unless it is lost.
func (s *shore) request(h *hand, body any, hear func(any)) {
	h.asked++
	h.busy = true
	asked := h.asked
	lost := !s.quiet && rapid.IntRange(0, 9).Draw(s.t, "lost") == 0
	s.ask(body, func(answer any) {
		if h.asked != asked || h.dead {
			return
		}
		h.busy = false
		if lost {
			h.lose()
			return
		}
		hear(answer)
	})
}

// lose is what a consumer does when an answer does not come.
func (h *hand) lose() {
	h.asked++
	h.busy = false
	h.unsure = true
	h.given = h.owned // it may have said that it has no more, and is told again
	if h.classic {
		h.phase = ""
		h.owned = nil // eager: it lets go before it joins again
	}
}

// adopt lets h consume what it was given.
func (s *shore) adopt(h *hand) {
	for p := range h.given.places {
		for _, other := range s.hands {
			if other != h && other.owned.has(p) && s.standing(h) && s.standing(other) {
				s.t.Fatalf("%s takes %v, which %s has", h.name, p, other.name)
			}
		}
	}
	s.t.Logf("%s, %s, has %v", h.name, h.member, h.given)
	h.owned = h.given
}

// standing reports whether h is a member that has not missed anything: nobody may
// take what it has.
func (s *shore) standing(h *hand) bool {
	g := s.core.groups[modelGroup]
	switch {
	case g == nil || h.dead:
		return false
	case g.consumer != nil:
		m := g.consumer.members[h.member]
		return m != nil && (!h.classic && m.epoch >= 0 || m.epoch == h.epoch)
	}
	return g.members[h.member] != nil && g.generation == h.epoch
}

func (s *shore) disturb() {
	h := s.hands[rapid.IntRange(0, len(s.hands)-1).Draw(s.t, "hand")]
	switch rapid.SampledFrom([]string{
		"act", "act", "act", "act", "act", "act", "act", "act", "land", "land", "land", "fail", "wait",
		"leave", "die", "birth", "restart", "topics", "subscribe", "commit", "delete", "switch", "timeout",
	}).Draw(s.t, "what") {
	case "act":
		s.act(h)
	case "land":
		if n := rapid.IntRange(0, len(s.held)).Draw(s.t, "writes"); n > 0 {
			s.land(n)
		}
	case "fail":
		if len(s.held) > 0 && rapid.IntRange(0, 2).Draw(s.t, "fail") == 0 {
			var ids []WriteID
			for range rapid.IntRange(1, len(s.held)).Draw(s.t, "failed") {
				ids = append(ids, s.held[0].ID)
				s.held = s.held[1:]
			}
			s.grown = 0
			s.step(Written{IDs: ids, Err: errors.New("disk full")})
		}
	case "wait":
		s.wait(time.Duration(rapid.IntRange(0, 25).Draw(s.t, "seconds")) * time.Second)
	case "leave":
		if !h.dead {
			s.leave(h)
		}
	case "die": // and, with luck, come back
		h.dead = true
		if rapid.Bool().Draw(s.t, "again") {
			s.reborn(h)
		}
	case "birth":
		if len(s.hands) < 6 {
			s.birth()
		}
	case "restart":
		if rapid.IntRange(0, 3).Draw(s.t, "restart") == 0 {
			s.restart(rapid.IntRange(0, len(s.held)).Draw(s.t, "landed"))
		}
	case "topics":
		name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(s.t, "topic")
		n := s.atlas.partitions[name]
		switch {
		case n > 0 && rapid.IntRange(0, 3).Draw(s.t, "gone") == 0:
			n = 0
		case n < 6:
			n += int32(rapid.IntRange(1, 2).Draw(s.t, "more"))
		}
		s.atlas = s.atlas.with(name, n)
		s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
	case "subscribe":
		if !h.classic {
			s.resubscribe(h)
		}
	case "commit":
		s.commit(h)
	case "delete":
		s.ask(&DeleteGroup{Group: modelGroup}, func(any) {})
	case "switch": // the process starts anew with the other protocol
		if !h.dead && rapid.IntRange(0, 3).Draw(s.t, "switch") == 0 {
			s.leave(h)
			h.classic = !h.classic
			h.pattern = ""
			s.reborn(h)
		}
	case "timeout":
		if h.busy {
			h.lose()
		}
	}
}

func (s *shore) land(n int) {
	var ids []WriteID
	for _, wr := range s.held[:n] {
		s.log = append(s.log, wr.Records...)
		ids = append(ids, wr.ID)
	}
	s.held = s.held[n:]
	s.step(Written{IDs: ids})
}

func (s *shore) wait(d time.Duration) {
	until := s.now.Add(d)
	for at := s.core.Deadline(); !at.IsZero() && !at.After(until); at = s.core.Deadline() {
		s.now = at
		s.step(Tick{Wall: at})
	}
	s.now = until
}

func (s *shore) restart(landed int) {
	for _, wr := range s.held[:landed] {
		s.log = append(s.log, wr.Records...)
	}
	s.held, s.open = nil, map[Call]func(any){}
	for _, h := range s.hands {
		if h.busy {
			h.lose()
		}
	}
	s.begin()
}

// act lets a consumer do what is next for it.
func (s *shore) act(h *hand) {
	switch {
	case h.dead || h.busy:
	case h.classic:
		s.actClassic(h)
	case h.epoch > 0 && !h.owned.equal(h.given) && (s.quiet || rapid.Bool().Draw(s.t, "reconcile")):
		s.adopt(h)
		h.unsure = true
	default:
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, modelGroup, h.member, h.epoch
		whole := h.epoch == 0 || h.unsure || !s.quiet && rapid.IntRange(0, 3).Draw(s.t, "whole") == 0
		if whole {
			req.InstanceID, req.RebalanceTimeoutMillis = h.instance, 20_000
			req.SubscribedTopicNames = append([]string{}, h.topics...)
			req.SubscribedTopicRegex = &h.pattern
			req.ServerAssignor = &h.assignor
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for topic, partitions := range h.owned {
				req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: topic, Partitions: partitions})
			}
		}
		h.unsure = false
		s.request(h, req, func(body any) { s.heard(h, body.(*kmsg.ConsumerGroupHeartbeatResponse)) })
	}
}

func (s *shore) heard(h *hand, resp *kmsg.ConsumerGroupHeartbeatResponse) {
	switch resp.ErrorCode {
	case 0:
	case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code, kerr.GroupIDNotFound.Code, kerr.FencedInstanceID.Code:
		h.abandon()
		return
	case kerr.UnreleasedInstanceID.Code:
		return
	case kerr.CoordinatorNotAvailable.Code:
		h.unsure = true
		return
	default:
		s.t.Fatalf("%s: %v", h.name, kerr.ErrorForCode(resp.ErrorCode))
	}
	if resp.MemberEpoch < h.epoch {
		s.t.Fatalf("%s goes from epoch %d to %d", h.name, h.epoch, resp.MemberEpoch)
	}
	h.epoch = resp.MemberEpoch
	s.told = max(s.told, resp.MemberEpoch)
	if resp.Assignment != nil {
		var all []place
		for _, t := range resp.Assignment.Topics {
			for _, p := range t.Partitions {
				all = append(all, place{t.TopicID, p})
			}
		}
		h.given = assignmentOf(all)
	}
}

// actClassic is an eager consumer: it lets go of everything before it joins.
func (s *shore) actClassic(h *hand) {
	switch h.phase {
	case "":
		h.owned, h.given = nil, nil
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = 9, modelGroup, h.member, h.instance
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 20_000
		req.ProtocolType = consumerProtocol
		m := kmsg.ConsumerMemberMetadata{Version: 1, Topics: h.topics}
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: m.AppendTo(nil)}}
		s.request(h, req, func(body any) {
			resp := body.(*kmsg.JoinGroupResponse)
			switch resp.ErrorCode {
			case 0:
				h.member, h.epoch, h.phase = resp.MemberID, resp.Generation, "joined"
				h.plan = nil
				if resp.LeaderID == h.member && !resp.SkipAssignment {
					h.plan = s.plan(resp)
				}
			case kerr.MemberIDRequired.Code:
				h.member = resp.MemberID
			case kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code:
				h.abandon()
				h.member = ""
			}
		})
	case "joined":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, modelGroup, h.member, h.instance, h.epoch
		req.GroupAssignment = h.plan
		s.request(h, req, func(body any) {
			resp := body.(*kmsg.SyncGroupResponse)
			if s.heardClassic(h, resp.ErrorCode) {
				var has kmsg.ConsumerMemberAssignment
				if err := has.ReadFrom(resp.MemberAssignment); err != nil {
					s.t.Fatal(err)
				}
				h.given = fromClassic(s.atlas, has.Topics, func(t kmsg.ConsumerMemberAssignmentTopic) (string, []int32) { return t.Topic, t.Partitions })
				h.phase = "stable"
				s.told = max(s.told, h.epoch)
				s.adopt(h)
			}
		})
	default:
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, modelGroup, h.member, h.instance, h.epoch
		s.request(h, req, func(body any) { s.heardClassic(h, body.(*kmsg.HeartbeatResponse).ErrorCode) })
	}
}

func (s *shore) heardClassic(h *hand, code int16) bool {
	switch code {
	case 0:
		return true
	case kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code:
		h.abandon()
		h.member = ""
	case kerr.CoordinatorNotAvailable.Code:
	default:
		h.phase = ""
	}
	return false
}

// plan is what the leader of a classic generation gives to whom.
func (s *shore) plan(resp *kmsg.JoinGroupResponse) []kmsg.SyncGroupRequestGroupAssignment {
	var topics []numbered
	for name, n := range s.atlas.partitions {
		topics = append(topics, numbered{s.atlas.ids[name], n})
	}
	members := make([]candidate, len(resp.Members))
	for i, m := range resp.Members {
		var sub kmsg.ConsumerMemberMetadata
		if err := sub.ReadFrom(m.ProtocolMetadata); err != nil {
			s.t.Fatal(err)
		}
		members[i] = candidate{id: m.MemberID, topics: map[storage.TopicID]bool{}}
		for _, name := range sub.Topics {
			members[i].topics[s.atlas.ids[name]] = true
		}
	}
	var plan []kmsg.SyncGroupRequestGroupAssignment
	for i, a := range assignRanges(topics, members) {
		plan = append(plan, kmsg.SyncGroupRequestGroupAssignment{MemberID: members[i].id, MemberAssignment: a.toClassic(s.atlas)})
	}
	return plan
}

func (s *shore) leave(h *hand) {
	h.owned, h.given = nil, nil
	member := h.member
	if h.classic {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 5, modelGroup
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: h.member, InstanceID: h.instance}}
		s.ask(req, func(any) {})
	} else if h.epoch > 0 {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, modelGroup, h.member, leaveEpoch, h.instance
		if h.instance != nil && rapid.Bool().Draw(s.t, "for a while") {
			req.MemberEpoch = leaveStaticEpoch
		}
		s.ask(req, func(any) {})
	}
	s.reborn(h)
	if !h.classic && rapid.Bool().Draw(s.t, "same id") {
		h.member = member
	}
}

// commit offers an offset, and sees that only the epoch of a member is taken.
func (s *shore) commit(h *hand) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 9, modelGroup, h.member, h.instance, h.epoch
	if rapid.IntRange(0, 3).Draw(s.t, "old") == 0 {
		req.Generation -= int32(rapid.IntRange(1, 3).Draw(s.t, "behind"))
	}
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "a", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
	before := len(s.held)
	var epoch, since int32 = -1, math.MaxInt32
	members := 0
	if g := s.core.groups[modelGroup]; g != nil && g.consumer != nil {
		members = len(g.consumer.members)
		if m := g.consumer.members[h.member]; m != nil {
			epoch = m.epoch
			if at, ok := m.since[place{s.atlas.ids["a"], 0}]; ok && !h.classic {
				since = at
			}
		}
	}
	s.ask(req, func(any) {})
	if len(s.held) > before && members > 0 && req.Generation != epoch && req.Generation < since {
		s.t.Fatalf("a commit of epoch %d was taken from a member of epoch %d", req.Generation, epoch)
	}
}

// check looks at what must hold at any time.
func (s *shore) check() {
	g := s.core.groups[modelGroup]
	if g == nil || g.consumer == nil {
		return
	}
	cg := g.consumer
	if cg.epoch < s.told || cg.epoch < s.grown {
		s.t.Fatalf("epoch %d, after %d and %d was told", cg.epoch, s.grown, s.told)
	}
	s.grown = cg.epoch
	owners := map[place]string{}
	for _, m := range cg.members {
		if m.epoch > cg.epoch {
			s.t.Fatalf("%s is at epoch %d of %d", m.id, m.epoch, cg.epoch)
		}
		for _, has := range []assignment{m.assigned, m.revoking} {
			for p := range has.places {
				if owners[p] != "" || cg.owners[p] != m {
					s.t.Fatalf("%v is of %s and %q, known is %v", p, m.id, owners[p], cg.owners[p])
				}
				owners[p] = m.id
			}
		}
	}
	if len(owners) != len(cg.owners) {
		s.t.Fatalf("%d partitions have owners, %d are known to", len(owners), len(cg.owners))
	}
}

// settle ends the trouble, and expects everything to be with somebody.
func (s *shore) settle() {
	s.quiet = true
	for range 150 {
		for len(s.held) > 0 {
			s.land(len(s.held))
		}
		for _, h := range s.hands {
			s.act(h)
			s.check()
		}
		s.wait(time.Second)
	}
	g := s.core.groups[modelGroup]
	wanted, had := map[place]bool{}, map[place]string{}
	live := 0
	for _, h := range s.hands {
		if h.dead {
			continue
		}
		live++
		for name, n := range s.atlas.partitions {
			if slices.Contains(h.topics, name) || h.pattern == ".*" || h.pattern == "[ab]" && name != "c" {
				for p := range n {
					wanted[place{s.atlas.ids[name], p}] = true
				}
			}
		}
		for p := range h.owned.places {
			if had[p] != "" {
				s.t.Fatalf("%v is with %s and %s", p, had[p], h.name)
			}
			had[p] = h.name
		}
	}
	if g == nil {
		if live > 0 {
			s.t.Fatalf("%d live, and there is no group", live)
		}
		return
	}
	if g.consumer != nil { // a classic leader has its own idea of what there is
		for p := range wanted {
			if had[p] == "" {
				s.t.Fatalf("%v is with nobody: %s", p, dump(g))
			}
		}
		for p := range had {
			if !wanted[p] {
				s.t.Fatalf("%v is with %s, and nobody wants it", p, had[p])
			}
		}
		if n := len(g.consumer.members); n != live {
			s.t.Fatalf("%d members, %d live: %s", n, live, dump(g))
		}
		for _, h := range s.hands {
			if h.dead {
				continue
			}
			m := g.consumer.members[h.member]
			if m == nil || m.state != memberStable || m.epoch != g.consumer.epoch || m.epoch != h.epoch || !m.assigned.equal(h.owned) || !m.assigned.equal(m.target) {
				s.t.Fatalf("%s is %+v, its member %+v", h.name, h, m)
			}
		}
	} else if n := len(g.members); n != live {
		s.t.Fatalf("%d members, %d live", n, live)
	}
	if len(s.open) > 0 || len(s.held) > 0 {
		s.t.Fatalf("%d calls not answered, %d writes not done", len(s.open), len(s.held))
	}
	was := dump(g)
	bytes := s.core.bytes
	s.restart(0)
	again := s.core.groups[modelGroup]
	if again == nil {
		s.t.Fatalf("nothing is on record of %s", was)
	}
	if is := dump(again); is != was {
		s.t.Fatalf("the group is\n%s\non record\n%s", was, is)
	}
	if g.consumer != nil && s.core.bytes != bytes {
		s.t.Fatalf("%d bytes by estimate, %d on record", bytes, s.core.bytes)
	}
}
