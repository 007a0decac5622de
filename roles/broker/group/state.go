package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
)

// What things cost in memory, about, besides the bytes they hold.
const (
	groupBytes    = 600
	memberBytes   = 500
	protocolBytes = 40 // of a member
	topicBytes    = 16 // of a member's subscription
	commitBytes   = 136
	pendingBytes  = 100
)

// minRebalance is the least time that members have to join, whatever they say.
const minRebalance = 100 * time.Millisecond

// state is where a group is in its life.
type state uint8

const (
	empty      state = iota // no members, perhaps offsets
	preparing               // members are asked to join the next generation
	completing              // all have joined; the leader's assignment is awaited
	stable                  // every member has its assignment, or can fetch it
)

// String is the name that Kafka's tools show.
func (s state) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[s]
}

// group is one consumer group.
//
// Invariants: empty has no members. completing and stable have some, a protocol
// that all of them support, and a leader among them; preparing may have none. Only completing has members
// that wait for a sync, only preparing ones that wait for a join.
type group struct {
	core       *Core
	id         string
	state      state
	since      int64 // wall clock of the last change of state, ms
	generation int32

	protocolType string
	protocol     string // the assignor all agreed on; "" while empty
	leader       string // member id
	subscribed   map[string]bool
	unreadable   bool // a subscription did not decode: take every topic as subscribed

	members   map[string]*member
	support   map[string]int       // members that support a protocol, by its name
	instances map[string]*member   // static ones, by instance id
	pending   map[string]time.Time // ids given out by KIP-394 and not used yet, until when
	joining   int                  // members that wait for a join
	joins     uint64               // members ever added: gives them an order
	bytes     int64                // of all these

	rebalanceBy time.Time     // when preparing or completing ends without those that are late
	initial     bool          // the first rebalance of an empty group still gathers members
	grown       bool          // somebody came since it was last looked at
	delayLeft   time.Duration // by how much it can be put off once more

	saving   WriteID // of the current generation's assignment; 0: none
	writing  int     // writes under way
	deleting bool    // its tombstones are under way
	record   []byte  // what the log says of the group itself; nil: nothing

	consumer    *consumerGroup // nil: it uses the classic protocol, or none yet
	consumerLog                // of it, or of what is left of it

	offsets map[string]map[int32]commit // committed, by topic and partition
	flying  map[slot]int                // writes of offsets under way

	// Offsets in open transactions, by producer id; entering counts writes under way
	// of such offsets.
	transactions map[int64]*transaction
	entering     map[slot]int

	coordinator.Alarm // not after its next deadline
}

// member is one member of a group.
type member struct {
	id, clientID, clientHost string
	instance                 *string
	order                    uint64 // of joining the group
	session, rebalance       time.Duration
	protocols                []protocol
	assignment               []byte

	expires time.Time // its session's end
	isNew   bool      // has not got the answer to its first join
	synced  bool      // has sent a sync for this generation
	joined  bool      // has joined since it was assigned anything: it has what its subscription says

	join, sync *waiting
}

// protocol is an assignor that a member supports, with its subscription.
type protocol struct {
	name     string
	metadata []byte
}

// waiting is a join or sync that is answered later.
type waiting struct {
	call Call
	join *kmsg.JoinGroupRequest
	sync *kmsg.SyncGroupRequest
}

func (m *member) size() int64 {
	n := memberBytes + len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.assignment)
	for _, p := range m.protocols {
		n += protocolBytes + len(p.name) + len(p.metadata)
	}
	return int64(n)
}

// metadata returns what the member subscribes with under a protocol.
func (m *member) metadata(name string) []byte {
	for _, p := range m.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

// ordered returns the members in the order they joined in.
func (g *group) ordered() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return cmp.Compare(a.order, b.order) })
}

// add makes m a member.
func (g *group) add(m *member) {
	if len(g.members) == 0 {
		g.leader = m.id
	}
	g.joins++
	m.order = g.joins
	g.members[m.id] = m
	if m.instance != nil {
		g.instances[*m.instance] = m
	}
	g.count(m, 1)
}

// remove takes m out of the group, and tells whoever waits on its behalf.
func (g *group) remove(m *member) {
	g.endJoin(m, kerr.UnknownMemberID.Code)
	g.endSync(m, kerr.UnknownMemberID.Code)
	delete(g.members, m.id)
	if m.instance != nil {
		delete(g.instances, *m.instance)
	}
	g.count(m, -1)
	if g.leader == m.id {
		g.leader = "" // the next generation elects one
	}
}

