package metadata

import (
	"cmp"
	"iter"
	"net"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// maxControllers bounds the image: a group has five members, and a few that were taken
// out of it.
const maxControllers = 64

// ControllerNode is a member of the group of controllers as it made itself known. It is
// never changed. Who is a member is said by consensus, not here.
type ControllerNode struct {
	ID              uint64
	Directory       [16]byte // of its data directory
	Raft            string   // host:port of raft
	Controller      string   // host:port that brokers, admins and other controllers call
	MaxFeatureLevel uint32   // the highest that its binary knows
}

// Controllers walks the controllers that made themselves known, in order of id.
func (m *Image) Controllers() iter.Seq[*ControllerNode] {
	return func(yield func(*ControllerNode) bool) {
		for _, c := range m.controllers.all() {
			if !yield(c) {
				return
			}
		}
	}
}

// ControllerNode returns what that controller said of itself.
func (m *Image) ControllerNode(id uint64) (*ControllerNode, bool) { return m.controllers.get(id) }

func newControllers() tree[uint64, *ControllerNode] {
	return newTree[uint64, *ControllerNode](cmp.Compare[uint64])
}

// NewRegisterController returns the command that makes a controller known.
func NewRegisterController(n ControllerNode) *pb.RegisterController {
	return &pb.RegisterController{
		NodeId: n.ID, Directory: n.Directory[:], RaftAddress: n.Raft, ControllerAddress: n.Controller, MaxFeatureLevel: n.MaxFeatureLevel,
	}
}

func (m *Image) registerController(c *pb.RegisterController) *Error {
	n, refused := decodeController(c.NodeId, c.Directory, c.RaftAddress, c.ControllerAddress, c.MaxFeatureLevel)
	if refused != nil {
		return refused
	}
	if !guard.Check("metadata.controller-level", n.MaxFeatureLevel >= m.featureLevel) {
		return Errorf(UnsupportedVersion, "controller %d knows feature level %d at most, the cluster is at %d; run a later version", n.ID, n.MaxFeatureLevel, m.featureLevel)
	}
	before, known := m.controllers.get(n.ID)
	switch {
	case known && *before == *n:
		return nil
	case !known && m.controllers.len() >= maxControllers:
		return Errorf(PolicyViolation, "%d controllers are registered; unregister those that are gone", m.controllers.len())
	}
	m.controllers = m.controllers.put(n.ID, n)
	return nil
}

// decodeController checks what a controller, or a snapshot, says.
func decodeController(id uint64, directory []byte, raft, controller string, level uint32) (*ControllerNode, *Error) {
	n := &ControllerNode{ID: id, Raft: raft, Controller: controller, MaxFeatureLevel: level}
	if id < 1 || id > maxControllerID || len(directory) != len(n.Directory) {
		return nil, Errorf(InvalidRequest, "controller %d with a directory id of %d bytes: an id is 1 to %d, a directory's has 16 bytes", id, len(directory), maxControllerID)
	}
	copy(n.Directory[:], directory)
	for _, address := range []string{raft, controller} {
		if _, _, err := net.SplitHostPort(address); err != nil || len(address) > maxNameBytes {
			return nil, Errorf(InvalidRequest, "controller %d: address %s is no host:port", id, quoted(address))
		}
	}
	return n, nil
}

// maxControllerID: a controller's id is a node's, which clients know as an int32.
const maxControllerID = 1<<31 - 1

func (m *Image) unregisterController(c *pb.UnregisterController) *Error {
	if _, known := m.controllers.get(c.NodeId); !known {
		return Errorf(ResourceNotFound, "controller %d is not registered", c.NodeId)
	}
	m.controllers = m.controllers.without(c.NodeId)
	return nil
}
