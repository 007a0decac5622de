package broker

import (
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// acceptName names one damage of one partition, as Options.AcceptDamage has it: another damage has
// another name, so that what was accepted once accepts nothing that comes later; but a log that is gone
// as a whole is damaged at 0 each time.
func acceptName(topic string, e *log.CorruptionError) string {
	return fmt.Sprintf("%s/%d@%d", topic, e.Partition.Index, e.Offset)
}

// accepts reports whether somebody has accepted that all is lost which a damaged log has behind the
// committed end. Where others are held to have what was acknowledged they are to lead. Under the epoch
// that it is to be led in nobody was shown anything of it yet, so that clients see that its offsets are others' from
// here on (promise 2).
func (o *Options) accepts(topic string, is *metadata.Partition, l *log.Log) bool {
	damage, isDamage := errors.AsType[*log.CorruptionError](l.Err())
	if !isDamage || !guard.Check("broker.accepts-what-is-named", slices.Contains(o.AcceptDamage, acceptName(topic, damage))) {
		return false
	}
	alone := len(others(is.ISR, o.NodeID))+len(others(is.ELR, o.NodeID)) == 0
	return guard.Check("broker.accepts-alone", alone) && guard.Check("broker.accepts-another-epoch", l.History().Epoch < is.LeaderEpoch)
}

// acceptDamage has a damaged log that is to be led begin anew at the committed end, with the producers
// and open transactions that the bucket knows: what it has and is sent again is there once, and of a
// transaction whose marker is lost nobody takes what it has for committed. It is errRebuilding until the
// bucket was asked; where that has lost what would tell, nobody is known. It returns the log to go on with.
func (b *Broker) acceptDamage(p *partition, t *metadata.Topic, is *metadata.Partition, l *log.Log) (*log.Log, error) {
	damage, end := l.Err(), is.CommittedEnd()
	var state []byte
	if b.opt.Tier != nil && 0 < end && is.LogStart <= end {
		var err error
		if state, err = b.rebuild(p.id(), is, nil); errors.Is(err, bucket.ErrNotFound) || errors.As(err, new(*object.CorruptionError)) {
			delete(b.rebuilds.of, p.id())
			b.log.Error("a damaged log is given up, and what the bucket knew of its producers is lost too", "topic", t.Name, "partition", p.index, "error", err)
		} else if err != nil {
			return l, err
		}
	}
	if err := b.store.DropPartition(p.id()); err != nil && !errors.Is(err, log.ErrDropped) {
		return l, fmt.Errorf("give up a damaged log: %w", err)
	}
	anew, err := b.store.Create(p.id(), b.logConfig(b.withDefaults(t), is))
	if err == nil && state != nil {
		err = anew.RestartFromBucket(end, state)
	}
	if err != nil {
		return l, fmt.Errorf("begin a damaged log anew: %w", err)
	}
	b.log.Warn("a damaged log was given up, as wal.accept_damage says: what the bucket has not is lost", "topic", t.Name, "partition", p.index, "committed-end", end, "damage", damage)
	return anew, nil
}

// refusal says of a damaged log that is served by nobody what can be done.
func refusal(topic string, err error) error {
	damage, isDamage := errors.AsType[*log.CorruptionError](err)
	if !isDamage {
		return err
	}
	return fmt.Errorf("%w. To have it go on at the end of what the bucket has, without what is behind: start once with wal.accept_damage = %q", err, acceptName(topic, damage))
}
