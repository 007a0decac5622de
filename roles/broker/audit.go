package broker

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// What is recorded of Kafka's side: who was let in and who was not (sasl.go, and
// [Broker.HandshakeRefused] and its like), what clients were refused (denied), and what
// those did who administer (acts.go). An act is recorded once it is done, or has failed.

// asker is who asks, as refusals are told of it.
type asker struct {
	b        *Broker
	conn     *kafka.Conn
	clientID string
}

// Refused implements [acl.Refusals].
func (a *asker) Refused(op acl.Operation, t acl.ResourceType, name string) {
	a.b.refusedTo(a.conn, a.clientID, op, t, name)
}

// denied records that the client of a request may not do what it asked for.
func (b *Broker) denied(r *kafka.Request, op acl.Operation, t acl.ResourceType, name string) {
	b.refusedTo(r.Conn, r.ClientID, op, t, name)
}

func (b *Broker) refusedTo(c *kafka.Conn, clientID string, op acl.Operation, t acl.ResourceType, name string) {
	b.metrics.denied.WithLabelValues(op.String(), t.String()).Inc()
	e := eventOf(c, clientID)
	e.Action, e.ResourceType, e.Resource = t.String()+"."+op.String(), t.String(), name
	e.Outcome, e.Reason = audit.Denied, "no ACL allows it, or one denies it"
	b.audit.Record(e)
}

// used records that a connection uses a topic for the first time.
func (b *Broker) used(c *kafka.Conn, op acl.Operation, topic string) {
	e := eventOf(c, "")
	e.Action, e.ResourceType, e.Resource, e.Outcome = audit.DataUse(op.String()), "topic", topic, audit.Allowed
	b.audit.Record(e)
}

// eventOf begins an event of a connection.
func eventOf(c *kafka.Conn, clientID string) audit.Event {
	return audit.Event{Principal: c.Principal(), Source: c.RemoteAddr().String(), Door: doorOf(c.Transport()), Request: clientID}
}

func doorOf(transport string) string {
	switch transport {
	case "tls":
		return audit.DoorKafkaTLS
	case "quic":
		return audit.DoorKafkaQUIC
	}
	return audit.DoorKafkaTCP
}

// askedBy returns by whose rights a request is judged; false: it is not. Nobody may act
// while that cannot be recorded, and the policy is to block.
func (b *Broker) askedBy(r *kafka.Request, q kmsg.Request) (c *acl.Client, decides bool) {
	if acts(q) {
		if err := b.audit.Admit(); err != nil {
			b.log.Warn("an act is refused, for it cannot be recorded", "act", kmsg.NameForKey(q.Key()), "principal", r.Conn.Principal(), "error", err)
			return b.nobody, true
		}
	}
	return b.client(r), b.authorization != nil && !r.Conn.Internal()
}

// newNobody returns a client that may do nothing.
func newNobody() *acl.Client {
	m := acl.NewMemo(acl.NewAuthorizer(acl.Compile(nil, nil)))
	m.Begin("", nil)
	return m.Client()
}

// account records what a request did that administers.
func (b *Broker) account(r *kafka.Request, q kmsg.Request, p kmsg.Response) {
	if b.audit == audit.Discard || !acts(q) {
		return
	}
	from := eventOf(r.Conn, r.ClientID)
	tellActs(q, p, func(action, kind, name string, code int16, detail string) {
		e := from
		e.Action, e.ResourceType, e.Resource, e.Detail = action, kind, name, detail
		if e.Outcome, e.Reason = outcomeOf(code); e.Outcome != 0 {
			b.audit.Record(e)
		}
	})
}

// outcomeOf is what became of an act that was answered with a code; 0: who refused it has told.
// What may have been done has not failed: a client says itself how long it waits.
func outcomeOf(code int16) (is audit.Outcome, reason string) {
	switch err := kerr.TypedErrorForCode(code); {
	case err == nil:
		return audit.Allowed, ""
	case isRefusal(err):
		return 0, ""
	case !guard.Check("broker.audit-unknown", err != kerr.RequestTimedOut):
		return audit.Allowed, "the request ended before it was known whether it was done"
	default:
		return audit.Failed, err.Message
	}
}

func isRefusal(err *kerr.Error) bool {
	switch err {
	case kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed:
		return true
	}
	return false
}

// recordLogin records that a client has said who it is, by a mechanism, or has tried to.
func (b *Broker) recordLogin(r *kafka.Request, principal string, err error) {
	e := eventOf(r.Conn, r.ClientID)
	e.Action, e.ResourceType, e.Resource, e.Outcome = audit.Login, "user", strings.TrimPrefix(principal, "User:"), audit.Allowed
	if err == nil {
		e.Principal = principal
		b.audit.Record(e)
		return
	}
	e.Outcome, e.Reason = audit.Denied, err.Error()
	if d, is := errors.AsType[*sasl.Denial](err); is {
		e.Reason = d.Reason
		e.Resource = d.User
	}
	if errors.Is(err, login.ErrSlowed) {
		e.Reason = login.ErrSlowed.Error()
	}
	b.audit.Record(e)
}

// HandshakeRefused implements [kafka.Watcher].
func (b *Broker) HandshakeRefused(remote net.Addr, transport string, err error) {
	b.audit.Record(audit.Event{Source: remote.String(), Door: doorOf(transport), Action: audit.Handshake, Outcome: audit.Denied, Reason: err.Error()})
}

// Identified implements [kafka.Watcher].
func (b *Broker) Identified(c *kafka.Conn) {
	e := eventOf(c, "")
	e.Action, e.ResourceType, e.Resource, e.Outcome, e.Detail = audit.Login, "user", strings.TrimPrefix(e.Principal, "User:"), audit.Allowed, "by certificate"
	b.audit.Record(e)
}

// Unauthenticated implements [kafka.Watcher].
func (b *Broker) Unauthenticated(c *kafka.Conn, clientID string, err error) {
	e := eventOf(c, clientID)
	e.Action, e.Outcome, e.Reason = audit.Login, audit.Denied, err.Error()
	b.audit.Record(e)
}

// CertificateEnded implements [kafka.Watcher].
func (b *Broker) CertificateEnded(c *kafka.Conn, err error) {
	e := eventOf(c, "")
	e.Action, e.Outcome, e.Reason = audit.Handshake, audit.Denied, fmt.Sprintf("cut off: %v", err)
	b.audit.Record(e)
}
