package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker"
)

// Groups is what the API asks of the coordinators of consumer groups. Errors about
// the request or the group are [*broker.GroupError].
type Groups interface {
	ListGroups(context.Context) ([]broker.GroupSummary, error)
	DescribeGroup(ctx context.Context, id string) (*broker.GroupDescription, error)
	DeleteGroup(ctx context.Context, id string) error
	ResetOffsets(ctx context.Context, id string, r broker.OffsetReset) (*broker.OffsetPlan, error)
}

type (
	groupName struct {
		Group string `path:"group" doc:"id of the group"`
	}
	groupsOutput struct {
		Body struct {
			Groups []broker.GroupSummary `json:"groups"`
		}
	}
	groupOutput struct{ Body *broker.GroupDescription }
	resetInput  struct {
		Group string `path:"group" doc:"id of the group"`
		Body  broker.OffsetReset
	}
	resetOutput struct{ Body *broker.OffsetPlan }
)

// groupsAPI is /api/v1/groups.
type groupsAPI struct{ groups Groups }

func registerGroups(h huma.API, a groupsAPI) {
	huma.Get(h, "/api/v1/groups", a.list)
	huma.Get(h, "/api/v1/groups/{group}", a.describe)
	huma.Delete(h, "/api/v1/groups/{group}", a.delete)
	huma.Post(h, "/api/v1/groups/{group}/reset-offsets", a.reset)
}

func (a groupsAPI) list(ctx context.Context, _ *struct{}) (*groupsOutput, error) {
	groups, err := a.groups.ListGroups(ctx)
	if err != nil {
		return nil, groupProblem(err)
	}
	out := &groupsOutput{}
	out.Body.Groups = groups
	return out, nil
}

func (a groupsAPI) describe(ctx context.Context, in *groupName) (*groupOutput, error) {
	d, err := a.groups.DescribeGroup(ctx, in.Group)
	if err != nil {
		return nil, groupProblem(err)
	}
	return &groupOutput{d}, nil
}

func (a groupsAPI) delete(ctx context.Context, in *groupName) (*struct{}, error) {
	if err := a.groups.DeleteGroup(ctx, in.Group); err != nil {
		return nil, groupProblem(err)
	}
	return nil, nil
}

func (a groupsAPI) reset(ctx context.Context, in *resetInput) (*resetOutput, error) {
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
		case kerr.NonEmptyGroup:
			status = http.StatusConflict
		case kerr.InvalidRequest, kerr.InvalidGroupID:
			status = http.StatusBadRequest
		}
	}
	return huma.NewError(status, err.Error())
}
