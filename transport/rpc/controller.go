package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

const (
	// MaxCall is the largest body of a call of controllers, in bytes: more than a command
	// of their log may have.
	MaxCall = 4 << 20
	// DefaultMaxDelta is that of one delta of images, in bytes.
	DefaultMaxDelta = 1 << 30
	// ImagesBeat is how often a stream of images says that it lives, and
	// DefaultImagesPatience how long it may say nothing.
	ImagesBeat            = 500 * time.Millisecond
	DefaultImagesPatience = 3 * time.Second

	partBytes = 256 << 10
	// retryWait is how long a connection that has failed may take to stand after all.
	retryWait = 200 * time.Millisecond
)

// errNoLine says that nobody listens, as far as one can tell.
var errNoLine = errors.New("it cannot be connected to")

// Call is what a controller is asked to do.
type Call struct {
	Broker int32  // who calls; -1: no broker
	Offset uint64 // of metadata that the caller has seen: who has less does not answer
	Method string
	Body   []byte // at most MaxCall bytes
}

// Answer is what became of a call: Untried, Refused, or what the method returned.
type Answer struct {
	Offset  uint64 // of metadata that has what the method did
	Body    []byte
	Untried *Untried // nothing was done, and another try may go better
	Refused *Refused // nothing was done, nor will be
}

// Untried says why a controller has not tried a call, and who might.
type Untried struct {
	Reason  string
	Leader  int32  // -1: nobody is known to lead
	Address string // host:port; empty: not known
}

// Refused is an error of package metadata.
type Refused struct {
	Code    int16
	Message string
}

// ImagesState is where the sender of a stream of images stands.
type ImagesState struct {
	Leader  int32  // -1: nobody is known to lead
	Address string // host:port of who leads; empty: not known
	Offset  uint64 // of metadata that it has
}

// UntriedError says that a call has reached no controller.
type UntriedError struct {
	Address string
	Err     error
}

// Error says which one.
func (e *UntriedError) Error() string {
	return fmt.Sprintf("call the controller at %s: %v", e.Address, e.Err)
}

// Unwrap returns why.
func (e *UntriedError) Unwrap() error { return e.Err }

// ControllersOptions of a [Controllers]. The zero value of a field with a default means it.
type ControllersOptions struct {
	Cluster func() string // id of the cluster; "" while none is known
	// Mutual is how both sides prove who they are; nil: neither does, which is for loopback.
	// Of a controller its role is asked, and not its id: one is followed wherever it is.
	Mutual   *pki.Mutual
	Patience time.Duration     // with a stream of images that says nothing
	MaxDelta int               // bytes
	Dial     []grpc.DialOption // more of them, for tests
}

// Controllers is the way to controllers, over one connection to each. It is to be used
// by any goroutine.
type Controllers struct {
	o     ControllersOptions
	lines *lines
}

// NewControllers returns a way to controllers; nothing is connected yet.
func NewControllers(o ControllersOptions) *Controllers {
	if o.Patience == 0 {
		o.Patience = DefaultImagesPatience
	}
	if o.MaxDelta == 0 {
		o.MaxDelta = DefaultMaxDelta
	}
	return &Controllers{o: o, lines: newLines(o.Mutual, pki.RoleController, append(keptAlive(), o.Dial...))}
}

// Close ends every connection, and with them what is under way.
func (c *Controllers) Close() error { return c.lines.close() }

// Call has the controller at an address run a method. An [*UntriedError] says that
// it was not run; with another error it may have been, or may still be.
func (c *Controllers) Call(ctx context.Context, address string, call Call) (Answer, error) {
	line, err := c.line(ctx, address)
	if err != nil {
		return Answer{}, &UntriedError{address, err}
	}
	reply, err := rpcpb.NewControllerClient(line).Call(ctx, &rpcpb.CallRequest{
		ClusterId: c.o.Cluster(), Broker: call.Broker, Offset: call.Offset, Method: call.Method, Body: call.Body,
	})
	if err != nil {
		if neverRun(err) {
			return Answer{}, &UntriedError{address, err}
		}
		return Answer{}, fmt.Errorf("call the controller at %s: %w", address, err)
	}
	if err := sameCluster(c.o.Cluster(), reply.GetClusterId()); err != nil {
		return Answer{}, fmt.Errorf("the controller at %s: %w", address, err)
	}
	a := Answer{Offset: reply.GetOffset(), Body: reply.GetBody()}
	if u := reply.GetUntried(); u != nil {
		a.Untried = &Untried{u.GetReason(), u.GetLeader(), u.GetAddress()}
	}
	if r := reply.GetRefused(); r != nil {
		a.Refused = &Refused{int16(r.GetCode()), r.GetMessage()}
	}
	return a, nil
}

