package roles

import (
	"log/slog"
	"slices"
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/disk"
)

// TestEmptyLogIsJudgedByWhatTheDirectoryWas walks what a data directory may say of
// itself, and what an empty raft/ in it is then: the beginning of a group, one that waits
// to be added, or a lost one.
func TestEmptyLogIsJudgedByWhatTheDirectoryWas(t *testing.T) {
	const three = "controller.peers=1@127.0.0.1,2@127.0.0.2,3@127.0.0.3"
	for _, c := range []struct {
		name         string
		id           identity
		node         string
		joined, join bool
	}{
		{"a new directory of a first controller", identity{}, "broker.id=2", false, false},
		{"a new directory of another", identity{}, "broker.id=4", false, true},
		{"a first controller that was started before", identity{Raft: raftJoined}, "broker.id=2", true, false},
		{"one that knows its cluster", identity{Raft: raftJoined, ClusterID: "c"}, "broker.id=2", true, false},
		{"another, which was added", identity{Raft: raftJoined, ClusterID: "c"}, "broker.id=4", true, false},
		{"a broker that becomes a controller", identity{Raft: raftNone, ClusterID: "c"}, "broker.id=4", false, true},
		{"the same, named among the first by now", identity{Raft: raftNone, ClusterID: "c"}, "broker.id=2", false, true},
		{"a node that was alone", identity{ClusterID: "c"}, "broker.id=2", true, false},
	} {
		config, err := configs.Load(configs.Sources{Set: []string{three, "object_storage.url=file:///b", c.node}})
		if err != nil {
			t.Fatal(err)
		}
		fs := disk.NewMem(disk.MemOptions{})
		n := &Node{config: config, log: slog.New(slog.DiscardHandler), id: &kept{dir: fs, id: c.id}, peers: &peers{}}
		o := controller.Options{Beside: []string{walDir}}
		n.joinGroup(&o, c.id)
		if o.Joined != c.joined || o.Join != c.join || (len(o.Beside) == 0) != c.join {
			t.Errorf("%s: joined %v, join %v, beside %v", c.name, o.Joined, o.Join, o.Beside)
		}
		if len(o.Peers) < 2 || slices.Contains(o.Peers, uint64(config.Broker.ID)) {
			t.Errorf("%s: peers %v", c.name, o.Peers)
		}
		if err := o.OnJoined(); err != nil {
			t.Fatal(err)
		}
		if again, err := loadIdentity(fs, 0); err == nil && !again.joined() || n.id.now().Raft != raftJoined {
			t.Errorf("%s: that it has a log is not remembered: %+v, %v", c.name, again, err)
		}
	}
}

// TestBrokerRemembersThatItHasHadNoLog holds that what a broker learns of its cluster does
// not make an empty raft/ a lost one.
func TestBrokerRemembersThatItHasHadNoLog(t *testing.T) {
	n := &Node{id: &kept{dir: disk.NewMem(disk.MemOptions{}), id: identity{Version: 1}}}
	if err := n.knowCluster("c"); err != nil {
		t.Fatal(err)
	}
	if id := n.id.now(); id.joined() || id.ClusterID != "c" {
		t.Errorf("%+v", id)
	}
	n.controller = new(controller.Controller)
	n.id.id = identity{Version: 1}
	if err := n.knowCluster("c"); err != nil {
		t.Fatal(err)
	}
	if id := n.id.now(); !id.joined() {
		t.Errorf("with a controller: %+v", id)
	}
}

// TestAddressesAreToldInTurn holds that neither an old configuration nor an old
// registration keeps a controller from being found.
func TestAddressesAreToldInTurn(t *testing.T) {
	said := map[uint64]string{2: "10.0.0.2:9094", 3: "10.0.0.33:9094", 4: "10.0.0.4:9094"}
	first := []configs.Peer{{ID: 1, Host: "10.0.0.1", RaftPort: 9094, Port: 9095}, {ID: 2, Host: "10.0.0.2", RaftPort: 9094, Port: 9095}, {ID: 3, Host: "10.0.0.3", RaftPort: 9094, Port: 9095}}
	b := newAddressBook(first, func(id uint64) (metadata.ControllerNode, bool) {
		address, ok := said[id]
		return metadata.ControllerNode{ID: id, Raft: address}, ok
	})
	for id, want := range map[uint64][]string{
		1: {"10.0.0.1:9094", "10.0.0.1:9094"}, 2: {"10.0.0.2:9094", "10.0.0.2:9094"}, 3: {"10.0.0.3:9094", "10.0.0.33:9094", "10.0.0.3:9094"}, 4: {"10.0.0.4:9094"},
	} {
		for i, want := range want {
			if got, ok := b.raft(id); !ok || got != want {
				t.Errorf("controller %d, time %d: %s, want %s", id, i, got, want)
			}
		}
	}
	if got, ok := b.raft(5); ok {
		t.Errorf("an unknown one is at %s", got)
	}
	if got := b.controllers(); !slices.Equal(got, []string{"10.0.0.1:9095", "10.0.0.2:9095", "10.0.0.3:9095"}) {
		t.Errorf("brokers ask %v", got)
	}
}
