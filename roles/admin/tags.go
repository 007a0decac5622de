package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/guard"
)

// An entity tag stands for what of a resource can be changed by the API, as the metadata have
// it: figures that move by themselves change no tag. A change with If-Match is refused where
// the resource is not as whoever sent it has seen it.

// requestKey is where the context of a call has that of its request.
type requestKey struct{}

// withRequest has a call of the API reach the headers of its request and its answer.
func withRequest(op *huma.Operation) {
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		next(huma.WithValue(ctx, requestKey{}, ctx))
	})
}

// tellTag puts the tag of a resource into an answer; "": there is no such resource.
func tellTag(ctx context.Context, tag string) {
	if is, ok := ctx.Value(requestKey{}).(huma.Context); ok && tag != "" {
		is.SetHeader("ETag", tag)
	}
}

// conditionOf is the condition under which a change of a resource is asked for; false: none.
func conditionOf(ctx context.Context, of controller.Tagged) (controller.Condition, bool) {
	is, ok := ctx.Value(requestKey{}).(huma.Context)
	if !ok || is.Header("If-Match") == "" {
		return controller.Condition{}, false
	}
	c := controller.Condition{Of: of}
	for one := range strings.SplitSeq(is.Header("If-Match"), ",") {
		c.Tags = append(c.Tags, strings.TrimSpace(one))
	}
	return c, true
}

// checkTag refuses a change of what is not as its caller has seen it, by what this process
// knows, and has the controller compare again when it comes to the change: what it knows is
// what is changed.
func checkTag(ctx context.Context, image *metadata.Image, of controller.Tagged) (context.Context, error) {
	condition, is := conditionOf(ctx, of)
	if !is {
		return ctx, nil
	}
	if tag := of.TagIn(image); !guard.Check("admin.if-match", condition.Met(tag)) {
		return ctx, errChanged(tag)
	}
	return controller.WithCondition(ctx, condition), nil
}

func errChanged(tag string) error {
	why := "it was changed since: read it again, and decide anew"
	if tag == "" {
		why = "it is not there any more"
	}
	return huma.NewError(http.StatusPreconditionFailed, "If-Match names what the resource is not: "+why)
}

// ifMatch documents the header, and the answer to one that does not match.
func ifMatch(op *huma.Operation) {
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "If-Match", In: "header", Description: "an ETag of the resource: the change is refused with 412 where it is another by now",
		Schema: &huma.Schema{Type: huma.TypeString},
	})
}

// imageOf is the image of a cluster at the moment that it is called.
func imageOf(c Cluster) func() *metadata.Image { return func() *metadata.Image { return c.Image() } }

// topicNamed, brokerNamed and moduleNamed are resources of those names that have a tag; quotasOfAll,
// usersOfAll, aclsOfAll and configOfNodes those of which there is one.
func topicNamed(name string) controller.Tagged {
	return controller.Tagged{Kind: controller.TaggedTopic, Name: name}
}

func brokerNamed(id int32) controller.Tagged {
	return controller.Tagged{Kind: controller.TaggedBroker, Name: strconv.Itoa(int(id))}
}

func moduleNamed(name string) controller.Tagged {
	return controller.Tagged{Kind: controller.TaggedModule, Name: name}
}

func quotasOfAll[I any](*I) controller.Tagged {
	return controller.Tagged{Kind: controller.TaggedQuotas}
}
func usersOfAll[I any](*I) controller.Tagged { return controller.Tagged{Kind: controller.TaggedUsers} }
func aclsOfAll[I any](*I) controller.Tagged  { return controller.Tagged{Kind: controller.TaggedACLs} }
func configOfNodes[I any](*I) controller.Tagged {
	return controller.Tagged{Kind: controller.TaggedNodes}
}
