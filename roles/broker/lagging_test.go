package broker

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
)

// laggingController shows the broker nothing new while it is held.
type laggingController struct {
	*testController
	held atomic.Bool
}

func (c *laggingController) Subscribe(f func(*metadata.Image)) (cancel func()) {
	return c.testController.Subscribe(func(image *metadata.Image) {
		if !c.held.Load() {
			f(image)
		}
	})
}

// Who may delete a topic is decided by its name: a broker that does not know the topic yet
// does not have the controller, which does, delete it by its id.
func TestNoTopicIsDeletedByAnIDThatIsNotKnown(t *testing.T) {
	lagging := &laggingController{}
	n := startAuthorising(t, func(o *Options) {
		lagging.testController = o.Controller.(*testController)
		o.Controller = lagging
	})
	n.alter(false, allow("alice", acl.Describe, acl.Topic, "*"))
	lagging.held.Store(true)
	id := n.controller.createTopic("payroll", 1)
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}
	p := ask[*kmsg.DeleteTopicsResponse](n.as("alice"), 6, q)
	if got := p.Topics[0]; len(p.Topics) != 1 || got.ErrorCode != kerr.UnknownTopicID.Code || got.Topic != nil || got.TopicID != id {
		t.Errorf("%+v", p.Topics)
	}
	if _, there := n.controller.Image().Topic("payroll"); !there {
		t.Error("the topic was deleted by who may not")
	}
}

// A filter of DeleteAcls that is refused keeps no other from deleting what it chooses.
func TestARefusedFilterHidesNoACL(t *testing.T) {
	n := startAuthorising(t)
	rule := allow("alice", acl.Read, acl.Topic, "events")
	n.alter(false, rule)
	wrong := kmsg.DeleteACLsRequestFilter{ResourceType: 2, ResourcePatternType: 1, Operation: 0, PermissionType: 1}
	right := wrong
	right.Operation = 1
	p := ask[*kmsg.DeleteACLsResponse](n.as("root"), 3, &kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{wrong, right}})
	if got := p.Results[0]; got.ErrorCode != kerr.InvalidRequest.Code || len(got.MatchingACLs) != 0 {
		t.Errorf("the filter that is wrong: %+v", got)
	}
	if got := p.Results[1]; got.ErrorCode != 0 || len(got.MatchingACLs) != 1 || n.controller.Image().HasACL(rule) {
		t.Errorf("the filter that is right: %+v", got)
	}
}
