package relay

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options of a Relay.
type Options struct {
	To    string        // host:port of the broker; port 0: the relay's own, on another host
	Delay time.Duration // one way
	Loss  float64       // of packets in each direction, 0..1
	Rate  int64         // bytes a second in each direction; 0: no bound
	Seed  uint64        // of what is lost
}

// Relay passes TCP and UDP on. Its methods are safe for concurrent use.
type Relay struct {
	o           Options
	to          *net.UDPAddr
	tcp         net.Listener
	udp         *net.UDPConn
	there, back *line
	wait        sync.WaitGroup

	mu      sync.Mutex
	noUDP   bool // guarded by mu, as is all below
	noTCP   bool
	closed  bool
	flows   map[string]*flow // by client
	streams map[net.Conn]struct{}
}

// flow is the datagrams of one client.
type flow struct {
	client      *net.UDPAddr
	server      *net.UDPConn // another after a rebinding; guarded by Relay.mu
	there, back chan packet
}

type packet struct {
	due   time.Time
	bytes []byte
}

const (
	bufferUDP  = 4 << 20 // of sockets: what is lost is for the relay to say
	depth      = 16384   // packets on the way
	readAtOnce = 64 << 10
)

// share is how many bytes a line with a rate takes in so much time, within bounds.
func (o Options) share(of time.Duration, least, most int64) int {
	return int(min(most, max(least, int64(float64(o.Rate)*of.Seconds()))))
}

// Listen begins to pass on, on a free port of the loopback device.
func Listen(o Options) (*Relay, error) {
	to, err := net.ResolveUDPAddr("udp", o.To)
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", o.To, err)
	}
	r := &Relay{o: o, to: to, there: newLine(o, 1), back: newLine(o, 2), flows: map[string]*flow{}, streams: map[net.Conn]struct{}{}}
	// The port that TCP is given may be another's over UDP.
	for range 20 {
		if r.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		if r.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.tcp.Addr().(*net.TCPAddr).Port}); err == nil {
			break
		}
		_ = r.tcp.Close() // another port
	}
	if err != nil {
		return nil, err
	}
	if to.Port == 0 {
		to.Port = r.tcp.Addr().(*net.TCPAddr).Port
		r.o.To = to.String()
	}
	_ = r.udp.SetReadBuffer(bufferUDP)
	_ = r.udp.SetWriteBuffer(bufferUDP)
	r.wait.Go(r.accept)
	r.wait.Go(r.receive)
	return r, nil
}

// Addr is what clients dial, over TCP and UDP.
func (r *Relay) Addr() string { return r.tcp.Addr().String() }

// BlockUDP has datagrams vanish in both directions, or not any more.
func (r *Relay) BlockUDP(block bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noUDP = block
}

// BlockTCP ends TCP connections and makes new ones end at once, or not any more.
func (r *Relay) BlockTCP(block bool) {
	r.mu.Lock()
	r.noTCP = block
	r.mu.Unlock()
	if block {
		r.Cut()
	}
}

// Cut ends the TCP connections that are open.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.streams {
		_ = c.Close() // its copiers end by it
	}
}

// Rebind gives every client of UDP another address towards the broker, as a NAT does that has
// forgotten them, or as when they have moved to another network.
func (r *Relay) Rebind() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flows {
		before := f.server
		if err := r.bind(f); err != nil {
			return err
		}
		_ = before.Close() // ends what read from it
	}
	return nil
}

// Close ends everything.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return net.ErrClosed
	}
	r.closed = true
	for _, f := range r.flows {
		_ = f.server.Close()
		close(f.there)
	}
	r.mu.Unlock()
	err := errors.Join(r.tcp.Close(), r.udp.Close())
	r.Cut()
	r.wait.Wait()
	return err
}

// receive takes datagrams of clients.
func (r *Relay) receive() {
	buffer := make([]byte, readAtOnce)
	for {
		n, from, err := r.udp.ReadFromUDP(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a client is not there any more
		}
		r.mu.Lock()
		f := r.flows[from.String()]
		if f == nil && !r.closed {
			f = &flow{client: from, there: make(chan packet, depth), back: make(chan packet, depth)}
			if r.bind(f) != nil {
				r.mu.Unlock()
				continue
			}
			r.flows[from.String()] = f
			r.wait.Go(func() { r.deliver(f) })
			r.wait.Go(func() { r.giveBack(f) })
		}
		if !r.closed {
			r.pass(f.there, r.there, buffer[:n])
		}
		r.mu.Unlock()
	}
}

