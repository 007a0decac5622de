package rpc

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"rustmq.dev/rustmq/security/pki"
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

// lines holds one connection to each address, made when it is first asked for. Who
// answers there has to be a server with the role, where servers prove who they are.
type lines struct {
	mutual  *pki.Mutual // nil: they do not
	role    string
	options []grpc.DialOption

	mu     sync.Mutex
	open   map[string]*openedLine
	closed bool
}

// openedLine is a connection to a node; AnyNode: to whichever has the role.
type openedLine struct {
	*grpc.ClientConn
	node  int64
	proof *dialProof // nil: the other side does not prove who it is
}

func newLines(mutual *pki.Mutual, role string, more []grpc.DialOption) *lines {
	options := append([]grpc.DialOption{
		grpc.WithConnectParams(reconnect), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
	}, more...)
	return &lines{mutual: mutual, role: role, options: options, open: map[string]*openedLine{}}
}

// to returns the connection to an address, whichever node it was made for.
func (l *lines) to(address string) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.open[address]; line != nil && !l.closed {
		return line.ClientConn, nil
	}
	return l.dial(address, AnyNode)
}

// toNode returns the connection to an address where a node is to answer. One that was made
// for another is closed.
func (l *lines) toNode(address string, node int64) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.open[address]
	switch {
	case line == nil || l.closed:
	case line.node == node || l.mutual == nil:
		return line.ClientConn, nil
	default:
		delete(l.open, address)
		_ = line.Close()
	}
	return l.dial(address, node)
}

// dial makes a connection; mu is held.
func (l *lines) dial(address string, node int64) (*grpc.ClientConn, error) {
	if l.closed {
		return nil, errClosed
	}
	proof := proofOf(l.mutual, address, l.role, node)
	var c credentials.TransportCredentials = proof
	if proof == nil {
		c = insecure.NewCredentials()
	}
	line, err := grpc.NewClient("passthrough:///"+address, append(slices.Clone(l.options), grpc.WithTransportCredentials(c))...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	l.open[address] = &openedLine{line, node, proof}
	return line, nil
}

// failureOf says why a node was not taken for whom it is to be, or nil.
func (l *lines) failureOf(node int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.open {
		if err := line.proof.failure(); line.node == node && err != nil {
			return err
		}
	}
	return nil
}

// failure is as failureOf, of who answers at an address.
func (l *lines) failure(address string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.open[address]; line != nil {
		return line.proof.failure()
	}
	return nil
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
