package broker

import (
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Strays are topics that a life of the cluster did not know when a broker came into it with
// their records: the metadata that it was brought back from lacked them.
type Strays struct {
	Incarnation uint64 // of that life; 0: no broker of this directory was in one
	Topics      []storage.TopicID
}

// dropStrays drops the logs of topics that were deleted while this process was
// not there to see it. An image that holds our own registration is newer than
// any topic whose records we have: what it lacks was deleted. An older image
// merely lacks it (RULES: nothing is deleted because something is missing). So may one of a
// cluster that was brought back from its bucket: what the lost log knew last is not there. What
// is unknown when this broker first comes into such a life is kept for good; what is not
// among that later was known to that life, and deleted.
func (b *Broker) dropStrays(image *metadata.Image) {
	if !guard.Check("broker.stray-image", image.Offset() >= uint64(b.registration.epoch.Load())) {
		return
	}
	var unknown []storage.TopicID // in order
	for _, id := range b.store.Partitions() {
		if _, known := image.TopicByID(id.Topic); !known && !slices.Contains(unknown, id.Topic) {
			unknown = append(unknown, id.Topic)
		}
	}
	kept := b.keptStrays(image, unknown)
	for _, id := range unknown {
		if slices.Contains(kept, id) {
			b.log.Warn("records of a topic that the metadata does not know are kept: it was made, or deleted, after the last entry that the cluster was brought back from", "topic-id", id)
			continue
		}
		b.log.Info("dropping records of a topic that was deleted", "topic-id", id)
		b.deleteTopic(id)
	}
}

// keptStrays returns which unknown topics are not to be dropped.
func (b *Broker) keptStrays(image *metadata.Image, unknown []storage.TopicID) []storage.TopicID {
	is, _ := image.Bucket()
	switch {
	case guard.Check("broker.recovered-strays-stay", is.Incarnation <= controller.FirstIncarnation):
		return nil
	case b.opt.RememberStrays == nil:
		return unknown
	case guard.Check("broker.strays-of-this-life", b.opt.Strays.Incarnation == is.Incarnation):
		return b.opt.Strays.Topics
	}
	found := Strays{Incarnation: is.Incarnation, Topics: unknown}
	if err := b.opt.RememberStrays(found); err != nil {
		b.log.Warn("which topics the cluster was brought back without could not be noted; no records of unknown topics are dropped", "error", err)
		return unknown
	}
	b.opt.Strays = found
	return unknown
}
