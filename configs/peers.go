package configs

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxControllers is far above the 3 or 5 that make sense: each entry of the metadata log
// waits for a majority of them.
const maxControllers = 9

// Peer is a controller as controller.peers names it.
type Peer struct {
	ID   int32
	Host string // a name, or an address without brackets
	// RaftPort takes what controllers say to each other, Port what brokers ask.
	RaftPort, Port int
}

// Raft is the host:port that other controllers dial.
func (p Peer) Raft() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.RaftPort)) }

// Controller is the host:port that brokers dial.
func (p Peer) Controller() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// Clustered reports whether the node belongs, or is to belong, to a cluster of several
// processes.
func (c *Config) Clustered() bool { return c.Controller.Peers != "" }

// Peers is controller.peers taken apart, in its order.
func (c *Config) Peers() []Peer {
	peers, _ := c.peers() // Load lets only those through that can be read
	return peers
}

// Self returns the entry of controller.peers that is this node's, if it has one.
func (c *Config) Self() (Peer, bool) {
	peers := c.Peers()
	i := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == c.Broker.ID })
	if i < 0 {
		return Peer{}, false
	}
	return peers[i], true
}

// peers reads controller.peers; the error is what a person is told.
func (c *Config) peers() ([]Peer, error) {
	var peers []Peer
	if !c.Clustered() {
		return nil, nil
	}
	for text := range strings.SplitSeq(c.Controller.Peers, ",") {
		p, err := c.peer(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		for _, other := range peers {
			switch {
			case other.ID == p.ID:
				return nil, fmt.Errorf("it names node %d twice", p.ID)
			case other.Raft() == p.Raft() || other.Controller() == p.Controller() || other.Raft() == p.Controller() || other.Controller() == p.Raft():
				return nil, fmt.Errorf("nodes %d and %d would have the same port of %s: on one machine give each an address (127.0.0.1, 127.0.0.2) or ports, id@host:raft_port:port", other.ID, p.ID, p.Host)
			}
		}
		peers = append(peers, p)
	}
	if len(peers) > maxControllers {
		return nil, fmt.Errorf("%d controllers are too many: 1, 3 or 5 keep the metadata, and every other node is a broker only (--roles broker), whose --peers name those", len(peers))
	}
	return peers, nil
}

// peer reads one entry: ID@HOST, ID@HOST:RAFT_PORT or ID@HOST:RAFT_PORT:PORT, where a
// host with colons stands in brackets.
func (c *Config) peer(text string) (Peer, error) {
	wrong := func(reason string) (Peer, error) {
		return Peer{}, fmt.Errorf("%q %s: write 1@host,2@host,3@host, with ports id@host:raft_port:port", text, reason)
	}
	number, rest, ok := strings.Cut(text, "@")
	if !ok {
		return wrong("names no node")
	}
	id, err := strconv.ParseInt(number, 10, 32)
	if err != nil || id < 1 {
		return wrong("does not begin with a node id of 1 or more")
	}
	p := Peer{ID: int32(id), RaftPort: c.Controller.RaftPort, Port: c.Controller.Port}
	if inner, after, bracketed := strings.Cut(strings.TrimPrefix(rest, "["), "]"); bracketed && strings.HasPrefix(rest, "[") {
		if addr, err := netip.ParseAddr(inner); err != nil || !addr.Is6() {
			return wrong("has no address of IPv6 in its brackets")
		}
		p.Host, rest = inner, after
		if rest != "" && rest[0] != ':' {
			return wrong("goes on behind its brackets")
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		p.Host, rest, _ = strings.Cut(rest, ":")
	}
	if !dialable(p.Host) {
		return wrong("has no host that others could dial")
	}
	if rest == "" {
		return p, nil
	}
	ports := strings.Split(rest, ":")
	if len(ports) > 2 {
		return wrong("has more than two ports (an address of IPv6 stands in brackets)")
	}
	for i, to := range []*int{&p.RaftPort, &p.Port}[:len(ports)] {
		n, err := strconv.ParseUint(ports[i], 10, 16)
		if err != nil || n == 0 {
			return wrong("has a port that is not 1 to 65535")
		}
		*to = int(n)
	}
	if p.RaftPort == p.Port {
		return wrong("has one port twice")
	}
	return p, nil
}

// validatePeers says what of the cluster does not fit together.
func (c *Config) validatePeers(wrong func(key, format string, args ...any)) {
	const key = "controller.peers"
	if !c.Clustered() {
		return
	}
	peers, err := c.peers()
	if err != nil {
		wrong(key, "%v", err)
		return
	}
	self, named := c.Self()
	switch {
	case named && c.Front():
		wrong(key, "it names node %d as a controller, and this process is none: give it an id of its own (broker.id, --node-id), which no other node has", self.ID)
	case named && !slices.Contains(c.RoleList(), "controller"):
		wrong(key, "it names node %d, this one, as a controller, and broker.roles = %q: add the role controller, or take the node out of the list on every node", self.ID, c.Broker.Roles)
	}
	if named && c.Loopback() && !loopbackHost(self.Host) {
		wrong("network.bind", "%q takes connections of this machine only, and controller.peers tells the others to reach this node at %s: set network.bind (--bind) to that address, with security.allow_insecure = true if the network is yours alone", c.Network.Bind, self.Host)
	}
	if named && !c.Loopback() && len(peers) > 1 && loopbackHost(self.Host) {
		wrong(key, "it tells the others to reach this node at %s, which is each machine itself: name the address that network.bind = %q has for them", self.Host, c.Network.Bind)
	}
	used := map[int]string{c.Network.KafkaPort: "network.kafka_port", c.Network.HTTPPort: "network.http_port"}
	if other, taken := used[c.Network.BrokerPort]; taken && c.Network.BrokerPort != 0 {
		wrong("network.broker_port", "%d is %s too", c.Network.BrokerPort, other)
	}
	used[c.Network.BrokerPort] = "network.broker_port"
	if named {
		for _, port := range []int{self.RaftPort, self.Port} {
			if other, taken := used[port]; taken {
				wrong(key, "port %d of node %d is %s too", port, self.ID, other)
			}
		}
	}
	switch scheme, _, _ := strings.Cut(c.Storage.URL, "://"); scheme {
	case "":
		wrong("object_storage.url", "a cluster has one bucket, which all its nodes reach, and the default is a directory of this node alone: set it (--bucket) to s3://name?region=…, gs://name or azblob://name, or to file:///path of a file system that all of them mount")
	case "mem":
		wrong("object_storage.url", "%s is within one process, and a cluster has one bucket that all its nodes reach: on one machine set it (--bucket) to file:///path", c.Storage.URL)
	}
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Of a node alone. There a session that ends brings no other leader, but an interruption,
// which a slow disk or a sleep of the machine is not to cause.
const (
	heartbeatAlone = Duration(2 * time.Second)
	sessionAlone   = Duration(10 * time.Second)
)

// Liveness is section replication as it holds: what nobody has set of it is longer for a
// node alone than for the members of a cluster.
func (c *Config) Liveness() Replication {
	r := c.Replication
	if c.Clustered() {
		return r
	}
	if c.Origin("replication.heartbeat_interval") == fromDefault {
		r.HeartbeatInterval = heartbeatAlone
	}
	if c.Origin("replication.heartbeat_timeout") == fromDefault {
		r.HeartbeatTimeout = sessionAlone
	}
	return r
}
