package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// giveUpPause is how long after a replica could not be given up that is tried again.
const giveUpPause = 10 * time.Second

// mostMet bounds how many replicas are known to be damaged; those beyond it are met again.
const mostMet = 1000

// healing is replicas that the disk cannot give back whole. The controller is told first,
// and counts upon them no more; then they begin anew from who leads. Where nobody else is
// known to have all, nothing is given up.
type healing struct {
	wake chan struct{} // holds a token when another was met

	mu     sync.Mutex // guards the rest
	rotten map[storage.PartitionID]*rot
	began  map[storage.PartitionID]error // why they began anew, of those not in sync yet
	given  int64                         // how many were given up
	healed int64                         // how many came in sync again
}

// rot is a replica that was found damaged while it was in use. It is known until it begins
// anew, or is no more, or no other broker has a replica of it.
type rot struct {
	why     error
	tried   time.Time // zero: it was not
	given   bool      // the controller was told
	refused bool      // when that was last tried, nobody else had all
	said    bool      // that it could not be given up
}

func newHealing() *healing {
	return &healing{
		wake:   make(chan struct{}, 1),
		rotten: map[storage.PartitionID]*rot{}, began: map[storage.PartitionID]error{},
	}
}

// unreadable notes that a replica cannot be read back whole. It does not block.
func (b *Broker) unreadable(id storage.PartitionID, why error) {
	h := b.healing
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rotten[id] != nil || !h.room() {
		return
	}
	h.rotten[id] = &rot{why: why}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// room reports whether another replica can be known to be damaged: one of which nothing
// comes makes room. h.mu is held.
func (h *healing) room() bool {
	if len(h.rotten) < mostMet {
		return true
	}
	for id, r := range h.rotten {
		if r.refused {
			delete(h.rotten, id)
			return true
		}
	}
	return false
}

// forget says that a replica is here no more.
func (h *healing) forget(id storage.PartitionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.rotten, id)
}

// rotted says why a replica cannot be read back whole: its log is corrupt, or was found
// damaged in use; nil: it can, as far as is known.
func (h *healing) rotted(l *log.Log) error {
	if err := l.Err(); isLogDamage(err) {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if met := h.rotten[l.ID()]; met != nil {
		return met.why
	}
	return nil
}

// heal gives replicas up that were found damaged, until ctx ends. It blocks on the
// controller.
func (b *Broker) heal(ctx context.Context) {
	ticker := time.NewTicker(giveUpPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.healing.wake:
		case <-ticker.C:
		}
		b.healMet(ctx)
	}
}

// healMet gives up what it is time to. What is led is served until another leads. That nobody
// counts upon it now says nothing: its leader may be about to let it in.
func (b *Broker) healMet(ctx context.Context) {
	image := b.images.image()
	if image == nil || image.FeatureLevel() < metadata.ObjectTopicsFeatureLevel {
		return
	}
	due := b.dueToGiveUp(image)
	for id, was := range due {
		if t, _ := image.Partition(id); awaitsBucket(t) {
			delete(due, id)
			b.giveAway(ctx, image, id, was)
		}
	}
	if len(due) == 0 {
		return
	}
	epoch := b.registration.epoch.Load()
	lost := slices.Collect(maps.Keys(due))
	for i, err := range b.opt.Controller.GiveUpReplicas(ctx, b.opt.NodeID, epoch, lost) {
		id := lost[i]
		was := due[id]
		if err == nil {
			b.gaveUp(id, was.why)
		} else if was.toSay(err) {
			b.notGivenUp(id, was.why, err)
		}
		b.healing.answered(id, err)
	}
}

