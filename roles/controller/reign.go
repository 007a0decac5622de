package controller

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// openPatience is how long Open waits for a group of several: an election takes
	// about a second where a majority is there.
	openPatience = 3 * time.Second
	// reignPause is between two tries to begin a reign.
	reignPause = 200 * time.Millisecond
)

// reign is the term in which this controller leads, 0 while it does not. It is a pure
// core.
type reign uint64

// step says what begins and what ends, now that consensus stands at s.
func (r *reign) step(self uint64, s consensus.Status) (begins, ends bool) {
	was, leads := *r, s.Leader == self
	*r = 0
	if leads {
		*r = reign(s.Term)
	}
	return *r != 0 && *r != was, was != 0 && *r != was
}

// bell tells any number of goroutines to look again.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // closed and replaced by each ring; guarded by mu
}

func newBell() *bell { return &bell{rung: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rung)
	b.rung = make(chan struct{})
}

// next is closed by the next ring: it is asked for before what is waited for is looked at.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

// follow begins a leader's duties when this controller leads, and ends them when it does
// not, or not in that term.
func (c *Controller) follow(ctx context.Context) {
	var now reign
	end := func() {}
	defer func() { end() }()
	for {
		rung := c.bell.next()
		begins, ends := now.step(uint64(c.opt.NodeID), c.node.Status())
		if ends {
			end()
			end = func() {}
		}
		if begins {
			end = c.begin(ctx, uint64(now))
		}
		c.images.changed() // the image says who leads
		select {
		case <-ctx.Done():
			return
		case <-rung:
		}
	}
}

// begin starts the duties of a term; the function it returns ends them and waits.
func (c *Controller) begin(ctx context.Context, term uint64) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var duties sync.WaitGroup
	duties.Go(func() { c.lead(ctx, term) })
	duties.Go(func() { c.even(ctx) })
	duties.Go(func() { c.raise(ctx) })
	return func() {
		cancel()
		duties.Wait()
	}
}