// count adds what m takes and which protocols it supports, or takes that off again.
func (g *group) count(m *member, by int) {
	g.grow(int64(by) * m.size())
	for i, p := range m.protocols {
		if slices.ContainsFunc(m.protocols[:i], func(q protocol) bool { return q.name == p.name }) {
			continue // named twice
		}
		if g.support[p.name] += by; g.support[p.name] == 0 {
			delete(g.support, p.name)
		}
	}
}

// common reports whether all members support a protocol.
func (g *group) common(name string) bool { return g.support[name] == len(g.members) }

// grow counts bytes of members, their ids and assignments.
func (g *group) grow(n int64) {
	g.bytes += n
	g.core.bytes += n
}

// expect gives out a member id, to be used until then.
func (g *group) expect(id string, until time.Time) {
	g.pending[id] = until
	g.grow(pendingBytes + int64(len(id)))
	g.core.wakeBy(g, until)
}

// unexpect takes back an id that was used, or was not used in time.
func (g *group) unexpect(id string) {
	delete(g.pending, id)
	g.grow(-pendingBytes - int64(len(id)))
}

// beat begins m's session anew.
func (g *group) beat(now time.Time, m *member) {
	m.expires = now.Add(m.session)
	g.core.wakeBy(g, m.expires)
}

// awaitJoin lets m wait for the next generation.
func (g *group) awaitJoin(m *member, w *waiting) {
	g.endJoin(m, kerr.RebalanceInProgress.Code) // it has asked again: on a new connection, most likely
	m.join, m.joined = w, true
	g.joining++
}

// endJoin answers m's join, if there is one, with an error.
func (g *group) endJoin(m *member, code int16) {
	if m.join != nil {
		g.core.answer(m.join.call, joinRefused(m.join.join, m.id, code))
		m.join = nil
		g.joining--
	}
}

// endSync answers m's sync, if there is one, with an error.
func (g *group) endSync(m *member, code int16) {
	if m.sync != nil {
		g.core.answer(m.sync.call, syncRefused(m.sync.sync, code))
		m.sync = nil
	}
}

func (g *group) become(s state) {
	g.state = s
	g.since = g.core.wall.UnixMilli()
}

// nextDeadline is when something ends unless it is renewed.
func (g *group) nextDeadline() time.Time {
	if g.consumer != nil {
		return g.consumer.nextDeadline()
	}
	next := g.rebalanceBy
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, t := range g.pending {
		sooner(t)
	}
	for _, m := range g.members {
		if m.mayExpire() {
			sooner(m.expires)
		}
	}
	return next
}

// mayExpire reports whether m's session runs. It does not while its client waits
// for an answer and cannot send heartbeats, except that a new member, which may
// never learn its id, does not wait for ever.
func (m *member) mayExpire() bool { return m.isNew || m.join == nil && m.sync == nil }

// maxRebalance is how long the slowest member may take to join.
func (g *group) maxRebalance() time.Duration {
	most := minRebalance
	for _, m := range g.members {
		most = max(most, m.rebalance)
	}
	return most
}

// supported reports whether members of that type and with these protocols fit
// the group.
func (g *group) supported(protocolType string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if len(g.members) == 0 {
		return protocolType != "" && len(protocols) > 0
	}
	return protocolType == g.protocolType && slices.ContainsFunc(protocols, func(p kmsg.JoinGroupRequestProtocol) bool { return g.common(p.Name) })
}

// selectProtocol returns the protocol that most members like best among those
// that all support; of several, the one the longest member likes best.
func (g *group) selectProtocol() string {
	members := g.ordered()
	var candidates []string
	for _, p := range members[0].protocols {
		if g.common(p.name) {
			candidates = append(candidates, p.name)
		}
	}
	votes := map[string]int{}
	for _, m := range members {
		for _, p := range m.protocols {
			if g.common(p.name) {
				votes[p.name]++
				break
			}
		}
	}
	return slices.MaxFunc(candidates, func(a, b string) int { return cmp.Compare(votes[a], votes[b]) })
}

// readSubscriptions notes which topics the members consume, as far as the
// protocol is that of consumers.
func (g *group) readSubscriptions() {
	g.subscribed, g.unreadable = map[string]bool{}, false
	if g.protocolType != consumerProtocol {
		return
	}
	for _, m := range g.members {
		var subscription kmsg.ConsumerMemberMetadata
		if err := subscription.ReadFrom(m.metadata(g.protocol)); err != nil {
			g.unreadable = true
			continue
		}
		for _, topic := range subscription.Topics {
			g.subscribed[topic] = true
		}
	}
}

// consumerProtocol is the protocol type of consumers; connectors and others that
// use groups have their own.
const consumerProtocol = "consumer"
