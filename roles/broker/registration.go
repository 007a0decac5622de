package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/guard"
)

// registration is this start of the broker, as the controller knows it. Leader
// epochs that an earlier start was given are not ours: what was acked under
// them may have been read back differently since (RULES 3.1).
type registration struct {
	nodeID      int32
	incarnation [16]byte
	epoch       atomic.Int64 // 0 until registered
	lost        atomic.Bool  // another process has taken our node id
}

func newRegistration(nodeID int32) *registration {
	r := &registration{nodeID: nodeID}
	rand.Read(r.incarnation[:]) // never fails: it would end the process
	return r
}

// mayLead reports whether the leader epochs in image that name this broker were
// given to this registration.
func (r *registration) mayLead(image *metadata.Image) bool {
	b, ok := image.Broker(r.nodeID)
	own := ok && b.Incarnation == r.incarnation && b.Epoch == r.epoch.Load()
	return guard.Check("broker.own-registration", own) && !r.lost.Load()
}

// register makes this start known to the controller.
func (b *Broker) register(ctx context.Context) error {
	nonce, err := b.bucketNonce(ctx)
	if err != nil {
		return fmt.Errorf("register broker %d: %w", b.opt.NodeID, err)
	}
	epoch, told, err := b.registerWith(ctx, nonce)
	if nonce == ([16]byte{}) && metadata.CodeOf(err) == metadata.InvalidRegistration {
		// In a new cluster the controller may have claimed the bucket just after it was
		// looked at.
		if nonce, e := b.bucketNonce(ctx); e == nil && nonce != ([16]byte{}) {
			epoch, told, err = b.registerWith(ctx, nonce)
		}
	}
	if err != nil {
		return fmt.Errorf("register broker %d with the controller: %w", b.opt.NodeID, err)
	}
	b.registration.epoch.Store(epoch)
	if told {
		b.log.Warn("the end of the log was not whole and is gone: where others may have more, they lead first")
		if err := b.store.ForgetCut(); err != nil {
			return fmt.Errorf("forget that the log's tail was cut, which the controller knows: %w", err)
		}
	}
	return nil
}

// registerWith asks for a registration, by what the bucket is known by, until a controller has
// given it: asked again, an incarnation has the one that it was given. It reports too whether
// the controller was told that the log's tail was cut.
func (b *Broker) registerWith(ctx context.Context, nonce [16]byte) (epoch int64, told bool, err error) {
	told = b.store.CutTail() && b.opt.Controller.Image().FeatureLevel() >= metadata.RecoveryFeatureLevel
	is := controller.Registration{
		BucketNonce: nonce,
		BrokerID:    b.opt.NodeID,
		ClusterID:   b.opt.ClusterID,
		Incarnation: b.registration.incarnation,
		Directory:   b.opt.Directory,
		Listeners:   b.opt.Listeners,
		Rack:        b.opt.Rack,

		MaxFeatureLevel: metadata.LatestFeatureLevel,
		UncleanEnd:      b.opt.UncleanEnd,
		AcksBeforeSync:  b.opt.AckedBeforeSync,
		CutTail:         told,
	}
	err = b.persist(ctx, func(ctx context.Context) (err error) {
		epoch, err = b.opt.Controller.RegisterBroker(ctx, is)
		return err
	})
	return epoch, told, err
}

// enter puts the broker into service: it waits for the image of its own
// registration to be carried out, says what it has of partitions that ask for it,
// sends the first heartbeat, and waits until the partitions that this gave it are served.
func (b *Broker) enter(ctx context.Context) error {
	epoch := b.registration.epoch.Load()
	if err := b.images.wait(ctx, uint64(epoch)); err != nil {
		return fmt.Errorf("wait for the image of broker %d's registration: %w", b.opt.NodeID, err)
	}
	if err := b.giveUpLost(ctx, epoch); err != nil {
		return fmt.Errorf("say what broker %d cannot read back: %w", b.opt.NodeID, err)
	}
	if err := b.dropParted(ctx, b.images.image()); err != nil {
		return fmt.Errorf("look whether logs parted from what the bucket has: %w", err)
	}
	if err := b.reportEnds(ctx, epoch); err != nil {
		return fmt.Errorf("say what broker %d has of partitions that ask their replicas: %w", b.opt.NodeID, err)
	}
	if err := b.firstBeat(ctx, epoch); err != nil {
		return fmt.Errorf("first heartbeat of broker %d: %w", b.opt.NodeID, err)
	}
	if err := b.images.wait(ctx, b.opt.Controller.Image().Offset()); err != nil {
		return fmt.Errorf("wait for the partitions of broker %d: %w", b.opt.NodeID, err)
	}
	return nil
}

