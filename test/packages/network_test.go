//go:build packages

package packages

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// network is that of the containers of a project: a bridge, and the host on it.
type network struct {
	rig   *rig
	hosts string // a file of names and addresses, as an engine mounts it
	used  int
}

const subnet = "10.89.7."

func newNetwork(t *testing.T, r *rig) *network {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "project0", "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "del", "project0") })
	ip(t, "addr", "add", subnet+"1/24", "dev", "project0")
	ip(t, "link", "set", "project0", "up")
	mount(t, "tmpfs", r.dir(t, "netns"), "")
	return &network{rig: r, used: 1}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out(t, exec.Command("ip", args...))
}

// join gives a container a namespace on the bridge; it is entered by the file that is returned.
func (n *network) join(t *testing.T, name string) (namespace, address string) {
	t.Helper()
	n.used++
	address = fmt.Sprint(subnet, n.used)
	// A process holds the namespace until it is mounted.
	namespace = n.rig.dir(t, "netns") + "/" + name
	must(t, os.WriteFile(namespace, nil, 0o600))
	out(t, exec.Command("unshare", "--net="+namespace, "true"))
	t.Cleanup(func() { unmount(t, namespace) })
	port := fmt.Sprint("port", n.used)
	ip(t, "link", "add", port, "type", "veth", "peer", "name", fmt.Sprint("peer", n.used))
	ip(t, "link", "set", port, "master", "project0", "up")
	hold := exec.Command("nsenter", "--net="+namespace, "cat")
	stdin, err := hold.StdinPipe()
	must(t, err)
	stdout, err := hold.StdoutPipe()
	must(t, err)
	must(t, hold.Start())
	_, err = stdin.Write([]byte{'.'})
	must(t, err)
	_, err = io.ReadFull(stdout, make([]byte, 1)) // it is inside
	must(t, err)
	ip(t, "link", "set", fmt.Sprint("peer", n.used), "netns", fmt.Sprint(hold.Process.Pid), "name", "eth0")
	for _, args := range []string{"link set lo up", "addr add " + address + "/24 dev eth0", "link set eth0 up"} {
		out(t, exec.Command("nsenter", append([]string{"--net=" + namespace, "ip"}, strings.Fields(args)...)...))
	}
	must(t, stdin.Close())
	must(t, hold.Wait())
	return namespace, address
}

// publish has a port of the host lead to one of a container, until the test ends.
func publish(t *testing.T, protocol, from, to string) {
	t.Helper()
	var running sync.WaitGroup
	switch protocol {
	case "tcp":
		listener, err := net.Listen("tcp", from)
		must(t, err)
		t.Cleanup(func() { listener.Close(); running.Wait() })
		running.Go(func() {
			for {
				client, err := listener.Accept()
				if err != nil {
					return
				}
				running.Go(func() { relay(client, to) })
			}
		})
	default:
		t.Fatalf("a port of %s is not known here", protocol)
	}
}

// relay copies both ways, until one side ends.
func relay(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(way[1], way[0]) // how it ended is the clients' to see
			ended <- struct{}{}
		}()
	}
	<-ended
	_, _ = client.Close(), server.Close() // the other way ends by it
	<-ended
}
