package rpc

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// errClosed is what calls meet after the end.
var errClosed = errors.New("rpc: closed")

// reconnect is how fast a connection that is down is tried again: a controller that
// comes back is to be found within an election.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: time.Second,
}

const (
	// askAlive is how long a line may be silent before it is asked whether it lives, the
	// least that gRPC allows, and askedAlive how long that may take.
	askAlive   = 10 * time.Second
	askedAlive = 5 * time.Second
)

// keptAlive has lines asked whether they live while something waits for them, and made
// anew if not: TCP alone finds out minutes later.
func keptAlive() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: askAlive, Timeout: askedAlive})}
}

// lines holds one connection to each address, made when it is first asked for.
type lines struct {
	options []grpc.DialOption

	mu     sync.Mutex
	open   map[string]*grpc.ClientConn
	closed bool
}

func newLines(c credentials.TransportCredentials, more []grpc.DialOption) *lines {
	if c == nil {
		c = insecure.NewCredentials()
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(c), grpc.WithConnectParams(reconnect), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
	}, more...)
	return &lines{options: options, open: map[string]*grpc.ClientConn{}}
}

func (l *lines) to(address string) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if line := l.open[address]; line != nil {
		return line, nil
	}
	line, err := grpc.NewClient("passthrough:///"+address, l.options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	l.open[address] = line
	return line, nil
}

// drop closes the connection to an address; the next call makes another.
func (l *lines) drop(address string) {
	l.mu.Lock()
	line := l.open[address]
	delete(l.open, address)
	l.mu.Unlock()
	if line != nil {
		_ = line.Close()
	}
}

func (l *lines) close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, line := range l.open {
		err = errors.Join(err, line.Close())
	}
	clear(l.open)
	return err
}