// giveAway has another broker lead a partition whose acks wait for the bucket. What has rotted
// was not acknowledged, or is in the bucket: the next leader goes on from there, under an epoch
// in which nobody has been told of it, and this broker drops its log.
func (b *Broker) giveAway(ctx context.Context, image *metadata.Image, id storage.PartitionID, was rot) {
	if l, ok := b.store.Log(id); ok && l.Err() == nil && l.Uploaded() == l.End() {
		b.healing.forget(id) // nothing waits: what was met is in the bucket
		return
	}
	elect := controller.LeaderElection{Partition: id, Leader: metadata.NoLeader}
	seen := 0
	for other := range image.Brokers() {
		if other.ID == b.opt.NodeID || other.Fenced || other.Draining {
			continue
		}
		if seen++; rand.IntN(seen) == 0 { // that not all go to one
			elect.Leader = other.ID
		}
	}
	err := error(metadata.Errorf(metadata.EligibleLeadersNotAvailable, "no other broker is in service"))
	if elect.Leader != metadata.NoLeader {
		err = b.opt.Controller.ElectLeaders(ctx, []controller.LeaderElection{elect})[0]
	}
	switch {
	case err == nil:
		b.log.Warn("what waits for the bucket cannot be read; another broker leads the partition, from what is in the bucket on", "partition", id, "leader", elect.Leader, "error", was.why)
	case was.toSay(err):
		b.log.Error("what waits for the bucket cannot be read, and is acknowledged to nobody; trying on to have another broker lead. Or start this one again: it goes on from what is in the bucket", "partition", id, "damage", was.why, "error", err)
	}
	b.healing.answered(id, err)
}

// toSay reports whether it is to be said of a replica, as it was, that it cannot be given up.
func (was rot) toSay(err error) bool {
	return !was.said || isRefused(err) && !was.refused
}

func isRefused(err error) bool { return metadata.CodeOf(err) == metadata.EligibleLeadersNotAvailable }

// answered notes what became of a try to give a replica up.
func (h *healing) answered(id storage.PartitionID, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rotten[id]; r != nil { // it has not begun anew yet
		r.given, r.refused, r.said = err == nil, isRefused(err), r.said || err != nil
	}
}

// dueToGiveUp returns the replicas that are to be given up now, as they are, and forgets
// those that are not to be, by an image: they are not here, or here alone.
func (b *Broker) dueToGiveUp(image *metadata.Image) map[storage.PartitionID]rot {
	now, due := b.opt.Now(), map[storage.PartitionID]rot{}
	b.healing.mu.Lock()
	defer b.healing.mu.Unlock()
	for id, r := range b.healing.rotten {
		t, p := image.Partition(id)
		switch {
		case !guard.Check("broker.rot-ends-with-its-replica", p != nil && slices.Contains(p.Replicas, b.opt.NodeID) && (len(p.Replicas) > 1 || awaitsBucket(t))):
			delete(b.healing.rotten, id)
		case r.given && !p.Counts(b.opt.NodeID): // it is about to begin anew
		case r.refused && !awaitsBucket(t) && p.Counts(b.opt.NodeID) && len(p.ISR)+len(p.ELR) == 1: // nor would it be taken now
		case r.tried.IsZero() || now.Sub(r.tried) >= giveUpPause:
			r.tried = now
			due[id] = *r
		}
	}
	return due
}

func (b *Broker) gaveUp(id storage.PartitionID, why error) {
	b.healing.mu.Lock()
	b.healing.given++
	b.healing.mu.Unlock()
	b.log.Warn("a replica cannot be read back whole and was given up; it begins anew from its leader", "partition", id, "error", why)
}

func (b *Broker) notGivenUp(id storage.PartitionID, why, err error) {
	if metadata.CodeOf(err) != metadata.EligibleLeadersNotAvailable {
		b.log.Warn("a damaged replica could not be given up; trying on", "partition", id, "damage", why, "error", err)
		return
	}
	todo := "Give up what is lost: stop this broker, and kafka-leader-election.sh --election-type unclean has another replica lead, if there is one; or delete the topic"
	if l, ok := b.store.Log(id); ok && l.Err() == nil { // what is refused stays so, whatever the file holds
		todo = "Put the file back as it was and start again. Or g" + todo[1:]
	}
	b.log.Error("a partition is damaged, and no other replica is known to have what was acknowledged: what cannot be read is served nowhere. "+todo,
		"partition", id, "damage", why, "error", err)
}

