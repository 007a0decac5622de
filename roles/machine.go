package roles

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
)

// Machine is what a node runs on, for who simulates one. What is nil is that of the
// machine on which the process runs. QUIC is not simulated: network.quic.enabled has to be
// false, and so has TLS, whose certificates lie on the disk of this machine.
type Machine struct {
	// FS is the data directory. The bucket then is one that NodeOptions.Cloud opens.
	FS disk.FS
	// Listen binds a host:port of TCP. The address of what it returns is a *net.TCPAddr.
	Listen func(address string) (net.Listener, error)
	// Dial connects to a host:port of another server of the cluster.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Mono is how long ago some moment was, steadily; see [controller.Options].
	Mono func() time.Duration
}

// listen binds a port of TCP.
func (m *Machine) listen(address string) (net.Listener, error) {
	if m.Listen != nil {
		return m.Listen(address)
	}
	return net.Listen("tcp", address)
}

// dial is how gRPC connects.
func (m *Machine) dial() []grpc.DialOption {
	if m.Dial == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithContextDialer(m.Dial)}
}

// mono is the steady clock.
func (m *Machine) mono() func() time.Duration {
	if m.Mono != nil {
		return m.Mono
	}
	return bootTime()
}

// open opens the data directory that a configuration names, and returns its absolute path.
func (m *Machine) open(dir string, o disk.OSOptions) (fs disk.FS, root string, err error) {
	if m.FS != nil {
		return m.FS, dir, nil
	}
	home, err := disk.OpenOSWith(dir, o)
	if err != nil {
		return nil, "", err
	}
	return home, home.Root(), nil
}

// Applied is what this node's own controller has made of the metadata log; nil: it has none.
func (n *Node) Applied() *metadata.Image {
	if n.controller == nil {
		return nil
	}
	return n.controller.Image()
}

// Image is the metadata as this node knows it, which may be what another has shown it: then
// it lacks what no broker of this node needs.
func (n *Node) Image() *metadata.Image { return n.door.Image() }
