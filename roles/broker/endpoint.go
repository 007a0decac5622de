package broker

import (
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// endpoint returns where a client that came through the listener of that name
// reaches a broker; false: by that one it does not, for the broker has not got it
// (yet, in a rolling change), and the address of another may lead nowhere, or
// elsewhere. Who came from inside knows brokers by their ids.
func endpoint(broker *metadata.Broker, listener string) (wire.Endpoint, bool) {
	e := wire.Endpoint{ID: broker.ID, Rack: broker.Rack}
	if listener == insideListener {
		e.Host, e.Port = insideHost(broker.ID), insidePort
		return e, true
	}
	for _, l := range broker.Listeners {
		if l.Name == listener && l.Name != metadata.PeerListener {
			e.Host, e.Port = l.Host, l.Port
			return e, true
		}
	}
	return e, false
}

// away are the brokers that clients of a listener do not reach: none, but in a rolling change.
type away struct {
	ids  []int32
	code int16 // what clients are told of a partition that one of them leads; they ask again
}

func awayFrom(image *metadata.Image, listener string) away {
	a := away{code: kerr.ListenerNotFound.Code}
	for broker := range image.Brokers() {
		if _, reached := endpoint(broker, listener); !reached {
			a.ids = append(a.ids, broker.ID)
		}
	}
	return a
}

func (a *away) has(id int32) bool { return slices.Contains(a.ids, id) }

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
// nobody leads it, or by nobody that the client reaches.
func (h *hints) leader(id int32, epoch storage.Epoch) *wire.Leader {
	if id == metadata.NoLeader {
		return nil
	}
	known := false
	for _, e := range h.endpoints {
		known = known || e.ID == id
	}
	if broker, ok := h.image.Broker(id); ok && !known {
		e, reached := endpoint(broker, h.listener)
		if !reached {
			return nil
		}
		h.endpoints = append(h.endpoints, e)
	}
	return &wire.Leader{ID: id, Epoch: epoch}
}
