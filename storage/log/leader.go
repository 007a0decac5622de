package log

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// BecomeLeader makes the log take appends under the epoch, which must be newer
// than every epoch in the log: a process leads only what was given to its own
// registration, so an epoch that it finds on its disk is not its own.
// What SetReplicas said is for this epoch; what followers confirmed before counts no more.
// Of a log that was followed, all that the controller said of the log start and of what
// the bucket has is taken for committed now. Who is elected calls Resign, SetLogStart,
// SetUploaded, SetReplicas and BecomeLeader, in this order. Leading an epoch again that is led already
// does nothing. Errors: ErrFenced, and those of SetUploaded.
func (l *Log) BecomeLeader(epoch storage.Epoch) error {
	l.mu.Lock()
	if l.refused != nil {
		defer l.mu.Unlock()
		return l.refused
	}
	if l.epoch == epoch {
		l.mu.Unlock()
		return nil
	}
	newest := max(l.newest, l.epochs.latest())
	fenced := epoch < 0 || !guard.Check("log.leader-epoch", epoch > newest)
	follows := l.followed != storage.NoEpoch
	if !fenced && follows {
		l.followed = storage.NoEpoch // nothing is replicated to it from here on
	}
	l.mu.Unlock()
	if fenced {
		return fmt.Errorf("lead %s at epoch %d, %d is in the log: %w", l.id, epoch, newest, ErrFenced)
	}
	if err := l.takeOver(); err != nil {
		return fmt.Errorf("lead %s at epoch %d: %w", l.id, epoch, err)
	}
	l.mu.Lock()
	if l.refused != nil || l.followed != storage.NoEpoch || l.newest >= epoch {
		defer l.mu.Unlock()
		if l.refused != nil {
			return l.refused
		}
		return fmt.Errorf("lead %s at epoch %d, %d came meanwhile: %w", l.id, epoch, l.newest, ErrFenced)
	}
	if !l.given {
		l.given = true
		l.epochs = l.epochs.trim(l.logStart)
	}
	l.epoch, l.newest = epoch, epoch
	l.epochs = l.epochs.begin(epoch, l.end)
	l.replica.lead(l.end)
	l.endVerifications(math.MaxInt64)
	if l.backlog.batches > 0 && l.store.o.Tiered && !l.backlog.listed {
		l.store.backlogs.push(l)
	}
	// What was recovered is on disk: with one replica that is all it takes.
	o := l.advance()
	l.producers.settle(l.replica.durable())
	l.mu.Unlock()
	o.tell(l)
	return nil
}

// Resign ends the epoch that is led or followed: appends that were not answered are refused
// with ErrNotLeader. It is for a broker that was elected, so that what the controller says
// before BecomeLeader is taken: under its new epoch, what its log has is the leader's.
func (l *Log) Resign() {
	l.mu.Lock()
	l.rest()
	parked, woken := l.parked, l.takeWaiters(nil)
	l.parked = nil
	l.mu.Unlock()
	for _, p := range parked {
		p.refuse(ErrNotLeader)
	}
	wake(woken)
}

