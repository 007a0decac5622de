package broker

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/kafka"
)

// Kafka's names of whom a quota is for.
const (
	quotaUser     = "user"
	quotaClientID = "client-id"
	quotaIP       = "ip"
)

// describeClientQuotas lists the quotas whose entities fit all components.
func (b *Broker) describeClientQuotas(_ *kafka.Request, q *kmsg.DescribeClientQuotasRequest) *kmsg.DescribeClientQuotasResponse {
	p := q.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	filters, err := quotaFilters(q.Components)
	if err != nil {
		p.ErrorCode, p.ErrorMessage = codeAndMessage(err)
		return p
	}
	p.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	for quotas := range b.images.image().ClientQuotas() {
		if !filters.fit(quotas.Entity, q.Strict) {
			continue
		}
		entry := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, half := range quotaHalves(quotas.Entity) {
			entity := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			entity.Type, entity.Name = half.kind, half.name()
			entry.Entity = append(entry.Entity, entity)
		}
		for _, key := range slices.Sorted(maps.Keys(quotas.Rates)) {
			value := kmsg.NewDescribeClientQuotasResponseEntryValue()
			value.Key, value.Value = key, quotas.Rates[key]
			entry.Values = append(entry.Values, value)
		}
		p.Entries = append(p.Entries, entry)
	}
	return p
}

// quotaFilter is what one part of an entity must be; nil: it is not asked for.
type quotaFilter func(metadata.QuotaName) bool

type quotaFilterSet struct{ user, clientID, ip quotaFilter }

func quotaFilters(components []kmsg.DescribeClientQuotasRequestComponent) (set quotaFilterSet, err error) {
	for _, c := range components {
		var to *quotaFilter
		switch c.EntityType {
		case quotaUser:
			to = &set.user
		case quotaClientID:
			to = &set.clientID
		case quotaIP:
			to = &set.ip
		case "":
			return set, explained{kerr.InvalidRequest, "a component names no type of entity"}
		default:
			return set, explained{kerr.UnsupportedVersion, fmt.Sprintf("there are no quotas by %q", c.EntityType)}
		}
		if *to != nil {
			return set, explained{kerr.InvalidRequest, fmt.Sprintf("the type %s is named twice", c.EntityType)}
		}
		switch {
		case c.MatchType == kmsg.QuotasMatchTypeExact && c.Match != nil:
			name := *c.Match
			if c.EntityType == quotaIP {
				if name, err = metadata.CanonicalAddress(name); err != nil {
					return set, explained{kerr.InvalidRequest, err.Error()}
				}
			}
			*to = func(n metadata.QuotaName) bool { return n.Scope == metadata.QuotaNamed && n.Name == name }
		case c.MatchType == kmsg.QuotasMatchTypeDefault && c.Match == nil:
			*to = func(n metadata.QuotaName) bool { return n.Scope == metadata.QuotaDefault }
		case c.MatchType == kmsg.QuotasMatchTypeAny && c.Match == nil:
			*to = func(n metadata.QuotaName) bool { return n.Scope != metadata.QuotaAny }
		default:
			return set, explained{kerr.InvalidRequest, fmt.Sprintf("match type %d of %s does not go with its name", c.MatchType, c.EntityType)}
		}
	}
	return set, nil
}

// fit reports whether e is asked for: strictly, without parts that are not named.
func (s quotaFilterSet) fit(e metadata.QuotaEntity, strict bool) bool {
	one := func(f quotaFilter, n metadata.QuotaName) bool {
		if f == nil {
			return !strict || n.Scope == metadata.QuotaAny
		}
		return f(n)
	}
	return one(s.user, e.User) && one(s.clientID, e.ClientID) && one(s.ip, e.IP)
}

// quotaHalf is one part of an entity by Kafka's name.
type quotaHalf struct {
	kind string
	is   metadata.QuotaName
}

// name is null for the default.
func (h quotaHalf) name() *string {
	if h.is.Scope == metadata.QuotaDefault {
		return nil
	}
	return &h.is.Name
}

