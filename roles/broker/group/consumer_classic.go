package group

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// Members of the classic protocol in a consumer group, while a group moves from
// one to the other: a join begins what a heartbeat would, a sync fetches the
// assignment, and the generation is the member's epoch.

// joinConsumers takes a classic join to a consumer group that has members. It
// returns 0 when the join was answered, or will be.
func (g *group) joinConsumers(now time.Time, r Request, req *kmsg.JoinGroupRequest) int16 {
	cg := g.consumer
	var sub kmsg.ConsumerMemberMetadata
	if !cg.supported(req) || sub.ReadFrom(req.Protocols[0].Metadata) != nil {
		return kerr.InconsistentGroupProtocol.Code
	}
	m := cg.members[req.MemberID]
	if req.InstanceID != nil {
		m = cg.instances[*req.InstanceID]
		switch {
		case req.MemberID == "":
		case m == nil:
			return kerr.UnknownMemberID.Code
		case m.id != req.MemberID:
			return kerr.FencedInstanceID.Code
		}
	}
	if m == nil && (r.Full || len(cg.members) >= g.core.opt.Consumer.MaxSize || len(req.MemberID) > maxKeyString ||
		cg.size()+joinSize(r, req) > maxGroupBytes) {
		return kerr.GroupMaxSizeReached.Code
	}
	id := strings.Clone(req.MemberID)
	if id == "" {
		if id = g.core.opt.NewID(); req.Version >= 4 && req.InstanceID == nil {
			g.core.answer(r.Call, joinRefused(req, id, kerr.MemberIDRequired.Code)) // KIP-394
			return 0
		}
	}
	switch {
	case m == nil:
		m = &consumerMember{id: id}
		if req.InstanceID != nil {
			m.instance = new(strings.Clone(*req.InstanceID))
		}
		cg.add(m)
		cg.note("member joined by the classic protocol", m)
	case m.id != id || m.epoch == leaveStaticEpoch:
		cg.rename(m, id)
		cg.note("static member replaced", m)
	}
	if cg.stale {
		cg.refresh()
	}
	m.takeClassic(r, req)
	m.rack = nil
	if sub.Rack != nil {
		m.rack = new(strings.Clone(*sub.Rack))
	}
	cg.touched[m.id] = true
	if cg.subscribe(m, sortedTopics(sub.Topics), "", nil) {
		cg.advance("subscription of a member", m)
	}
	if cg.mayDowngrade() {
		// It was the last member of the consumer protocol.
		g.downgrade(now, nil)
		g.prepare(now, g.members[id], "classic member in place of the last other")
		return g.joinKnown(now, r, asMember(req, id))
	}
	owned := fromClassic(cg.catalogue(), sub.OwnedPartitions, func(t kmsg.ConsumerMemberMetadataOwnedPartition) (string, []int32) {
		return t.Topic, t.Partitions
	})
	cg.reconcile(now, m, owned, true)
	m.joinBy = time.Time{}
	m.syncBy = now.Add(m.rebalance)
	cg.wakeBy(m.syncBy)
	cg.beat(now, m)

	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.Generation, resp.MemberID = m.epoch, id
	resp.ProtocolType, resp.Protocol = new(consumerProtocol), new(m.classic.protocols[0].name)
	g.persist(now, func(_ time.Time, err error) {
		if err != nil {
			resp = joinRefused(req, id, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
		}
		g.core.answer(r.Call, resp)
	})
	return 0
}

// asMember is a join of one who was given an id.
func asMember(req *kmsg.JoinGroupRequest, id string) *kmsg.JoinGroupRequest {
	known := *req
	known.MemberID = id
	return &known
}

// takeClassic notes what a join says of its sender.
func (m *consumerMember) takeClassic(r Request, req *kmsg.JoinGroupRequest) {
	var as member
	as.take(req)
	m.clientID, m.clientHost = strings.Clone(r.ClientID), strings.Clone(r.ClientHost)
	m.rebalance, m.assignor = as.rebalance, ""
	m.classic = &classicMember{session: as.session, protocols: as.protocols}
}

// supported reports whether a classic member with these protocols fits among the
// other classic ones.
func (cg *consumerGroup) supported(req *kmsg.JoinGroupRequest) bool {
	if req.ProtocolType != consumerProtocol {
		return false
	}
	left := make(map[string]int, len(req.Protocols))
	for _, p := range req.Protocols {
		left[p.Name] = 0
	}
	return commonToClassic(left, maps.Values(cg.members), req.MemberID)
}

// commonToClassic reports whether all members of the classic protocol but one support
// one of these protocols. left counts, for each, the members that do; it begins with
// zeros.
func commonToClassic(left map[string]int, members iter.Seq[*consumerMember], but string) bool {
	n := 0
	for m := range members {
		if m.classic == nil || m.id == but {
			continue
		}
		for _, p := range m.classic.protocols {
			if of, ok := left[p.name]; ok && of == n { // else not all before support it, or it is named twice
				left[p.name]++
			}
		}
		n++
	}
	for _, of := range left {
		if of == n {
			return true
		}
	}
	return false
}

func (c *classicMember) supports(name string) bool {
	return slices.ContainsFunc(c.protocols, func(p protocol) bool { return p.name == name })
}

// classicMember finds the member that a request of the classic protocol is from.
func (cg *consumerGroup) classicMember(id string, instance *string, generation int32) (*consumerMember, int16) {
	m := cg.members[id]
	if instance != nil {
		m = cg.instances[*instance]
	}
	switch {
	case m == nil || m.classic == nil:
		return nil, kerr.UnknownMemberID.Code
	case m.id != id:
		return nil, kerr.FencedInstanceID.Code
	case !guard.Check("group.classic-member-epoch", generation == m.epoch):
		return nil, kerr.IllegalGeneration.Code
	}
	return m, 0
}

// syncConsumers answers a classic sync; 0: it was, or will be.
func (g *group) syncConsumers(now time.Time, r Request, req *kmsg.SyncGroupRequest) int16 {
	cg := g.consumer
	m, code := cg.classicMember(req.MemberID, req.InstanceID, req.Generation)
	switch {
	case code != 0:
		return code
	case req.ProtocolType != nil && *req.ProtocolType != consumerProtocol, req.Protocol != nil && !m.classic.supports(*req.Protocol):
		return kerr.InconsistentGroupProtocol.Code
	case m.epoch < cg.epoch && m.state != memberUnrevoked:
		return kerr.RebalanceInProgress.Code // it has to join again first
	}
	m.syncBy = time.Time{}
	cg.beat(now, m)
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	resp.ProtocolType, resp.Protocol = new(consumerProtocol), new(m.classic.protocols[0].name)
	resp.MemberAssignment = m.assigned.toClassic(cg.catalogue())
	g.persist(now, func(_ time.Time, err error) {
		if err != nil {
			resp = syncRefused(req, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
		}
		g.core.answer(r.Call, resp)
	})
	return 0
}

// beatClassic answers a classic heartbeat. The member is asked to join again when
// that takes it further: to a new epoch, or to partitions that are free now.
func (cg *consumerGroup) beatClassic(now time.Time, req *kmsg.HeartbeatRequest) int16 {
	m, code := cg.classicMember(req.MemberID, req.InstanceID, req.Generation)
	if code != 0 {
		return code
	}
	cg.beat(now, m)
	if m.epoch == cg.epoch && m.state != memberUnrevoked && (m.state != memberUnreleased || cg.waits(m)) {
		return 0
	}
	if m.joinBy.IsZero() {
		m.joinBy = now.Add(m.rebalance)
		cg.wakeBy(m.joinBy)
	}
	return kerr.RebalanceInProgress.Code
}

// leaveConsumers takes members out that leave by the classic protocol, and returns
// what to answer.
func (g *group) leaveConsumers(now time.Time, r Request, req *kmsg.LeaveGroupRequest, leaving []kmsg.LeaveGroupRequestMember) {
	cg := g.consumer
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	var gone *consumerMember
	for _, l := range leaving {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = l.MemberID, l.InstanceID
		m := cg.members[l.MemberID]
		if l.InstanceID != nil {
			m = cg.instances[*l.InstanceID]
		}
		switch {
		case m == nil:
			rm.ErrorCode = kerr.UnknownMemberID.Code
		case l.InstanceID != nil && l.MemberID != "" && m.id != l.MemberID:
			rm.ErrorCode = kerr.FencedInstanceID.Code
		case l.InstanceID == nil && m.classic == nil: // it has a heartbeat for that
			rm.ErrorCode = kerr.UnknownMemberID.Code
		default:
			cg.note("member left", m)
			cg.remove(m)
			gone = m
		}
		resp.Members = append(resp.Members, rm)
	}
	if req.Version < 3 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	if gone == nil {
		g.core.answer(r.Call, resp)
		return
	}
	cg.afterRemoval(now, gone, "member left", func(_ time.Time, err error) {
		if err != nil {
			resp = leaveRefused(req, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
		}
		g.core.answer(r.Call, resp)
	})
}

// upgraded returns the consumer group that a classic one would become, with the
// members that it has: they own what they have said they do, and their epoch is
// the generation.
func (g *group) upgraded() (*consumerGroup, *refusal) {
	cg := newConsumerGroup(g, g.generation)
	if len(g.members) == 0 {
		return cg, nil
	}
	opt := g.core.opt.Consumer
	switch {
	case !opt.Migration.upgrades():
		return nil, refused(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because online upgrade is disabled.", g.id)
	case g.protocolType != consumerProtocol:
		return nil, refused(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because the group does not use the consumer embedded protocol.", g.id)
	case len(g.members) > opt.MaxSize:
		return nil, refused(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because the group size exceeds the consumer group maximum size.", g.id)
	}
	for _, m := range g.ordered() {
		is, no := g.upgradedMember(cg, m)
		if no != nil {
			return nil, no
		}
		cg.add(is)
		// Of two who claim a partition one has it; the other is told when it joins.
		cg.own(is, is.assigned.where(func(p place) bool { return cg.owners[p] == nil }), nil)
		is.target = is.assigned
	}
	return cg, nil
}

func (g *group) upgradedMember(cg *consumerGroup, m *member) (*consumerMember, *refusal) {
	metadata := m.metadata(g.protocol)
	if metadata == nil {
		metadata = m.protocols[0].metadata // no generation has begun yet
	}
	malformed := refused(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because the embedded consumer protocol is malformed.", g.id)
	var sub kmsg.ConsumerMemberMetadata
	if sub.ReadFrom(metadata) != nil {
		return nil, malformed
	}
	is := &consumerMember{
		id: m.id, clientID: m.clientID, clientHost: m.clientHost, instance: m.instance, rack: sub.Rack,
		rebalance: m.rebalance, topics: sortedTopics(sub.Topics), epoch: g.generation, previous: g.generation,
		classic: &classicMember{session: m.session, protocols: m.protocols},
	}
	if m.joined { // and said what it still has
		is.assigned = fromClassic(cg.catalogue(), sub.OwnedPartitions, func(t kmsg.ConsumerMemberMetadataOwnedPartition) (string, []int32) {
			return t.Topic, t.Partitions
		})
		return is, nil
	}
	if len(m.assignment) == 0 {
		return is, nil
	}
	var has kmsg.ConsumerMemberAssignment
	if has.ReadFrom(m.assignment) != nil {
		return nil, malformed
	}
	if len(has.UserData) > 0 {
		return nil, refused(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because an unsupported custom assignor is in use.", g.id)
	}
	is.assigned = fromClassic(cg.catalogue(), has.Topics, func(t kmsg.ConsumerMemberAssignmentTopic) (string, []int32) { return t.Topic, t.Partitions })
	return is, nil
}

// upgrade makes the group the consumer group cg. Whoever waits is told to join
// again. What is written next takes back the classic group.
func (g *group) upgrade(now time.Time, cg *consumerGroup) {
	for _, m := range g.ordered() {
		g.endJoin(m, kerr.RebalanceInProgress.Code)
		g.endSync(m, kerr.RebalanceInProgress.Code)
		g.remove(m)
	}
	for id := range g.pending {
		g.unexpect(id)
	}
	g.state, g.saving, g.rebalanceBy, g.initial, g.grown = empty, 0, time.Time{}, false, false
	g.protocolType, g.protocol, g.leader, g.subscribed = consumerProtocol, "", "", nil
	g.consumer = cg
	// All that was written goes, of a consumer group that it was before too.
	if stale := g.keys(); len(cg.members) > 0 || g.record != nil || g.writing > 0 || len(stale) > 0 {
		g.queued = map[string][]byte{string(groupKey(g.id)): nil}
		for _, key := range stale {
			g.queued[key] = nil
		}
	}
	for _, m := range cg.members {
		cg.beat(now, m)
	}
	g.note("group uses the consumer protocol", nil)
}

// mayDowngrade reports whether only classic members are left, and the group may
// become a classic one again.
func (cg *consumerGroup) mayDowngrade() bool {
	opt := cg.group.core.opt
	if len(cg.members) == 0 || len(cg.members) > opt.MaxGroupSize || !opt.Consumer.Migration.downgrades() {
		return false
	}
	members := cg.sorted()
	for _, m := range members {
		if m.classic == nil {
			return false
		}
	}
	left := make(map[string]int, len(members[0].classic.protocols))
	for _, p := range members[0].classic.protocols {
		left[p.name] = 0
	}
	return commonToClassic(left, slices.Values(members), "")
}

// downgrade makes a consumer group whose members are all of the classic protocol,
// or that has none, a classic group. then runs when that is committed, or can not
// be; it may be nil.
func (g *group) downgrade(now time.Time, then func(now time.Time, err error)) {
	cg := g.consumer
	waiting := g.whenQueued
	if then != nil {
		waiting = append(waiting, then)
	}
	g.consumer, g.queued, g.whenQueued = nil, nil, nil
	g.generation, g.protocolType = cg.epoch, consumerProtocol
	for _, is := range cg.sorted() {
		m := &member{
			id: is.id, clientID: is.clientID, clientHost: is.clientHost, instance: is.instance,
			session: is.classic.session, rebalance: is.rebalance, protocols: is.classic.protocols,
			assignment: is.assigned.toClassic(cg.catalogue()), synced: true,
		}
		g.add(m)
		g.beat(now, m)
	}
	g.become(empty)
	if len(g.members) > 0 {
		g.protocol = g.selectProtocol()
		g.become(stable)
		g.readSubscriptions()
	}
	g.writeGroup(encodeGroup(g, nil), func(now time.Time, err error) {
		for _, then := range waiting {
			then(now, err)
		}
	})
	g.note("group uses the classic protocol", nil)
}

// buryConsumers puts before the record of a classic group what takes back the
// consumer group that it was, and returns what is to be done when that is
// committed.
func (g *group) buryConsumers(r Record) ([]Record, func(err error)) {
	graves := g.bury()
	g.burying++
	return append(graves, r), func(err error) {
		g.burying--
		if err != nil {
			return
		}
		for _, grave := range graves {
			if !bytes.Equal(grave.Key, r.Key) {
				g.noteCommitted(string(grave.Key), nil)
			}
		}
	}
}
