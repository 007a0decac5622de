package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/guard"
)

// Groups is what the API asks of the coordinators of consumer groups. Errors about
// the request or the group are [*broker.GroupError].
type Groups interface {
	ListGroups(context.Context) ([]broker.GroupSummary, error)
	DescribeGroup(ctx context.Context, id string) (*broker.GroupDescription, error)
	DeleteGroup(ctx context.Context, id string) error
	DeleteOffsets(ctx context.Context, id, topic string) error
	ResetOffsets(ctx context.Context, id string, r broker.OffsetReset) (*broker.OffsetPlan, error)
}

type (
	groupsQuery struct {
		PageQuery
		Topic string `query:"topic" maxLength:"249" doc:"only groups that have committed an offset of it"`
	}
	groupName struct {
		Group string `path:"group" doc:"id of the group"`
	}
	groupsOutput struct {
		Body struct {
			Groups []broker.GroupSummary `json:"groups"`
			NextPage
		}
	}
	offsetsInput struct {
		Group string `path:"group" doc:"id of the group"`
		Topic string `query:"topic" maxLength:"249" doc:"of which the offsets go; one has to be named"`
	}
	groupOutput struct{ Body *broker.GroupDescription }
	resetInput  struct {
		Group string `path:"group" doc:"id of the group"`
		Body  broker.OffsetReset
	}
	resetOutput struct{ Body *broker.OffsetPlan }
	lagOutput   struct{ Body LagHistory }
)

// groupsAPI is /api/v1/groups.
type groupsAPI struct {
	groups Groups
	lags   *lagHistory
}

func registerGroups(h *routes, a groupsAPI) {
	group := func(op acl.Operation) row[groupName] {
		return to(func(in *groupName) string { return in.Group }, need{op, acl.Group})
	}
	route(h, http.MethodGet, "/api/v1/groups", whoever[groupsQuery]("groups that the caller may not describe are left out, unless it may describe the cluster, and so are topics"), a.list)
	route(h, http.MethodGet, "/api/v1/groups/{group}", group(acl.Describe).noting("topics that the caller may not describe are left out"), a.describe)
	route(h, http.MethodGet, "/api/v1/groups/{group}/lag", group(acl.Describe).noting("of all topics of the group"), a.lag)
	route(h, http.MethodDelete, "/api/v1/groups/{group}", group(acl.Delete).act("group.delete"), a.delete)
	route(h, http.MethodDelete, "/api/v1/groups/{group}/offsets", to(func(in *offsetsInput) string { return in.Group }, need{acl.Delete, acl.Group}).noting("and read on the topic").act("group.delete-offsets").saying(func(in *offsetsInput) string { return "topic=" + in.Topic }), a.deleteOffsets)
	route(h, http.MethodPost, "/api/v1/groups/{group}/reset-offsets", to(func(in *resetInput) string { return in.Group }, need{acl.Read, acl.Group}).noting("and read on each topic whose offsets are to be set").act("group.reset-offsets").saying(toldReset).unless(func(in *resetInput) bool { return !in.Body.Execute }), a.reset)
}

// readsTopic is what a change of offsets asks for, as OffsetCommit does.
var readsTopic = need{acl.Read, acl.Topic}

// toldReset is a reset of offsets as the audit log has it.
func toldReset(in *resetInput) string {
	said := fmt.Sprintf("to=%s value=%d topics=", in.Body.To, in.Body.Value)
	if in.Body.AllTopics {
		said += "all"
	}
	for _, t := range in.Body.Topics {
		if said += t.Topic; len(t.Partitions) > 0 {
			said += fmt.Sprint(t.Partitions)
		}
		said += ","
	}
	return strings.TrimSuffix(said, ",")
}

func (a groupsAPI) list(ctx context.Context, in *groupsQuery) (*groupsOutput, error) {
	who, out := subjectOf(ctx), &groupsOutput{}
	if in.Topic != "" {
		if refused := (need{acl.Describe, acl.Topic}).missing(who, in.Topic); refused != nil {
			return nil, forbidden(refused)
		}
	}
	a.lags.want()
	groups, err := a.groups.ListGroups(ctx)
	if err != nil {
		return nil, groupProblem(err)
	}
	groups = slices.DeleteFunc(groups, func(g broker.GroupSummary) bool {
		return in.Topic != "" && !slices.Contains(g.Topics, in.Topic) || !who.may(acl.Describe, acl.Group, g.Group) && describesCluster.missing(who, "") != nil
	})
	for i := range groups {
		groups[i].Topics = describedTopics(who, groups[i].Topics)
	}
	out.Body.Groups, out.Body.NextPage, err = partOf(in.PageQuery, groups, func(g broker.GroupSummary) string { return g.Group })
	return out, err
}