func quotaHalves(e metadata.QuotaEntity) (halves []quotaHalf) {
	for _, h := range []quotaHalf{{quotaUser, e.User}, {quotaClientID, e.ClientID}, {quotaIP, e.IP}} {
		if h.is.Scope != metadata.QuotaAny {
			halves = append(halves, h)
		}
	}
	return halves
}

// alterClientQuotas changes the quotas of entities, each on its own.
func (b *Broker) alterClientQuotas(ctx context.Context, _ *kafka.Request, q *kmsg.AlterClientQuotasRequest) *kmsg.AlterClientQuotasResponse {
	p := q.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	seen := map[metadata.QuotaEntity]bool{}
	for _, entry := range q.Entries {
		out := kmsg.NewAlterClientQuotasResponseEntry()
		for _, e := range entry.Entity {
			entity := kmsg.NewAlterClientQuotasResponseEntryEntity()
			entity.Type, entity.Name = e.Type, e.Name
			out.Entity = append(out.Entity, entity)
		}
		change, err := quotaChange(entry)
		if err == nil && seen[change.Entity] {
			err = explained{kerr.InvalidRequest, "the request names this entity twice"}
		}
		if err == nil {
			seen[change.Entity] = true
			err = ctx.Err() // what is not proposed by then is not
		}
		if err == nil {
			err = b.opt.Controller.AlterClientQuotas(ctx, []controller.QuotaChange{change}, q.ValidateOnly)[0]
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Entries = append(p.Entries, out)
	}
	if !q.ValidateOnly {
		b.settle(ctx)
	}
	return p
}

// quotaChange reads one entry of a request.
func quotaChange(entry kmsg.AlterClientQuotasRequestEntry) (change controller.QuotaChange, err error) {
	for _, e := range entry.Entity {
		var to *metadata.QuotaName
		switch e.Type {
		case quotaUser:
			to = &change.Entity.User
		case quotaClientID:
			to = &change.Entity.ClientID
		case quotaIP:
			to = &change.Entity.IP
		default:
			return change, explained{kerr.InvalidRequest, fmt.Sprintf("there are no quotas by %q", e.Type)}
		}
		if to.Scope != metadata.QuotaAny {
			return change, explained{kerr.InvalidRequest, fmt.Sprintf("the type %s is named twice", e.Type)}
		}
		*to = metadata.QuotaName{Scope: metadata.QuotaDefault}
		if e.Name != nil {
			if *e.Name == "" {
				return change, explained{kerr.InvalidRequest, fmt.Sprintf("an entity of type %s has an empty name; null is the default", e.Type)}
			}
			*to = metadata.QuotaName{Scope: metadata.QuotaNamed, Name: *e.Name}
		}
	}
	if ip := &change.Entity.IP; ip.Scope == metadata.QuotaNamed {
		if ip.Name, err = metadata.CanonicalAddress(ip.Name); err != nil {
			return change, explained{kerr.InvalidRequest, err.Error()}
		}
	}
	if n := len(change.Entity.Keys()); len(entry.Ops) > n {
		return change, explained{kerr.InvalidRequest, fmt.Sprintf("%d changes to one entity: there are %d quotas", len(entry.Ops), n)}
	}
	change.Set = map[string]float64{}
	for _, op := range entry.Ops {
		if _, twice := change.Set[op.Key]; twice || slices.Contains(change.Remove, op.Key) {
			return change, explained{kerr.InvalidRequest, fmt.Sprintf("the quota %s is named twice", op.Key)}
		}
		if op.Remove {
			change.Remove = append(change.Remove, op.Key)
			continue
		}
		whole := op.Key == metadata.ProducerByteRate || op.Key == metadata.ConsumerByteRate || op.Key == metadata.ConnectionCreationRate
		if whole && op.Value != math.Trunc(op.Value) {
			return change, explained{kerr.InvalidRequest, fmt.Sprintf("%s = %v: it is a whole number a second", op.Key, op.Value)}
		}
		change.Set[op.Key] = op.Value
	}
	return change, nil
}
