package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// Authorization says that clients may do what ACLs allow them, and nothing else.
type Authorization struct {
	SuperUsers []string // principals that may do everything: "User:NAME"
}

// authorization is the rules of the newest image, as they decide.
type authorization struct {
	*acl.Authorizer
	super  []string
	images *images // those whose rules are in force
}

func newAuthorization(o *Authorization, first *metadata.Image) *authorization {
	if o == nil {
		return nil
	}
	a := &authorization{super: slices.Clone(o.SuperUsers), images: newImages(first)}
	a.Authorizer = acl.NewAuthorizer(a.compile(first))
	a.images.publish(first)
	return a
}

func (a *authorization) compile(image *metadata.Image) *acl.Matcher {
	return acl.Compile(slices.Collect(image.ACLs()), a.super)
}

// follow puts the rules of each image in force, until ctx ends. It waits for nothing but
// images: the broker's logs, which follow blocks on, hold no change of a rule up.
func (a *authorization) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.images.wake:
		}
		image := a.images.newest.Load()
		if !image.SameACLs(a.images.image()) {
			a.Set(a.compile(image))
		}
		a.images.publish(image)
	}
}

// client returns whose request r is; nil: it may do everything. It is for the goroutine
// that serves r's connection.
func (b *Broker) client(r *kafka.Request) *acl.Client {
	m := b.memo(r)
	if m == nil {
		return nil
	}
	c := m.Client()
	c.Tell(&asker{b, r.Conn, r.ClientID})
	return c
}

// memo returns what r's connection remembers of decisions about r's client, nil where
// nothing is decided. It is for the goroutine that serves r's connection.
func (b *Broker) memo(r *kafka.Request) *acl.Memo {
	if b.authorization == nil || r.Conn.Internal() {
		return nil
	}
	m, ok := r.Conn.Attached().(*acl.Memo)
	if !ok {
		m = acl.NewMemo(b.authorization.Authorizer)
		if b.opt.AuditData {
			conn := r.Conn
			m.OnFirst(func(op acl.Operation, topic string) { b.used(conn, op, topic) })
		}
		r.Conn.Attach(m)
	}
	m.Begin(r.Conn.Principal(), r.Conn.RemoteAddr())
	return m
}

// decision reports whether a client may do op with a resource; nil may do everything.
type decision func(c *acl.Client, op acl.Operation, t acl.ResourceType, name string) bool

// may is the decision about what a client asks for: that it may not is counted, and
// recorded.
func may(c *acl.Client, op acl.Operation, t acl.ResourceType, name string) bool {
	if sees(c, op, t, name) {
		return true
	}
	c.Refuse(op, t, name)
	return false
}

// sees is the decision about what is left out where the client may not, or is asked for
// in another way then.
func sees(c *acl.Client, op acl.Operation, t acl.ResourceType, name string) bool {
	return guard.Check("broker.authorised", c.Allowed(op, t, name)) && (!isOfTransforms(op, t, name) || guard.Check("broker.transforms-own", mayDeploy(c)))
}

// isOfTransforms reports whether a resource is what an asynchronous module holds its place, or
// its transactions, by: who changes it has the cluster leave records out, or repeat them.
func isOfTransforms(op acl.Operation, t acl.ResourceType, name string) bool {
	return (t == acl.Group || t == acl.TransactionalID) && op != acl.Describe && op != acl.DescribeConfigs && strings.HasPrefix(name, pipeline.ClientPrefix)
}

// mayDeploy reports whether a client may do to modules what it likes.
func mayDeploy(c *acl.Client) bool { return c.Allowed(acl.Alter, acl.Cluster, acl.ClusterName) }

func mayCluster(c *acl.Client, op acl.Operation) bool {
	return may(c, op, acl.Cluster, acl.ClusterName)
}

func seesCluster(c *acl.Client, op acl.Operation) bool {
	return sees(c, op, acl.Cluster, acl.ClusterName)
}

// gate looks at a request before it is served, for a client that is not nil.
type gate[Q kmsg.Request, P kmsg.Response] func(b *Broker, c *acl.Client, q Q) ruling[P]

// ruling is what becomes of a request. The zero one is served.
type ruling[P any] struct {
	refused bool
	answer  P            // if it is refused
	amend   amendment[P] // if it is not
}

func refusedWith[P any](p P) ruling[P]         { return ruling[P]{refused: true, answer: p} }
func amendedBy[P any](amend func(P)) ruling[P] { return ruling[P]{amend: amend} }

// amendment adds to an answer what was refused, and takes out what is not to be seen; nil
// leaves it as it is.
type amendment[P any] func(P)

func (a amendment[P]) to(p P) P {
	if a != nil {
		a(p)
	}
	return p
}

// admitted reports whether a request is to be served, and how its answer is to be
// amended. It answers one that is not.
func admitted[Q kmsg.Request, P kmsg.Response](b *Broker, r *kafka.Request, q Q, gates []gate[Q, P]) (amend amendment[P], ok bool) {
	c, decides := b.askedBy(r, q)
	if !decides || len(gates) == 0 {
		return nil, true
	}
	ruled := gates[0](b, c, q)
	if ruled.refused {
		b.respond(r, ruled.answer)
		return nil, false
	}
	return ruled.amend, true
}

// divide keeps in s what ok says may stay, in s's memory, and returns the rest. What is
// kept is null only if s was.
func divide[T any](s *[]T, ok func(*T) bool) (refused []T) {
	kept := (*s)[:0]
	for i := range *s {
		if one := &(*s)[i]; ok(one) {
			kept = append(kept, *one)
		} else {
			refused = append(refused, *one)
		}
	}
	*s = kept
	return refused
}

// operations are the authorised operations of a field of an answer. A client that nobody
// authorises has what was said before there were ACLs.
func operations(c *acl.Client, t acl.ResourceType, name string) int32 {
	return int32(c.Operations(t, name))
}

// Need is an operation that a client needs on a resource.
type Need struct {
	Operation acl.Operation
	Resource  acl.ResourceType
	When      string // it is needed; empty: always
}

// needs is what an API needs, and what comes of it where that is not there.
type needs struct {
	List    []Need
	Refused *kerr.Error // without the first of the list; nil: it is served
	Hides   string      // what an answer leaves out
}

func on(op acl.Operation, t acl.ResourceType) Need { return Need{Operation: op, Resource: t} }

func refuses(with *kerr.Error, list ...Need) needs { return needs{List: list, Refused: with} }

// open is an API that every client may ask.
func open() needs { return needs{} }

func (n needs) and(when string, more Need) needs {
	more.When = when
	n.List = append(slices.Clip(n.List), more)
	return n
}

func (n needs) hides(what string) needs {
	n.Hides = what
	return n
}