// describedTopics are those that a caller may know of; a broker of a version before tells of none.
func describedTopics(who *subject, topics []string) []string {
	return slices.DeleteFunc(append([]string{}, topics...), func(name string) bool { return !who.may(acl.Describe, acl.Topic, name) })
}

func (a groupsAPI) describe(ctx context.Context, in *groupName) (*groupOutput, error) {
	d, err := a.groups.DescribeGroup(ctx, in.Group)
	if err != nil {
		return nil, groupProblem(err)
	}
	who := subjectOf(ctx)
	d.Topics = describedTopics(who, d.Topics)
	d.PartitionList = slices.DeleteFunc(d.PartitionList, func(p broker.GroupPartition) bool { return !who.may(acl.Describe, acl.Topic, p.Topic) })
	for i := range d.MemberList {
		m := &d.MemberList[i]
		m.Assigned = slices.DeleteFunc(m.Assigned, func(p broker.PartitionsTaken) bool { return !who.may(acl.Describe, acl.Topic, p.Topic) })
	}
	return &groupOutput{d}, nil
}

// lag has no points of a group that was not seen in the last hour.
func (a groupsAPI) lag(_ context.Context, in *groupName) (*lagOutput, error) {
	a.lags.want()
	return &lagOutput{LagHistory{in.Group, lagEvery.Seconds(), a.lags.points(in.Group, time.Now())}}, nil
}

func (a groupsAPI) delete(ctx context.Context, in *groupName) (*struct{}, error) {
	if err := a.groups.DeleteGroup(ctx, in.Group); err != nil {
		return nil, groupProblem(err)
	}
	return nil, nil
}

func (a groupsAPI) deleteOffsets(ctx context.Context, in *offsetsInput) (*struct{}, error) {
	if in.Topic == "" {
		return nil, badRequest(errors.New("topic: name the one whose offsets are to go"))
	}
	if refused := readsTopic.missing(subjectOf(ctx), in.Topic); refused != nil {
		return nil, forbidden(refused)
	}
	if err := a.groups.DeleteOffsets(ctx, in.Group, in.Topic); err != nil {
		return nil, groupProblem(err)
	}
	return nil, nil
}

func (a groupsAPI) reset(ctx context.Context, in *resetInput) (*resetOutput, error) {
	who := subjectOf(ctx)
	for _, t := range in.Body.Topics {
		if refused := readsTopic.missing(who, t.Topic); refused != nil {
			return nil, forbidden(refused)
		}
	}
	if in.Body.AllTopics { // which they are is what a plan says
		look := in.Body
		look.Execute = false
		plan, err := a.groups.ResetOffsets(ctx, in.Group, look)
		if err != nil {
			return nil, groupProblem(err)
		}
		for _, p := range plan.Partitions {
			if refused := readsTopic.missing(who, p.Topic); refused != nil {
				if !guard.Check("admin.reset-names", who.may(acl.Describe, acl.Topic, p.Topic)) {
					refused = fmt.Errorf("TOPIC_AUTHORIZATION_FAILED: the group has committed offsets of a topic that %s may not describe: name the topics that are meant", who.principal)
				}
				return nil, forbidden(refused)
			}
		}
		if !in.Body.Execute {
			return &resetOutput{plan}, nil
		}
	}
	plan, err := a.groups.ResetOffsets(ctx, in.Group, in.Body)
	if err != nil {
		return nil, groupProblem(err)
	}
	return &resetOutput{plan}, nil
}

// groupProblem turns an error of the coordinators into an HTTP one.
func groupProblem(err error) error {
	status := http.StatusServiceUnavailable
	if refused, ok := errors.AsType[*broker.GroupError](err); ok {
		switch refused.Code {
		case kerr.GroupIDNotFound, kerr.UnknownTopicOrPartition:
			status = http.StatusNotFound
		case kerr.NonEmptyGroup, kerr.GroupSubscribedToTopic:
			status = http.StatusConflict
		case kerr.InvalidRequest, kerr.InvalidGroupID:
			status = http.StatusBadRequest
		}
	}
	return huma.NewError(status, err.Error())
}
