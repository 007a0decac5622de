package log

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// With Options.Heal a start goes on without frames of the WAL that were synced and cannot be
// read back. Whose they were is to be found out: a partition that may have had one of them
// is refused, as one that is corrupt, unless it is proved that it lacks nothing:
//
//   - a batch that was appended behind the loss begins where the log ended before it, under
//     the epoch of what stands there. An epoch has one leader, and a log has of it what comes
//     next or nothing, so that two which have a record of one epoch at one offset have all
//     before it in common (KIP-101): what was lost in between was taken back again;
//   - or it was dropped behind the loss: all that was before is void;
//   - or the frame says of what topic it was. A topic id is 16 random bytes: what differs
//     from one in a few bits is that one. The partition is believed only where the frame is
//     a batch that has its header's offset and a wrong CRC: then it is not the frame's header
//     that is damaged.
//
// A loss is settled ([Store.SettleLosses]) once whoever counts upon the replicas that are
// refused was told.

// mostOtherBits of the 128 of a topic id may be wrong in one that is taken for it.
const mostOtherBits = 8

// loss is frames that were lost, in one place of the WAL.
type loss struct {
	why   *wal.CorruptionError
	frame *wal.Header // see [wal.Loss]
	whole bool        // its payload is a whole batch, or nothing that can be judged
	named bool        // it is of a topic that is known: frame names it
}

func lossOf(l wal.Loss) loss {
	is := loss{why: l.Why, frame: l.Frame, whole: true}
	if l.Frame == nil || l.Frame.Kind != wal.KindData {
		return is
	}
	if b, rest, err := batch.Next(l.Payload); err == nil && len(rest) == 0 && b.BaseOffset() == l.Frame.Offset {
		is.whole = b.ComputeCRC() == b.CRC()
	}
	return is
}

// name finds the topic that the frame is of among those that are known.
func (l *loss) name(topics map[storage.TopicID]bool) {
	if l.frame == nil {
		return
	}
	for id := range topics {
		if l.named = otherBits(id, l.frame.Partition.Topic) <= mostOtherBits; l.named {
			l.frame.Partition.Topic = id
			return
		}
	}
}

func otherBits(a, b storage.TopicID) (n int) {
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}

// mayBeOf reports whether what was lost may have been a partition's.
func (l *loss) mayBeOf(id storage.PartitionID) bool {
	switch {
	case l.frame == nil || !guard.Check("log.loss-unnamed", l.named):
		return true
	case l.frame.Partition.Topic != id.Topic:
		return false
	}
	return !guard.Check("log.loss-index", !l.whole) || l.frame.Partition.Index == id.Index
}

// lose notes a loss, between the frames on both sides.
func (rec *recovery) lose(l wal.Loss) { rec.losses = append(rec.losses, lossOf(l)) }

// prove notes that r lacks nothing of what was lost so far, if a batch that was appended
// shows it.
func (rec *recovery) prove(r *replayed, base storage.Offset, epoch storage.Epoch) {
	if r.proven == len(rec.losses) || r.apart {
		return
	}
	end, some := r.index.end()
	if !some {
		end, epoch = r.localStart, r.stands.latest() // there is nothing that may be another's
	}
	// What lies behind a gap says nothing of it, and a truncation may hide it later. Nor does
	// what goes on from a batch of another epoch, which itself came behind the loss.
	continues := guard.Check("log.loss-continues", base == end)
	r.apart = !continues || !guard.Check("log.loss-epoch", epoch == r.stands.latest())
	if !r.apart {
		r.proven = len(rec.losses)
	}
}

// suspect condemns the partitions that may lack something of what was lost.
func (rec *recovery) suspect() {
	if len(rec.losses) == 0 {
		return
	}
	topics := map[storage.TopicID]bool{}
	for id := range rec.partitions {
		topics[id.Topic] = true
	}
	for i := range rec.losses {
		rec.losses[i].name(topics)
	}
	for id, r := range rec.partitions {
		for i := range rec.losses {
			if rec.lacks(id, r, i) {
				rec.condemn(id, r, rec.losses[i].why)
				break
			}
		}
	}
}

// condemn notes that a partition may lack something of what was lost, if that is not all that
// is the matter with it: then what it lacked before is no less.
func (rec *recovery) condemn(id storage.PartitionID, r *replayed, why *wal.CorruptionError) {
	missing := rec.missing(id, r)
	if r.damage == nil {
		end, _ := r.index.end()
		r.damaged(id, max(end, r.localStart), "%v; they may have been of this partition", why)
		r.damage.Missing = missing
	} else if before := r.damage.Missing; before > 0 && !guard.Check("log.second-loss", 0 < missing && missing <= before) {
		if r.damage.Missing = max(before, missing); missing == 0 {
			r.damage.Missing = 0
		}
		r.noted = false
	}
}

