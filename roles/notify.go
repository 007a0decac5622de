package roles

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

// manager is the service manager that has started this process, and wants to be told where
// it stands (sd_notify(3)): systemd, for a unit with Type=notify. The zero one is told
// nothing.
type manager struct {
	socket string // a path, or a name that is not on disk, behind "@"
	log    *slog.Logger
}

// newManager takes the manager's address from the environment, and out of it: what this
// process starts is not the service.
func newManager(log *slog.Logger) manager {
	const key = "NOTIFY_SOCKET"
	m := manager{socket: os.Getenv(key), log: log}
	if m.socket != "" {
		_ = os.Unsetenv(key) // fails for impossible names alone
	}
	return m
}

// ready says that clients are served.
func (m manager) ready() { m.tell("READY=1\nSTATUS=serving") }

// stopping says that the node hands over what it leads, which may take as long as bound.
// A manager that would wait less gives it that and a little for the end of the process.
func (m manager) stopping(bound time.Duration) {
	patience := max(bound, leastStop) + 5*time.Second
	m.tell(fmt.Sprintf("STOPPING=1\nSTATUS=handing over what it leads\nEXTEND_TIMEOUT_USEC=%d", patience.Microseconds()))
}

// tell sends one message. A manager that cannot be told is no reason to end: it finds out
// by its own timeout, and the log says why.
func (m manager) tell(state string) {
	if m.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // the datagram is sent, or is not
	}
	if err != nil {
		m.log.Warn("the service manager was not told where this process stands (NOTIFY_SOCKET)", "state", state, "error", err)
	}
}
