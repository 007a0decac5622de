package roles_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/security/ca"
)

// secured is an authority in a directory, and where what it issues is put.
type secured struct {
	*testing.T
	*ca.CA
	certs string
}

func newSecured(t *testing.T) secured {
	t.Helper()
	dir := t.TempDir()
	c, err := ca.Init(ca.Options{Dir: filepath.Join(dir, "ca"), CommonName: "Test", Passphrase: func() ([]byte, error) { return nil, nil }})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	s := secured{t, c, filepath.Join(dir, "certs")}
	must(t, os.Mkdir(s.certs, 0o700))
	return s
}

// put writes what was issued, as an operator copies it to the machines.
func (s secured) put(issued *ca.Issued, err error) {
	s.Helper()
	must(s.T, err)
	_, _, err = issued.Write(s.certs, true)
	must(s.T, err)
	must(s.T, s.CopyTrust(s.certs))
}

func (s secured) node(id int, host string) {
	s.Helper()
	s.put(s.Issue(ca.Request{Name: fmt.Sprintf("node-%d", id), Profile: "broker,controller", Cluster: "prod", Node: int32(id), Hosts: []string{host}}))
}

// client is how who has a certificate connects; "": without one.
func (s secured) client(name string) *tls.Config {
	s.Helper()
	raw, err := os.ReadFile(filepath.Join(s.certs, "bundle.pem"))
	must(s.T, err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(raw)
	if name != "" {
		cert, err := tls.LoadX509KeyPair(filepath.Join(s.certs, name+".pem"), filepath.Join(s.certs, name+".key"))
		must(s.T, err)
		config.Certificates = []tls.Certificate{cert}
	}
	return config
}

// TestClientsShowCertificates runs a node that asks for them: whoever has none, or another
// authority's, is refused; whoever is revoked is cut off while the node runs.
func TestClientsShowCertificates(t *testing.T) {
	s, other := newSecured(t), newSecured(t)
	s.node(1, "127.0.0.1")
	s.put(s.Issue(ca.Request{Name: "alice", Profile: ca.Client, Node: -1}))
	other.put(other.Issue(ca.Request{Name: "alice", Profile: ca.Client, Node: -1}))
	p := serve(t, "--ephemeral", "--certs", s.certs)
	dial := func(config *tls.Config) (net.Conn, error) {
		conn, err := tls.Dial("tcp", p.says.Kafka, config)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() }) // the server may have ended it
		_, err = conn.Write([]byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255})
		if err == nil {
			_, err = conn.Read(make([]byte, 4096))
		}
		return conn, err
	}
	if _, err := dial(s.client("")); err == nil {
		t.Error("who shows no certificate is served")
	}
	foreign := other.client("alice")
	foreign.RootCAs = s.client("").RootCAs
	if _, err := dial(foreign); err == nil {
		t.Error("who has a certificate of another authority is served")
	}
	live, err := dial(s.client("alice"))
	must(t, err)
	_, err = s.Revoke("alice", "key-compromise")
	must(t, err)
	must(t, s.CopyTrust(s.certs))
	began := time.Now()
	must(t, live.SetReadDeadline(began.Add(30*time.Second)))
	if _, err := live.Read(make([]byte, 1)); err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("who is revoked goes on for %v: %v", time.Since(began), err)
	}
	if _, err := dial(s.client("alice")); err == nil {
		t.Error("who is revoked comes again")
	}
	if line := p.awaitLog(t, "connections were judged"); !strings.Contains(line, `"ended":1`) {
		t.Errorf("the log says %s", line)
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}

// TestRotationDropsNoConnection has a cluster of three nodes, whose clients and servers show
// certificates, get another authority and other certificates under load: no client is
// disconnected, and every record is acked.
// It is one story, and as long as that.
func TestRotationDropsNoConnection(t *testing.T) {
	s := newSecured(t)
	c := &processes{T: t, first: 3, dir: t.TempDir(), nodes: map[int]*clusterNode{}, client: newHTTP(), net: newNet()}
	t.Cleanup(func() {
		for id := range maps.Clone(c.nodes) {
			c.end(id, syscall.SIGKILL)
		}
		c.client.CloseIdleConnections()
	})
	for id := 1; id <= 3; id++ {
		s.node(id, c.host(id))
		c.start(id, "--certs", s.certs)
	}
	s.put(s.Issue(ca.Request{Name: "load", Profile: ca.Client, Node: -1}))
	for id := 1; id <= 3; id++ {
		c.await(id)
	}
	c.admin(1, "topics", "create", "orders", "--partitions", "6")
	c.admin(1, "acl", "create", "--principal", "User:CN=load", "--resource", "topic.orders", "--permissions", "read,write")
	hook := new(disconnects)
	load, err := kgo.NewClient(
		kgo.SeedBrokers(c.host(1)+":9092", c.host(2)+":9092", c.host(3)+":9092"), kgo.DialTLSConfig(s.client("load")),
		kgo.WithHooks(hook), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ConnIdleTimeout(15*time.Minute),
	)
	must(t, err)
	defer func() { load.Close() }()
	acked := 0
	produce := func() { // a record to each partition
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for range 6 {
			if err := load.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte(fmt.Sprint(acked))}).FirstErr(); err != nil {
				t.Fatalf("after %d records: %v", acked, err)
			}
			acked++
		}
	}
	reload := func() {
		t.Helper()
		for id := 1; id <= 3; id++ {
			before := strings.Count(c.nodes[id].stderr.String(), "certificates reloaded")
			must(t, c.nodes[id].cmd.Process.Signal(syscall.SIGHUP))
			for strings.Count(c.nodes[id].stderr.String(), "certificates reloaded") == before {
				produce()
				if said := c.nodes[id].stderr.String(); strings.Contains(said, "not reloaded") {
					t.Fatal(said)
				}
			}
		}
		produce()
	}
	produce()
	must(t, s.Rotate())
	must(t, s.CopyTrust(s.certs)) // both roots, everywhere
	reload()
	for id := 1; id <= 3; id++ {
		s.put(s.Renew(fmt.Sprintf("node-%d", id), 0))
	}
	reload()
	s.put(s.Renew("load", 0))
	must(t, s.Finish(false))
	must(t, s.CopyTrust(s.certs)) // the new root alone
	reload()
	if n := hook.lost.Load(); n != 0 {
		t.Errorf("%d connections of %d were dropped", n, hook.made.Load())
	}
	// Whoever comes now needs the new ones.
	fresh, err := kgo.NewClient(kgo.SeedBrokers(c.host(2)+":9092"), kgo.DialTLSConfig(s.client("load")), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	must(t, err)
	defer fresh.Close()
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for seen < acked {
		fetches := fresh.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", seen, acked, err)
		}
		seen += fetches.NumRecords()
	}
	// A node that starts again, whose servers' connections are all made anew.
	c.end(3, syscall.SIGTERM)
	c.start(3, "--certs", s.certs)
	c.await(3)
	load.Close() // it trusts and shows what was there before
	load = fresh
	produce()
}

// disconnects counts the connections of a client.
type disconnects struct{ made, lost atomic.Int32 }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (d *disconnects) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		d.made.Add(1)
	}
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (d *disconnects) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { d.lost.Add(1) }
