package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestRandomLives lets clients of one group join, sync, beat, commit, leave, die,
// come back under their instance ids and send old requests again, while writes
// are late, fail, or are cut off by restarts. It holds that
//
//   - a generation has one assignment: whoever is told one is told that, and its
//     own part of it, also after restarts;
//   - a commit is taken only from a member of the current generation, and what is
//     fetched is the last that was committed in the log, also after restarts;
//   - what is committed for a topic is told until that is made anew, and no longer,
//     and what is taken back with one is nothing that is told;
//   - a call is answered once;
//   - once the trouble ends, all that live are in one generation soon;
//   - the state, and the estimate of its memory, are those that the log gives.
//
// The seed is printed when it fails; -rapid.seed runs it again.
func TestRandomLives(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(10, 300).Draw(rt, "steps") {
			w.disturb()
		}
		w.settle()
	})
}

const modelGroup = "g"

// world is a core, the log behind it and the clients before it.
type world struct {
	t       *rapid.T
	opt     Options
	core    *Core
	now     time.Time
	ids     int
	nonce   int
	call    Call
	open    map[Call]func(any)
	clients []*client
	sent    []any // requests, to be sent again

	log  []Record
	held []Write
	// What is committed is known by its write: this is what each will do.
	meaning map[WriteID]map[slot]entry
	offsets map[slot]entry
	newest  map[string]byte  // how often a topic was made, by name
	spares  map[WriteID]bool // takes back only what nobody is told

	failed     bool             // a write has
	told       map[int32]string // nonce of the assignment handed out, by generation
	generation int32            // highest told by a join in this life of the core
}

// entry is an offset; of: which topic of the name it is for, as in world.newest.
type entry struct {
	offset int64 // -1: taken back
	of     storage.TopicID
}

// client is a consumer, as well-behaved as the world lets it be.
type client struct {
	name     string
	instance *string
	member   string
	gen      int32
	phase    string // idle, joining, joined, syncing, stable, dead
	plan     []kmsg.SyncGroupRequestGroupAssignment
	offset   int64
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.Unix(1_700_000_000, 0), open: map[Call]func(any){}, meaning: map[WriteID]map[slot]entry{}, offsets: map[slot]entry{}, newest: map[string]byte{"t0": 1, "t1": 1}, spares: map[WriteID]bool{}, told: map[int32]string{}}
	w.opt = Options{Log: new(memoryLog), NewID: func() string { w.ids++; return strconv.Itoa(w.ids) }}
	if err := w.opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "delay") {
		w.opt.InitialRebalanceDelay = 3 * time.Second
	}
	w.core = NewCore(w.opt)
	for i := range rapid.IntRange(1, 5).Draw(t, "clients") {
		w.birth(fmt.Sprint("c", i))
	}
	return w
}

func (w *world) birth(name string) {
	c := &client{name: name, phase: "idle"}
	if rapid.Bool().Draw(w.t, "static") {
		c.instance = new("i-" + name)
	}
	w.clients = append(w.clients, c)
}

func (w *world) step(ev Event) {
	fx := w.core.Step(w.now, ev)
	for _, a := range fx.Answers {
		then := w.open[a.Call]
		if then == nil {
			w.t.Fatalf("call %d answered twice, or never made: %v", a.Call, a.Body)
		}
		delete(w.open, a.Call)
		then(a.Body)
	}
	if w.core.groups[modelGroup] == nil {
		w.generation = 0 // forgotten: nothing of it was ever on record
	}
	for _, wr := range fx.Writes {
		w.held = append(w.held, wr)
		w.meaning[wr.ID] = offsetsIn(w.t, wr.Records)
	}
}

// offsetsIn reads what a write does to offsets; -1 takes one back.
func offsetsIn(t *rapid.T, records []Record) map[slot]entry {
	does := map[slot]entry{}
	for _, r := range records {
		var k kmsg.OffsetCommitKey
		if r.Key[1] != commitKeyVersion {
			continue
		}
		if err := k.ReadFrom(r.Key); err != nil {
			t.Fatal(err)
		}
		does[slot{k.Topic, k.Partition}] = entry{offset: -1}
		if r.Value != nil {
			var v kmsg.OffsetCommitValue
			if err := v.ReadFrom(r.Value); err != nil {
				t.Fatal(err)
			}
			does[slot{k.Topic, k.Partition}] = entry{v.Offset, r.TopicID}
		}
	}
	return does
}

// land commits the first n of the writes that are held.
func (w *world) land(n int) []WriteID {
	var ids []WriteID
	for _, wr := range w.held[:n] {
		w.log = append(w.log, wr.Records...)
		for s, is := range w.meaning[wr.ID] {
			if was, ok := w.offsets[s]; ok && w.spares[wr.ID] && was.of == w.topicID(s.topic) {
				w.t.Fatalf("%v is taken back of %v, though the topic is there", was, s)
			}
			w.offsets[s] = is
			if is.offset < 0 {
				delete(w.offsets, s)
			}
		}
		ids = append(ids, wr.ID)
	}
	w.held = w.held[n:]
	return ids
}

