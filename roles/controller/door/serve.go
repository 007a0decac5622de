package door

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

const (
	// ringImages are kept for who comes back: as many changes as the metadata sees in
	// some seconds. What they have in common is there once.
	ringImages = 256
	// smallBody is what a body may have without being counted: no more than a few times
	// what the call costs anyway.
	smallBody = 4 << 10
	// bodiesInFlight bounds all others, in bytes. Where the entries of one take more in
	// memory than decodedRatio times its bytes, it counts as a larger one; and one that
	// would count for more than there may be is refused.
	bodiesInFlight = rpc.MaxCall
	decodedRatio   = 16
	maxDecoded     = decodedRatio * bodiesInFlight
	// behindTime is how long a call waits for metadata that its caller has.
	behindTime = time.Second
)

// Server answers calls for one controller.
type Server struct {
	c           Controller
	ring        *ring
	differences differences
	handlers    map[string]handler
	inFlight    atomic.Int64 // bytes of bodies
	cancel      func()
	ended       chan struct{} // closed by Close
	once        sync.Once
}

// Serve makes s answer for a controller that is open. Close ends streams of images, and
// has to come before the end of s and of the controller.
func Serve(s grpc.ServiceRegistrar, c Controller) *Server {
	server := newServer(c)
	rpc.RegisterController(s, server)
	return server
}

func newServer(c Controller) *Server {
	s := &Server{c: c, ring: newRing(ringImages), handlers: handlers(), ended: make(chan struct{})}
	s.ring.add(c.Image())
	s.cancel = c.Subscribe(s.ring.add)
	return s
}

// Close ends the streams of images.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.cancel()
		close(s.ended)
	})
	return nil
}

// Cluster implements [rpc.ControllerService].
func (s *Server) Cluster() string { return s.c.Image().ClusterID() }

// Call implements [rpc.ControllerService].
func (s *Server) Call(ctx context.Context, call rpc.Call) rpc.Answer {
	if !guard.Check("door.leads", s.c.Leads()) {
		leader, address := s.leader()
		return untried(leader, address, fmt.Errorf("controller %d does not lead", s.c.NodeID()))
	}
	if err := s.reach(ctx, call.Offset); err != nil {
		return untried(metadata.NoLeader, "", err) // another leads, or this one is of no use
	}
	ctx, call, no := unwrapped(ctx, call)
	if no != nil {
		return rpc.Answer{Refused: no}
	}
	h, known := s.handlers[call.Method]
	if !known {
		return refused(metadata.UnsupportedVersion, "controller %d knows no method %q: it is of an older version", s.c.NodeID(), call.Method)
	}
	decoded := decodedSize(call.Body, h.body)
	if !guard.Check("door.body-decoded", decoded <= maxDecoded) {
		return refused(metadata.InvalidRequest, "%s: %d bytes that may take %d in memory, at most %d are taken", call.Method, len(call.Body), decoded, maxDecoded)
	}
	if size := max(int64(len(call.Body)), int64(decoded/decodedRatio)); size > smallBody {
		defer s.inFlight.Add(-size)
		if sum := s.inFlight.Add(size); !guard.Check("door.bodies-bounded", sum <= bodiesInFlight) {
			id := s.c.NodeID()
			return untried(id, addressOf(s.c.Image(), id), errBusy)
		}
	}
	body, err := h.run(ctx, s.c, call.Body)
	switch {
	case errors.Is(err, errDenied):
		return refused(metadata.ClusterAuthorizationFailed, "controller %d: %v", s.c.NodeID(), err)
	case err != nil:
		return refused(metadata.InvalidRequest, "%s: %v", call.Method, err)
	}
	return rpc.Answer{Offset: s.c.Image().Offset(), Body: body}
}

var errBusy = errors.New("the controller is busy with other large calls")

func untried(leader int32, address string, reason error) rpc.Answer {
	return rpc.Answer{Untried: &rpc.Untried{Reason: reason.Error(), Leader: leader, Address: address}}
}

