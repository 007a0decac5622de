package broker

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/kafka"
)

// changeQuotas holds clients and addresses to the quotas of an image.
func (b *Broker) changeQuotas(before, image *metadata.Image) {
	if before != nil && image.SameClientQuotas(before) {
		return
	}
	rules := make([]quota.Rule, 0, image.NumClientQuotas())
	for q := range image.ClientQuotas() {
		if q.Entity.IP.Scope != metadata.QuotaAny {
			continue
		}
		rules = append(rules, quota.Rule{
			User: half(q.Entity.User), ClientID: half(q.Entity.ClientID),
			Rates: [quota.Kinds]float64{
				quota.Produce:  q.Rates[metadata.ProducerByteRate],
				quota.Consume:  q.Rates[metadata.ConsumerByteRate],
				quota.Request:  q.Rates[metadata.RequestPercentage],
				quota.Mutation: q.Rates[metadata.ControllerMutationRate],
			},
		})
	}
	b.quotas.Set(rules)
	b.arrivals.change(image)
}

func half(n metadata.QuotaName) quota.Half {
	switch n.Scope {
	case metadata.QuotaDefault:
		return quota.Half{Scope: quota.Default}
	case metadata.QuotaNamed:
		return quota.Half{Scope: quota.Named, Name: n.Name}
	}
	return quota.Half{}
}

// quotaOf returns what the client of a request is held to.
func (b *Broker) quotaOf(r *kafka.Request) quota.Client {
	if b.quotas.Empty() || r.Conn.Internal() {
		return quota.Client{}
	}
	user := strings.TrimPrefix(r.Conn.Principal(), "User:") // as quotas name users
	return b.quotas.Of(user, r.ClientID, b.opt.Now())
}

// throttled counts bytes that the client of r has sent or gets, and returns how
// many milliseconds it has to wait for that. No request of its connection is
// started before. Called before r is answered.
func (b *Broker) throttled(r *kafka.Request, kind quota.Kind, now time.Time, bytes int) int32 {
	client := b.quotaOf(r)
	if client == (quota.Client{}) {
		return 0
	}
	wait := client.Take(kind, now, float64(bytes))
	b.metrics.throttled(kind, wait)
	if own := client.Take(quota.Request, now, 0); own > wait {
		b.metrics.throttled(quota.Request, own)
		wait = own
	}
	return b.mute(r, wait)
}

// mute starts no request of r's connection before wait is over, and returns it in
// milliseconds.
func (b *Broker) mute(r *kafka.Request, wait time.Duration) int32 {
	if wait > 0 {
		r.Conn.Mute(time.Now().Add(wait)) // the transport's clock
	}
	return int32(wait.Milliseconds())
}

// holdBack tells the client in p to wait if it has taken too much of the broker's
// time, or for what p says already, and sees that it does.
func (b *Broker) holdBack(r *kafka.Request, p kmsg.Response, now time.Time) {
	client := b.quotaOf(r)
	if client == (quota.Client{}) {
		return
	}
	wait := client.Take(quota.Request, now, 0)
	b.metrics.throttled(quota.Request, wait)
	if said, ok := p.(kmsg.ThrottleResponse); ok {
		millis, _ := said.Throttle()
		wait = max(wait, time.Duration(millis)*time.Millisecond)
	}
	millis := b.mute(r, wait)
	if said, ok := p.(kmsg.SetThrottleResponse); ok && millis > 0 {
		said.SetThrottle(millis)
	}
}

// mutations counts, for one request, the partitions that it makes or deletes
// (KIP-599).
type mutations struct {
	b      *Broker
	client quota.Client
	strict bool // the client knows THROTTLING_QUOTA_EXCEEDED
}

// mutating begins to count for r, whose client takes a refusal from that version
// of the request on.
func (b *Broker) mutating(r *kafka.Request, strictFrom int16) mutations {
	return mutations{b: b, client: b.quotaOf(r), strict: r.Version >= strictFrom}
}

// take counts partitions, and refuses them to a client that owes some already. One
// that would not understand is only made to wait.
func (m mutations) take(partitions int) error {
	now, units := m.b.opt.Now(), float64(max(partitions, 0))
	if !m.strict {
		m.client.Take(quota.Mutation, now, units)
		return nil
	}
	if _, ok := m.client.Try(quota.Mutation, now, units); !ok {
		return kerr.ThrottlingQuotaExceeded
	}
	return nil
}

// became counts what came of a topic that was to have so many partitions: how many
// it has by default is known only now.
func (m mutations) became(asked int, made controller.TopicResult) {
	if made.Err != nil {
		m.failed(asked)
	} else if more := int(made.Partitions) - asked; more > 0 {
		m.client.Take(quota.Mutation, m.b.opt.Now(), float64(more))
	}
}

// failed gives back what was counted for partitions that were not made.
func (m mutations) failed(partitions int) {
	m.client.Give(quota.Mutation, float64(max(partitions, 0)))
}

// millis is what to answer with.
func (m mutations) millis() int32 {
	wait := m.client.Take(quota.Mutation, m.b.opt.Now(), 0)
	m.b.metrics.throttled(quota.Mutation, wait)
	return int32(wait.Milliseconds())
}
