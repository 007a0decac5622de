package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// leadAgain is how long a partition waits for another try that could not be led, or
// could not be brought to where the image has it.
const leadAgain = time.Second

// follow carries out images until ctx ends. It blocks on the logs.
func (b *Broker) follow(ctx context.Context) {
	led := false               // whether the last image was one to lead by
	var again <-chan time.Time // runs on while images come; nil while nothing is undone
	for {
		switch {
		case len(b.undone)+len(b.undropped) == 0:
			again = nil
		case again == nil:
			again = time.After(leadAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
			again = nil
			b.redo(b.images.image(), led)
			b.sayMissed(b.images.image())
			continue
		case <-b.rebuilds.wake:
			if image := b.images.image(); image != nil {
				b.redo(image, led)
			}
			continue
		case <-b.images.wake:
		}
		image := b.images.newest.Load()
		lead := b.registration.mayLead(image)
		if lead && !led {
			lead = b.condemnLost(image)
		}
		b.changeDefaults(image)
		b.changeQuotas(b.images.image(), image)
		b.changeClientMetrics(b.images.image(), image)
		b.changePeers(image)
		b.carryOut(b.images.image(), image, lead, lead != led)
		if lead && !led {
			b.dropStrays(image)
		}
		led = lead
		changed := assignable(b.images.image(), image)
		b.images.publish(image)
		b.sayMissed(image)
		if changed {
			b.topicsVersion.Add(1)
			b.groups.TopicsChanged()
		}
	}
}

// redo tries again what could not be done when the image came, to lead a partition or to
// move its log start: the WAL was full, say, and is not any more. No image would come
// for that.
func (b *Broker) redo(image *metadata.Image, lead bool) {
	for id := range b.undropped { // first: it makes room for the others
		b.drop(id)
	}
	for id, p := range b.undone {
		t, ok := image.TopicByID(id.Topic)
		if !ok || t.Partition(id.Index) == nil {
			delete(b.undone, id)
			continue
		}
		before := b.changePartition(p, t, t.Partition(id.Index), lead)
		b.changeCoordinator(t, p, before)
	}
}

// carryOut brings logs and roles from one image to the next: what changed, or,
// with all, every partition.
func (b *Broker) carryOut(before, image *metadata.Image, lead, all bool) {
	// What is deleted goes first: to groups that are given to this broker only now, a
	// topic of the same name may be the one made after it.
	for was, is := range image.ChangedTopics(before) {
		if is == nil {
			b.deleteTopic(was.ID)
		}
	}
	if !all {
		for was, is := range image.ChangedTopics(before) {
			if is != nil {
				b.changeTopic(was, is, lead)
			}
		}
		return
	}
	for is := range image.Topics() {
		b.changeTopic(nil, is, lead)
	}
}

func (b *Broker) changeTopic(was, is *metadata.Topic, lead bool) {
	tp := b.table.topicOf(is)
	configChanged := was == nil || was.ConfigVersion != is.ConfigVersion
	var changed []*partition
	var before []*role
	for _, p := range metadata.ChangedPartitions(was, is) {
		changed = append(changed, tp.partition(p.Index))
		before = append(before, b.changePartition(tp.partition(p.Index), is, p, lead))
	}
	if configChanged {
		for _, p := range *tp.partitions.Load() {
			if l := p.role.Load().kept(); l != nil {
				l.SetConfig(b.logConfig(b.withDefaults(is), is.Partition(p.index)))
			}
		}
	}
	b.table.put(tp)
	for i, p := range changed { // a coordinator finds its log in the table
		b.changeCoordinator(is, p, before[i])
	}
}

// changePartition gives p the role that the image has for this broker, and returns
// the one it had.
func (b *Broker) changePartition(p *partition, t *metadata.Topic, is *metadata.Partition, lead bool) *role {
	was := p.role.Load()
	now := &role{leader: is.Leader, epoch: is.LeaderEpoch, partitionEpoch: is.PartitionEpoch, replicated: len(is.Replicas) > 1, awaitsBucket: awaitsBucket(t)}
	_, now.sifted = b.cleaningPolicy(t)
	b.endRebuild(p.id(), is.LeaderEpoch)
	b.noteUnmet(p.id(), t, is)
	if was.log != nil && is.Leader != b.opt.NodeID {
		between := *now // what waits is refused from here on, and sent to the next leader
		p.role.Store(&between)
	}
	done := true
	switch {
	case !lead:
	case is.Leader == b.opt.NodeID:
		done = b.lead(p, t, is, was, now)
	case slices.Contains(is.Replicas, b.opt.NodeID):
		done = b.followLeader(p, t, is, was, now)
	}
	if !done {
		b.undone[p.id()] = p
	} else {
		delete(b.undone, p.id())
	}
	p.role.Store(now)
	b.inSyncAgain(p.id(), is)
	b.missed(p, is, was, now)
	b.changeReplication(p, t, is, now)
	if lead && !slices.Contains(is.Replicas, b.opt.NodeID) && !is.AsksReplicas() {
		b.dropReplica(p)
	}
	if l := was.kept(); l != nil && (now.log != was.log || now.replica != was.replica || now.log == nil && now.epoch != was.epoch) {
		l.WakeAll()
	}
	return was
}

// changeCoordinator tells the coordinator whose topic t is, if it is one, of the
// role that p has now.
func (b *Broker) changeCoordinator(t *metadata.Topic, p *partition, was *role) {
	if c := b.coordinatorOf(t.Name); c != nil && t.Internal {
		changeCoordinator(c, p, was, p.role.Load())
	}
}

// lead makes the partition's log ready to be led under the image's epoch, and reports
// whether it is, and has all that the image says of it.
func (b *Broker) lead(p *partition, t *metadata.Topic, is *metadata.Partition, was, now *role) bool {
	if was.log != nil && was.epoch == is.LeaderEpoch {
		now.log = was.log
		if was.partitionEpoch != is.PartitionEpoch {
			was.log.SetConfig(b.logConfig(b.withDefaults(t), is)) // of more replicas, more must be in sync
		}
		err := errors.Join(was.log.SetLogStart(is.LogStart), was.log.SetUploaded(is.CommittedEnd()))
		b.releaser.named(was.log, is.CommittedEnd())
		if _, again := b.undone[p.id()]; err != nil && !again {
			b.log.Error("a log did not take where it begins, or what the bucket has; trying on", "topic", t.Name, "partition", p.index, "start", is.LogStart, "committed-end", is.CommittedEnd(), "error", err)
		}
		return err == nil
	}
	l, ok := b.store.Log(p.id())
	var err error
	if !ok {
		l, err = b.store.Create(p.id(), b.logConfig(b.withDefaults(t), is))
	}
	if err == nil {
		// What the image says holds under the new epoch, which this log's records are of.
		if r := b.replication; r != nil {
			r.leader.Unlead(p.id())                     // the replicas of an older epoch are not those of this one
			r.follower.Changed(p.id(), storage.NoEpoch) // who led hears of it before anything is committed under this one
		}
		l.Resign()
		l.SetConfig(b.logConfig(b.withDefaults(t), is))
	}
	if err == nil && now.awaitsBucket {
		l, err = b.meetCommittedEnd(p, t, is, l)
	} else if err == nil && isLogDamage(l.Err()) {
		l, err = b.mendLog(p, t, is, l)
	} else if err == nil {
		err = b.goOnFromBucket(p, t, is, l)
	}
	if err == nil {
		err = l.SetLogStart(is.LogStart)
	}
	if err == nil {
		// A leader starts at the larger of its own end and the committed one.
		err = l.SetUploaded(is.CommittedEnd())
		b.releaseShipped(l, is)
		b.releaser.named(l, is.CommittedEnd())
	}
	if err == nil {
		l.SetReplicas(log.Replicas{InSync: others(is.ISR, b.opt.NodeID)})
		err = l.BecomeLeader(is.LeaderEpoch)
	}
	if err != nil {
		err = refusal(t.Name, err)
		if was.err == nil && !errors.Is(err, errRebuilding) {
			b.log.Error("partition cannot be led; trying on", "topic", t.Name, "partition", p.index, "epoch", is.LeaderEpoch, "error", err)
		}
		now.err = err
		return false
	}
	delete(b.rebuilds.of, p.id()) // a log that was healed meanwhile has what it was
	now.log = l
	return true
}

func (b *Broker) deleteTopic(id storage.TopicID) {
	if tp := b.table.remove(id); tp != nil {
		for _, p := range *tp.partitions.Load() {
			was := p.role.Swap(&role{leader: metadata.NoLeader, epoch: storage.NoEpoch, err: errUnknownTopic})
			b.endRebuild(p.id(), storage.NoEpoch)
			delete(b.rebuilds.unmet, p.id())
			b.endReplication(p)
			if was.log != nil {
				was.log.WakeAll()
			}
			if c := b.coordinatorOf(tp.name); c != nil {
				changeCoordinator(c, p, was, p.role.Load())
			}
		}
		b.groups.TopicDeleted(tp.name)
	}
	b.drop(id)
}

// drop drops the records of a deleted topic, or notes that it is to be tried again.
func (b *Broker) drop(id storage.TopicID) {
	err := b.store.Drop(id)
	if err == nil {
		delete(b.undropped, id)
		return
	}
	if !b.undropped[id] {
		b.log.Error("records of a deleted topic could not be dropped; trying on", "topic-id", id, "error", err)
	}
	b.undropped[id] = true
}
