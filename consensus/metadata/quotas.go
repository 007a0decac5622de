package metadata

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// The rates that clients can be held to, by Kafka's names, in units a second.
const (
	ProducerByteRate       = "producer_byte_rate"
	ConsumerByteRate       = "consumer_byte_rate"
	RequestPercentage      = "request_percentage"       // hundredths of the time of one core
	ControllerMutationRate = "controller_mutation_rate" // partitions made and deleted (KIP-599)
	ConnectionCreationRate = "connection_creation_rate" // connections of an address (KIP-612)
)

// Keys lists the rates that a quota of such an entity may bound, in order of name.
func (e QuotaEntity) Keys() []string {
	if e.IP.Scope != QuotaAny {
		return []string{ConnectionCreationRate}
	}
	return []string{ConsumerByteRate, ControllerMutationRate, ProducerByteRate, RequestPercentage}
}

func (e QuotaEntity) hasKey(key string) bool { return slices.Contains(e.Keys(), key) }

// maxQuotaEntities bounds the image. Kafka's users have one for each application.
const maxQuotaEntities = 20_000

// QuotaScope says whom one part of an entity means.
type QuotaScope uint8

const (
	QuotaAny     QuotaScope = iota // it is not part of the entity
	QuotaDefault                   // each that has no quota by its name
	QuotaNamed
)

// QuotaName is one part of an entity: users, client ids, or addresses.
type QuotaName struct {
	Scope QuotaScope
	Name  string // of QuotaNamed
}

// QuotaEntity is who a quota is for: users, client ids, client ids of users, or
// addresses, by name as netip.Addr writes them. One of the parts is not QuotaAny; with
// IP, the others are.
type QuotaEntity struct{ User, ClientID, IP QuotaName }

// ClientQuotas are those of one entity. They are never changed.
type ClientQuotas struct {
	Entity QuotaEntity
	Rates  map[string]float64 // by key, at least one
}

// String names the entity as `rustmq admin quotas` does.
func (e QuotaEntity) String() string {
	var parts []string
	for _, half := range []struct {
		what string
		is   QuotaName
	}{{"user", e.User}, {"client-id", e.ClientID}, {"ip", e.IP}} {
		switch half.is.Scope {
		case QuotaDefault:
			parts = append(parts, "default "+half.what)
		case QuotaNamed:
			parts = append(parts, half.what+" "+quoted(half.is.Name))
		}
	}
	return strings.Join(parts, ", ")
}

func compareQuotaEntities(a, b QuotaEntity) int {
	return cmp.Or(
		cmp.Compare(a.User.Scope, b.User.Scope), strings.Compare(a.User.Name, b.User.Name),
		cmp.Compare(a.ClientID.Scope, b.ClientID.Scope), strings.Compare(a.ClientID.Name, b.ClientID.Name),
		cmp.Compare(a.IP.Scope, b.IP.Scope), strings.Compare(a.IP.Name, b.IP.Name),
	)
}

// ClientQuotas walks all quotas, in order of their entities.
func (m *Image) ClientQuotas() iter.Seq[*ClientQuotas] {
	return func(yield func(*ClientQuotas) bool) {
		for _, q := range m.quotas.all() {
			if !yield(q) {
				return
			}
		}
	}
}

// ClientQuotasOf returns the quotas of exactly that entity, nil when it has none.
func (m *Image) ClientQuotasOf(e QuotaEntity) map[string]float64 {
	if q, ok := m.quotas.get(e); ok {
		return q.Rates
	}
	return nil
}

// NumClientQuotas returns how many entities have quotas.
func (m *Image) NumClientQuotas() int { return m.quotas.len() }

// SameClientQuotas reports whether two images have the very same quotas, so that
// what was made of those of one need not be made anew. It may miss that they are.
func (m *Image) SameClientQuotas(other *Image) bool { return m.quotas.root == other.quotas.root }

func (m *Image) alterClientQuotas(c *pb.AlterClientQuotas) *Error {
	e, refused := decodeQuotaEntity(c.Entity)
	if refused != nil {
		return refused
	}
	rates := maps.Clone(m.ClientQuotasOf(e))
	if rates == nil {
		rates = map[string]float64{}
	}
	for _, key := range c.Remove {
		if !e.hasKey(key) {
			return unknownQuota(e, key)
		}
		delete(rates, key)
	}
	if refused := setRates(e, rates, c.Set); refused != nil {
		return refused
	}
	if len(rates) == 0 {
		m.quotas = m.quotas.without(e)
		return nil
	}
	if _, known := m.quotas.get(e); !known && !guard.Check("metadata.quota-entities", m.quotas.len() < maxQuotaEntities) {
		return Errorf(PolicyViolation, "%d entities have quotas; there is no room for another", m.quotas.len())
	}
	m.quotas = m.quotas.put(e, &ClientQuotas{Entity: e, Rates: rates})
	return nil
}

