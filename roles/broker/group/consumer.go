package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Epochs of a heartbeat that are not epochs of members.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // a static member that means to come back
)

// memberState is how far a member is on its way to its target. The numbers are
// those of Kafka's records.
type memberState int8

const (
	memberStable     memberState = 0 // it has all of its target that it may have
	memberUnrevoked  memberState = 1 // it was told to let partitions go, and has not yet
	memberUnreleased memberState = 2 // it waits for partitions that others have still
)

// consumerGroup is what a group is under the consumer protocol (KIP-848).
//
// Whatever changes it is applied at once and written; answers wait until it is
// committed (see consumer_log.go). Invariants: a partition has one owner at
// most, who has it assigned or was told to let it go. No epoch of a member is
// above the group's. The target is always that of the group's epoch.
type consumerGroup struct {
	group *group

	epoch     int32
	hash      int64 // of the metadata of the subscribed topics, as of epoch
	members   map[string]*consumerMember
	instances map[string]*consumerMember // static ones, by instance id
	patterns  map[string]*subscription   // that members subscribe by
	owners    map[place]*consumerMember

	stale    bool            // it has yet to look at the topics that there are
	touched  map[string]bool // members whose records may be others now
	renewed  map[string]bool // patterns likewise
	advanced bool            // the group's own records likewise
}

// consumerMember is a member of such a group, of either protocol.
type consumerMember struct {
	id, clientID, clientHost string
	instance, rack           *string
	rebalance                time.Duration // to let partitions go
	topics                   []string      // subscribed by name, sorted
	pattern                  string        // subscribed by; "": none
	assignor                 string        // that it prefers; "": none
	classic                  *classicMember

	rights  Rights   // to know of topics; nil: not heard since the log was read
	visible []string // topics of the pattern, by these rights, sorted; shared
	looked  uint64   // the round of the pattern that visible is of
	guessed bool     // a target was decided while rights was nil

	epoch, previous    int32
	state              memberState
	assigned, revoking assignment
	since              map[place]int32 // the epoch that each of assigned was given in
	target             assignment

	expires  time.Time // its session's end
	revokeBy time.Time // zero: it has nothing to let go of
	joinBy   time.Time // classic: it was told to join again
	syncBy   time.Time // classic: it has joined, and has to fetch its assignment
}

// classicMember is what a member of the classic protocol has besides.
type classicMember struct {
	session   time.Duration
	protocols []protocol
}

func newConsumerGroup(g *group, epoch int32) *consumerGroup {
	return &consumerGroup{
		group: g, epoch: epoch,
		members: map[string]*consumerMember{}, instances: map[string]*consumerMember{}, patterns: map[string]*subscription{},
		owners:  map[place]*consumerMember{},
		touched: map[string]bool{}, renewed: map[string]bool{},
	}
}

// catalogue is which topics there are, as far as this core was told.
func (cg *consumerGroup) catalogue() Catalogue { return cg.group.core.catalogue }

// sorted returns the members by id.
func (cg *consumerGroup) sorted() []*consumerMember {
	return slices.SortedFunc(maps.Values(cg.members), func(a, b *consumerMember) int { return cmp.Compare(a.id, b.id) })
}

// add makes m a member.
func (cg *consumerGroup) add(m *consumerMember) {
	cg.members[m.id] = m
	if m.instance != nil {
		cg.instances[*m.instance] = m
	}
	cg.touched[m.id] = true
}

// remove takes m out of the group; others may have its partitions.
func (cg *consumerGroup) remove(m *consumerMember) {
	cg.own(m, nil, nil)
	delete(cg.members, m.id)
	if m.instance != nil && cg.instances[*m.instance] == m {
		delete(cg.instances, *m.instance)
	}
	cg.touched[m.id] = true
	cg.dropPattern(m.pattern)
}

// rename gives the place of a static member to a process that has started under
// its instance id.
func (cg *consumerGroup) rename(m *consumerMember, id string) {
	cg.touched[m.id] = true
	delete(cg.members, m.id)
	m.id, m.epoch, m.previous, m.classic = id, joinEpoch, joinEpoch, nil
	m.joinBy, m.syncBy = time.Time{}, time.Time{}
	cg.add(m)
}

// own gives m partitions, and takes from it all others.
func (cg *consumerGroup) own(m *consumerMember, assigned, revoking assignment) {
	for _, had := range []assignment{m.assigned, m.revoking} {
		for p := range had.places {
			if cg.owners[p] == m {
				delete(cg.owners, p)
			}
		}
	}
	since := make(map[place]int32, len(m.since))
	for p := range assigned.places {
		since[p] = cg.epoch
		if epoch, ok := m.since[p]; ok {
			since[p] = epoch
		}
	}
	m.assigned, m.revoking, m.since = assigned, revoking, since
	for _, has := range []assignment{assigned, revoking} {
		for p := range has.places {
			cg.owners[p] = m
		}
	}
	cg.touched[m.id] = true
}

