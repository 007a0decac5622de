package roles

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// listenerName is that of the Kafka listeners; both transports share it, so
// that a client stays on the one it came by.
const listenerName = "kafka"

// externalName is that of the listeners of network.external.
const externalName = "external"

// sockets are where clients come by one listener; udp is nil where QUIC is off.
type sockets struct {
	name string
	tcp  net.Listener
	udp  *net.UDPConn
}

// bindKafka takes the ports of clients, those of network.kafka_port first.
func (n *Node) bindKafka() ([]sockets, error) {
	network := n.config.Network
	inside, err := n.bindClients(listenerName, "network.kafka_port", network.KafkaPort)
	if err != nil {
		return nil, err
	}
	n.kafkaAddr = inside.tcp.Addr().String()
	if !network.External.On() {
		return []sockets{inside}, nil
	}
	outside, err := n.bindClients(externalName, "network.external.port", network.External.Port)
	if err != nil {
		return nil, err
	}
	n.externalPort = outside.tcp.Addr().(*net.TCPAddr).Port
	return []sockets{inside, outside}, nil
}

// bindClients takes one port of clients, on TCP and where QUIC is on, on UDP.
func (n *Node) bindClients(name, key string, port int) (s sockets, err error) {
	network := n.config.Network
	s.name = name
	if s.tcp, s.udp, err = n.machine.listenKafka(network.Bind, key, port, network.QUIC.Enabled, n.mayBind()); err != nil {
		return s, err
	}
	// Until the listeners serve, they are closed here; afterwards by the server.
	n.opened("sockets of "+name, func(context.Context) error {
		if s.udp != nil {
			_ = s.udp.Close() // closed twice when QUIC has served
		}
		if err := s.tcp.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return s, nil
}

// listeners are where this broker is reached: by clients, and in a cluster by others.
func (n *Node) listeners() ([]metadata.Listener, error) {
	advertised, err := n.advertised()
	if err != nil {
		return nil, err
	}
	all := []metadata.Listener{advertised}
	if e := n.config.Network.External; e.On() {
		port := e.AdvertisedPort
		if port == 0 {
			port = n.externalPort
		}
		all = append(all, metadata.Listener{Name: externalName, Host: e.AdvertisedHost, Port: int32(port), Protocol: advertised.Protocol})
	}
	if n.peers == nil {
		return all, nil
	}
	peer, err := n.peerListener()
	return append(all, peer), err
}

// advertised is what clients are told to dial.
func (n *Node) advertised() (metadata.Listener, error) {
	host, port, err := net.SplitHostPort(n.kafkaAddr)
	if err != nil {
		return metadata.Listener{}, err
	}
	if host, err = n.reachableHost(host); err != nil {
		return metadata.Listener{}, err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return metadata.Listener{}, err
	}
	protocol := "PLAINTEXT"
	if n.config.Network.TLS == "on" {
		protocol = "SSL"
	}
	if n.logins != nil {
		protocol = "SASL_" + protocol
	}
	return metadata.Listener{Name: listenerName, Host: host, Port: int32(number), Protocol: protocol}, nil
}

// reachableHost is what is dialled from elsewhere for a host that is bound.
func (n *Node) reachableHost(bound string) (string, error) {
	if n.config.Network.AdvertisedHost != "" {
		return n.config.Network.AdvertisedHost, nil
	}
	ip := net.ParseIP(bound)
	if ip == nil || !ip.IsUnspecified() {
		return bound, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("network.bind is every address: set network.advertised_host to what clients dial (the host name is not known: %w)", err)
	}
	return host, nil
}

// serveKafka starts to accept clients.
func (n *Node) serveKafka(bound []sockets) error {
	network := n.config.Network
	counts := newKafkaMetrics(n.broker.Versions())
	if err := n.openClients(); err != nil {
		return err
	}
	n.kafka = kafka.New(kafka.Options{
		Identify:    n.identifies(),
		Handler:     n.broker,
		EarlyOK:     broker.EarlyOK,
		RequireAuth: n.logins != nil,
		Features:    n.broker.Features(),
		Identity:    func() (string, int32) { return n.door.Image().ClusterID(), n.config.Broker.ID },
		Metrics:     counts,
		Watcher:     n.broker,
		Arrivals:    n.broker,
		Log:         n.log.With("room", "kafka"),
		Limits: kafka.Limits{
			MaxFrame: int(network.MaxFrame), ConnMemory: int64(network.ConnectionMemory), TotalMemory: int64(network.RequestMemory), TotalUnsent: int64(network.ResponseMemory),
			MaxConns: network.MaxConnections, PerIP: network.MaxConnectionsPerIP, IdleTimeout: time.Duration(network.IdleTimeout),
		},
	})
	counts.inUse = n.kafka.InUse
	n.kafkaCounts.Store(counts)
	n.metrics.MustRegister(counts)
	var secure *tls.Config
	if bound[0].udp != nil || network.TLS == "on" {
		if err := n.keepCertificate(); err != nil {
			return err
		}
		secure = n.serverConfig()
	}
	for _, s := range bound {
		if s.udp == nil {
			continue
		}
		var beside *quic.Listener
		if len(n.quic) > 0 {
			beside = n.quic[0]
		}
		l, err := quic.Listen(quic.Options{
			Conn: s.udp, TLS: secure, Server: n.kafka, Name: s.name, Beside: beside,
			IdleTimeout: time.Duration(network.QUIC.IdleTimeout), MaxStreams: network.QUIC.MaxStreams, WindowMemory: int64(network.QUIC.ReceiveMemory),
			MaxConns: min(network.MaxConnections, quic.DefaultMaxConns), PerIP: network.MaxConnectionsPerIP,
			ZeroRTT: network.QUIC.ZeroRTT, Arrivals: n.broker, Identify: n.identifies(), Count: counts.Refused, Refused: func(remote net.Addr, err error) { n.broker.HandshakeRefused(remote, "quic", err) },
			Log: n.log.With("room", "quic"),
		})
		if err != nil {
			return err
		}
		n.quic = append(n.quic, l)
		n.opened("QUIC of "+s.name, func(context.Context) error { return l.Close() })
	}
	n.opened("Kafka", n.drain)
	server := n.kafka
	for _, s := range bound {
		listener := s.tcp
		if network.TLS == "on" {
			listener = tls.NewListener(s.tcp, secure)
		}
		n.serving.Go(func() {
			if err := server.ServeListener(listener, s.name); !errors.Is(err, kafka.ErrServerClosed) {
				n.fail(err)
			}
		})
	}
	return nil
}

// drain ends the Kafka server once all that it has read is answered: clients
// that wait for records are told that there are none.
func (n *Node) drain(ctx context.Context) error {
	ctx, cancel := share(ctx, kafkaShare)
	defer cancel()
	coordinators, ended := share(ctx, drainShare)
	defer ended()
	err := n.broker.Drain(coordinators)
	if e := n.kafka.Shutdown(ctx); errors.Is(e, context.DeadlineExceeded) {
		n.log.Warn("some clients did not take their last answers in time", "error", e)
	} else if e != nil {
		err = errors.Join(err, e)
	}
	settle, settled := context.WithTimeout(ctx, settleWait)
	defer settled()
	if e := n.broker.Settle(settle); e != nil {
		n.log.Info("an upload to the bucket was ended by the stop; it is made anew at the next start", "error", e)
	}
	return err
}