func (w *world) ask(body any, then func(any)) {
	w.call++
	w.open[w.call] = then
	w.step(Request{Call: w.call, ClientID: "c", ClientHost: "/h", Wall: w.now, Newest: w.topicID, Body: body})
}

// topicID is the id of the topic that has the name.
func (w *world) topicID(name string) storage.TopicID { return storage.TopicID{w.newest[name]} }

// lookForGone has the core take back what is of topics that are no more.
func (w *world) lookForGone() {
	before := len(w.held)
	w.step(ForgetTopics{Wall: w.now, Gone: func(topic string, id storage.TopicID) bool { return isGone(w.topicID(topic), id) }})
	for _, wr := range w.held[before:] {
		w.spares[wr.ID] = true
	}
}

// disturb does one thing at random.
func (w *world) disturb() {
	c := rapid.SampledFrom(w.clients).Draw(w.t, "client")
	switch rapid.SampledFrom([]string{
		"act", "act", "act", "act", "act", "act", "commit", "commit", "commit", "commit", "land", "land", "fail", "wait",
		"again", "leave", "die", "birth", "restart", "fetch", "delete", "forget", "anew", "look", "look",
	}).Draw(w.t, "what") {
	case "act":
		w.act(c)
	case "commit":
		w.commit(c)
	case "land":
		if n := rapid.IntRange(0, len(w.held)).Draw(w.t, "writes"); n > 0 {
			w.step(Written{IDs: w.land(n)})
		}
	case "fail":
		if len(w.held) > 0 && rapid.IntRange(0, 3).Draw(w.t, "fail") == 0 {
			var ids []WriteID
			for _, wr := range w.held {
				ids = append(ids, wr.ID)
			}
			w.held, w.failed = nil, true
			w.step(Written{IDs: ids, Err: errors.New("disk full")})
		}
	case "wait":
		w.wait(time.Duration(rapid.IntRange(0, 12).Draw(w.t, "seconds")) * time.Second)
	case "again":
		if len(w.sent) > 0 {
			w.again(w.sent[rapid.IntRange(0, len(w.sent)-1).Draw(w.t, "request")])
		}
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 3, modelGroup
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: c.member, InstanceID: c.instance}}
		w.sent = append(w.sent, req)
		c.phase, c.member = "idle", ""
		w.ask(req, func(any) {})
	case "die": // and, with luck, come back
		c.phase = "dead"
		if rapid.Bool().Draw(w.t, "again") {
			c.phase, c.member = "idle", ""
		}
	case "birth":
		if len(w.clients) < 7 {
			w.birth(fmt.Sprint("c", len(w.clients)))
		}
	case "restart":
		if rapid.IntRange(0, 3).Draw(w.t, "restart") == 0 {
			w.restart(rapid.IntRange(0, len(w.held)).Draw(w.t, "landed"))
		}
	case "fetch":
		w.check()
	case "delete":
		w.ask(&DeleteGroup{Group: modelGroup}, func(body any) {
			if body.(int16) == 0 {
				w.told, w.generation = map[int32]string{}, 0
			}
		})
	case "anew": // unheard
		w.newest["t0"]++
	case "look":
		w.lookForGone()
	case "forget":
		w.newest["t0"]++
		w.step(ForgetTopics{Wall: w.now, Gone: func(topic string, _ storage.TopicID) bool { return topic == "t0" }})
	}
}

func (w *world) wait(d time.Duration) {
	until := w.now.Add(d)
	for at := w.core.Deadline(); !at.IsZero() && !at.After(until); at = w.core.Deadline() {
		if at.After(w.now) {
			w.now = at
		}
		w.step(Tick{Wall: w.now})
	}
	w.now = until
}

func (w *world) restart(landed int) {
	w.land(landed)
	w.held = nil
	w.open = map[Call]func(any){}
	w.core = w.replayed()
	w.core.Loaded(w.now)
	w.generation = 0
	if g := w.core.groups[modelGroup]; g != nil {
		w.generation = g.generation
	} else {
		w.told = map[int32]string{} // its deletion landed, or it never was on record
	}
	for _, c := range w.clients {
		if c.phase == "joining" || c.phase == "syncing" {
			c.phase = "idle"
		}
	}
	w.check()
}

func (w *world) replayed() *Core {
	core := NewCore(w.opt)
	for _, r := range w.log {
		if err := core.Replay(r); err != nil {
			w.t.Fatal(err)
		}
	}
	return core
}