// firstBeat sends a heartbeat until a controller has taken one.
func (b *Broker) firstBeat(ctx context.Context, epoch int64) error {
	return b.persist(ctx, func(ctx context.Context) error {
		sent := b.opt.Now()
		err := b.opt.Controller.Heartbeat(ctx, b.opt.NodeID, epoch)
		if err == nil {
			b.beaten(sent)
		}
		return err
	})
}

// persist asks until a controller has done it, or says why it never will. That none leads
// passes: they may be starting just as this broker is.
func (b *Broker) persist(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, maxFirstBeatWait)
	defer cancel()
	ticker := time.NewTicker(b.opt.Heartbeat)
	defer ticker.Stop()
	for {
		err := ask(ctx)
		if code := metadata.CodeOf(err); err == nil || code != metadata.RequestTimedOut && code != metadata.NotController {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// beat sends heartbeats until ctx ends or the registration is lost. It blocks on
// the controller.
func (b *Broker) beat(ctx context.Context) {
	ticker := time.NewTicker(b.opt.Heartbeat)
	defer ticker.Stop()
	silent := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		sent := b.opt.Now()
		err := b.opt.Controller.Heartbeat(ctx, b.opt.NodeID, b.registration.epoch.Load())
		code := metadata.CodeOf(err)
		switch {
		case err == nil:
			b.beaten(sent)
			if silent {
				b.log.Info("the controller hears this broker again")
			}
			silent = false
		case ctx.Err() != nil:
			return
		case code == metadata.StaleBrokerEpoch || code == metadata.BrokerIDNotRegistered:
			b.log.Error("another process took this node id; this one leads nothing any more", "node", b.opt.NodeID, "error", err)
			b.registration.lost.Store(true)
			b.images.again()
			return
		default:
			if !silent {
				b.log.Warn("heartbeat failed; trying on", "error", err)
			}
			silent = true
		}
	}
}

// Leave takes the broker out of service while it goes on to answer: what it leads is led
// by others, as far as there are any in sync, before clients are sent away. It is to be
// closed then.
func (b *Broker) Leave(ctx context.Context) error {
	b.stopBeats()
	select {
	case <-b.beatsEnded:
	case <-ctx.Done():
		return fmt.Errorf("end the heartbeats of broker %d: %w", b.opt.NodeID, context.Cause(ctx))
	}
	if b.registration.lost.Load() {
		return nil
	}
	if err := b.opt.Controller.FenceBroker(ctx, b.opt.NodeID, b.registration.epoch.Load()); err != nil {
		b.left.Store(true) // as far as it goes: who was not reached for so long is not tried again by Close
		return fmt.Errorf("take broker %d out of service: %w", b.opt.NodeID, err)
	}
	b.left.Store(true)
	return b.images.wait(ctx, b.opt.Controller.Image().Offset())
}

// leave takes the broker out of service, so that the others need not wait for
// its silence to be noticed. Its heartbeats have ended: one would put it back.
func (b *Broker) leave() {
	if b.left.Load() {
		return
	}
	epoch := b.registration.epoch.Load()
	if b.registration.lost.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxLeaveWait)
	defer cancel()
	if err := b.opt.Controller.FenceBroker(ctx, b.opt.NodeID, epoch); err != nil {
		b.log.Warn("the controller was not told that this broker stops; it will notice", "error", err)
	}
}

// errDeposed is what Health says after beat has given up.
var errDeposed = errors.New("another process registered this node id: stop one of the two")
