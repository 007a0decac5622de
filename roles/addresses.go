package roles

import (
	"slices"
	"sync"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
)

// peersKey is the config key that names the first controllers.
const peersKey = "controller.peers"

// addressBook says where controllers are reached: where the configuration says, and where
// they have said themselves. Either may be the older one: the configuration of this node,
// when another one moved, and what another one said, when all were moved while they were
// stopped. So the two are told in turn where they differ.
type addressBook struct {
	first      []configs.Peer // of the configuration; not written to
	registered func(uint64) (metadata.ControllerNode, bool)

	mu    sync.Mutex
	asked map[uint64]uint // how often each was asked for; guarded by mu
}

func newAddressBook(first []configs.Peer, registered func(uint64) (metadata.ControllerNode, bool)) *addressBook {
	return &addressBook{first: first, registered: registered, asked: map[uint64]uint{}}
}

// raft is where other controllers reach a controller. It is asked once for each attempt
// to connect.
func (b *addressBook) raft(id uint64) (string, bool) {
	at := slices.IndexFunc(b.first, func(p configs.Peer) bool { return uint64(p.ID) == id })
	said, registered := b.registered(id)
	switch {
	case at < 0 && !registered:
		return "", false
	case !registered:
		return b.first[at].Raft(), true
	case at < 0 || b.first[at].Raft() == said.Raft:
		return said.Raft, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[id]++
	if b.asked[id]%2 == 1 {
		return b.first[at].Raft(), true
	}
	return said.Raft, true
}

// controllers are where the first controllers answer brokers.
func (b *addressBook) controllers() []string {
	all := make([]string, len(b.first))
	for i, p := range b.first {
		all[i] = p.Controller()
	}
	return all
}