func unknownQuota(e QuotaEntity, key string) *Error {
	return Errorf(InvalidRequest, "there is no quota %s for %s; there are %s", quoted(key), e, strings.Join(e.Keys(), ", "))
}

func setRates(e QuotaEntity, rates map[string]float64, set []*pb.QuotaValue) *Error {
	for _, v := range set {
		if !e.hasKey(v.Key) {
			return unknownQuota(e, v.Key)
		}
		if !guard.Check("metadata.quota-rate", v.Rate > 0 && v.Rate <= math.MaxInt64) { // NaN is neither
			return Errorf(InvalidRequest, "%s = %v: a rate is more than 0, and finite", v.Key, v.Rate)
		}
		rates[v.Key] = v.Rate
	}
	return nil
}

// encode returns e as commands and snapshots have it.
func (e QuotaEntity) encode() *pb.QuotaEntity {
	half := func(n QuotaName) *pb.QuotaName {
		if n.Scope == QuotaAny {
			return nil
		}
		return &pb.QuotaName{Default: n.Scope == QuotaDefault, Name: n.Name}
	}
	return &pb.QuotaEntity{User: half(e.User), ClientId: half(e.ClientID), Ip: half(e.IP)}
}

func decodeQuotaEntity(e *pb.QuotaEntity) (QuotaEntity, *Error) {
	var refused *Error
	half := func(n *pb.QuotaName) QuotaName {
		switch {
		case n == nil:
			return QuotaName{}
		case n.Default && n.Name != "" || len(n.Name) > maxNameBytes:
			refused = Errorf(InvalidRequest, "a name of a quota of %d bytes", len(n.Name))
		case n.Default:
			return QuotaName{Scope: QuotaDefault}
		}
		return QuotaName{Scope: QuotaNamed, Name: n.Name}
	}
	decoded := QuotaEntity{User: half(e.GetUser()), ClientID: half(e.GetClientId()), IP: half(e.GetIp())}
	switch ip := decoded.IP; {
	case refused != nil:
	case decoded == (QuotaEntity{}):
		refused = Errorf(InvalidRequest, "a quota for nobody: name a user, a client id or both, or an address")
	case ip.Scope != QuotaAny && decoded != (QuotaEntity{IP: ip}):
		refused = Errorf(InvalidRequest, "a quota of an address is of no user and no client id")
	case ip.Scope == QuotaNamed && !isAddress(ip.Name):
		refused = Errorf(InvalidRequest, "%s is no address as quotas name them, such as 192.0.2.7 or 2001:db8::7", quoted(ip.Name))
	}
	return decoded, refused
}

// CanonicalAddress returns an address as quotas name it: one address has one name.
func CanonicalAddress(name string) (string, error) {
	ip, err := netip.ParseAddr(name)
	if err != nil || ip.Zone() != "" {
		return "", Errorf(InvalidRequest, "%s is no address: quotas are of addresses such as 192.0.2.7 or 2001:db8::7, not of names or networks", quoted(name))
	}
	return ip.Unmap().String(), nil
}

// isAddress reports whether name is what [CanonicalAddress] returns.
func isAddress(name string) bool {
	canonical, err := CanonicalAddress(name)
	return err == nil && canonical == name
}

// encodeRates returns rates in order of key.
func encodeRates(rates map[string]float64) []*pb.QuotaValue {
	values := make([]*pb.QuotaValue, 0, len(rates))
	for _, key := range slices.Sorted(maps.Keys(rates)) {
		values = append(values, &pb.QuotaValue{Key: key, Rate: rates[key]})
	}
	return values
}

// NewAlterClientQuotas returns the command that sets and removes rates of e.
func NewAlterClientQuotas(e QuotaEntity, set map[string]float64, remove []string) *pb.AlterClientQuotas {
	return &pb.AlterClientQuotas{Entity: e.encode(), Set: encodeRates(set), Remove: remove}
}

// clientQuotas reads the quotas of one entity.
func (d *decoder) clientQuotas(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	s := r.GetClientQuotas()
	if s == nil {
		return d.corrupt("no client quotas where some are due")
	}
	e, refused := decodeQuotaEntity(s.Entity)
	rates := make(map[string]float64, len(s.Values))
	if refused == nil {
		refused = setRates(e, rates, s.Values)
	}
	if _, twice := m.quotas.get(e); twice || refused != nil || len(rates) == 0 {
		return d.corrupt("client quotas of %s: twice, or out of bounds", e)
	}
	m.quotas = m.quotas.put(e, &ClientQuotas{Entity: e, Rates: rates})
	return nil
}
