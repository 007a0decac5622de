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

// controllers are the addresses at which any controller can be asked: those of the
// configuration first, and those that controllers have said beside them.
func (b *addressBook) controllers(image *metadata.Image) []string {
	var all []string
	seen := map[string]bool{}
	add := func(address string) {
		if !seen[address] {
			seen[address] = true
			all = append(all, address)
		}
	}
	for _, p := range b.first {
		add(p.Controller())
	}
	if image != nil {
		for c := range image.Controllers() {
			add(c.Controller)
		}
	}
	return all
}
