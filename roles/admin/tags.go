package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
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

// tagOf is an entity tag of values that say what a resource is.
func tagOf(values ...any) string {
	h := sha256.New()
	for _, v := range values {
		fmt.Fprintf(h, "%v\x00", v)
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12]) + `"`
}

// tellTag puts the tag of a resource into an answer; "": there is no such resource.
func tellTag(ctx context.Context, tag string) {
	if is, ok := ctx.Value(requestKey{}).(huma.Context); ok && tag != "" {
		is.SetHeader("ETag", tag)
	}
}

// conditionOf is the condition under which a change is asked for; "": none.
func conditionOf(ctx context.Context) string {
	if is, ok := ctx.Value(requestKey{}).(huma.Context); ok {
		return is.Header("If-Match")
	}
	return ""
}

// checkTag refuses a change of what is not as its caller has seen it.
func checkTag(ctx context.Context, tag string) error {
	condition := conditionOf(ctx)
	if condition == "" || condition == "*" && tag != "" {
		return nil
	}
	for one := range strings.SplitSeq(condition, ",") {
		if guard.Check("admin.if-match", strings.TrimSpace(one) == tag && tag != "") {
			return nil
		}
	}
	return errChanged(tag)
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

// topicTag is that of a topic: its configuration and its partitions.
func (a api) topicTag(name string) string {
	t, ok := a.cluster.Image().Topic(name)
	if !ok {
		return ""
	}
	return tagOfTopic(t)
}

func tagOfTopic(t *metadata.Topic) string { return tagOf(t.ID, t.ConfigVersion, t.Partitions.Len()) }

// quotasTag is that of all quotas.
func (a api) quotasTag() string {
	var all []any
	for q := range a.cluster.Image().ClientQuotas() {
		all = append(all, q.Entity, q.Rates)
	}
	return tagOf(all...)
}

// usersTag is that of all users: a new password has a new salt.
func (a api) usersTag() string {
	var all []any
	for u := range a.cluster.Image().Users() {
		all = append(all, u.Name)
		for _, c := range u.Credentials {
			all = append(all, c.Mechanism, c.Iterations, c.Salt)
		}
	}
	return tagOf(all...)
}

// tag is that of all rules.
func (a aclsAPI) tag() string {
	var all []any
	for r := range a.cluster.Image().ACLs() {
		all = append(all, r)
	}
	return tagOf(all...)
}

// tag is that of a broker: its registration, and whether it is drained.
func (a brokersAPI) tag(id int32) string {
	b, ok := a.cluster.Image().Broker(id)
	if !ok {
		return ""
	}
	return tagOf(b.ID, b.Epoch, b.Draining)
}

// tag is that of a module: its versions, and which of them runs.
func (a etlAPI) tag(name string) string {
	is, ok := a.cluster.Image().Transform(name)
	if !ok {
		return ""
	}
	return transformTag(is)
}

func transformTag(t *metadata.Transform) string {
	return tagOf(t.Name, t.Issued, len(t.Versions), t.Active, t.Last, t.Previous, t.History)
}
