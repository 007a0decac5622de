package roles

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rustmq.dev/rustmq/transport"
)

// PortTakenError says that a listener's port is in use, by whom as far as the
// system tells, and which key and flag would move it.
type PortTakenError struct {
	Addr string // host:port that was asked for
	Key  string // config key of the port
	PID  int    // holder, 0 when it cannot be seen
	Name string // the holder's command name, "" when it cannot be seen
}

func (e *PortTakenError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("pid %d (%s)", e.PID, e.Name)
	}
	if e.Key == peersKey {
		return fmt.Sprintf("listen on %s: the port is held by %s; stop it, or name other ports for this node in %s, id@host:raft_port:port, on every node", e.Addr, holder, peersKey)
	}
	return fmt.Sprintf("listen on %s: the port is held by %s; stop it, or set %s with --set %s=PORT, or take any with --ports free",
		e.Addr, holder, e.Key, e.Key)
}

// listenKafka binds the one port number of Kafka listeners, which a key names, on TCP and,
// when wanted, on UDP. Port 0 takes a number that is free on both. insecure lets it be
// another address than loopback.
func (m *Machine) listenKafka(host, key string, port int, udp, insecure bool) (net.Listener, *net.UDPConn, error) {
	// A number the kernel gives for TCP may be taken on UDP: ask again.
	const attempts = 16
	var last error
	for range attempts {
		tcp, err := m.listenTCP(host, port, key, insecure)
		if err != nil {
			return nil, nil, err
		}
		if !udp {
			return tcp, nil, nil
		}
		got := tcp.Addr().(*net.TCPAddr)
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: got.IP, Port: got.Port, Zone: got.Zone})
		if err == nil {
			if err := transport.GuardBound(host, conn.LocalAddr(), insecure); err != nil {
				return nil, nil, errors.Join(err, conn.Close(), tcp.Close())
			}
			return tcp, conn, nil
		}
		last = errors.Join(taken(err, "udp", net.JoinHostPort(host, strconv.Itoa(got.Port)), got.Port, key), tcp.Close())
		if port != 0 {
			break
		}
	}
	return nil, nil, last
}

func (m *Machine) listenTCP(host string, port int, key string, insecure bool) (net.Listener, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	listener, err := m.listen(addr)
	if err != nil {
		return nil, taken(err, "tcp", addr, port, key)
	}
	if err := transport.GuardBound(host, listener.Addr(), insecure); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// taken turns "address already in use" into a *PortTakenError.
func taken(err error, network, addr string, port int, key string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s (%s): %w", addr, key, err)
	}
	pid := portHolder(network, port)
	e := &PortTakenError{Addr: addr, Key: key, PID: pid}
	if pid != 0 {
		if comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm")); err == nil {
			e.Name = strings.TrimSpace(string(comm))
		}
	}
	return e
}

// portHolder finds the process that has a socket on the port, by the tables of
// /proc; 0 where there is none, or it belongs to somebody else.
func portHolder(network string, port int) int {
	inodes := map[string]bool{}
	for _, table := range []string{network, network + "6"} {
		file, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue
		}
		const listening = "0A" // TCP_LISTEN; a bound UDP socket is 07
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || (network == "tcp" && fields[3] != listening) {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
				inodes["socket:["+fields[9]+"]"] = true
			}
		}
		_ = file.Close() // it was read
	}
	if len(inodes) == 0 {
		return 0
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
			if err == nil {
				return pid
			}
		}
	}
	return 0
}
