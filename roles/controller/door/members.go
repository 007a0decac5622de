package door

import (
	"context"
	"time"

	"rustmq.dev/rustmq/roles/controller"
)

// addTime is how long one controller may take to add another: that has to catch up.
const addTime = 25 * time.Second

type (
	membersQ          struct{ Members bool }
	addControllerQ    struct{ ID uint64 }
	removeControllerQ struct{ ID uint64 }
)

type membersGroup struct {
	Group controller.Group
	Err   fault
}

func (r membersGroup) decided() bool { return !r.Err.undecided() }

var (
	members = method[membersQ, membersGroup]{"Members", true, 0, func(ctx context.Context, c Controller, _ membersQ) membersGroup {
		g, err := c.Members(ctx)
		if g == nil {
			g = new(controller.Group)
		}
		return membersGroup{*g, faultOf(err)}
	}}
	// It goes on where it was ended.
	addController = method[addControllerQ, done]{"AddController", true, addTime, func(ctx context.Context, c Controller, q addControllerQ) done {
		return done{faultOf(c.AddController(ctx, q.ID))}
	}}
	// A leader that is to go hands over, and is not done: the next is asked. One that was
	// removed and waits to be added again is no member.
	removeController = method[removeControllerQ, done]{"RemoveController", true, 0, func(ctx context.Context, c Controller, q removeControllerQ) done {
		return done{faultOf(c.RemoveController(ctx, q.ID))}
	}}
)

// Members is as of [controller.Controller].
func (d *Door) Members(ctx context.Context) (*controller.Group, error) {
	r, err := call(ctx, d, members, membersQ{true})
	if err == nil {
		err = r.Err.err()
	}
	if err != nil {
		return nil, err
	}
	return &r.Group, nil
}

// AddController is as of [controller.Controller].
func (d *Door) AddController(ctx context.Context, id uint64) error {
	return errOf(call(ctx, d, addController, addControllerQ{id}))
}

// RemoveController is as of [controller.Controller].
func (d *Door) RemoveController(ctx context.Context, id uint64) error {
	return errOf(call(ctx, d, removeController, removeControllerQ{id}))
}
