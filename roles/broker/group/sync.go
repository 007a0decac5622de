package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// memberOf finds the member that a request is sent for. A static member whose
// instance id another process has taken is fenced off (KIP-345).
func (g *group) memberOf(id string, instance *string) (*member, int16) {
	if instance != nil {
		m := g.instances[*instance]
		if m == nil {
			return nil, kerr.UnknownMemberID.Code
		}
		if !guard.Check("group.instance-fenced", m.id == id) {
			return nil, kerr.FencedInstanceID.Code
		}
		return m, 0
	}
	m := g.members[id]
	if m == nil {
		return nil, kerr.UnknownMemberID.Code
	}
	return m, 0
}

func (c *Core) sync(now time.Time, r Request, req *kmsg.SyncGroupRequest) {
	if code := c.trySync(now, r, req); code != 0 {
		c.answer(r.Call, syncRefused(req, code))
	}
}

// trySync returns 0 when the sync was answered, or will be.
func (c *Core) trySync(now time.Time, r Request, req *kmsg.SyncGroupRequest) int16 {
	if req.Group == "" {
		return kerr.InvalidGroupID.Code
	}
	g := c.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID.Code
	}
	m, code := g.memberOf(req.MemberID, req.InstanceID)
	switch {
	case code != 0:
		return code
	case !guard.Check("group.sync-generation", req.Generation == g.generation):
		return kerr.IllegalGeneration.Code
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType, req.Protocol != nil && *req.Protocol != g.protocol:
		return kerr.InconsistentGroupProtocol.Code
	}
	switch g.state {
	case empty:
		return kerr.UnknownMemberID.Code
	case preparing:
		return kerr.RebalanceInProgress.Code
	case stable:
		g.beat(now, m)
		c.answer(r.Call, g.syncResponse(req, m))
		return 0
	}
	g.endSync(m, kerr.RebalanceInProgress.Code) // it has asked again: on a new connection, most likely
	m.sync = &waiting{call: r.Call, sync: req}
	m.synced = true
	if m.id == g.leader && g.saving == 0 {
		g.save(req.GroupAssignment)
	}
	return 0
}

// save writes the leader's assignment, and hands it out once it is committed: a
// restart must not find members consuming what it has not heard of.
func (g *group) save(given []kmsg.SyncGroupRequestGroupAssignment) {
	assignments := make(map[string][]byte, len(g.members))
	for _, a := range given {
		if g.members[a.MemberID] != nil {
			assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
		}
	}
	var id WriteID
	id = g.writeRecords([]Record{encodeGroup(g, assignments)}, func(now time.Time, err error) {
		if err == nil {
			g.recorded = true
		}
		if !guard.Check("group.saved-generation", g.saving == id) {
			return // a rebalance has begun meanwhile
		}
		g.saving = 0
		if !guard.Check("group.assignment-recorded", err == nil) {
			for _, m := range g.ordered() {
				g.endSync(m, codeOf(err, kerr.UnknownServerError.Code))
			}
			g.prepare(now, g.members[g.leader], "assignment could not be recorded")
			return
		}
		g.become(stable)
		g.rebalanceBy = time.Time{}
		for _, m := range g.ordered() {
			g.assign(m, assignments[m.id])
			if m.sync != nil {
				g.beat(now, m)
				g.core.answer(m.sync.call, g.syncResponse(m.sync.sync, m))
				m.sync = nil
			}
		}
		g.note("group is stable", nil)
	})
	g.saving = id
}

// syncResponse tells m its assignment.
func (g *group) syncResponse(req *kmsg.SyncGroupRequest, m *member) *kmsg.SyncGroupResponse {
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	resp.ProtocolType, resp.Protocol = new(g.protocolType), new(g.protocol)
	resp.MemberAssignment = m.assignment
	return resp
}

func syncRefused(req *kmsg.SyncGroupRequest, code int16) *kmsg.SyncGroupResponse {
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	resp.ErrorCode = code
	resp.MemberAssignment = []byte{}
	return resp
}

func (c *Core) heartbeat(now time.Time, r Request, req *kmsg.HeartbeatRequest) {
	c.answer(r.Call, heartbeatResponse(req, c.tryHeartbeat(now, req)))
}

func (c *Core) tryHeartbeat(now time.Time, req *kmsg.HeartbeatRequest) int16 {
	if req.Group == "" {
		return kerr.InvalidGroupID.Code
	}
	g := c.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID.Code
	}
	m, code := g.memberOf(req.MemberID, req.InstanceID)
	switch {
	case code != 0:
		return code
	case req.Generation != g.generation:
		return kerr.IllegalGeneration.Code
	}
	g.beat(now, m)
	if g.state == preparing {
		return kerr.RebalanceInProgress.Code
	}
	return 0
}

func heartbeatResponse(req *kmsg.HeartbeatRequest, code int16) *kmsg.HeartbeatResponse {
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	resp.ErrorCode = code
	return resp
}

func (c *Core) leave(now time.Time, r Request, req *kmsg.LeaveGroupRequest) {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		c.answer(r.Call, resp)
		return
	}
	leaving := req.Members
	if req.Version < 3 {
		leaving = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	g := c.groups[req.Group]
	var gone *member
	for _, l := range leaving {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = l.MemberID, l.InstanceID
		m, code := g.leaving(l)
		rm.ErrorCode = code
		if m != nil {
			g.note("member left", m)
			g.remove(m)
			gone = m
		}
		resp.Members = append(resp.Members, rm)
	}
	if req.Version < 3 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	c.answer(r.Call, resp)
	switch {
	case g == nil:
		return
	case gone != nil:
		g.afterRemoval(now, gone, "member left")
	default:
		g.tryComplete(now) // a pending id is no longer waited for
	}
	c.dropIfBare(g)
}

// leaving finds who leaves; a member id that was only given out is taken back.
// The group may be nil.
func (g *group) leaving(l kmsg.LeaveGroupRequestMember) (*member, int16) {
	if g == nil {
		return nil, kerr.UnknownMemberID.Code
	}
	if _, ok := g.pending[l.MemberID]; ok && l.InstanceID == nil {
		g.unexpect(l.MemberID)
		return nil, 0
	}
	if l.InstanceID != nil && l.MemberID == "" { // an operator removes a static member
		if m := g.instances[*l.InstanceID]; m != nil {
			return m, 0
		}
		return nil, kerr.UnknownMemberID.Code
	}
	return g.memberOf(l.MemberID, l.InstanceID)
}

func leaveRefused(req *kmsg.LeaveGroupRequest, code int16) *kmsg.LeaveGroupResponse {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	resp.ErrorCode = code
	return resp
}
