package quic_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// refusedStranger is the error of a connection of which nothing became known.
const refusedStranger = quicgo.ApplicationErrorCode(2)

// endsAsStranger waits until the server ends a connection, and says whether as a stranger's.
func endsAsStranger(t *testing.T, conn *quicgo.Conn) bool {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the connection goes on")
	}
	var ended *quicgo.ApplicationError
	return errors.As(context.Cause(conn.Context()), &ended) && ended.ErrorCode == refusedStranger
}

// known has the client of a connection ask for something.
func known(t *testing.T, h held, conn *quicgo.Conn) {
	t.Helper()
	write(t, open(t, conn), heartbeatFrame(1))
	(<-h.arrived).Drop()
}

// TestStrangersGiveWay has all places taken, by one that has asked for something and two that
// have not: who comes is let in, and the stranger who came first has to go.
func TestStrangersGiveWay(t *testing.T) {
	h := newHeld()
	turnedAway, came := make(chan string, 10), make(chan struct{}, 10)
	r := newRig(t, h, quic.Options{
		MaxConns: 3, PerIP: 3, Count: func(reason string) { turnedAway <- reason },
		Identify: func(tls.ConnectionState) (kafka.Client, error) { came <- struct{}{}; return kafka.Client{}, nil }, // nobody that is known
	})
	asked := r.mustDial(t)
	known(t, h, asked)
	<-came
	stranger := func() *quicgo.Conn {
		conn := r.mustDial(t)
		write(t, open(t, conn), []byte{0})
		<-came // its handshake is over on both sides: it is told why it has to go
		return conn
	}
	first, second := stranger(), stranger()
	known(t, h, r.mustDial(t))
	if !endsAsStranger(t, first) {
		t.Errorf("the first stranger: %v", context.Cause(first.Context()))
	}
	if len(turnedAway) == 0 || <-turnedAway != "max_connections" {
		t.Error("nobody has counted it, or as something else")
	}
	if asked.Context().Err() != nil || second.Context().Err() != nil {
		t.Errorf("others had to go: %v, %v", context.Cause(asked.Context()), context.Cause(second.Context()))
	}
}

// TestStrangersSendLittle has one send a frame that is long and never whole, in pieces that
// windows would allow; somebody who has asked for something sends as much.
func TestStrangersSendLittle(t *testing.T) {
	h := newHeld()
	r := newRig(t, h, quic.Options{})
	long := append(binary.BigEndian.AppendUint32(nil, 90<<20), make([]byte, 400<<10)...)
	asked := r.mustDial(t)
	known(t, h, asked)
	write(t, open(t, asked), long)
	stranger := r.mustDial(t)
	_, _ = open(t, stranger).Write(long) // it may end before
	if !endsAsStranger(t, stranger) {
		t.Errorf("a stranger who sent %d bytes: %v", len(long), context.Cause(stranger.Context()))
	}
	if asked.Context().Err() != nil {
		t.Errorf("who is known had to go: %v", context.Cause(asked.Context()))
	}
}
