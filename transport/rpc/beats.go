package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// Beats is a stream by which one controller hears that a broker lives. It is to be used by
// one goroutine.
type Beats struct {
	c       *Controllers
	address string
	stream  grpc.BidiStreamingClient[rpcpb.BeatRequest, rpcpb.BeatReply]
	cancel  context.CancelFunc
}

// Beats opens a stream to the controller at an address. It lasts until ctx ends, which the
// controller takes for the end of the broker, or until Close.
func (c *Controllers) Beats(ctx context.Context, address string) (*Beats, error) {
	line, err := c.line(ctx, address)
	if err != nil {
		return nil, &UntriedError{address, err}
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := rpcpb.NewControllerClient(line).Beats(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("have the controller at %s hear this broker: %w", address, err)
	}
	return &Beats{c, address, stream, cancel}, nil
}

// Beat has the controller hear a registration, and waits until it has. With an error, which
// comes after patience at the latest, the stream is of no use any more.
func (b *Beats) Beat(broker int32, epoch int64, patience time.Duration) error {
	late := time.AfterFunc(patience, b.cancel)
	defer late.Stop()
	// An error of Send is told by Recv.
	_ = b.stream.Send(&rpcpb.BeatRequest{ClusterId: b.c.o.Cluster(), Broker: broker, Epoch: epoch})
	if _, err := b.stream.Recv(); err != nil {
		return fmt.Errorf("have the controller at %s hear broker %d: %w", b.address, broker, err)
	}
	return nil
}

// Close ends the stream.
func (b *Beats) Close() { b.cancel() }
