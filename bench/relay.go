package main

import (
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// runRelay forwards TCP and UDP on one free port to -to, each chunk or datagram
// delayed by -delay in each direction; with -rate, all connections of TCP together
// get so many bytes a second in each direction, as on one line. TCP's own handshake is not delayed by a
// relay in user space (the kernel answers it at once), so the relay holds a new
// connection's first bytes for one more round trip: SYN out, SYN-ACK back.
func runRelay(args []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	to := flags.String("to", "", "host:port to forward to")
	delay := flags.Duration("delay", 25*time.Millisecond, "one-way delay")
	rate := flags.Int64("rate", 0, "bytes a second of TCP in each direction; 0: no bound")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	go relayTCP(listener, *to, *delay, *rate)
	go relayUDP(udp, *to, *delay)
	if err := printJSON(listening{listener.Addr().String()}); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return errors.Join(listener.Close(), udp.Close())
}

func relayTCP(listener net.Listener, to string, delay time.Duration, rate int64) {
	there, back := &line{rate: rate}, &line{rate: rate}
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			var both sync.WaitGroup
			both.Go(func() { delayStream(out, in, there, delay, 2*delay) })
			both.Go(func() { delayStream(in, out, back, delay, 0) })
			both.Wait()
		}()
	}
}

// line is what chunks of all connections go through, one after the other.
type line struct {
	rate int64 // bytes a second; 0: no bound

	mu   sync.Mutex
	free time.Time // guarded by mu
}

// send returns when so many bytes have gone into the line that were there at a time.
func (l *line) send(at time.Time, bytes int) time.Time {
	if l.rate == 0 {
		return at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(at) {
		l.free = at
	}
	l.free = l.free.Add(time.Duration(bytes) * time.Second / time.Duration(l.rate))
	return l.free
}

type chunk struct {
	due   time.Time
	bytes []byte
}

// queued is how many chunks of 64 KiB a connection has in the line at most: with a
// bound to it, more would be as if the sender had sent what it has not.
const queued = 64

// delayStream copies src to dst; what is read now is written delay later, and
// nothing before handshake has passed since the start.
func delayStream(dst, src net.Conn, through *line, delay, handshake time.Duration) {
	depth := 4096
	if through.rate > 0 {
		depth = queued
	}
	queue := make(chan chunk, depth)
	established := time.Now().Add(handshake)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := src.Read(buf)
			if n > 0 {
				sent := time.Now()
				if sent.Before(established) {
					sent = established
				}
				queue <- chunk{through.send(sent, n).Add(delay), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range queue {
		time.Sleep(time.Until(c.due))
		if _, err := dst.Write(c.bytes); err != nil {
			break
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	for range queue { // let the reader end
	}
}

func relayUDP(in net.PacketConn, to string, delay time.Duration) {
	target, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return
	}
	flows := map[string]*net.UDPConn{}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := in.ReadFrom(buf)
		if err != nil {
			return
		}
		out := flows[from.String()]
		if out == nil {
			if out, err = net.DialUDP("udp", nil, target); err != nil {
				return
			}
			flows[from.String()] = out
			go func() {
				answer := make([]byte, 64<<10)
				for {
					n, err := out.Read(answer)
					if err != nil {
						return
					}
					later(delay, answer[:n], func(b []byte) error { _, err := in.WriteTo(b, from); return err })
				}
			}()
		}
		later(delay, buf[:n], func(b []byte) error { _, err := out.Write(b); return err })
	}
}

// later sends a copy of b after the delay; a datagram that cannot be sent is
// lost, as datagrams are.
func later(delay time.Duration, b []byte, send func([]byte) error) {
	b = append([]byte(nil), b...)
	time.AfterFunc(delay, func() {
		if err := send(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return
		}
	})
}