// free reports whether m may be given a partition.
func (cg *consumerGroup) free(p place, m *consumerMember) bool {
	owner := cg.owners[p]
	return guard.Check("group.partition-released", owner == nil || owner == m)
}

// subscribedNames returns the names of the topics that m subscribes.
func (cg *consumerGroup) subscribedNames(m *consumerMember) []string {
	if cg.patterns[m.pattern] == nil {
		return m.topics
	}
	all := slices.Concat(m.topics, cg.patternTopics(m))
	slices.Sort(all)
	return slices.Compact(all)
}

// subscribes reports whether somebody subscribes a topic.
func (cg *consumerGroup) subscribes(topic string) bool {
	for _, m := range cg.members {
		if _, found := slices.BinarySearch(cg.subscribedNames(m), topic); found {
			return true
		}
	}
	return false
}

// allSubscribed returns the names of all topics that members subscribe, sorted.
func (cg *consumerGroup) allSubscribed() []string {
	names := map[string]bool{}
	for _, m := range cg.members {
		for _, name := range cg.subscribedNames(m) {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// subscribe sets what m subscribes, and reports whether that is something else
// than before. matched is what the pattern matches, if it was not subscribed before.
func (cg *consumerGroup) subscribe(m *consumerMember, topics []string, source string, matched *Matched) bool {
	was := m.pattern
	if slices.Equal(topics, m.topics) && source == was {
		return false
	}
	m.topics, m.pattern = topics, source
	if source != "" && cg.patterns[source] == nil {
		p := &subscription{}
		p.take(matched, cg.group.core.wall.UnixMilli())
		cg.patterns[source] = p
		cg.renewed[source] = true
		cg.wantMatch(source, p)
	}
	cg.dropPattern(was)
	cg.look(m)
	return true
}

// dropPattern forgets a pattern that nobody subscribes by any more.
func (cg *consumerGroup) dropPattern(source string) {
	for _, m := range cg.members {
		if m.pattern == source {
			return
		}
	}
	if cg.patterns[source] != nil {
		delete(cg.patterns, source)
		cg.renewed[source] = true
	}
}

// refresh looks at the topics that there are now, and begins a new epoch if they
// change what members can be given. What patterns match is told later.
func (cg *consumerGroup) refresh() {
	cg.stale = false
	for source, p := range cg.patterns {
		cg.wantMatch(source, p)
	}
	cg.compare()
}

// wantMatch asks for what a pattern matches, if that is not known of these topics.
func (cg *consumerGroup) wantMatch(source string, p *subscription) {
	if c := cg.group.core; !p.looked || p.seen < c.catalogue.Version() {
		c.fx.Match = append(c.fx.Match, source)
	}
}

// subscribesAny reports whether members subscribe by one of these patterns.
func (cg *consumerGroup) subscribesAny(all []*Matched) bool {
	return slices.ContainsFunc(all, func(m *Matched) bool { return cg.patterns[m.Source] != nil })
}

// takeMatched notes what patterns match now, and begins a new epoch if that changes what
// members can be given.
func (cg *consumerGroup) takeMatched(all []*Matched) {
	for _, m := range all {
		if p := cg.patterns[m.Source]; p != nil && p.take(m, cg.group.core.wall.UnixMilli()) {
			cg.renewed[m.Source] = true
			cg.lookAgain(m.Source)
		}
	}
	cg.compare()
}

// compare begins a new epoch if the topics are others than those of this one.
func (cg *consumerGroup) compare() {
	if metadataHash(cg.catalogue(), cg.allSubscribed()) != cg.hash {
		cg.advance("topics changed", nil)
	}
}

// advance begins a new epoch: the members' target is decided anew.
func (cg *consumerGroup) advance(why string, cause *consumerMember) {
	cg.epoch++
	cg.advanced = true
	cg.retarget()
	n := Note{Group: cg.group.id, What: "epoch: " + why, Generation: cg.epoch, Members: len(cg.members)}
	if cause != nil {
		n.Member = cause.id
	}
	cg.group.core.fx.Notes = append(cg.group.core.fx.Notes, n)
}

// retarget decides who is to have which partitions.
func (cg *consumerGroup) retarget() {
	c := cg.catalogue()
	names := cg.allSubscribed()
	cg.hash = metadataHash(c, names)
	var topics []numbered
	for _, name := range names {
		if n := c.Partitions(name); n > 0 {
			topics = append(topics, numbered{c.TopicID(name), n})
		}
	}
	members := cg.sorted()
	candidates := make([]candidate, len(members))
	for i, m := range members {
		m.guessed = m.guessed || m.rights == nil
		candidates[i] = candidate{id: m.id, instance: m.instance, topics: cg.subscribedIDs(m), before: m.target}
	}
	for i, target := range assignorNamed(cg.preferred())(topics, candidates) {
		if !target.equal(members[i].target) {
			members[i].target = target
			cg.touched[members[i].id] = true
		}
	}
}

// subscribedIDs returns the topics that m subscribes and that exist.
func (cg *consumerGroup) subscribedIDs(m *consumerMember) map[storage.TopicID]bool {
	ids := map[storage.TopicID]bool{}
	for _, name := range cg.subscribedNames(m) {
		if id := cg.catalogue().TopicID(name); id != (storage.TopicID{}) {
			ids[id] = true
		}
	}
	return ids
}

// preferred returns the assignor that most members want; of several, and if none
// want any, the one that stands first in the configuration.
func (cg *consumerGroup) preferred() string {
	votes := map[string]int{}
	for _, m := range cg.members {
		votes[m.assignor]++
	}
	return slices.MaxFunc(cg.group.core.opt.Consumer.Assignors, func(a, b string) int { return cmp.Compare(votes[a], votes[b]) })
}

// stateName is the name of the group's state that Kafka's tools show.
func (cg *consumerGroup) stateName() string {
	if len(cg.members) == 0 {
		return empty.String()
	}
	for _, m := range cg.members {
		if m.state != memberStable || m.epoch != cg.epoch {
			return "Reconciling"
		}
	}
	return stable.String()
}

// size is what a member takes in memory, besides what it is assigned.
func (m *consumerMember) size() int {
	n := memberBytes + len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.pattern) + len(m.assignor)
	for _, t := range m.topics {
		n += topicBytes + len(t)
	}
	if m.classic != nil {
		for _, p := range m.classic.protocols {
			n += protocolBytes + len(p.name) + len(p.metadata)
		}
	}
	return n
}

// session is how long m may be silent.
func (cg *consumerGroup) session(m *consumerMember) time.Duration {
	if m.classic != nil {
		return m.classic.session
	}
	session, _ := cg.group.core.opt.Consumer.times(cg.group.id)
	return session
}

// beat begins m's session anew.
func (cg *consumerGroup) beat(now time.Time, m *consumerMember) {
	m.expires = now.Add(cg.session(m))
	cg.wakeBy(m.expires)
}

func (cg *consumerGroup) wakeBy(at time.Time) { cg.group.core.wakeBy(cg.group, at) }

// deadlines calls yield with what ends for m, and why, unless it is renewed.
func (m *consumerMember) deadlines(yield func(time.Time, string) bool) {
	_ = yield(m.expires, "its session timed out") &&
		(m.revokeBy.IsZero() || yield(m.revokeBy, "it did not let go of partitions in time")) &&
		(m.joinBy.IsZero() || yield(m.joinBy, "it did not rejoin in time")) &&
		(m.syncBy.IsZero() || yield(m.syncBy, "it did not sync in time"))
}

// nextDeadline is the soonest of all.
func (cg *consumerGroup) nextDeadline() (next time.Time) {
	for _, m := range cg.members {
		for at := range m.deadlines {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// expire removes the members whose time is over by now.
func (cg *consumerGroup) expire(now time.Time) {
	var gone *consumerMember
	for _, m := range cg.sorted() {
		for at, why := range m.deadlines {
			if !now.Before(at) {
				cg.note("member removed: "+why, m)
				cg.remove(m)
				gone = m
				break
			}
		}
	}
	if gone != nil {
		cg.afterRemoval(now, gone, "member was removed", nil)
	}
}

// afterRemoval goes on without members that are gone. then runs when that is
// committed, or can not be.
func (cg *consumerGroup) afterRemoval(now time.Time, gone *consumerMember, why string, then func(now time.Time, err error)) {
	g := cg.group
	if cg.mayDowngrade() {
		g.downgrade(now, then)
		g.prepare(now, nil, why)
		return
	}
	cg.advance(why, gone)
	g.since = g.core.wall.UnixMilli()
	g.persist(now, then)
}

// note says something of the group in the log.
func (cg *consumerGroup) note(what string, m *consumerMember) {
	n := Note{Group: cg.group.id, What: what, Generation: cg.epoch, Members: len(cg.members), Member: m.id}
	cg.group.core.fx.Notes = append(cg.group.core.fx.Notes, n)
}

// sortedTopics copies names and sorts them, each once.
func sortedTopics(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = strings.Clone(name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
