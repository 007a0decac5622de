package rustmqtest

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"testing"
	"time"

	"rustmq.dev/rustmq/embed"
	rustmq "rustmq.dev/rustmq/sdk/go"
)

// startTimeout is how long a server may take to start, on a machine that is busy.
const startTimeout = time.Minute

// Options of a server. The zero value suits most tests.
type Options struct {
	// Set are config keys, as in `rustmq serve --set`: "topic.partitions": "4".
	Set map[string]string
	// DataDir keeps the data after the test; empty: a directory of the test's own.
	DataDir string
	Log     *slog.Logger // nil: none
}

// Server is a running rustmq.
type Server struct {
	node    *embed.Node
	options embed.Options
}

// Start starts a server that ends with the test. At most one Options is given.
func Start(t testing.TB, options ...Options) *Server {
	t.Helper()
	var o Options
	switch len(options) {
	case 0:
	case 1:
		o = options[0]
	default:
		t.Fatalf("rustmqtest: Start was given %d Options: want one at most", len(options))
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	s := &Server{options: embed.Options{DataDir: o.DataDir, Set: o.Set, Log: o.Log}}
	s.start(t)
	t.Cleanup(func() {
		if s.node == nil {
			return
		}
		if err := s.node.Close(); err != nil {
			t.Errorf("rustmqtest: close the server: %v", err)
		}
	})
	return s
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	node, err := embed.Start(ctx, s.options)
	if err != nil {
		t.Fatalf("rustmqtest: %v", err)
	}
	s.node = node
}

// Addr is the host:port of Kafka over TCP and, on the same number, QUIC.
func (s *Server) Addr() string { return s.node.Kafka() }

// AdminURL is where the admin API is.
func (s *Server) AdminURL() string { return "http://" + s.node.HTTP() }

// CAFile is the authority that clients of TLS and QUIC trust.
func (s *Server) CAFile() string { return s.node.CAFile() }

// Client is a client of the server that ends with the test. Topics that it uses are made
// on first use.
func (s *Server) Client(t testing.TB, opts ...rustmq.Option) *rustmq.Client {
	t.Helper()
	all := []rustmq.Option{rustmq.WithBrokers(s.Addr()), rustmq.WithAdmin(s.AdminURL(), nil, nil), rustmq.WithTopicCreation()}
	client, err := rustmq.New(append(all, opts...)...)
	if err != nil {
		t.Fatalf("rustmqtest: %v", err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("rustmqtest: close a client: %v", err)
		}
	})
	return client
}

// Reload has the server read the files of its certificates again, as SIGHUP does.
func (s *Server) Reload(t testing.TB) {
	t.Helper()
	if err := s.node.Reload(); err != nil {
		t.Fatalf("rustmqtest: reload: %v", err)
	}
}

// Restart stops the server and starts it again, on the same ports, with what it had.
// Clients stay, and find it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.start(t)
}

// Stop stops the server; [Server.Restart] starts it again.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.node == nil {
		return
	}
	_, kafka, _ := net.SplitHostPort(s.node.Kafka())
	_, http, _ := net.SplitHostPort(s.node.HTTP())
	set := map[string]string{}
	maps.Copy(set, s.options.Set)
	set["network.kafka_port"], set["network.http_port"] = kafka, http
	s.options.Set = set
	node := s.node
	s.node = nil
	if err := node.Close(); err != nil {
		t.Fatalf("rustmqtest: stop the server: %v", err)
	}
}