// giveUpLost tells the controller, before this broker is in service, of the replicas that
// this start could not read back whole. Nobody counts upon them from then on; of those
// that nobody else has, the partitions are refused.
func (b *Broker) giveUpLost(ctx context.Context, epoch int64) error {
	image := b.images.image()
	if !b.condemnLost(image) { // for it may not have been done with the image
		return errors.New("partitions that a damaged log has lost could not be refused")
	}
	var lost []storage.PartitionID
	for _, id := range b.store.Corrupt() {
		// Of what waits for the bucket that has all, and whoever leads next goes by that.
		t, p := image.Partition(id)
		if p == nil || !p.Counts(b.opt.NodeID) || !guard.Check("broker.held-needs-no-word", !awaitsBucket(t)) {
			continue
		}
		if l, ok := b.store.Log(id); ok && b.bucketHeals(t, p, l) || b.replication == nil && len(p.Replicas) == 1 {
			continue // nobody else has it all, or is needed; or nobody else can have a replica
		}
		lost = append(lost, id)
	}
	if len(lost) > 0 && image.FeatureLevel() >= metadata.ObjectTopicsFeatureLevel {
		if err := b.giveUp(ctx, epoch, lost); err != nil {
			return err
		}
	} else if len(lost) > 0 && b.store.Losing() {
		l, _ := b.store.Log(lost[0])
		return fmt.Errorf("%d replicas cannot be read back whole, and the cluster is at feature level %d, which cannot be told so (%d can): raise the level, or start this broker with an empty data directory: %w",
			len(lost), image.FeatureLevel(), metadata.ObjectTopicsFeatureLevel, l.Err())
	}
	return b.store.SettleLosses()
}

// giveUp tells the controller of damaged replicas until it has heard it of each.
func (b *Broker) giveUp(ctx context.Context, epoch int64, lost []storage.PartitionID) error {
	return b.persist(ctx, func(ctx context.Context) error {
		var left []storage.PartitionID
		var failed error
		for i, err := range b.opt.Controller.GiveUpReplicas(ctx, b.opt.NodeID, epoch, lost) {
			var why error
			if l, ok := b.store.Log(lost[i]); ok {
				why = l.Err()
			}
			switch code := metadata.CodeOf(err); {
			case err == nil:
				b.gaveUp(lost[i], why)
			case code == metadata.EligibleLeadersNotAvailable:
				b.notGivenUp(lost[i], why, err)
			case code == metadata.UnknownTopicOrPartition || code == metadata.UnknownTopicID: // deleted meanwhile
			default:
				left, failed = append(left, lost[i]), err
			}
		}
		lost = left
		return failed
	})
}

// bucketHeals reports whether a damaged log goes on from the committed end: no other broker is held
// to have what was acknowledged, the bucket has all that it may lack, and it need not be whole here. A log start
// beyond what the bucket has may lie within the last batch, and the rest of that be missing.
func (b *Broker) bucketHeals(t *metadata.Topic, p *metadata.Partition, l *log.Log) bool {
	missing, known := l.Missing()
	last, _ := p.Ranges().Last() // without one it ends at 0
	alone := guard.Check("broker.heals-alone", len(others(p.ISR, b.opt.NodeID))+len(others(p.ELR, b.opt.NodeID)) == 0)
	return known && alone && !t.Internal && guard.Check("broker.heals-whole-batches", missing <= last.End) && missing <= p.CommittedEnd()
}

// healFromBucket has a damaged log that is to be led go on from the committed end, if the
// bucket has all that it may lack. It is errRebuilding until what the bucket knows of
// producers, and what the log has behind, have been read: not by follow's goroutine,
// which has other partitions to lead. Where the bucket has not all it does nothing: what the log
// is refused for is told by name.
func (b *Broker) healFromBucket(p *partition, t *metadata.Topic, is *metadata.Partition, l *log.Log) error {
	if !b.bucketHeals(t, is, l) {
		return nil
	}
	why, end := l.Err(), is.CommittedEnd()
	_, err := b.rebuild(p.id(), is, func(state []byte) error {
		if err := l.Heal(end, state); err != nil {
			return fmt.Errorf("go on from what the bucket has: %w", err)
		}
		b.log.Warn("a damaged log goes on from the committed end: the bucket has all that it may lack", "topic", t.Name, "partition", p.index, "committed-end", end, "error", why)
		return nil
	})
	return err
}