// lead is what a leader does, until ctx ends. It decides nothing before it knows all that
// those before it have decided.
func (c *Controller) lead(ctx context.Context, term uint64) {
	for {
		err := c.initialise(ctx)
		if err == nil {
			break
		}
		if metadata.CodeOf(err) == metadata.InconsistentClusterID {
			c.fail(err)
			return
		}
		if ctx.Err() == nil {
			c.log.Warn("this controller leads and cannot begin to; trying on", "error", err)
		}
		pause := time.NewTimer(reignPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
	c.sessionsMu.Lock()
	c.sessions.begin(c.opt.Now())
	c.sessionsMu.Unlock()
	c.balanceMu.Lock()
	c.balance = newBalancer(c.live.Load().MovesPerMinute) // what is known of load is from another term
	c.balanceMu.Unlock()
	c.reign.Store(term)
	c.bell.ring()
	c.HurryLog()
	c.watch(ctx)
}

// reigns returns the term that this controller leads in, and whether it does: as the
// group's leader that knows all that was decided before.
func (c *Controller) reigns() (term uint64, ok bool) {
	s := c.node.Status()
	return s.Term, s.Leader == uint64(c.opt.NodeID) && s.Term == c.reign.Load()
}

// leads refuses what only the leader may decide: another one does not know what was
// decided, and hears of no broker.
func (c *Controller) leads() error {
	if err := c.Ended(); !guard.Check("controller.ended-decides-nothing", err == nil) {
		return metadata.Errorf(metadata.PolicyViolation, "%v", err)
	}
	if _, ok := c.reigns(); guard.Check("controller.leader-decides", ok) {
		return nil
	}
	switch leader := c.node.Leader(); leader {
	case 0:
		return metadata.Errorf(metadata.NotController, "the controllers have no leader now")
	case uint64(c.opt.NodeID):
		return metadata.Errorf(metadata.NotController, "controller %d leads, and does not know yet what was decided before", leader)
	default:
		return metadata.Errorf(metadata.NotController, "controller %d leads", leader)
	}
}

// arrive waits until this controller knows its cluster and all that was committed in it,
// opens its side of the bucket, and says that it is ready.
func (c *Controller) arrive(ctx context.Context) {
	for {
		rung := c.bell.next()
		s := c.node.Status()
		_, reigns := c.reigns()
		led := s.Leader != 0 && (s.Leader != uint64(c.opt.NodeID) || reigns)
		if led && c.state.Image().ClusterID() != "" {
			if c.node.Barrier(ctx) != nil {
				return // it ends
			}
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-rung:
		}
	}
	if err := c.checkClusterID(); err != nil {
		c.fail(err)
		return
	}
	if c.opt.Bucket != nil {
		k := c.openBucket(ctx)
		c.done.Go(func() { k.shipper.run(ctx) }) // blocks on the bucket
		c.done.Go(func() { k.keep(ctx) })        // blocks on the bucket and on proposals
	} else {
		c.clock.load(clockRecord{}, false) // nothing keeps what was believed last
	}
	close(c.ready)
}

// Ready reports whether this controller has arrived since its start: it knows its cluster,
// and has applied all that was committed when it found a leader. Before, its image may
// be old, or empty; it votes and follows all the same.
func (c *Controller) Ready() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// await waits until the controller is ready, if it is alone, and for openPatience else.
func (c *Controller) await(ctx, running context.Context) error {
	members, err := c.node.Members(ctx)
	if err != nil {
		return fmt.Errorf("ask for the controllers: %w", err)
	}
	if len(members) != 1 || members[0].ID != uint64(c.opt.NodeID) {
		patience := openPatience
		if c.opt.Join && len(members) == 0 {
			patience = 0 // nobody sends it anything before it is added
		}
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ctx = patient
	}
	select {
	case <-c.ready:
	case err := <-c.failed:
		return err
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || len(members) == 1 {
			return fmt.Errorf("wait for the metadata log: %w", context.Cause(ctx))
		}
		c.log.Info("no majority of the controllers is there yet; going on without", "members", len(members))
	}
	c.done.Go(func() { // what is found out later
		select {
		case err := <-c.failed:
			c.opt.OnDead(err)
		case <-running.Done():
		}
	})
	return nil
}

// fail says that the controller cannot go on. The first reason counts.
func (c *Controller) fail(err error) {
	c.log.Error("this controller cannot go on", "error", err)
	select {
	case c.failed <- err:
	default:
	}
}

// initialise makes this the cluster it is meant to be.
func (c *Controller) initialise(ctx context.Context) error {
	if err := c.node.Barrier(ctx); err != nil {
		return fmt.Errorf("wait for the metadata log: %w", err)
	}
	if c.state.Image().ClusterID() == "" {
		id := c.opt.ClusterID
		if id == "" {
			var err error
			if id, err = c.newClusterID(); err != nil {
				return err
			}
		}
		_, err := c.proposeFirst(ctx, &pb.InitCluster{ClusterId: id, FeatureLevel: c.firstFeatureLevel()})
		if err != nil && c.state.Image().ClusterID() == "" {
			return fmt.Errorf("initialise the cluster: %w", err)
		}
		c.log.Info("cluster made", "cluster", c.state.Image().ClusterID())
	}
	if err := c.checkClusterID(); err != nil {
		return err
	}
	return c.raiseFeatureLevel(ctx)
}

func (c *Controller) checkClusterID() error {
	if want, is := c.opt.ClusterID, c.state.Image().ClusterID(); want != "" && want != is {
		return metadata.Errorf(metadata.InconsistentClusterID, "this node belongs to cluster %s, its metadata log to %s", want, is)
	}
	return nil
}

// firstFeatureLevel is that of a new cluster: with others, what each of them knows that
// can be one. It rises when they have made themselves known. Alone it is as high as it may be.
func (c *Controller) firstFeatureLevel() uint32 {
	if len(c.opt.Peers) > 0 {
		return metadata.ClusterFeatureLevel
	}
	if held := c.live.Load().HighestFeatureLevel; held > 0 {
		return max(min(held, metadata.LatestFeatureLevel), metadata.ClusterFeatureLevel)
	}
	return metadata.LatestFeatureLevel
}

// raiseFeatureLevel lets the cluster write what all its nodes know.
func (c *Controller) raiseFeatureLevel(ctx context.Context) error {
	image := c.state.Image()
	if image.FeatureLevel() >= metadata.LatestFeatureLevel || image.EndedBy() > 0 {
		return nil
	}
	members, err := c.node.Members(ctx)
	if err != nil {
		return fmt.Errorf("ask for the controllers: %w", err)
	}
	from, to := image.FeatureLevel(), knownLevel(image, uint64(c.opt.NodeID), members)
	if held := c.heldLevel(image); held > 0 {
		to = min(to, held)
	}
	if to <= from {
		return nil
	}
	if _, err := c.proposeFirst(ctx, &pb.SetFeatureLevel{Level: to}); err != nil {
		return fmt.Errorf("raise the feature level from %d to %d: %w", from, to, err)
	}
	c.log.Info("feature level raised", "from", from, "to", to)
	return nil
}

// heldLevelKey is under which the feature level is held for all.
const heldLevelKey = "controller.feature_level"

// heldLevel is where an operator holds the feature level; 0: nobody does. It is read of the
// image itself: a controller that begins to lead may raise it before it obeys anything else.
func (c *Controller) heldLevel(image *metadata.Image) uint32 {
	if level, err := strconv.ParseUint(ofAllBrokers(image)[heldLevelKey], 10, 32); err == nil {
		return uint32(level)
	}
	return c.live.Load().HighestFeatureLevel
}

// checkHeldLevel says why the feature level cannot be held where a value says: it never falls.
func checkHeldLevel(image *metadata.Image, value string) error {
	is := image.FeatureLevel()
	if level, err := strconv.ParseUint(value, 10, 32); err == nil && level > 0 && uint32(level) < is {
		return fmt.Errorf("%s = %s: the feature level is %d already, and never falls; %d holds it there", heldLevelKey, value, is, is)
	}
	return nil
}

// raise lets the feature level rise once all know a higher one.
func (c *Controller) raise(ctx context.Context) {
	ticker := time.NewTicker(c.opt.BrokerSession / 8)
	defer ticker.Stop()
	var wait patience
	var told uint32 // of levels that it cannot be held at
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if c.leads() != nil || !wait.over(now) {
			continue
		}
		image := c.state.Image()
		if held, is := c.heldLevel(image), image.FeatureLevel(); held > 0 && held < is && held != told {
			told = held
			c.log.Warn(heldLevelKey+" is below the feature level, which never falls: it stays where it is", "held", held, "level", is)
		}
		err := c.raiseFeatureLevel(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			wait = patience{}
		case wait.failed(now):
			c.log.Warn("the feature level could not be raised; trying on", "tries", wait.tries, "error", err)
		}
	}
}

// patience is the time between tries of what failed, and when that is to be said.
type patience struct {
	tries int
	next  time.Time
}

const (
	minPatience = time.Second
	maxPatience = time.Minute
	// patienceSaid is after how many further tries in vain it is said once more: of those
	// that come a minute apart, an hour.
	patienceSaid = 60
)

func (p *patience) over(now time.Time) bool { return !now.Before(p.next) }

// failed counts a try, and reports whether to say so: of the first, and of one in many.
func (p *patience) failed(now time.Time) bool {
	p.next = now.Add(min(minPatience<<min(p.tries, 10), maxPatience))
	p.tries++
	return p.tries%patienceSaid == 1
}

// knownLevel returns the highest feature level that every member of the group and every
// broker knows, 0 where one has not said. Below [metadata.ClusterFeatureLevel] nobody can
// say: there a group of this one alone counts.
func knownLevel(image *metadata.Image, self uint64, members []consensus.MemberStatus) uint32 {
	level := metadata.LatestFeatureLevel
	for _, m := range members {
		if m.ID == self {
			continue
		}
		n, known := image.ControllerNode(m.ID)
		if !known || n.Directory != m.Directory {
			return 0
		}
		level = min(level, n.MaxFeatureLevel)
	}
	if image.FeatureLevel() < metadata.ClusterFeatureLevel {
		return level
	}
	for n := range image.Controllers() {
		level = min(level, n.MaxFeatureLevel)
	}
	for b := range image.Brokers() {
		level = min(level, b.MaxFeatureLevel)
	}
	return level
}

func (c *Controller) newClusterID() (string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(c.opt.Rand, raw[:]); err != nil {
		return "", fmt.Errorf("make a cluster id: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// NodeID returns the id of this controller.
func (c *Controller) NodeID() int32 { return c.opt.NodeID }

// Leads reports whether this controller leads, as far as it knows, and has all that was
// decided before it did: what only the leader may decide, it does not refuse.
func (c *Controller) Leads() bool {
	_, ok := c.reigns()
	return ok
}
