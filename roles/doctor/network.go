package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/security/pki"
)

// network looks at what the kernel gives to sockets.
func (h host) network(context.Context) []Check {
	checks := []Check{h.judgeBacklog()}
	if !h.has("broker") || !h.config.Network.QUIC.Enabled {
		return append(checks, skipped("udp buffers", "QUIC is off"))
	}
	receive, known := h.number("proc/sys/net/core/rmem_max")
	send, alsoKnown := h.number("proc/sys/net/core/wmem_max")
	if known && alsoKnown {
		checks = append(checks, judgeBuffers(receive, send))
	} else { // a container's own network does not show them
		checks = append(checks, skipped("udp buffers", "net.core.rmem_max is not to be seen from here: the log warns at the start if they are small"))
	}
	segments, joins, err := offloads()
	if err != nil {
		return append(checks, skipped("udp offload", "no socket could be opened: %v", err))
	}
	return append(checks, judgeOffloads(segments, joins))
}

func (h host) judgeBacklog() Check {
	const name = "backlog"
	n, ok := h.number("proc/sys/net/core/somaxconn")
	switch {
	case !ok:
		return skipped(name, "the kernel does not say")
	case n < leastBacklog:
		return ill(name, Warn, fmt.Sprintf("net.core.somaxconn is %d", n), "after a failover all clients of a broker come at once, and those beyond it wait for a second or more",
			"sysctl -w net.core.somaxconn=4096")
	}
	return well(name, "net.core.somaxconn is %d", n)
}

func judgeBuffers(receive, send int64) Check {
	const name = "udp buffers"
	found := fmt.Sprintf("net.core.rmem_max is %d, net.core.wmem_max %d", receive, send)
	do := fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%[1]d, and the same in /etc/sysctl.d", wantedSocketBuffer)
	switch least := min(receive, send); {
	case least < leastSocketBuffer:
		return ill(name, Warn, found, "QUIC loses packets, and about a third of its rate, where a buffer is below 1 MiB", do)
	case least < wantedSocketBuffer:
		return well(name, "%s; 7 MiB are asked for, and 1 MiB does", found)
	}
	return well(name, "%s", found)
}

// offloads asks a socket whether the kernel divides what is sent, and joins what comes.
func offloads() (segments, joins bool, err error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return false, false, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, false, err
	}
	err = raw.Control(func(fd uintptr) {
		_, no := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		segments = no == nil
		joins = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	})
	return segments, joins, err
}

func judgeOffloads(segments, joins bool) Check {
	const name = "udp offload"
	switch {
	case !segments:
		return ill(name, Warn, "the kernel does not divide what is sent over UDP (GSO)", "QUIC takes a call of the kernel for each packet: a core does a few hundred MB/s less", "run a kernel of 4.18 or later; some sandboxes (gVisor) have none")
	case !joins:
		return ill(name, Warn, "the kernel divides what is sent over UDP (GSO), and does not join what comes (GRO)", "QUIC takes a call of the kernel for every few packets", "run a kernel of 5.0 or later")
	}
	return well(name, "GSO and GRO")
}

// listener is a port that the node will have.
type listener struct {
	key, network, host string
	port               int
}

// listeners are the ports of the configuration.
func (h host) listeners() (all []listener) {
	n := h.config.Network
	if h.has("broker") {
		all = append(all, listener{"network.kafka_port", "tcp", n.Bind, n.KafkaPort})
		if n.QUIC.Enabled {
			all = append(all, listener{"network.kafka_port", "udp", n.Bind, n.KafkaPort})
		}
		if h.config.Clustered() {
			all = append(all, listener{"network.broker_port", "tcp", n.Bind, n.BrokerPort})
		}
	}
	if h.has("controller") && h.config.Clustered() {
		raft, port := h.config.Controller.RaftPort, h.config.Controller.Port
		if self, named := h.config.Self(); named {
			raft, port = self.RaftPort, self.Port
		}
		all = append(all, listener{"controller.raft_port", "tcp", n.Bind, raft}, listener{"controller.port", "tcp", n.Bind, port})
	}
	return append(all, listener{"network.http_port", "tcp", h.config.HTTPBind(), n.HTTPPort})
}