// neverRun reports whether a status is one that is given before a method is run.
func neverRun(err error) bool {
	switch status.Code(err) {
	case codes.Unimplemented, codes.FailedPrecondition, codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied:
		return true
	}
	return false
}

// line returns a connection that stands. Over one that does not, gRPC would not say
// whether a call was sent.
func (c *Controllers) line(ctx context.Context, address string) (*grpc.ClientConn, error) {
	line, err := c.lines.to(address)
	if err != nil {
		return nil, err
	}
	for fresh := false; ; { // whether a failure would be of now
		wait, cancel := ctx, context.CancelFunc(func() {})
		state := line.GetState()
		switch state {
		case connectivity.Ready:
			return line, nil
		case connectivity.Shutdown:
			return nil, errClosed
		case connectivity.Idle:
			line.Connect()
			fresh = true
		case connectivity.Connecting:
			fresh = true
		case connectivity.TransientFailure:
			if fresh {
				return nil, c.noLine(address)
			}
			// It stays so until it stands, however often it is tried.
			fresh = true
			line.ResetConnectBackoff()
			wait, cancel = context.WithTimeout(ctx, retryWait)
		}
		changed := line.WaitForStateChange(wait, state)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !changed {
			return nil, c.noLine(address)
		}
	}
}

// noLine says why an address cannot be connected to.
func (c *Controllers) noLine(address string) error {
	if err := c.lines.failure(address); err != nil {
		return fmt.Errorf("%w: %w", errNoLine, err)
	}
	return errNoLine
}

// Images shows take where the controller at an address stands, and every delta that it
// sends to a broker whose metadata has an offset, in order; nil: none. The first delta
// may be whole, and is if that is asked for. It returns when ctx ends, with what take returned, or
// when nothing comes for longer than patience. Deltas are take's to keep.
func (c *Controllers) Images(ctx context.Context, address string, broker int32, offset uint64, whole bool, take func(ImagesState, []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(c.o.Patience, func() { cancel(fmt.Errorf("it says nothing for %v", c.o.Patience)) })
	defer late.Stop()
	err := c.images(ctx, address, broker, offset, whole, func(s ImagesState, delta []byte) error {
		late.Stop() // what take does is not the other side's silence
		defer late.Reset(c.o.Patience)
		return take(s, delta)
	}, func() { late.Reset(c.o.Patience) })
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("images from the controller at %s: %w", address, err)
}

func (c *Controllers) images(ctx context.Context, address string, broker int32, offset uint64, whole bool, take func(ImagesState, []byte) error, alive func()) error {
	line, err := c.line(ctx, address)
	if err != nil {
		return err
	}
	stream, err := rpcpb.NewControllerClient(line).Images(ctx, &rpcpb.ImagesRequest{ClusterId: c.o.Cluster(), Broker: broker, Offset: offset, Whole: whole})
	if err != nil {
		return err
	}
	var delta []byte
	expected := uint64(0) // bytes that are to come of it
	for {
		part, err := stream.Recv()
		if err != nil {
			return err
		}
		alive()
		if err := sameCluster(c.o.Cluster(), part.GetClusterId()); !guard.Check("rpc.images-cluster", err == nil) {
			return err
		}
		data, rest := part.GetData(), part.GetRest()
		if most := uint64(c.o.MaxDelta); !guard.Check("rpc.images-size", rest <= most && uint64(len(delta)+len(data)) <= most-rest) {
			return fmt.Errorf("a delta of more than %d bytes", most)
		}
		if len(delta) > 0 && uint64(len(data))+rest != expected {
			return fmt.Errorf("a part of a delta with %d bytes and %d to come, where %d were to come", len(data), rest, expected)
		}
		if len(data) == 0 && rest > 0 {
			return fmt.Errorf("a part of a delta without a byte, and %d to come", rest)
		}
		delta, expected = append(delta, data...), rest
		if rest > 0 {
			continue
		}
		whole := delta
		delta = nil
		if err := take(ImagesState{part.GetLeader(), part.GetAddress(), part.GetOffset()}, whole); err != nil {
			return err
		}
	}
}
