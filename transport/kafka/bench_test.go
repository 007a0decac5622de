package kafka_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"rustmq.dev/rustmq/transport/kafka"
)

// echoer answers with nothing, at once.
type echoer struct{ body net.Buffers }

func (echoer) Versions() []kafka.ApiVersion {
	return []kafka.ApiVersion{{Key: 0, Min: 3, Max: 13}, {Key: 12, Min: 0, Max: 4}}
}
func (echoer) ConnClosed(*kafka.Conn)   {}
func (e echoer) Serve(r *kafka.Request) { r.RespondRaw(e.body, nil) }

// BenchmarkEcho sends requests and reads small answers over TCP on loopback.
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
		b.Run(shape.name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			s := kafka.New(kafka.Options{Handler: echoer{net.Buffers{make([]byte, 40)}}})
			served := make(chan error, 1)
			go func() { served <- s.ServeListener(listener, "kafka") }()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			echoLoop(b, conn, shape.size, shape.pipelined)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			<-served
		})
	}
}

// echoLoop keeps that many requests under way.
func echoLoop(b *testing.B, conn net.Conn, size, pipelined int) {
	b.Helper()
	request := frame(0, 7, 1, make([]byte, size-15))
	answer := make([]byte, 48)
	slots := make(chan struct{}, pipelined)
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
	if n := binary.BigEndian.Uint32(answer); n != 44 {
		b.Fatalf("answer of %d bytes", n)
	}
	if err := conn.Close(); err != nil {
		b.Fatal(err)
	}
}