// check compares what is fetched with what is committed.
func (w *world) check() {
	w.ask(&FetchOffsets{Group: modelGroup, All: true}, func(body any) {
		got := map[slot]int64{}
		for _, t := range body.(*kmsg.OffsetFetchResponseGroup).Topics {
			for _, p := range t.Partitions {
				got[slot{t.Topic, p.Partition}] = p.Offset
			}
		}
		want := map[slot]int64{}
		for s, is := range w.offsets {
			if is.of == w.topicID(s.topic) {
				want[s] = is.offset
			}
		}
		if !maps.Equal(got, want) {
			w.t.Fatalf("fetched %v, want %v of %v", got, want, w.offsets)
		}
	})
}

// act lets a client do what is next for it.
func (w *world) act(c *client) {
	switch c.phase {
	case "idle":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version = rapid.SampledFrom([]int16{2, 5, 8, 9}).Draw(w.t, "version")
		if c.instance != nil {
			req.Version = max(req.Version, 5)
		}
		req.Group, req.MemberID, req.InstanceID = modelGroup, c.member, c.instance
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 20_000
		req.ProtocolType = consumerProtocol
		m := kmsg.ConsumerMemberMetadata{Topics: []string{"t"}}
		for _, p := range rapid.SampledFrom([][]string{{"range"}, {"sticky", "range"}, {"range", "sticky"}}).Draw(w.t, "protocols") {
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: m.AppendTo(nil)})
		}
		c.phase = "joining"
		w.sent = append(w.sent, req)
		life := c.member
		w.ask(req, func(body any) {
			resp := body.(*kmsg.JoinGroupResponse)
			w.joined(resp)
			if c.phase == "joining" && c.member == life {
				c.hearJoin(w, resp)
			}
		})
	case "joined":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 5, modelGroup, c.member, c.instance, c.gen
		req.GroupAssignment = c.plan
		c.phase = "syncing"
		w.sent = append(w.sent, req)
		member := c.member
		w.ask(req, func(body any) {
			resp := body.(*kmsg.SyncGroupResponse)
			w.synced(req, resp)
			if c.phase == "syncing" && c.member == member {
				c.hear(resp.ErrorCode, "stable")
			}
		})
	case "stable":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, modelGroup, c.member, c.instance, c.gen
		w.sent = append(w.sent, req)
		w.ask(req, func(body any) { c.hear(body.(*kmsg.HeartbeatResponse).ErrorCode, "stable") })
	}
}

func (w *world) commit(c *client) {
	if c.phase != "stable" {
		return
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 8, modelGroup, c.member, c.instance, c.gen
	c.offset++
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = int32(rapid.IntRange(0, 2).Draw(w.t, "partition")), c.offset
	topic := rapid.SampledFrom([]string{"t0", "t1"}).Draw(w.t, "topic")
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, TopicID: w.topicID(topic), Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	w.sent = append(w.sent, req)
	w.offer(req, func(code int16) { c.hear(code, "stable") })
}

// offer commits offsets, and sees to it that only a member of the current
// generation can.
func (w *world) offer(req *kmsg.OffsetCommitRequest, then func(code int16)) {
	generation := w.generation
	before := len(w.held)
	w.ask(req, func(body any) { then(body.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode) })
	if t := req.Topics[0]; len(w.held) > before && t.TopicID != w.topicID(t.Topic) {
		w.t.Fatalf("a commit for topic %s %v was taken, of %v", t.Topic, t.TopicID, w.topicID(t.Topic))
	}
	if len(w.held) > before && req.Generation != generation {
		w.t.Fatalf("a commit of generation %d was taken in generation %d", req.Generation, generation)
	}
	if g := w.core.groups[modelGroup]; len(w.held) > before && g.members[req.MemberID] == nil {
		w.t.Fatalf("a commit of %q was taken, who is no member", req.MemberID)
	}
}

// again sends a request that was sent before: a duplicate, or one that was late.
func (w *world) again(body any) {
	switch req := body.(type) {
	case *kmsg.JoinGroupRequest:
		w.ask(req, func(body any) { w.joined(body.(*kmsg.JoinGroupResponse)) })
	case *kmsg.SyncGroupRequest:
		w.ask(req, func(body any) { w.synced(req, body.(*kmsg.SyncGroupResponse)) })
	case *kmsg.OffsetCommitRequest:
		w.offer(req, func(int16) {})
	default:
		w.ask(req, func(any) {})
	}
}

// joined looks at any join that was answered.
func (w *world) joined(resp *kmsg.JoinGroupResponse) {
	if resp.ErrorCode != 0 {
		return
	}
	if resp.Generation < w.generation {
		w.t.Fatalf("generation %d after %d", resp.Generation, w.generation)
	}
	w.generation = resp.Generation
	seen := map[string]bool{}
	for _, m := range resp.Members {
		if seen[m.MemberID] {
			w.t.Fatalf("member %s twice", m.MemberID)
		}
		seen[m.MemberID] = true
	}
}

// synced looks at any sync that was answered: the generation's one assignment,
// and in it the part of who asked. A static member that was replaced is known by
// its instance id.
func (w *world) synced(req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) {
	if resp.ErrorCode != 0 || len(resp.MemberAssignment) == 0 {
		return
	}
	nonce, whose, _ := strings.Cut(string(resp.MemberAssignment), "/")
	if told, ok := w.told[req.Generation]; ok && told != nonce {
		w.t.Fatalf("generation %d has two assignments, %s and %s", req.Generation, told, nonce)
	}
	w.told[req.Generation] = nonce
	_, generation, _ := strings.Cut(nonce, "@")
	if generation != fmt.Sprint(req.Generation) {
		w.t.Fatalf("generation %d was given assignment %s", req.Generation, nonce)
	}
	if req.InstanceID != nil {
		if !strings.HasPrefix(whose, *req.InstanceID+"-") {
			w.t.Fatalf("%s was given the assignment of %s", *req.InstanceID, whose)
		}
	} else if whose != req.MemberID {
		w.t.Fatalf("%s was given the assignment of %s", req.MemberID, whose)
	}
}

func (c *client) hearJoin(w *world, resp *kmsg.JoinGroupResponse) {
	if resp.ErrorCode == kerr.MemberIDRequired.Code {
		c.member, c.phase = resp.MemberID, "idle"
		return
	}
	c.hear(resp.ErrorCode, "joined")
	if resp.ErrorCode != 0 {
		return
	}
	c.member, c.gen, c.plan = resp.MemberID, resp.Generation, nil
	if resp.LeaderID == c.member && !resp.SkipAssignment {
		w.nonce++
		for _, m := range resp.Members {
			c.plan = append(c.plan, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: fmt.Appendf(nil, "%d@%d/%s", w.nonce, c.gen, m.MemberID)})
		}
	}
}