// ports binds each for a moment.
func (h host) ports(context.Context) []Check {
	const name = "ports"
	own := h.holder(h.config.Broker.DataDir)
	var free, taken, wrong []string
	for _, l := range h.listeners() {
		if l.port == 0 {
			continue // any free one
		}
		addr := net.JoinHostPort(l.host, strconv.Itoa(l.port))
		err := bindable(l.network, addr)
		shown := fmt.Sprintf("%s/%s (%s)", addr, l.network, l.key)
		switch {
		case err == nil:
			free = append(free, addr+"/"+l.network)
		case errors.Is(err, syscall.EADDRINUSE):
			taken = append(taken, shown)
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %v", shown, err))
		}
	}
	switch {
	case len(wrong) > 0:
		return []Check{ill(name, Fail, strings.Join(wrong, "; "), "the node cannot listen there, and does not start", "set network.bind to an address of this host; ports below 1024 want CAP_NET_BIND_SERVICE")}
	case len(taken) > 0 && own != "":
		return []Check{well(name, "held by the node that runs here (%s): %s", own, strings.Join(taken, ", "))}
	case len(taken) > 0:
		return []Check{ill(name, Fail, "in use: "+strings.Join(taken, ", "), "the node cannot listen there, and does not start", "stop who has them (ss -lntup shows it), set the keys, or start with --ports free")}
	}
	return []Check{well(name, "free: %s", strings.Join(free, ", "))}
}

// bindable tells why an address cannot be bound, or nil.
func bindable(network, addr string) error {
	if network == "udp" {
		conn, err := net.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// peersTime bounds how long names are looked up.
const peersTime = 5 * time.Second

// peers looks up the names of the controllers: nobody needs to answer there yet.
func (h host) peers(ctx context.Context) []Check {
	const name = "peers"
	if !h.config.Clustered() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, peersTime)
	defer cancel()
	var unknown []string
	peers := h.config.Peers()
	for _, p := range peers {
		if _, err := net.DefaultResolver.LookupHost(ctx, p.Host); err != nil {
			unknown = append(unknown, p.Host)
		}
	}
	if len(unknown) > 0 {
		return []Check{ill(name, Warn, "not known by name: "+strings.Join(unknown, ", "), "controllers find each other by controller.peers, and wait for those that they do not find", "mend DNS or /etc/hosts, or write addresses")}
	}
	check := well(name, "%d controllers, all known by name", len(peers))
	if len(peers)%2 == 0 {
		check = ill(name, Warn, fmt.Sprintf("%d controllers", len(peers)), "a majority of an even number survives no more failures than of one less", "name 3 or 5 in controller.peers")
	}
	return []Check{check}
}

// certificates reads those that the configuration names.
func (h host) certificates(context.Context) (checks []Check) {
	for _, pair := range []struct{ section, cert, key string }{
		{"security.tls", h.config.Security.TLS.CertFile, h.config.Security.TLS.KeyFile},
		{"security.cluster", h.config.Security.Cluster.CertFile, h.config.Security.Cluster.KeyFile},
	} {
		if pair.cert == "" {
			continue
		}
		name := "certificate of " + pair.section
		cert, err := tls.LoadX509KeyPair(pair.cert, pair.key)
		if err != nil {
			checks = append(checks, ill(name, Fail, fmt.Sprintf("it cannot be read: %v", err), "the node does not start", fmt.Sprintf("mend %s.cert_file and %s.key_file: PEM, the certificate first, and its own key", pair.section, pair.section)))
			continue
		}
		checks = append(checks, judgeCertificate(name, cert.Leaf, h.now()))
	}
	for _, section := range []struct{ name, authorities, lists string }{
		{"security.tls.client_ca_file", h.config.Security.TLS.ClientCAFile, h.config.Security.TLS.CRLFile},
		{"security.cluster.ca_file", h.config.Security.Cluster.CAFile, h.config.Security.Cluster.CRLFile},
	} {
		if section.authorities == "" {
			continue
		}
		if _, err := pki.OpenTrust(pki.TrustOptions{CAFile: section.authorities, RevocationFile: section.lists, Now: h.now}); err != nil {
			checks = append(checks, ill(section.name, Fail, err.Error(), "the node does not start", "name a PEM file of the authorities to trust, and as crl_file one of their revocation lists, or none"))
		}
	}
	return checks
}

func judgeCertificate(name string, cert *x509.Certificate, now time.Time) Check {
	ends := cert.NotAfter.UTC().Format(time.RFC3339)
	found := "it ends on " + ends
	const do = "rustmq admin certs renew NAME --out DIR; a node takes the new files by itself"
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		return ill(name, Fail, "it begins on "+cert.NotBefore.UTC().Format(time.RFC3339), "nobody takes it before", "set the clock, or wait")
	case left <= 0:
		return ill(name, Fail, "it ended on "+ends, "nobody takes it any more", do)
	case left < certificateWarn:
		return ill(name, Warn, found, "then nobody takes it any more", do)
	}
	return well(name, "%s", found)
}