// takeOver has a log that is about to be led take for committed what the controller said
// while it was followed: what it has is the leader's now.
func (l *Log) takeOver() error {
	l.mu.Lock()
	t, ahead := l.told, l.asOf > l.end
	l.mu.Unlock()
	if ahead {
		if err := l.forgetProducers(); err != nil {
			return err
		}
	}
	if t.logStart != storage.NoOffset {
		if err := l.SetLogStart(t.logStart); err != nil {
			return err
		}
	}
	if t.uploaded != storage.NoOffset {
		if err := l.SetUploaded(t.uploaded); err != nil {
			return err
		}
	}
	if t.released != storage.NoOffset {
		l.Release(t.released)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told == t {
		l.told = nothingTold
	}
	return nil
}

// idle reports whether the log is neither led nor followed. l.mu is held.
func (l *Log) idle() bool { return l.epoch == storage.NoEpoch && l.followed == storage.NoEpoch }

// rest ends what is led or followed. l.mu is held.
func (l *Log) rest() {
	l.epoch, l.followed = storage.NoEpoch, storage.NoEpoch
	l.replica.rest()
}

// Replicas are the other brokers that hold a partition, by node id.
type Replicas struct {
	InSync  []int32 // in the committed set of those in sync, this broker left out
	Pending []int32 // that were proposed to join it: waited for, but not counted
}

// SetReplicas says who must hold a record before it is committed: this broker, those in
// sync and those pending. It is for the epoch that is led, or the one that BecomeLeader
// begins next: a log that was told of no replicas since it was last led or followed leads
// alone. A smaller set binds at once. With fewer in sync than Config.MinInSync the high watermark
// stands, and appends that wait for it are refused with
// ErrNotEnoughReplicasAfterAppend, unless they are LeaderOnly.
func (l *Log) SetReplicas(r Replicas) {
	l.mu.Lock()
	l.replica.set(r)
	o := l.advance()
	l.mu.Unlock()
	o.tell(l)
}

// Confirmer is who passes on what a follower confirms. Stands reports whether its word counts, and
// counts no more once [Log.Forget] is called behind it. It is called with the log locked: it must not
// block, nor call the log.
type Confirmer interface{ Stands() bool }

// Confirm says that a follower has what is led under the epoch up to an offset: on disk, but
// with Config.EarlyAcks.
// Of several that come the largest counts; they count for nothing once the epoch ends,
// or the follower is forgotten. Errors: ErrFenced, another epoch is led.
func (l *Log) Confirm(replica int32, synced storage.Offset, leaderEpoch storage.Epoch) error {
	return l.ConfirmBy(nil, replica, synced, leaderEpoch)
}

// ConfirmBy is Confirm of what somebody passes on; nil: who stands. Errors: ErrFenced also where its
// word does not stand any more.
func (l *Log) ConfirmBy(by Confirmer, replica int32, synced storage.Offset, leaderEpoch storage.Epoch) error {
	l.mu.Lock()
	if l.epoch == storage.NoEpoch || !guard.Check("log.confirm-epoch", leaderEpoch == l.epoch) {
		defer l.mu.Unlock()
		return fmt.Errorf("replica %d confirms %s under epoch %d, %d is led: %w", replica, l.id, leaderEpoch, l.epoch, ErrFenced)
	}
	if by != nil && !guard.Check("log.confirm-stands", by.Stands()) {
		defer l.mu.Unlock()
		return fmt.Errorf("replica %d confirms %s by a stream that has ended: %w", replica, l.id, ErrFenced)
	}
	l.replica.confirm(replica, synced)
	o := l.advance()
	l.mu.Unlock()
	o.tell(l)
	return nil
}

// Forget takes back what a follower has confirmed: its stream, or its process, has ended,
// or it is about to be told to shorten its log. Nothing is committed that it does not
// confirm anew, if it is one of those that count.
func (l *Log) Forget(replica int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replica.forget(replica)
}

// outcome is who is to be told, without the lock, of where the high watermark stands now.
type outcome struct {
	moved bool
	tells bool       // those that it has passed
	vain  []*pending // it will not pass them for want of replicas
	woken []Waiter
}

var outcomes = sync.Pool{New: func() any { return new(outcome) }}

// advance lets the high watermark move as far as it may. l.mu is held.
func (l *Log) advance() *outcome {
	o := outcomes.Get().(*outcome)
	minInSync := l.config.Load().MinInSync
	l.replica.stored = max(l.replica.stored, l.uploaded)
	if o.moved = l.replica.advance(minInSync); o.moved {
		l.settleTransactions()
		l.passParked()
		o.woken = l.takeReached(o.woken)
	}
	o.tells = l.beginTelling()
	if l.replica.leads && !l.replica.enough(minInSync) {
		o.vain = l.takeVain(o.vain)
	}
	return o
}

// tell tells who is to be told.
func (o *outcome) tell(l *Log) {
	if o.tells {
		l.tellPassed()
	}
	for _, p := range o.vain {
		p.refuse(ErrNotEnoughReplicasAfterAppend)
	}
	wake(o.woken)
	if o.moved {
		l.tellObserver()
	}
	clear(o.vain)
	clear(o.woken)
	*o = outcome{vain: o.vain[:0], woken: o.woken[:0]}
	outcomes.Put(o)
}

// takeVain removes the appends that wait for all replicas in sync, and appends them to
// out; but those of coordinators, who are told what became of them, and not before that
// is certain. l.mu is held.
func (l *Log) takeVain(out []*pending) []*pending {
	kept := l.parked[:0]
	for _, p := range l.parked {
		if p.leaderOnly || !guard.Check("log.coordinators-wait", !p.patient) {
			kept = append(kept, p)
		} else {
			out = append(out, p)
		}
	}
	clear(l.parked[len(kept):])
	l.parked = kept
	return out
}

// Expire answers with ErrTimedOut the appends whose deadline is over and that wait for
// other replicas, or the bucket. They are in the log, and may be committed yet.
func (l *Log) Expire(now time.Time) {
	l.mu.Lock()
	var over []*pending
	kept := l.parked[:0]
	for _, p := range l.parked {
		if p.deadline.IsZero() || now.Before(p.deadline) {
			kept = append(kept, p)
		} else {
			over = append(over, p)
		}
	}
	clear(l.parked[len(kept):])
	l.parked = kept
	l.mu.Unlock()
	for _, p := range over {
		p.refuse(ErrTimedOut)
	}
}

// Progress is how far a log has come, all as of one moment.
type Progress struct {
	Epoch storage.Epoch // that is led; NoEpoch: none, and the rest is not for followers

	// Synced is what this broker has on disk; with Config.EarlyAcks, what it has at all.
	LogStart, HighWatermark, Synced, End storage.Offset
}

// Progress returns the log's. Who sends it to a follower compares the epoch with the one
// that it sends for.
func (l *Log) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Progress{Epoch: l.epoch, LogStart: l.logStart, HighWatermark: l.replica.highWatermark, Synced: l.replica.held, End: l.end}
}

