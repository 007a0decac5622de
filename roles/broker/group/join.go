package group

import (
	"bytes"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// newMemberWait is how long a new member may wait for its first generation. It
// cannot send heartbeats, and may be gone; Kafka takes as long.
const newMemberWait = 5 * time.Minute

// maxGroupBytes bounds the members of one group, and with them the answer to a
// leader's join. Their record has to fit into a batch, which is smaller still.
const maxGroupBytes = 32 << 20

func (c *Core) join(now time.Time, r Request, req *kmsg.JoinGroupRequest) {
	if code := c.tryJoin(now, r, req); code != 0 {
		c.answer(r.Call, joinRefused(req, req.MemberID, code))
	}
}

// tryJoin returns 0 when the join was answered, or will be.
func (c *Core) tryJoin(now time.Time, r Request, req *kmsg.JoinGroupRequest) int16 {
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	switch {
	case req.Group == "":
		return kerr.InvalidGroupID.Code
	case !guard.Check("group.name-length", len(req.Group) <= maxName):
		return kerr.InvalidGroupID.Code
	case !nameable(r, req):
		return kerr.InvalidRequest.Code
	case !guard.Check("group.protocols-bounded", len(req.Protocols) <= maxProtocols):
		return kerr.GroupMaxSizeReached.Code
	case session < c.opt.MinSession || session > c.opt.MaxSession:
		return kerr.InvalidSessionTimeout.Code
	}
	size := joinSize(r, req)
	if size > c.opt.MaxMember {
		return kerr.GroupMaxSizeReached.Code
	}
	g := c.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			return kerr.UnknownMemberID.Code
		}
		if r.Full {
			return kerr.GroupMaxSizeReached.Code
		}
		g = c.make(req.Group)
		defer c.dropIfBare(g)
	}
	if g.consumer != nil && !g.deleting {
		if len(g.consumer.members) > 0 {
			return g.joinConsumers(now, r, req)
		}
		if req.MemberID != "" {
			return kerr.UnknownMemberID.Code
		}
		g.downgrade(now, nil)
	}
	switch {
	case g.deleting:
		return kerr.CoordinatorNotAvailable.Code
	case g.bytes+int64(size) > maxGroupBytes:
		return kerr.GroupMaxSizeReached.Code
	case !g.supported(req.ProtocolType, req.Protocols):
		return kerr.InconsistentGroupProtocol.Code
	case req.MemberID == "":
		return g.joinNew(now, r, req)
	}
	return g.joinKnown(now, r, req)
}

// maxProtocols bounds the protocols of one member, which are matched with those of
// others. Clients have a handful: Kafka's consumers know four assignors, Connect three.
const maxProtocols = 64

// maxName is the longest name that a record can hold, less what a member's id has
// besides the name that it begins with.
const maxName = math.MaxInt16 - 100

// nameable reports whether a record can hold what a join says of its sender. A protocol
// without a name could not be told from none.
func nameable(r Request, req *kmsg.JoinGroupRequest) bool {
	longest := max(len(r.ClientID), len(r.ClientHost), len(req.ProtocolType))
	if req.InstanceID != nil {
		longest = max(longest, len(*req.InstanceID))
	}
	for _, p := range req.Protocols {
		if p.Name == "" {
			return false
		}
		longest = max(longest, len(p.Name))
	}
	return guard.Check("group.member-name-length", longest <= maxName)
}

// joinSize is what a join adds to memory.
func joinSize(r Request, req *kmsg.JoinGroupRequest) int {
	n := len(r.ClientID) + len(r.ClientHost) + len(req.ProtocolType)
	if req.InstanceID != nil {
		n += len(*req.InstanceID)
	}
	for _, p := range req.Protocols {
		n += protocolBytes + len(p.Name) + len(p.Metadata)
	}
	return n
}

// joinNew lets somebody join who has no member id yet.
func (g *group) joinNew(now time.Time, r Request, req *kmsg.JoinGroupRequest) int16 {
	prefix := r.ClientID
	if req.InstanceID != nil {
		prefix = *req.InstanceID
		if m := g.instances[prefix]; m != nil {
			g.replaceStatic(now, r, req, m)
			return 0
		}
	}
	if r.Full || len(g.members)+len(g.pending) >= g.core.opt.MaxGroupSize {
		return kerr.GroupMaxSizeReached.Code
	}
	id := prefix + "-" + g.core.opt.NewID()
	if req.Version < 4 || req.InstanceID != nil {
		g.addMember(now, r, req, id)
		return 0
	}
	// KIP-394: it has to come back with its id, so that clients which give up
	// and ask anew do not fill the group with members that nobody is.
	until := now.Add(time.Duration(req.SessionTimeoutMillis) * time.Millisecond)
	g.expect(id, until)
	g.core.answer(r.Call, joinRefused(req, id, kerr.MemberIDRequired.Code))
	return 0
}

// joinKnown lets somebody join who has a member id.
func (g *group) joinKnown(now time.Time, r Request, req *kmsg.JoinGroupRequest) int16 {
	if _, ok := g.pending[req.MemberID]; ok && req.InstanceID == nil {
		if r.Full {
			return kerr.GroupMaxSizeReached.Code
		}
		id := strings.Clone(req.MemberID)
		g.unexpect(id)
		g.addMember(now, r, req, id)
		return 0
	}
	m, code := g.memberOf(req.MemberID, req.InstanceID)
	if code != 0 {
		return code
	}
	same := m.sameProtocols(req.Protocols)
	switch {
	case g.state == preparing:
		g.rejoin(now, r, req, m)
		g.tryComplete(now)
	case g.state == completing && same, g.state == stable && same && m.id != g.leader:
		// The answer got lost, or a follower asks for nothing new.
		g.beat(now, m)
		g.core.answer(r.Call, g.joinResponse(req, m))
	default:
		// The leader of a stable group rejoins when what it watches has changed.
		g.rejoin(now, r, req, m)
		g.prepare(now, m, "member rejoined")
	}
	return 0
}

