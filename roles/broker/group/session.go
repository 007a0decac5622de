package group

import (
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
	if g.consumer != nil {
		return g.consumer.beatClassic(now, req)
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
	if g != nil && g.consumer != nil {
		g.leaveConsumers(now, r, req, leaving)
		return
	}
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