// Latest is [Log.Offsets] for who asks where a log that is led ends: that is known only
// once its high watermark has passed the start of its epoch, for before it may have been
// further under the last one (KIP-207). Errors: ErrOffsetNotAvailable, ErrNotLeader, and
// the log's own.
func (l *Log) Latest() (Offsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.refused != nil:
		return Offsets{}, l.refused
	case l.epoch == storage.NoEpoch:
		return Offsets{}, ErrNotLeader
	case !guard.Check("log.latest-settled", l.replica.settled()):
		return Offsets{}, fmt.Errorf("%s is committed to %d, epoch %d begins at %d: %w", l.id, l.replica.highWatermark, l.epoch, l.replica.start, ErrOffsetNotAvailable)
	}
	return Offsets{LogStart: l.logStart, LastStable: l.lastStable(), HighWatermark: l.replica.highWatermark}, nil
}

// readable says why an offset within the log cannot be read yet, if that is not because
// nothing came behind it: it may have been committed under an epoch of which this broker
// does not know it. l.mu is held.
func (l *Log) readable(offset storage.Offset) error {
	lags := l.followed != storage.NoEpoch || !l.replica.settled()
	if !guard.Check("log.read-settled", offset <= l.replica.highWatermark || !lags) {
		return fmt.Errorf("read %s at %d, it is committed to %d: %w", l.id, offset, l.replica.highWatermark, ErrOffsetNotAvailable)
	}
	return nil
}

// Observer is told that a log has moved. LogMoved must not block; it is called without
// any lock of the log, from any goroutine, and may be called once more than there is
// cause for.
type Observer interface{ LogMoved(l *Log) }

// Observe has o told, from now on, when the log's end or its high watermark has moved; of
// a log that is followed, when more of it is on disk; of one that is led, when a read of
// what is not on disk yet ended early, for want of memory to pin, and what it left out is
// on disk. nil: nobody is told any more, but by a call that is under way.
func (l *Log) Observe(o Observer) {
	if o == nil {
		l.observer.Store(nil)
		return
	}
	l.observer.Store(&o)
}

func (l *Log) tellObserver() {
	if o := l.observer.Load(); o != nil {
		(*o).LogMoved(l)
	}
}

// starve notes that a read ends early before an offset that is not on disk, unless it is
// by now.
func (l *Log) starve(at storage.Offset) (onDisk bool) {
	l.starved.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	return at < l.replica.synced
}

// fed reports whether a read ended early since it was last asked.
func (l *Log) fed() bool { return l.starved.Load() && l.starved.Swap(false) }

// ReplicaState returns what a follower needs to know of what lies before at, where the
// bucket's part ends, to begin there ([Log.Restart]): log start, leader epochs, producers
// and open transactions, as of the high watermark. It takes up to 170 bytes for a
// producer. Errors: ErrNotLeader, and the log's own.
func (l *Log) ReplicaState() (encoded []byte, at storage.Offset, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return nil, storage.NoOffset, l.refused
	}
	if l.epoch == storage.NoEpoch {
		return nil, storage.NoOffset, ErrNotLeader
	}
	at = l.anew()
	s := state{
		localStart: at, highWatermark: at, asOf: max(l.asOf, l.replica.highWatermark),
		epochs: slices.Clone(l.epochs).truncate(at), producers: l.producers,
	}
	s.take(&l.transactions)
	return encodeReplicaState(l.logStart, &s), at, nil
}

// anew is where who begins anew as the log's follower begins: all before is in the bucket. l.mu is held.
func (l *Log) anew() storage.Offset {
	if !guard.Check("log.keep-local-whole", !l.config.Load().KeepLocal) {
		return l.localStart
	}
	return l.uploaded
}