// addMember makes a new member that waits for the next generation.
func (g *group) addMember(now time.Time, r Request, req *kmsg.JoinGroupRequest, id string) {
	m := &member{id: id, clientID: strings.Clone(r.ClientID), clientHost: strings.Clone(r.ClientHost), isNew: true}
	if req.InstanceID != nil {
		instance := strings.Clone(*req.InstanceID)
		m.instance = &instance
	}
	m.take(req)
	m.expires = now.Add(newMemberWait)
	g.core.wakeBy(g, m.expires)
	if len(g.members) == 0 {
		g.protocolType = strings.Clone(req.ProtocolType)
	}
	g.add(m)
	g.awaitJoin(m, &waiting{call: r.Call, join: req})
	g.grown = true
	if g.state == preparing {
		g.tryComplete(now)
	} else {
		g.prepare(now, m, "member joined")
	}
}

// rejoin lets a member wait for the next generation, as the one it says it is now.
func (g *group) rejoin(now time.Time, r Request, req *kmsg.JoinGroupRequest, m *member) {
	g.count(m, -1)
	m.take(req)
	g.count(m, 1)
	g.awaitJoin(m, &waiting{call: r.Call, join: req})
}

// take notes what a join request says of its sender.
func (m *member) take(req *kmsg.JoinGroupRequest) {
	m.session = time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	m.rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version < 1 || m.rebalance < 0 {
		m.rebalance = m.session
	}
	m.protocols = make([]protocol, len(req.Protocols))
	for i, p := range req.Protocols {
		m.protocols[i] = protocol{strings.Clone(p.Name), bytes.Clone(p.Metadata)}
	}
}

func (m *member) sameProtocols(protocols []kmsg.JoinGroupRequestProtocol) bool {
	if len(protocols) != len(m.protocols) {
		return false
	}
	for i, p := range protocols {
		if p.Name != m.protocols[i].name || !bytes.Equal(p.Metadata, m.protocols[i].metadata) {
			return false
		}
	}
	return true
}

// replaceStatic gives the place of a static member to a process that has just
// started under its instance id (KIP-345). As long as the group would choose
// the same protocol, nothing else changes, and the assignment stays.
func (g *group) replaceStatic(now time.Time, r Request, req *kmsg.JoinGroupRequest, m *member) {
	was := m.id
	g.endJoin(m, kerr.FencedInstanceID.Code)
	g.endSync(m, kerr.FencedInstanceID.Code)
	g.count(m, -1)
	delete(g.members, was)
	m.id = *m.instance + "-" + g.core.opt.NewID()
	m.clientID, m.clientHost = strings.Clone(r.ClientID), strings.Clone(r.ClientHost)
	m.take(req)
	g.members[m.id] = m
	g.count(m, 1)
	wasLeader := g.leader == was
	if wasLeader {
		g.leader = m.id
	}
	g.beat(now, m)
	g.note("static member replaced", m)

	w := &waiting{call: r.Call, join: req}
	if g.state == stable && g.selectProtocol() == g.protocol {
		g.recordStatic(m, w, was, wasLeader)
		return
	}
	g.awaitJoin(m, w)
	if g.state == preparing {
		g.tryComplete(now)
	} else {
		g.prepare(now, m, "static member came back")
	}
}

// recordStatic writes that m has a new id, and answers its join once that is
// committed: a coordinator that forgot it would fence m off.
func (g *group) recordStatic(m *member, w *waiting, was string, wasLeader bool) {
	id, generation := m.id, g.generation
	g.writeGroup(encodeGroup(g, nil), func(now time.Time, err error) {
		switch {
		case g.members[id] != m:
			code := kerr.UnknownMemberID.Code
			if g.instances[*m.instance] == m {
				code = kerr.FencedInstanceID.Code // replaced once more
			}
			g.core.answer(w.call, joinRefused(w.join, id, code))
		case !guard.Check("group.static-recorded", err == nil):
			g.core.answer(w.call, joinRefused(w.join, "", coordinator.CodeOf(err, kerr.UnknownServerError.Code)))
		case g.state == stable && g.generation == generation:
			g.beat(now, m)
			resp := g.joinResponse(w.join, m)
			if wasLeader && w.join.Version < 9 {
				// It must not compute an assignment that nobody asked for; before
				// KIP-814 that takes a leader who is somebody else.
				resp.LeaderID, resp.Members = was, nil
			}
			resp.SkipAssignment = resp.LeaderID == m.id
			g.core.answer(w.call, resp)
		default:
			g.awaitJoin(m, w)
			if g.state == preparing {
				g.tryComplete(now)
			} else {
				g.prepare(now, m, "static member came back")
			}
		}
	})
}

// joinResponse tells m of the current generation; the leader learns of everybody.
func (g *group) joinResponse(req *kmsg.JoinGroupRequest, m *member) *kmsg.JoinGroupResponse {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.Generation = g.generation
	resp.ProtocolType, resp.Protocol = new(g.protocolType), new(g.protocol)
	resp.LeaderID, resp.MemberID = g.leader, m.id
	if m.id != g.leader {
		return resp
	}
	for _, m := range g.ordered() {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.id, m.instance, m.metadata(g.protocol)
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

func joinRefused(req *kmsg.JoinGroupRequest, memberID string, code int16) *kmsg.JoinGroupResponse {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.ErrorCode, resp.MemberID, resp.Generation = code, memberID, -1
	return resp
}
