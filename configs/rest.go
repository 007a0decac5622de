package configs

import (
	"net"
	"time"
)

// RESTAsks reports whether the admin API asks who calls.
func (c *Config) RESTAsks() bool {
	switch c.Security.REST.Authentication {
	case "on":
		return true
	case "off":
		return false
	}
	return c.Authenticates()
}

// AsksBySASL reports whether clients of Kafka say who they are by SASL.
func (c *Config) AsksBySASL() bool { return len(c.Security.SASL.MechanismList()) > 0 }

// HTTPGuarded reports whether network.http_port may be bound elsewhere than on loopback
// without the operator insisting: it asks who calls, and nobody in between sees the answer.
func (c *Config) HTTPGuarded() bool { return c.RESTAsks() && c.Network.HTTPTLS != "off" }

// HTTPTLS reports whether network.http_port speaks TLS.
func (c *Config) HTTPTLS() bool {
	switch c.Network.HTTPTLS {
	case "on":
		return true
	case "off":
		return false
	}
	return c.HTTPGuarded() && !c.Loopback()
}

// HTTPBind is the host of network.http_port: loopback where others may reach the rest and it
// is not guarded, unless the operator insists.
func (c *Config) HTTPBind() string {
	switch ip := net.ParseIP(c.Network.Bind); {
	case c.Loopback() || c.Security.AllowInsecure || c.HTTPGuarded():
		return c.Network.Bind
	case ip.To4() == nil:
		return "::1"
	}
	return "127.0.0.1"
}

// MetricsAsk reports whether /metrics asks who calls.
func (c *Config) MetricsAsk() bool {
	switch c.Security.REST.Metrics {
	case "ask":
		return c.RESTAsks()
	case "open":
		return false
	}
	ip := net.ParseIP(c.HTTPBind())
	return c.RESTAsks() && ip != nil && !ip.IsLoopback()
}

// validateREST checks section security.rest, and network.http_tls.
func (c *Config) validateREST(wrong func(key, format string, args ...any), between func(key string, v, low, high int64), oneOf func(key, v string, allowed ...string), durationBetween func(key string, d, low, high Duration)) {
	r := c.Security.REST
	oneOf("network.http_tls", c.Network.HTTPTLS, "auto", "on", "off")
	oneOf("security.rest.authentication", r.Authentication, "auto", "on", "off")
	oneOf("security.rest.metrics", r.Metrics, "auto", "open", "ask")
	durationBetween("security.rest.session_idle_timeout", r.SessionIdleTimeout, Duration(time.Minute), Duration(24*time.Hour))
	durationBetween("security.rest.max_session", r.MaxSession, r.SessionIdleTimeout, Duration(30*24*time.Hour))
	between("security.rest.requests", int64(r.Requests), 1, 1_000_000)
	between("security.rest.requests_per_ip", int64(r.RequestsPerIP), 2, 1_000_000)
	between("security.rest.connections_per_ip", int64(r.ConnectionsPerIP), 1, 1_000_000)
	if r.Metrics == "ask" && !c.RESTAsks() {
		wrong("security.rest.metrics", "ask: nobody is asked who calls; set security.rest.authentication = on")
	}
	if c.Network.HTTPTLS == "off" && c.RESTAsks() && c.Security.AllowInsecure && !c.Loopback() {
		wrong("network.http_tls", "off would show passwords and tokens to the network: leave it auto, or set security.rest.authentication = off if the network is yours alone")
	}
}
