package log

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// When states are written anew though nothing goes from the WAL: a start takes each
// producer that it finds behind its log's state for one that was heard of then, and
// goes over every batch of it.
const (
	restateLook    = time.Minute     // how often it is looked
	restateAfter   = time.Hour       // what the state is old by; expiry has days
	restateBatches = 64 << 10        // of producers, behind the state: 56 bytes each in a start
	restateOnClose = 2 * time.Second // a start can do without, and a stop has a bound
)

// producerLoop forgets producers that were not heard of for long, and writes states.
// It waits for its tickers, the logs' locks, and, for a look's time, for room in the
// WAL. clock was looked at when it began.
func (s *Store) producerLoop(clock *producerClock) {
	began := time.Now()
	expire := time.NewTicker(max(s.o.ProducerExpiry/16, time.Second))
	defer expire.Stop()
	look := time.NewTicker(restateLook)
	defer look.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-expire.C:
			now := s.o.Now()
			s.forgetSilent(now, clock.look(now, time.Since(began)))
		case <-look.C:
			ctx, cancel := context.WithTimeout(s.ctx, restateLook)
			// It is tried again: what goes wrong now is that the WAL is full, or
			// dead, which others say.
			_ = s.restate(ctx, s.o.Now().Add(-restateAfter).UnixMilli(), restateBatches)
			cancel()
			for _, l := range s.all() {
				l.takeTold()
			}
		}
	}
}

// restate writes the states of the logs behind whose state so many batches of
// producers lie, or one, if it was written before millis.
func (s *Store) restate(ctx context.Context, millis int64, batches int) error {
	for _, l := range s.all() {
		l.mu.Lock()
		stale := l.unstated()
		due := stale >= batches || stale > 0 && l.statedAt < millis
		l.mu.Unlock()
		if !due {
			continue
		}
		if err := l.restate(ctx); err != nil {
			return fmt.Errorf("write the state of %s: %w", l.id, err)
		}
	}
	return nil
}

// restateAll writes what the next start would have to find out, after all that was
// appended is committed.
func (s *Store) restateAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), restateOnClose)
	defer cancel()
	if err := s.wal.Flush(ctx); err != nil {
		return err
	}
	return s.restate(ctx, 0, 1)
}

// unstated is how many batches and markers of producers a new state would say that
// the last one does not. l.mu is held.
func (l *Log) unstated() int {
	if l.refused != nil || l.replica.highWatermark <= l.stateAsOf {
		return 0
	}
	return l.stale
}

// restate writes the log's state, which is of use, but not needed: it does not take
// from the reserve.
func (l *Log) restate(ctx context.Context) error {
	admitted, err := l.admitStateOf(ctx, wal.Produce)
	if err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unstated() == 0 {
		return nil
	}
	return l.writeState(&release{log: l})
}

// silence is a producer that may be forgotten, and since when nothing came of it.
type silence struct {
	log    *Log
	id     int64
	millis int64
	at     wal.Ref // the last of it in the WAL, which tells the order of one start
}

// forgetExcess forgets those that were silent for longest of more producers than
// there may be, unless they have a transaction open. Open alone calls it: who had
// been forgotten since a state was written is found again behind it.
func (s *Store) forgetExcess() {
	excess := int(s.producers.Load()) - s.o.MaxProducers
	if guard.Check("log.recovered-producers", excess <= 0) {
		return
	}
	var all []silence
	for _, l := range s.logs {
		for id, p := range l.producers {
			if p.open == storage.NoOffset {
				all = append(all, silence{l, id, p.millis, l.lastOf(p)})
			}
		}
	}
	slices.SortFunc(all, func(a, b silence) int {
		return cmp.Or(cmp.Compare(a.millis, b.millis), cmp.Compare(a.at.Segment, b.at.Segment), cmp.Compare(a.at.Offset, b.at.Offset))
	})
	gone := all[:min(excess, len(all))]
	for _, x := range gone {
		delete(x.log.producers, x.id)
		x.log.uncountProducers(1)
	}
}

// lastOf is where the last batch or marker of a producer lies, if the WAL has it.
func (l *Log) lastOf(p *producer) wal.Ref {
	last := p.lastMark().offset
	if len(p.sent) > 0 {
		last = max(last, p.latest().last)
	}
	at := l.index.find(last)
	if !l.index.valid(at) {
		return wal.Ref{}
	}
	_, e := l.index.at(at)
	return e.ref
}
