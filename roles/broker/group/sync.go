package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

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
	if g.consumer != nil {
		return g.syncConsumers(now, r, req)
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
	id = g.writeGroup(encodeGroup(g, assignments), func(now time.Time, err error) {
		if !guard.Check("group.saved-generation", g.saving == id) {
			return // a rebalance has begun meanwhile
		}
		g.saving = 0
		if !guard.Check("group.assignment-recorded", err == nil) {
			for _, m := range g.ordered() {
				g.endSync(m, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
			}
			g.prepare(now, g.members[g.leader], "assignment could not be recorded")
			return
		}
		g.become(stable)
		g.rebalanceBy = time.Time{}
		for _, m := range g.ordered() {
			g.assign(m, assignments[m.id])
			m.joined = false
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
