package broker

import (
	"net"
	"strconv"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// endpoint returns where a client that came through the listener of that name
// reaches a broker. Who came from inside knows brokers by their ids.
func endpoint(broker *metadata.Broker, listener string) wire.Endpoint {
	e := wire.Endpoint{ID: broker.ID, Rack: broker.Rack}
	if listener == insideListener {
		e.Host, e.Port = insideHost(broker.ID), insidePort
		return e
	}
	first := true
	for _, l := range broker.Listeners {
		if l.Name == metadata.PeerListener {
			continue
		}
		if first || l.Name == listener {
			e.Host, e.Port, first = l.Host, l.Port, false
		}
		if l.Name == listener {
			break
		}
	}
	return e
}

// peerAddress returns where other brokers reach a broker; false: it has not said.
func peerAddress(broker *metadata.Broker) (string, bool) {
	for _, l := range broker.Listeners {
		if l.Name == metadata.PeerListener {
			return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))), true
		}
	}
	return "", false
}

// hints collects, for one response, where the leaders are that it names.
type hints struct {
	image     *metadata.Image
	listener  string
	endpoints []wire.Endpoint
}

func (b *Broker) hintsFor(r *kafka.Request) hints {
	return hints{image: b.images.image(), listener: r.Conn.Listener()}
}

// leader returns the hint for a partition that is led elsewhere; nil when
// nobody leads it.
func (h *hints) leader(id int32, epoch storage.Epoch) *wire.Leader {
	if id == metadata.NoLeader {
		return nil
	}
	known := false
	for _, e := range h.endpoints {
		known = known || e.ID == id
	}
	if broker, ok := h.image.Broker(id); ok && !known {
		h.endpoints = append(h.endpoints, endpoint(broker, h.listener))
	}
	return &wire.Leader{ID: id, Epoch: epoch}
}
