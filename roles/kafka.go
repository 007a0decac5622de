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

// bindKafka takes the ports of clients; udp is nil where QUIC is off.
func (n *Node) bindKafka() (tcp net.Listener, udp *net.UDPConn, err error) {
	network := n.config.Network
	tcp, udp, err = n.machine.listenKafka(network.Bind, network.KafkaPort, network.QUIC.Enabled, n.mayBind())
	if err != nil {
		return nil, nil, err
	}
	// Until the listeners serve, they are closed here; afterwards by the server.
	n.opened("sockets", func(context.Context) error {
		if udp != nil {
			_ = udp.Close() // closed twice when QUIC has served
		}
		if err := tcp.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	n.kafkaAddr = tcp.Addr().String()
	return tcp, udp, nil
}

// listeners are where this broker is reached: by clients, and in a cluster by others.
func (n *Node) listeners() ([]metadata.Listener, error) {
	advertised, err := n.advertised()
	if err != nil || n.peers == nil {
		return []metadata.Listener{advertised}, err
	}
	peer, err := n.peerListener()
	return []metadata.Listener{advertised, peer}, err
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
func (n *Node) serveKafka(tcp net.Listener, udp *net.UDPConn) error {
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
	if udp != nil || network.TLS == "on" {
		if err := n.keepCertificate(); err != nil {
			return err
		}
		secure = n.serverConfig()
	}
	if udp != nil {
		l, err := quic.Listen(quic.Options{
			Conn: udp, TLS: secure, Server: n.kafka, Name: listenerName,
			IdleTimeout: time.Duration(network.QUIC.IdleTimeout), MaxStreams: network.QUIC.MaxStreams, WindowMemory: int64(network.QUIC.ReceiveMemory),
			MaxConns: min(network.MaxConnections, quic.DefaultMaxConns), PerIP: network.MaxConnectionsPerIP,
			ZeroRTT: network.QUIC.ZeroRTT, Arrivals: n.broker, Identify: n.identifies(), Count: counts.Refused, Refused: func(remote net.Addr, err error) { n.broker.HandshakeRefused(remote, "quic", err) },
			Log: n.log.With("room", "quic"),
		})
		if err != nil {
			return err
		}
		n.quic = l
		n.opened("QUIC", func(context.Context) error { return l.Close() })
	}
	n.opened("Kafka", n.drain)
	listener := tcp
	if network.TLS == "on" {
		listener = tls.NewListener(tcp, secure)
	}
	server := n.kafka
	n.serving.Go(func() {
		if err := server.ServeListener(listener, listenerName); !errors.Is(err, kafka.ErrServerClosed) {
			n.fail(err)
		}
	})
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