func refused(code metadata.Code, format string, args ...any) rpc.Answer {
	return rpc.Answer{Refused: &rpc.Refused{Code: int16(code), Message: fmt.Sprintf(format, args...)}}
}

// reach waits until this controller has what a caller has seen. Who leads no more
// without knowing it never comes to it: what it would say of a newer registration is wrong.
func (s *Server) reach(ctx context.Context, offset uint64) error {
	if guard.Check("door.caller-offset", s.c.Image().Offset() >= offset) {
		return nil
	}
	wait := time.NewTimer(behindTime)
	defer wait.Stop()
	for {
		image, changed := s.ring.latest()
		if image.Offset() >= offset {
			return nil
		}
		select {
		case <-changed:
		case <-wait.C:
			return fmt.Errorf("controller %d has metadata up to %d, its caller up to %d", s.c.NodeID(), image.Offset(), offset)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Hear implements [rpc.ControllerService]: who leads next is to know who lives.
func (s *Server) Hear(broker int32, epoch int64) { s.c.Hear(broker, epoch) }

// Broke implements [rpc.ControllerService]. Streams that this server ends itself say
// nothing of their brokers.
func (s *Server) Broke(broker int32, epoch int64) {
	select {
	case <-s.ended:
	default:
		s.c.Broke(broker, epoch)
	}
}

func (s *Server) leader() (id int32, address string) {
	image := s.c.Image()
	if id = image.ControllerID(); id < 1 {
		return metadata.NoLeader, ""
	}
	return id, addressOf(image, id)
}

// Images implements [rpc.ControllerService]. Who does not read misses images between.
func (s *Server) Images(ctx context.Context, id int32, offset uint64, whole bool, send func(rpc.ImagesState, []byte) error) error {
	var sent *metadata.Image // what the other side has; nil: it is to be sent all
	if !whole {
		sent = s.ring.at(offset)
	}
	beat := time.NewTicker(rpc.ImagesBeat)
	defer beat.Stop()
	for {
		image, changed := s.ring.latest()
		leader, address := s.leader()
		state := rpc.ImagesState{Leader: leader, Address: address, Offset: image.Offset()}
		var delta []byte
		// It may have come from a controller that is further on.
		if begun := image.ClusterID() != ""; begun && guard.Check("door.begins-at", image.Offset() >= offset) && (sent == nil || sent.Offset() < image.Offset()) {
			if sent == nil {
				delta = metadata.EncodeDelta(nil, image, id)
			} else {
				delta = s.differences.between(sent, image).Delta(id)
			}
			sent = image
		}
		if err := send(state, delta); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-beat.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return nil
		}
	}
}

// ring is the latest images, and a way to wait for the next.
type ring struct {
	mu      sync.Mutex
	images  []*metadata.Image // the oldest first; guarded by mu
	most    int
	changed chan struct{} // closed when there is another; guarded by mu
}

func newRing(most int) *ring { return &ring{most: most, changed: make(chan struct{})} }

// add takes an image that is not older than the last.
func (r *ring) add(image *metadata.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := len(r.images); {
	case n > 0 && image.Offset() < r.images[n-1].Offset():
		return
	case n > 0 && image.Offset() == r.images[n-1].Offset():
		r.images[n-1] = image // who leads has changed
	case n == r.most:
		copy(r.images, r.images[1:])
		r.images[n-1] = image
	default:
		r.images = append(r.images, image)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// latest returns the newest image, and what is closed once there is another.
func (r *ring) latest() (*metadata.Image, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images[len(r.images)-1], r.changed
}

// at returns the image of that offset; nil: it is not there, or no more.
func (r *ring) at(offset uint64) *metadata.Image {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, image := range r.images {
		if image.Offset() == offset && image.ClusterID() != "" {
			return image
		}
	}
	return nil
}
