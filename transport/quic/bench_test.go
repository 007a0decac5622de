package quic_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

type echoer struct{ body net.Buffers }

func (echoer) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 0, Min: 3, Max: 13}} }
func (echoer) ConnClosed(*kafka.Conn)       {}
func (e echoer) Serve(r *kafka.Request)     { r.RespondRaw(e.body, nil) }

// BenchmarkEcho sends requests and reads small answers, over QUIC and over TLS,
// both ends in this process.
func BenchmarkEcho(b *testing.B) {
	for _, shape := range []struct {
		name            string
		size, pipelined int
	}{
		{"size=1KiB/inflight=1", 1 << 10, 1},
		{"size=1KiB/inflight=64", 1 << 10, 64},
		{"size=64KiB/inflight=8", 64 << 10, 8},
		{"size=1MiB/inflight=4", 1 << 20, 4},
	} {
		for _, transport := range []string{"quic", "tls"} {
			b.Run(shape.name+"/transport="+transport, func(b *testing.B) {
				conn, end := benchConn(b, transport)
				defer end()
				request := make([]byte, shape.size)
				binary.BigEndian.PutUint32(request, uint32(shape.size-4))
				request[7], request[12], request[13] = 7, 255, 255 // Produce v7, no client id
				answer := make([]byte, 48)
				slots := make(chan struct{}, shape.pipelined)
				read := make(chan error, 1)
				b.SetBytes(int64(len(request)))
				b.ReportAllocs()
				b.ResetTimer()
				go func() {
					for range b.N {
						if _, err := io.ReadFull(conn, answer); err != nil {
							read <- err
							return
						}
						<-slots
					}
					read <- nil
				}()
				for range b.N {
					slots <- struct{}{}
					if _, err := conn.Write(request); err != nil {
						b.Fatal(err)
					}
				}
				if err := <-read; err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
			})
		}
	}
}

func benchConn(b *testing.B, transport string) (conn net.Conn, end func()) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	cert, err := pki.Development(dir, nil, time.Now())
	must(err)
	trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	must(err)
	trust.ServerName = "localhost"
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	server := kafka.New(kafka.Options{Handler: echoer{net.Buffers{make([]byte, 40)}}})
	if transport == "tls" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		served := make(chan error, 1)
		go func() { served <- server.ServeListener(tls.NewListener(listener, conf), "kafka") }()
		conn, err := tls.Dial("tcp", listener.Addr().String(), trust)
		must(err)
		return conn, func() {
			must(conn.Close())
			must(server.Close())
			<-served
		}
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(err)
	l, err := quic.Listen(quic.Options{Conn: socket, TLS: conf, Server: server})
	must(err)
	d := &sdkquic.Dialer{TLS: trust}
	conn, err = d.DialContext(b.Context(), "udp", l.Addr().String())
	must(err)
	return conn, func() {
		must(conn.Close())
		must(d.Close())
		must(server.Close())
		must(l.Close())
	}
}
