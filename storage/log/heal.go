package log

import (
	"errors"
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// A log that is refused for frames that were lost (loss.go), and has no other replica, goes on
// where the bucket has all that they can have held: from the committed end on it has its own
// batches, which must be whole. Before that it has none any more, and what is to be known of
// those, and of producers as of there, is the bucket's. A state frame says so, and ends what was
// said of damage before it.

// salvageBytes bounds what is read at a time of the batches that a log keeps.
const salvageBytes = 1 << 20

// heals reports whether states may say what healing needs.
func (s *Store) heals() bool { return s.o.Heals == nil || s.o.Heals() }

// Missing is the offset before which all batches begin that a log which is refused as corrupt
// may lack; false: nothing of the kind is known, or it may not be healed.
func (l *Log) Missing() (below storage.Offset, known bool) {
	why, is := errors.AsType[*CorruptionError](l.Err())
	if !is || why.Missing <= 0 || !l.store.heals() {
		return storage.NoOffset, false
	}
	return why.Missing, true
}

// Heal has a log that is refused as corrupt go on from a committed end that lies behind all
// that it may lack, with what the bucket has of what is before ([Rebuild]). It is neither led
// nor followed, and without Config.KeepLocal. It is in use when Heal returns, and a start that finds it as it was refuses it
// as before. It reads the tail, and waits for room in the WAL. Errors: why it is refused, if the bucket has not all that may be missing, or
// something is missing behind; ErrFull, and the WAL's.
func (l *Log) Heal(at storage.Offset, encoded []byte) error {
	logStart, s, err := decodeReplicaState(encoded)
	if err == nil && s.localStart != at {
		err = fmt.Errorf("%w: it is of a log that begins at %d", errState, s.localStart)
	}
	if err != nil {
		return &ReplicaError{Partition: l.id, Offset: at, Reason: err.Error()}
	}
	why, is := errors.AsType[*CorruptionError](l.Err())
	switch {
	case !is:
		return fmt.Errorf("heal %s: it is not refused as corrupt", l.id)
	case why.Missing <= 0 || !guard.Check("log.heals-by-level", l.store.heals()) || l.config.Load().KeepLocal || !guard.Check("log.heals-covered", why.Missing <= at):
		return why
	}
	tail, epochs, err := l.salvage(at, s.epochs)
	if err != nil {
		return fmt.Errorf("heal %s from %d on: %w", l.id, at, err)
	}
	s.epochs, s.heals = epochs, true
	// The state that is written is as of there: nothing of the tail is in it but its epochs.
	admitted := len(encoded) + 2*frameOverhead + len(epochs)*stateEpoch
	admitted += admitted / maxStatePart * (frameOverhead + stateHeader3)
	if err := l.store.wal.Admit(l.store.ctx, wal.Internal, admitted); err != nil {
		return fmt.Errorf("heal %s from %d on: %w", l.id, at, err)
	}
	defer l.store.wal.Unadmit(admitted)
	millis := l.store.o.Now().UnixMilli()
	l.mu.Lock()
	err = l.heal(why, logStart, &replayed{state: s, sent: tail}, millis)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("heal %s from %d on: %w", l.id, at, err)
	}
	l.tellObserver()
	return nil
}

// salvage reads what the log has from an offset on, which must be whole: of producers, and
// where leader epochs begin, added to those of before.
func (l *Log) salvage(at storage.Offset, epochs epochs) (sent []replayedBatch, _ epochs, err error) {
	for end, first := at, true; ; {
		r := leases.Get().(*lease)
		l.mu.Lock()
		p := l.index.find(end)
		for bytes := 0; bytes < salvageBytes && l.index.valid(p); p = l.index.following(p) {
			b, e := l.index.at(p)
			r.wanted = append(r.wanted, wanted{b.baseOf(p.entry), e.ref})
			bytes += int(e.ref.Length)
		}
		r.synced = l.replica.synced
		l.mu.Unlock()
		if len(r.wanted) == 0 {
			r.release()
			return sent, epochs, nil
		}
		if err := l.load(r); err != nil {
			moved := l.moved(r.wanted)
			r.release()
			if moved {
				continue // it was copied elsewhere meanwhile
			}
			return nil, nil, err
		}
		for _, raw := range r.batches {
			b := batch.Batch(raw)
			if fits := b.BaseOffset() == end || first && b.BaseOffset() < end; !guard.Check("log.heals-whole", fits) {
				r.release()
				return nil, nil, corrupt(l.id, end, "the batch there is missing, the next one is at %d", b.BaseOffset())
			}
			end, first = b.NextOffset(), false
			epochs = epochs.begin(b.LeaderEpoch(), b.BaseOffset())
			if one, is := replayedOf(b); is && b.LastOffset() >= at {
				sent = append(sent, one)
			}
		}
		r.release()
	}
}

// heal does Heal with what was read. l.mu is held.
func (l *Log) heal(why error, logStart storage.Offset, r *replayed, millis int64) error {
	if l.refused != why {
		return l.refused
	}
	at := r.state.localStart
	l.logStart, l.given = logStart, true
	l.localStart, l.released, l.uploaded, l.end = at, at, at, at
	if end, some := l.index.end(); some {
		l.end = max(at, end)
	}
	l.replica.begins(l.end)
	l.replica.highWatermark = at
	l.epochs, l.asOf = r.state.epochs, 0
	r.remember(l, millis)
	l.takeProducers(l.producers)
	healed := l.state(at)
	healed.heals = true
	freed := &release{log: l}
	if err := l.writeAs(healed, freed); err != nil {
		l.uncountProducers(len(l.producers))
		l.producers = nil
		l.noteTransactions(func(t *transactions) { *t = transactions{} })
		return err
	}
	before := l.index.bytes
	freed.refs = l.index.trim(at, freed.refs)
	l.store.indexBytes.Add(l.index.bytes - before)
	l.refused, l.noted = nil, false
	for _, b := range l.index.blocks {
		for i := range b.entries {
			l.backlog.add(b.entries[i].ref)
		}
	}
	if l.backlog.batches > 0 {
		l.queueUpload(millis)
	}
	return nil
}

// healed takes it that a state which ends the damage of before was met: what is missing lies
// before it.
func (rec *recovery) healed(r *replayed) {
	rec.needless = append(rec.needless, r.evidence...)
	r.damage, r.evidence, r.noted = nil, nil, false
	r.proven, r.apart = len(rec.losses), false
}
