package door

import (
	"context"
	"strings"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/rpc"
)

// conditional is the name of calls that have a method run under a condition
// ([controller.WithCondition]), which the controller compares that runs it. One of a version
// that knows no conditions refuses such a call, and runs nothing.
const conditional = "Conditional"

// maxTags are looked at of a condition.
const maxTags = 256

// conditionalQ is the body of such a call.
type conditionalQ struct {
	Of     controller.Tagged
	Tags   string // with commas between: a list of empty ones would take more than its bytes
	Method string
	Body   []byte // of that method
}

// wrapped is a call of a method as it is sent: with the condition of ctx, if that has one.
func wrapped(ctx context.Context, method string, body []byte) (string, []byte, error) {
	c, is := controller.ConditionOf(ctx)
	if !is {
		return method, body, nil
	}
	body, err := encode(conditionalQ{c.Of, strings.Join(c.Tags, ","), method, body})
	return conditional, body, err
}

// unwrapped returns the call that is in one with a condition, and puts that into ctx; other
// calls stay as they are. refused says why it is none.
func unwrapped(ctx context.Context, call rpc.Call) (_ context.Context, _ rpc.Call, refused *rpc.Refused) {
	if call.Method != conditional {
		return ctx, call, nil
	}
	var q conditionalQ
	if err := decode(call.Body, &q); err != nil {
		return ctx, call, &rpc.Refused{Code: int16(metadata.InvalidRequest), Message: conditional + ": " + err.Error()}
	}
	call.Method, call.Body = q.Method, q.Body
	return controller.WithCondition(ctx, controller.Condition{Of: q.Of, Tags: strings.SplitN(q.Tags, ",", maxTags)}), call, nil
}

// mayAgain reports whether a method may be run again after a try of which nobody knows what
// became: under a condition it may not, for its first run is what the second would meet.
func (m method[Q, R]) mayAgain(ctx context.Context) bool {
	_, is := controller.ConditionOf(ctx)
	return m.again && !is
}
