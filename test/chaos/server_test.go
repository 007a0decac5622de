//go:build chaos

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// startLimit is far above what a start takes, on a machine busy with other things.
const startLimit = 60 * time.Second

// program is the binary under test.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("RUSTMQ_BIN")
	if path == "" {
		path = "../../bin/rustmq"
	}
	path, err := filepath.Abs(path)
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		unavailable(t, fmt.Sprintf("no binary: %v (make build, or set RUSTMQ_BIN)", err))
	}
	return path
}

// server is one life of the binary.
type server struct {
	cmd   *exec.Cmd
	kafka chan string // its address, once; closed at the end of stdout
	http  string      // its other address, known once kafka is
	log   tail
	ended chan struct{}
}

// start begins a life; it does not wait for the server to be ready.
func start(t *testing.T, bin, dir string, set ...string) *server {
	t.Helper()
	return startIn(t, nil, bin, dir, set...)
}

// startIn does so in a control group, if there is one.
func startIn(t *testing.T, group *cgroup, bin, dir string, set ...string) *server {
	t.Helper()
	args := []string{"serve", "--data-dir", dir, "--ports", "free"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	if group != nil { // a shell enters, and becomes the server
		args = append([]string{"-c", `echo $$ >"$0" && exec "$@"`, group.dir + "/cgroup.procs", bin}, args...)
		bin = "/bin/sh"
	}
	return launch(t, bin, args...)
}

// launch begins a process that says in its first line where it listens.
func launch(t *testing.T, bin string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(bin, args...), kafka: make(chan string, 1), ended: make(chan struct{})}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	must(t, s.cmd.Start())
	go func() { // ends with the process
		defer close(s.ended)
		s.announce(out)
		_, _ = io.Copy(io.Discard, out)
		_ = s.cmd.Wait()
	}()
	return s
}

// announce waits for the line that says where the server listens.
func (s *server) announce(out io.Reader) {
	defer close(s.kafka)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return
	}
	var says struct {
		Kafka string `json:"kafka"`
		HTTP  string `json:"http"`
	}
	if err := json.Unmarshal(line, &says); err != nil || says.Kafka == "" {
		fmt.Fprintf(&s.log, "the first line says no address: %s\n", line)
		return
	}
	s.http = says.HTTP
	s.kafka <- says.Kafka
}

// address waits for the server to listen.
func (s *server) address(t *testing.T) string {
	t.Helper()
	select {
	case addr, ok := <-s.kafka:
		if ok {
			return addr
		}
		t.Fatalf("the server did not start:\n%s", s.log.String())
	case <-time.After(startLimit):
		t.Fatalf("the server did not listen within %v:\n%s", startLimit, s.log.String())
	}
	return ""
}

// kill is SIGKILL, or the end of what the power cut left of the process.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.ended
}

// tail keeps the last bytes of a log.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if most := 8 << 10; len(l.b) > most {
		l.b = l.b[len(l.b)-most:]
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// switchboard leads every dial to the server that lives now, so that a client
// can outlive it though the next one listens elsewhere.
type switchboard struct{ now atomic.Value }

// errNoServer is what a dial of a port gives that nobody listens on, which
// clients take for a reason to try again.
var errNoServer = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func (b *switchboard) way() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers("server:9092"), kgo.Dialer(b.dial)}
}

func (b *switchboard) connect(addr string) { b.now.Store(addr) }

func (b *switchboard) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	addr, _ := b.now.Load().(string)
	if addr == "" {
		return nil, errNoServer
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
