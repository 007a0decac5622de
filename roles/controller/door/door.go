package door

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc"
)

const (
	// DefaultPatience is as long as Kafka's own clients wait for an answer.
	DefaultPatience = 30 * time.Second
	// DefaultHeartbeatPatience is no longer than a session: a later answer is of no use.
	DefaultHeartbeatPatience = time.Second

	// firstPause and longestPause are between two tries: an election takes about a second.
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
	// stateAge is how long what a heartbeat told of the time is believed: the clock of
	// the controllers may have been stopped since.
	stateAge = 10 * time.Second
	// hurryTime is how long the log of the metadata may take to be hurried.
	hurryTime = 5 * time.Second
)

// Options of a [Door]. The zero value of a field with a default means it.
type Options struct {
	Broker    int32             // id of the broker of this process; metadata.NoBroker: none is
	Local     Controller        // of this process; nil: none is. It is closed after the door
	Addresses func() []string   // host:port of controllers, known before the metadata is
	Cluster   func() string     // id of the cluster; "" while none is known. Nil: what the image says
	Dial      []grpc.DialOption // more of them, for tests
	Mutual    *pki.Mutual       // of connections; nil: neither side proves who it is, which is for loopback

	Patience          time.Duration // with one call, beside its context
	HeartbeatPatience time.Duration // with one heartbeat
	// Beat is how often every controller hears a broker that sends heartbeats; 0: only the
	// one that leads hears it.
	Beat time.Duration

	Now    func() time.Time // nil: time.Now
	Rand   func() float64   // below 1, for pauses; nil: of math/rand
	Log    *slog.Logger     // nil: none
	OnDead func(error)      // called once when the metadata cannot be followed any further
}

// Door is the way to the controllers.
type Door struct {
	opt    Options
	log    *slog.Logger
	rpc    *rpc.Controllers
	images images
	away   *away // nil with a local controller

	open    context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup
	seen    atomic.Uint64 // the highest offset that a leader has named
	hurry   chan struct{} // holds one while the log of the metadata is to be hurried

	mu     sync.Mutex
	leader string // address that answered last, or was named; guarded by mu
	silent string // address that did not answer last; guarded by mu
	turn   int    // in the rotation of addresses; guarded by mu
	state  leaderState
	told   time.Time // when state was; guarded by mu, as is state
	beats  beat      // of the last heartbeat; guarded by mu
}

// images is where the image of a door comes from.
type images interface {
	Image() *metadata.Image
	Subscribe(func(*metadata.Image)) (cancel func())
}

// New returns a door; Close ends it.
func New(o Options) *Door {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.HeartbeatPatience == 0 {
		o.HeartbeatPatience = DefaultHeartbeatPatience
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Addresses == nil {
		o.Addresses = func() []string { return nil }
	}
	if o.OnDead == nil {
		o.OnDead = func(error) {}
	}
	if c, is := o.Local.(*controller.Controller); is && c == nil {
		o.Local = nil
	}
	d := &Door{opt: o, log: o.Log, hurry: make(chan struct{}, 1)}
	cluster := func() string { return d.Image().ClusterID() }
	if o.Cluster != nil {
		cluster = func() string { return orElse(d.Image().ClusterID(), o.Cluster()) }
	}
	d.rpc = rpc.NewControllers(rpc.ControllersOptions{Cluster: cluster, Mutual: o.Mutual, Dial: o.Dial})
	ctx, stop := context.WithCancel(context.Background())
	d.open, d.stop = ctx, stop
	if o.Local != nil {
		d.images = o.Local
	} else {
		d.away = newAway()
		d.images = d.away
		d.running.Go(func() { d.follow(ctx) })       // blocks on the network
		d.running.Go(func() { d.away.deliver(ctx) }) // blocks on subscribers
	}
	d.running.Go(func() { d.hurryOn(ctx) }) // blocks on the network
	if o.Beat > 0 {
		d.running.Go(func() { d.beat(ctx) }) // blocks on those whom it starts, at the end
	}
	return d
}

func orElse(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// Close ends what the door does by itself, waits for that, and fails calls under way.
func (d *Door) Close() error {
	d.stop()
	err := d.rpc.Close()
	d.running.Wait()
	return err
}

// Image returns the metadata as known here: the local controller's, else what one of the
// others shows. It never goes back.
func (d *Door) Image() *metadata.Image { return d.images.Image() }

// Subscribe calls f with the present image and then after every change, as
// [controller.Controller.Subscribe] does. It must not call methods of the door.
func (d *Door) Subscribe(f func(*metadata.Image)) (cancel func()) { return d.images.Subscribe(f) }

// Ready waits until there is an image of a cluster.
func (d *Door) Ready(ctx context.Context) error {
	err := d.await(ctx, func(image *metadata.Image) bool { return image.ClusterID() != "" })
	if err != nil {
		return fmt.Errorf("wait for the metadata of the controllers at %v: %w", d.opt.Addresses(), err)
	}
	return nil
}

// await waits until the image is as wanted.
func (d *Door) await(ctx context.Context, wanted func(*metadata.Image) bool) error {
	if wanted(d.Image()) {
		return nil
	}
	seen := make(chan struct{})
	once := sync.OnceFunc(func() { close(seen) })
	cancel := d.Subscribe(func(image *metadata.Image) {
		if wanted(image) {
			once()
		}
	})
	defer cancel()
	select {
	case <-seen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns where to call the leader, or who may know it; empty: no address is known.
func (d *Door) next() string {
	image := d.Image()
	addresses := d.addresses(image)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leader != "" {
		return d.leader
	}
	if len(addresses) == 0 {
		return ""
	}
	if leads := addressOf(image, image.ControllerID()); leads != "" && leads != d.silent {
		return leads
	}
	d.turn++
	return addresses[d.turn%len(addresses)]
}

// addresses are all that are known of controllers of other processes. Those of
// Options.Addresses may be this one's.
func (d *Door) addresses(image *metadata.Image) []string {
	var all []string
	add := func(address string) {
		if address != "" && !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	for n := range image.Controllers() {
		if d.opt.Local == nil || n.ID != uint64(d.opt.Local.NodeID()) {
			add(n.Controller)
		}
	}
	for _, address := range d.opt.Addresses() {
		add(address)
	}
	return all
}

// failed notes that who was called did not answer.
func (d *Door) failed(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = address
	if d.leader == address {
		d.leader = ""
	}
}

// found notes who leads; "": nobody is known to.
func (d *Door) found(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leader, d.silent = address, ""
}

// tell notes what the leading controller says of itself.
func (d *Door) tell(s leaderState) {
	now := d.opt.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state, d.told = s, now
}

// leaderState returns what the leading controller says of itself, here or in its answer
// to the last heartbeat, and how old that is; false: nothing is known.
func (d *Door) leaderState() (s leaderState, age time.Duration, known bool) {
	if c := d.opt.Local; c != nil {
		if c.Leads() {
			return stateOf(c), 0, true
		}
	}
	now := d.opt.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, now.Sub(d.told), !d.told.IsZero()
}

// hurryOn carries out HurryLog until ctx ends.
func (d *Door) hurryOn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hurry:
		}
		trying, cancel := context.WithTimeout(ctx, hurryTime)
		if _, err := call(trying, d, hurryLog, hurryLogQ{true}); err != nil && ctx.Err() == nil {
			d.log.Debug("the metadata log was not hurried", "error", err)
		}
		cancel()
	}
}
