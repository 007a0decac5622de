package apache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ErrUnavailable is returned where Kafka's jars or Java are not installed.
var ErrUnavailable = errors.New("no Apache Kafka is installed (scripts/deps.sh)")

const (
	// cluster is any id: a node that is formatted for each run has no history.
	cluster = "rustmq-compat-AAAAAAAA"
	// heap is what Kafka's own start script gives a broker.
	heap = 1024
	// stopLimit is for a controlled shutdown; then the process is killed.
	stopLimit = 30 * time.Second
	// logLimit bounds what is kept of the node's output: its last bytes.
	logLimit = 64 << 10
)

// Options say which Kafka is started, where and how.
type Options struct {
	// Lib is the directory of Kafka's jars: build/kafka/lib of the repository.
	Lib string
	// Dir is a directory that exists and is empty. The caller removes it.
	Dir string
	// Properties go over the node's own, key by key.
	Properties map[string]string
	// Addr and Controller are the host:port of its listeners; empty: free ports of
	// loopback. A node that is one of several has theirs in Properties too
	// (node.id, controller.quorum.voters).
	Addr, Controller string
	// HeapMiB is the size of the heap in MiB. Default: 1024, Kafka's own.
	HeapMiB int
}

// Server is one running node.
type Server struct {
	addr    string
	lib     string // Options.Lib
	logging string // the file that configures log4j
	cmd     *exec.Cmd
	log     *tail
	ended   chan struct{}
}

// Start formats the directory, starts a node there and waits until it serves
// clients. ctx bounds the start alone.
func Start(ctx context.Context, o Options) (*Server, error) {
	jars, err := filepath.Glob(filepath.Join(o.Lib, "kafka_2.13-*.jar"))
	if err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("look for Kafka in %s: %w", o.Lib, ErrUnavailable)
	}
	if _, err := exec.LookPath("java"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	if o.Addr == "" {
		o.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	}
	if o.Controller == "" {
		o.Controller = fmt.Sprintf("127.0.0.1:%d", ports[1])
	}
	s := &Server{
		addr: o.Addr, lib: o.Lib, logging: filepath.Join(o.Dir, "log4j2.properties"),
		log: &tail{}, ended: make(chan struct{}),
	}
	properties := filepath.Join(o.Dir, "server.properties")
	if err := write(properties, nodeProperties(o)); err != nil {
		return nil, err
	}
	if err := write(s.logging, warnings()); err != nil {
		return nil, err
	}
	format := s.java(ctx, "-Xmx256m", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format %s: %w\n%s", o.Dir, err, out)
	}
	mib := o.HeapMiB
	if mib == 0 {
		mib = heap
	}
	// The process outlives ctx: it ends with Stop, Kill or this process.
	s.cmd = s.java(context.WithoutCancel(ctx), fmt.Sprintf("-Xmx%dm", mib), "kafka.Kafka", properties)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	go func() { // ends with the process
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.awaitBroker(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start Kafka: %w\n%s", err, s.log)
	}
	return s, nil
}

// Addr is where clients connect.
func (s *Server) Addr() string { return s.addr }

// Pid is the id of the node's process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log is the end of what the node has printed: warnings and errors.
func (s *Server) Log() string { return s.log.String() }

// Tool is one of Kafka's command line tools by its class, such as
// org.apache.kafka.tools.ConsumerPerformance. It is not started yet.
func (s *Server) Tool(ctx context.Context, class string, args ...string) *exec.Cmd {
	return s.java(ctx, "-Xmx256m", class, args...)
}

// Stop ends the node as an operator does, and waits for its end.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-s.ended:
	case <-time.After(stopLimit):
		s.Kill()
	}
}

// Kill ends the node at once.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.ended
}

// java is a JVM with the options of Kafka's start script.
func (s *Server) java(ctx context.Context, heap, class string, args ...string) *exec.Cmd {
	all := []string{
		heap, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true", "-Dlog4j2.configurationFile=" + s.logging,
		"-cp", filepath.Join(s.lib, "*"), class,
	}
	cmd := exec.CommandContext(ctx, "java", append(all, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// awaitBroker waits until the metadata that the node tells clients names a broker.
func (s *Server) awaitBroker(ctx context.Context) error {
	for {
		brokers, err := s.brokers(ctx)
		if err == nil && brokers > 0 {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("the process has ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not serve: %w (last: %d brokers, %v)", ctx.Err(), brokers, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// brokers asks for Metadata v1 of no topic and returns how many brokers it names.
func (s *Server) brokers(ctx context.Context) (int32, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	// size, key 3, version 1, correlation id, no client id, no topics
	request := []byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0}
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	var answer [12]byte // size, correlation id, brokers
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return 0, err
	}
	return int32(binary.BigEndian.Uint32(answer[8:])), nil
}

// nodeProperties are those of one node that is broker and controller.
func nodeProperties(o Options) map[string]string {
	p := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         "1@" + o.Controller,
		"listeners":                                        "PLAINTEXT://" + o.Addr + ",CONTROLLER://" + o.Controller,
		"controller.listener.names":                        "CONTROLLER",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         filepath.Join(o.Dir, "data"),
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
	}
	maps.Copy(p, o.Properties)
	return p
}

// warnings is a configuration of log4j that prints warnings and errors.
func warnings() map[string]string {
	return map[string]string{
		"appender.c.type":              "Console",
		"appender.c.name":              "C",
		"appender.c.layout.type":       "PatternLayout",
		"appender.c.layout.pattern":    "[%d] %p %m (%c)%n",
		"rootLogger.level":             "WARN",
		"rootLogger.appenderRef.c.ref": "C",
	}
}

func write(file string, properties map[string]string) error {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&b, "%s=%s\n", key, properties[key])
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// freePorts returns ports of the loopback interface that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("look for a free port: %w", err)
		}
		defer l.Close() // not before all are found: they must differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - logLimit; over > 0 {
		t.buf = slices.Delete(t.buf, 0, over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