// condemnLost refuses the partitions that this broker is held to have, and whose logs are
// not there, after a start that went on without a part of its log: they may have been in
// it. It reports whether that is so.
func (b *Broker) condemnLost(image *metadata.Image) bool {
	if !b.store.Losing() {
		return true
	}
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			id := storage.PartitionID{Topic: t.ID, Index: p.Index}
			if _, there := b.store.Log(id); there || !p.Counts(b.opt.NodeID) {
				continue
			}
			if err := b.store.Condemn(id, "its log is not there, and a part of the write-ahead log cannot be read"); err != nil {
				b.log.Error("a partition that may be lost could not be refused; trying on", "partition", id, "error", err)
				return false
			}
		}
	}
	return true
}

// beginAnew drops a damaged log that nobody counts upon, before it follows another epoch, and
// makes an empty one, which its leader fills. It returns the log to go on with, and whether that is another.
func (b *Broker) beginAnew(l *log.Log, p *partition, is *metadata.Partition, c log.Config) (*log.Log, bool, error) {
	why := b.healing.rotted(l)
	if why == nil || is.Leader == metadata.NoLeader {
		return l, false, nil
	}
	// Under this epoch nobody was shown yet what the log holds; under those before, what was
	// shown counts no more.
	if l.History().Epoch == is.LeaderEpoch || !guard.Check("broker.heals-uncounted", !is.Counts(b.opt.NodeID)) {
		return l, false, nil
	}
	_ = l.BecomeFollower(is.LeaderEpoch) // producers that wait are sent to who leads
	if err := b.store.DropPartition(p.id()); err != nil && !errors.Is(err, log.ErrDropped) {
		return l, false, fmt.Errorf("give up a damaged replica: %w", err)
	}
	anew, err := b.store.Create(p.id(), c)
	if err != nil {
		return l, false, fmt.Errorf("begin a damaged replica anew: %w", err)
	}
	b.healing.mu.Lock()
	defer b.healing.mu.Unlock()
	delete(b.healing.rotten, p.id())
	b.healing.began[p.id()] = why
	b.log.Warn("a damaged replica has begun anew, and is filled by its leader", "partition", p.id(), "leader", is.Leader, "error", why)
	return anew, true, nil
}

// inSyncAgain notes that a replica which has begun anew is counted upon by an image.
func (b *Broker) inSyncAgain(id storage.PartitionID, is *metadata.Partition) {
	h := b.healing
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, began := h.began[id]; began && is.Counts(b.opt.NodeID) {
		delete(h.began, id)
		h.healed++
		b.log.Info("a replica that was damaged is whole, and in sync again", "partition", id)
	}
}

// namedHealing bounds the partitions that Healing names.
const namedHealing = 10

// Healing is what became of replicas that this broker's disk could not give back whole.
type Healing struct {
	Now           int                   // have begun anew and are not in sync yet
	Partitions    []storage.PartitionID // the first ten of these
	Why           error                 // one of them did
	GivenUp, Done int64                 // since the start: the controller was told of, came in sync again
}

// Healing returns how far damaged replicas are healed.
func (b *Broker) Healing() Healing {
	image := b.images.image()
	h := b.healing
	h.mu.Lock()
	defer h.mu.Unlock()
	out := Healing{GivenUp: h.given}
	for id, why := range h.began {
		_, p := image.Partition(id)
		switch {
		case p != nil && !p.Counts(b.opt.NodeID):
			if out.Now, out.Why = out.Now+1, why; len(out.Partitions) < namedHealing {
				out.Partitions = append(out.Partitions, id)
			}
			continue
		case p != nil:
			h.healed++
		}
		delete(h.began, id)
	}
	out.Done = h.healed
	return out
}