// lacks reports whether something of a partition may be among what was lost.
func (rec *recovery) lacks(id storage.PartitionID, r *replayed, i int) bool {
	// Its newest state may be what is lost: an older one must know what is not here.
	lacks := i >= r.proven || !guard.Check("log.loss-state", i < r.statedAt || r.localStart <= r.state.knows())
	return lacks && rec.losses[i].mayBeOf(id)
}

// missing is the offset before which all batches begin that a partition may lack: that of the
// next that was appended to it behind the loss, or of the batch that the frame was; 0: nothing
// tells.
func (rec *recovery) missing(id storage.PartitionID, r *replayed) storage.Offset {
	most := storage.Offset(0)
	for i := range rec.losses {
		if !rec.lacks(id, r, i) {
			continue
		}
		below := storage.Offset(math.MaxInt64)
		if i < len(r.after) {
			below = r.after[i]
		}
		if l := &rec.losses[i]; l.named && !l.whole {
			below = min(below, l.frame.Offset+1)
		}
		most = max(most, below)
	}
	if end, _ := r.index.end(); r.state.highWatermark > end { // what was committed is not there
		most = max(most, r.state.highWatermark)
	}
	if most == math.MaxInt64 {
		return 0
	}
	return most
}

// follow notes a batch that was appended behind what was lost so far.
func (rec *recovery) follow(r *replayed, base storage.Offset) {
	for len(r.after) < len(rec.losses) {
		r.after = append(r.after, base)
	}
}

// OnDamage has f told, from now on, of partitions of which a batch that lies in the WAL, and
// should be readable, is not what was written. It must not block, nor call the store.
func (s *Store) OnDamage(f func(id storage.PartitionID, why error)) { s.onDamage.Store(&f) }

// damaged tells of what could not be read, if the batches that were wanted are still to lie there.
func (l *Log) damaged(of []wanted, why error) {
	f := l.store.onDamage.Load()
	if f != nil && (errors.As(why, new(*wal.CorruptionError)) || errors.As(why, new(*CorruptionError))) && !l.moved(of) {
		(*f)(l.id, why)
	}
}

// Losing reports whether this start went on without a part of the WAL, and the losses are
// not settled: partitions that the store does not know may have been lost with it.
func (s *Store) Losing() bool { return s.wal.Losing() }

// Condemn refuses a partition as corrupt, also after a restart, until it is dropped; one
// that there is not is made, empty. It is on disk when Condemn returns.
func (s *Store) Condemn(id storage.PartitionID, why string) error {
	l, err := s.Create(id, *s.config)
	if err != nil {
		return err
	}
	l.refuse(corrupt(id, l.End(), "%s", why))
	return s.keepDamage(s.ctx, []*Log{l})
}

// SettleLosses has the next start not come back to what this one went on without.
func (s *Store) SettleLosses() error { return s.wal.SettleLosses() }

// noteLosses makes it durable which logs are corrupt, for what shows it may go with the
// segment that it lies in.
func (s *Store) noteLosses() error {
	if !s.wal.Losing() {
		return nil
	}
	return s.keepDamage(s.ctx, s.all())
}

// keepDamage writes down why logs are corrupt, of those that are and do not say so yet: a
// start that fails before the loss is settled, over and over, must not fill the WAL.
func (s *Store) keepDamage(ctx context.Context, logs []*Log) error {
	for _, l := range logs {
		why, is := errors.AsType[*CorruptionError](l.Err())
		l.mu.Lock()
		noted := l.noted
		l.mu.Unlock()
		if !is || !guard.Check("log.damage-noted-once", !noted) {
			continue
		}
		admitted := frameOverhead + damageHeader + missingSize + min(len(why.Reason), maxReason)
		if err := s.wal.Admit(ctx, wal.Internal, admitted); err != nil {
			return fmt.Errorf("write that %s is corrupt: %w", l.id, err)
		}
		l.mu.Lock()
		err := l.restateDamage(why)
		l.mu.Unlock()
		s.wal.Unadmit(admitted)
		if err != nil {
			return err
		}
	}
	return s.wal.Flush(ctx)
}

// Corrupt lists the partitions whose logs are corrupt, in no order.
func (s *Store) Corrupt() []storage.PartitionID {
	var ids []storage.PartitionID
	for _, l := range s.all() {
		if errors.As(l.Err(), new(*CorruptionError)) {
			ids = append(ids, l.id)
		}
	}
	return ids
}
