package broker

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/transport/kafka"
)

// arrivals holds addresses to the rates at which connections may come (KIP-612), and the
// broker to its own.
type arrivals struct {
	of  quota.Quotas // users are addresses, as [kafka.AddressOf] has them
	all atomic.Pointer[quota.Client]
}

// change holds addresses to the quotas of an image. An IPv6 address stands for its /64, as
// for network.max_connections_per_ip: of several quotas there the lowest counts.
func (a *arrivals) change(image *metadata.Image) {
	lowest := map[quota.Half]float64{}
	for q := range image.ClientQuotas() {
		rate := q.Rates[metadata.ConnectionCreationRate]
		if q.Entity.IP.Scope == metadata.QuotaAny || rate == 0 {
			continue
		}
		of := half(q.Entity.IP)
		if of.Scope == quota.Named {
			ip, err := netip.ParseAddr(of.Name)
			if err != nil {
				panic("broker: a quota of " + q.Entity.String() + " is in the image")
			}
			of.Name = kafka.AddressOf(&net.TCPAddr{IP: ip.AsSlice()})
		}
		if was := lowest[of]; was == 0 || rate < was {
			lowest[of] = rate
		}
	}
	rules := make([]quota.Rule, 0, len(lowest))
	for of, rate := range lowest {
		r := quota.Rule{User: of}
		r.Rates[quota.Connection] = rate
		rules = append(rules, r)
	}
	a.of.Set(rules)
}

// Arrive implements kafka.Arrivals.
func (b *Broker) Arrive(remote net.Addr, mayWait bool) (wait time.Duration, ok bool) {
	var of quota.Client
	now := b.opt.Now()
	if !b.arrivals.of.Empty() {
		of = b.arrivals.of.Of(kafka.AddressOf(remote), "", now)
	}
	if wait, ok = of.Try(quota.Connection, now, 1); !ok {
		b.metrics.throttled(quota.Connection, wait)
		return wait, false
	}
	if mayWait {
		wait, ok = b.arrivals.all.Load().Take(quota.Connection, now, 1), true
	} else if wait, ok = b.arrivals.all.Load().Try(quota.Connection, now, 1); ok {
		wait = 0
	} else {
		of.Give(quota.Connection, 1)
	}
	b.metrics.throttled(quota.Connection, wait)
	return wait, ok
}

// Suspects implements kafka.Arrivals.
func (b *Broker) Suspects(remote net.Addr) bool {
	if b.arrivals.of.Empty() {
		return false
	}
	now := b.opt.Now()
	return b.arrivals.of.Of(kafka.AddressOf(remote), "", now).Half(quota.Connection, now)
}
