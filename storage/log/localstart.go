package log

import (
	"context"
	"errors"
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// LocalStart is the first offset that the WAL still has, or may get: below it,
// down to the log start, records are in the bucket alone. It never moves back,
// and moves by itself.
func (l *Log) LocalStart() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.localStart
}

// Evict gives up, in every log, what the bucket has, as the WAL does by itself,
// oldest segment first, when it wants room. The room comes back once that is on
// disk.
func (s *Store) Evict(ctx context.Context) error {
	for _, l := range s.all() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("evict what was uploaded: %w", err)
		}
		l.mu.Lock()
		from, to := l.localStart, l.dispensable()
		l.mu.Unlock()
		if from == to {
			continue
		}
		if err := l.advanceLocalStart(to, false); err != nil {
			return fmt.Errorf("evict what was uploaded of %s: %w", l.id, err)
		}
	}
	return nil
}

// dispensable is where what the bucket has, and the WAL need not have, ends. l.mu is
// held.
func (l *Log) dispensable() storage.Offset {
	if !guard.Check("log.keep-local", !l.config.Load().KeepLocal) {
		return l.localStart
	}
	return l.released
}

// advanceLocalStart makes to the local start, if it is not behind that already; restate
// says that the log's state is to be written anew too.
func (l *Log) advanceLocalStart(to storage.Offset, restate bool) error {
	admitted, err := l.admitState()
	if err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if corrupt, is := errors.AsType[*CorruptionError](l.refused); is && restate {
		return l.restateDamage(corrupt)
	}
	if l.refused != nil {
		return nil // dropped, or corrupt: it stays as it is
	}
	if to = max(to, l.localStart); to == l.localStart && !restate {
		return nil
	}
	return l.startAt(to, restate)
}

// uploadedIn returns the end of the last batch in a segment that the bucket has,
// or NoOffset. A log has one local start, so all before it goes with it.
func (l *Log) uploadedIn(segment uint32) storage.Offset {
	end, from := storage.NoOffset, storage.Offset(0)
	for more := true; more; {
		l.mu.Lock()
		p := l.index.find(max(from, l.localStart))
		for n, looked := 0, 0; n < relocateEntries && l.index.valid(p); n += looked {
			if p, looked = l.index.nextIn(segment, p, relocateEntries-n); !l.index.valid(p) {
				break
			}
			b, e := l.index.at(p)
			if from = b.baseOf(p.entry); e.ref.Segment != segment {
				break // not before all that this step may look at
			}
			next := b.nextOf(p.entry)
			if !guard.Check("log.evict-uploaded", next <= l.dispensable()) {
				p = place{len(l.index.blocks), 0} // nor is anything behind it
				break
			}
			end, from = next, next
			p = l.index.following(p)
		}
		more = l.index.valid(p)
		l.mu.Unlock()
	}
	return end
}

// startAt makes offset the local start, on disk, and lets go of what lies before
// it once it is there. What the batches that go said of epochs and producers must
// be known elsewhere: if no state knows it, or with restate, one is written. So it is
// if the last one knows producers that are forgotten since: of a transaction that it
// says is open, the marker may be among what goes. The caller has set what else the state says. l.mu is held.
func (l *Log) startAt(offset storage.Offset, restate bool) error {
	was := l.localStart
	l.localStart = offset
	freed := &release{log: l}
	var err error
	if !restate && guard.Check("log.state-before-trim", l.stateAsOf >= offset || len(l.producers) == 0 && !l.stateKnows && l.transactions.none() && l.stateEpoch == l.epochs.latest()) {
		_, err = l.store.wal.Append(wal.Header{Kind: wal.KindTrim, Partition: l.id, Epoch: l.epochs.latest(), Offset: offset}, nil, freed)
	} else {
		err = l.writeState(freed)
	}
	if err != nil {
		l.localStart = was
		return err
	}
	l.discount(offset)
	l.released, l.uploaded = max(l.released, offset), max(l.uploaded, offset)
	l.noteTransactions(func(t *transactions) { t.trim(offset, l.uploaded) })
	before := l.index.bytes
	freed.refs = l.index.trim(offset, freed.refs)
	l.store.indexBytes.Add(l.index.bytes - before)
	l.end = max(l.end, offset)
	l.replica.onDisk(offset)
	return nil
}

// discount takes the batches that end at or before offset, and are about to go,
// out of what is counted. l.mu is held.
func (l *Log) discount(offset storage.Offset) {
	lost, kept := tally{wal: l.store.wal}, l.config.Load().KeepLocal
	for p := (place{}); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		next := b.nextOf(p.entry)
		if next > offset {
			break
		}
		switch {
		case next > l.uploaded:
			l.backlog.remove(e.ref)
		case next <= l.released && !kept:
			lost.add(e.ref, -1)
		}
	}
	lost.report()
}