// hear moves a client on by an error code; ok is where success leads.
func (c *client) hear(code int16, ok string) {
	if c.phase == "dead" {
		return
	}
	switch code {
	case 0:
		c.phase = ok
	case kerr.UnknownMemberID.Code:
		c.phase, c.member = "idle", ""
	case kerr.FencedInstanceID.Code:
		c.phase = "dead"
	default:
		c.phase = "idle"
	}
}

// settle ends the trouble, and expects one generation of all that live.
func (w *world) settle() {
	for range 200 {
		if len(w.held) > 0 {
			w.step(Written{IDs: w.land(len(w.held))})
		}
		for _, c := range w.clients {
			w.act(c)
		}
		w.wait(time.Second)
	}
	g := w.core.groups[modelGroup]
	var live []*client
	for _, c := range w.clients {
		if c.phase != "dead" {
			live = append(live, c)
		}
	}
	if len(live) > 0 && (g == nil || g.state != stable || len(g.members) != len(live)) {
		w.t.Fatalf("not stable with the %d that live: %+v", len(live), g)
	}
	for _, c := range live {
		if c.phase != "stable" || c.gen != g.generation || g.members[c.member] == nil {
			w.t.Fatalf("%+v is not in the generation %d", c, g.generation)
		}
		if len(g.members[c.member].assignment) == 0 {
			w.t.Fatalf("%s has no assignment in generation %d", c.name, g.generation)
		}
	}
	if len(w.open) > 0 || len(w.held) > 0 {
		w.t.Fatalf("%d calls not answered, %d writes not done", len(w.open), len(w.held))
	}
	w.check()
	if !w.failed { // else the log may lack that the group is empty
		w.sameReplayed()
	}
}

// sameReplayed holds the state against the one that the log gives.
func (w *world) sameReplayed() {
	again := w.replayed()
	again.Loaded(w.now)
	for id, g := range w.core.groups {
		r := again.groups[id]
		if r == nil {
			w.t.Fatalf("group %s is not on record: %+v", id, g)
		}
		if r.state != g.state || r.generation != g.generation || r.protocol != g.protocol || r.leader != g.leader ||
			!slices.Equal(slices.Sorted(maps.Keys(r.members)), slices.Sorted(maps.Keys(g.members))) {
			w.t.Fatalf("group %s is %+v, on record %+v", id, g, r)
		}
		for _, m := range g.members { // the record keeps the chosen protocol only
			for _, p := range m.protocols {
				if p.name != g.protocol {
					w.core.bytes -= int64(protocolBytes + len(p.name) + len(p.metadata))
				}
			}
		}
	}
	if a, b := w.core.bytes, again.bytes; a != b {
		w.t.Fatalf("%d bytes by estimate, %d on record", a, b)
	}
}
