package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
)

// authority signs the certificates of a test, each with the next number.
type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pool   *x509.CertPool
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	a := &authority{key: key, pool: x509.NewCertPool()}
	template := a.template("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) template(name string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
}

// issue makes a certificate.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.template(name), a.cert, &key.PublicKey, a.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// trust is a client's configuration.
func (a *authority) trust() *tls.Config {
	return &tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS13}
}

// write puts a certificate and its key into files of a directory, whole.
func (a *authority) write(t *testing.T, dir string, cert tls.Certificate) (ca, certificate, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	must(t, err)
	ca, certificate, key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		ca: {Type: "CERTIFICATE", Bytes: a.cert.Raw}, certificate: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		must(t, os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600))
		must(t, os.Rename(name+".new", name))
	}
	return ca, certificate, key
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echoBroker sends back what it is sent, over TLS and QUIC on one port, or in the clear
// instead of TLS.
type echoBroker struct {
	addr     string
	tcp      net.Listener
	udp      *quic.Transport
	listener *quic.EarlyListener
	stop     context.CancelFunc
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns map[io.Closer]bool // that are open
	shown []int64            // numbers of the certificates that clients showed
	early int                // QUIC connections that took 0-RTT
	quics int                // QUIC connections
}

type brokerOptions struct {
	clear  bool // no TLS over TCP
	mutual bool
	noQUIC bool
}

func serve(t *testing.T, a *authority, o brokerOptions) *echoBroker {
	t.Helper()
	return serveAt(t, a, "127.0.0.1:0", o)
}

// serveAt is serve on the address of a broker before it.
func serveAt(t *testing.T, a *authority, addr string, o brokerOptions) *echoBroker {
	t.Helper()
	conf := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "broker")}, MinVersion: tls.VersionTLS13}
	if o.mutual {
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	}
	b := &echoBroker{conns: map[io.Closer]bool{}}
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	var socket *net.UDPConn
	for socket == nil { // the port that TCP is given may be another's over UDP
		var err error
		b.tcp, err = net.Listen("tcp", addr)
		must(t, err)
		if socket, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: b.tcp.Addr().(*net.TCPAddr).Port}); err != nil {
			must(t, b.tcp.Close())
		}
	}
	b.addr = b.tcp.Addr().String()
	b.wait.Go(func() { b.acceptTCP(conf, o) })
	t.Cleanup(b.close)
	if o.noQUIC {
		must(t, socket.Close())
		return b
	}
	over := conf.Clone()
	over.NextProtos = []string{sdkquic.ALPN}
	b.udp = &quic.Transport{Conn: socket}
	var err error
	b.listener, err = b.udp.ListenEarly(over, &quic.Config{Allow0RTT: true})
	must(t, err)
	b.wait.Go(func() { b.acceptQUIC(ctx) })
	return b
}

func (b *echoBroker) keep(c io.Closer, state tls.ConnectionState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = true
	for _, cert := range state.PeerCertificates[:min(1, len(state.PeerCertificates))] {
		b.shown = append(b.shown, cert.SerialNumber.Int64())
	}
}

func (b *echoBroker) acceptTCP(conf *tls.Config, o brokerOptions) {
	for {
		c, err := b.tcp.Accept()
		if err != nil {
			return
		}
		b.wait.Go(func() {
			state := tls.ConnectionState{}
			if !o.clear {
				over := tls.Server(c, conf)
				if over.Handshake() != nil {
					_ = c.Close()
					return
				}
				c, state = over, over.ConnectionState()
			}
			b.keep(c, state)
			_, _ = io.Copy(c, c)
			_ = c.Close()
			b.mu.Lock()
			delete(b.conns, c)
			b.mu.Unlock()
		})
	}
}

type quicCloser struct{ *quic.Conn }

func (c quicCloser) Close() error { return c.CloseWithError(0, "") }

func (b *echoBroker) acceptQUIC(ctx context.Context) {
	for {
		c, err := b.listener.Accept(ctx)
		if err != nil {
			return
		}
		b.wait.Go(func() {
			defer c.CloseWithError(0, "")
			for first := true; ; first = false {
				stream, err := c.AcceptStream(ctx)
				if err != nil {
					return
				}
				if first {
					select {
					case <-c.HandshakeComplete():
					case <-c.Context().Done():
						return
					}
					state := c.ConnectionState()
					b.keep(quicCloser{c}, state.TLS)
					b.mu.Lock()
					b.quics++
					if state.Used0RTT {
						b.early++
					}
					b.mu.Unlock()
				}
				b.wait.Go(func() {
					_, _ = io.Copy(stream, stream)
					_ = stream.Close()
				})
			}
		})
	}
}

// close ends the broker; its address is free then.
func (b *echoBroker) close() {
	b.stop()
	_ = b.tcp.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	if b.listener != nil {
		_ = b.listener.Close()
		_ = b.udp.Close()
		_ = b.udp.Conn.Close()
	}
	b.wait.Wait()
}