// pass puts a datagram on its way, or drops it. r.mu is held.
func (r *Relay) pass(to chan<- packet, over *line, b []byte) {
	due, arrives := over.datagram(time.Now(), len(b))
	if !arrives || r.noUDP {
		return
	}
	select {
	case to <- packet{due, append([]byte(nil), b...)}:
	default:
	}
}

// bind gives a flow a socket towards the broker. r.mu is held.
func (r *Relay) bind(f *flow) error {
	server, err := net.DialUDP("udp", nil, r.to)
	if err != nil {
		return err
	}
	_ = server.SetReadBuffer(bufferUDP)
	_ = server.SetWriteBuffer(bufferUDP)
	f.server = server
	r.wait.Go(func() { r.answers(f, server) })
	return nil
}

// answers takes what the broker says to one address of a client.
func (r *Relay) answers(f *flow, server *net.UDPConn) {
	buffer := make([]byte, readAtOnce)
	for {
		n, err := server.Read(buffer)
		r.mu.Lock()
		if errors.Is(err, net.ErrClosed) {
			if r.closed && f.server == server {
				close(f.back)
			}
			r.mu.Unlock()
			return
		}
		if err == nil && f.server == server {
			r.pass(f.back, r.back, buffer[:n])
		}
		r.mu.Unlock()
	}
}

// deliver writes to the broker what a client has sent, once it is due.
func (r *Relay) deliver(f *flow) {
	for p := range f.there {
		time.Sleep(time.Until(p.due))
		r.mu.Lock()
		server := f.server
		r.mu.Unlock()
		_, _ = server.Write(p.bytes) // it is UDP
	}
}

// giveBack writes to a client what the broker has sent, once it is due.
func (r *Relay) giveBack(f *flow) {
	for p := range f.back {
		time.Sleep(time.Until(p.due))
		_, _ = r.udp.WriteToUDP(p.bytes, f.client) // it is UDP
	}
}

// accept takes TCP connections of clients.
func (r *Relay) accept() {
	for {
		client, err := r.tcp.Accept()
		if err != nil {
			return // closed
		}
		r.wait.Go(func() { r.join(client) })
	}
}

// join copies both ways until one side has ended.
func (r *Relay) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.o.To)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	refused := r.noTCP || r.closed
	if !refused {
		r.streams[client], r.streams[server] = struct{}{}, struct{}{}
	}
	r.mu.Unlock()
	if refused {
		return
	}
	defer func() {
		r.mu.Lock()
		delete(r.streams, client)
		delete(r.streams, server)
		r.mu.Unlock()
	}()
	if r.o.Rate > 0 {
		for _, c := range []net.Conn{client, server} {
			// The queue is the line's, not the sockets'.
			_ = c.(*net.TCPConn).SetReadBuffer(r.o.share(10*time.Millisecond, 64<<10, 4<<20))
			_ = c.(*net.TCPConn).SetWriteBuffer(r.o.share(10*time.Millisecond, 64<<10, 4<<20))
		}
	}
	var both sync.WaitGroup
	at := readAtOnce
	if r.o.Rate > 0 {
		at = r.o.share(time.Millisecond, segment, readAtOnce) // a turn for everybody
	}
	both.Go(func() { copyDelayed(server, client, r.there, at, 2*r.o.Delay) })
	both.Go(func() { copyDelayed(client, server, r.back, at, 0) })
	both.Wait()
}

// copyDelayed copies src to dst as a line has it, so many bytes at once, and nothing before
// handshake has passed.
func copyDelayed(dst, src net.Conn, over *line, at int, handshake time.Duration) {
	way := make(chan packet, depth)
	established := time.Now().Add(handshake)
	go func() {
		defer close(way)
		for {
			buffer := make([]byte, at)
			n, err := src.Read(buffer)
			if n > 0 {
				now := time.Now()
				if now.Before(established) {
					now = established
				}
				due, wait := over.stretch(now, n)
				way <- packet{due, buffer[:n]}
				time.Sleep(wait)
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		if _, err := dst.Write(p.bytes); err != nil {
			break
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = src.(*net.TCPConn).CloseRead() // ends the reader, if it was the writer that could not go on
	for range way {
	}
}
