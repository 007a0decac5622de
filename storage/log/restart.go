package log

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// A replica state, which a leader sends, is a header and the state of a log whose WAL
// begins where the follower is to, in one part; see doc.go.
const (
	replicaVersion = 1
	replicaHeader  = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeReplicaState(logStart storage.Offset, s *state) []byte {
	b := make([]byte, replicaHeader, replicaHeader+stateHeader3)
	b[0] = replicaVersion
	binary.LittleEndian.PutUint64(b[8:], uint64(logStart))
	b = append(b, s.encode(math.MaxInt)[0]...)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func decodeReplicaState(b []byte) (logStart storage.Offset, s state, err error) {
	if len(b) < replicaHeader || b[0] != replicaVersion || b[1]|b[2]|b[3] != 0 {
		return 0, s, fmt.Errorf("%w: no replica's, or of another version", errState)
	}
	if got, want := crc32.Checksum(b[8:], castagnoli), binary.LittleEndian.Uint32(b[4:]); !guard.Check("log.replica-state-crc", got == want) {
		return 0, s, fmt.Errorf("%w: crc32c is %08x, it says %08x", errState, got, want)
	}
	last, err := s.decode(b[replicaHeader:])
	if err != nil {
		return 0, s, err
	}
	logStart = storage.Offset(binary.LittleEndian.Uint64(b[8:]))
	if !last || logStart < 0 || logStart > s.localStart || s.highWatermark != s.localStart {
		return 0, s, fmt.Errorf("%w: log start %d, local start %d, high watermark %d", errState, logStart, s.localStart, s.highWatermark)
	}
	return logStart, s, nil
}

// Restart has a log that follows the epoch begin anew at an offset where nothing is
// missing, because the bucket has what lies before: all its batches are given up, and
// what must be known of those before is taken from the leader's [Log.ReplicaState]. It
// does not give up what is committed here, but with Config.EarlyAcks, where the leader may
// have lost that in a power cut: see [Log.RestartDiscarding]. Until the log has reached the
// leader's high watermark as of the state, it can follow, also after a restart of the
// process, but is led only without knowing producers. Errors: ErrFenced,
// *OffsetOutOfRangeError, ErrFull, *ReplicaError for a state that does not hold together,
// and why the log serves nothing.
func (l *Log) Restart(at storage.Offset, encoded []byte, leaderEpoch storage.Epoch) error {
	return l.restartAt(at, encoded, leaderEpoch, false)
}

// RestartDiscarding is Restart for a log that holds what its leader does not, though it is
// committed here: the leader was elected without it, as somebody asked for, or has it and
// sends it again. What the log has goes, and its high watermark may move back. It is for
// replicas that nobody counts upon: in no ISR or ELR. Errors: those of Restart;
// *OffsetOutOfRangeError before the log start.
func (l *Log) RestartDiscarding(at storage.Offset, encoded []byte, leaderEpoch storage.Epoch) error {
	return l.restartAt(at, encoded, leaderEpoch, true)
}

// RestartFromBucket is Restart for a log that is neither led nor followed, with what the
// bucket has of all before ([Rebuild]): what lies behind the committed end here was never
// committed, or is not what was. Errors: those of Restart.
func (l *Log) RestartFromBucket(at storage.Offset, encoded []byte) error {
	return l.restartAt(at, encoded, storage.NoEpoch, false)
}

// restartAt does Restart, or, with discard, RestartDiscarding; under no epoch,
// RestartFromBucket.
func (l *Log) restartAt(at storage.Offset, encoded []byte, leaderEpoch storage.Epoch, discard bool) error {
	logStart, s, err := decodeReplicaState(encoded)
	if err == nil && s.localStart != at {
		err = fmt.Errorf("%w: it is of a log that begins at %d", errState, s.localStart)
	}
	if err != nil {
		return &ReplicaError{Partition: l.id, Offset: at, Reason: err.Error()}
	}
	admitted := len(encoded) + 3*frameOverhead + len(encoded)/maxStatePart*(frameOverhead+stateHeader3+stateProducer+dedupeBatches*stateBatch)
	if err := l.store.wal.Admit(l.store.ctx, wal.Replication, admitted); err != nil {
		return fmt.Errorf("begin %s anew at %d: %w", l.id, at, err)
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	woken, err := l.restart(logStart, &s, leaderEpoch, discard)
	l.mu.Unlock()
	wake(woken)
	if err != nil {
		return fmt.Errorf("begin %s anew at %d: %w", l.id, at, err)
	}
	l.tellObserver()
	return nil
}

// restart does restartAt. l.mu is held.
func (l *Log) restart(logStart storage.Offset, s *state, leaderEpoch storage.Epoch, discard bool) ([]Waiter, error) {
	at := s.localStart
	if l.refused != nil {
		return nil, l.refused
	}
	if l.epoch != storage.NoEpoch || !guard.Check("log.restart-epoch", leaderEpoch == l.followed) {
		return nil, fmt.Errorf("under epoch %d, %d is followed: %w", leaderEpoch, l.followed, ErrFenced)
	}
	if !guard.Check("log.restart-committed", at >= l.replica.highWatermark || (discard || l.replica.early) && at >= l.logStart) {
		return nil, &OffsetOutOfRangeError{Offset: at, LogStart: l.replica.highWatermark, End: math.MaxInt64}
	}
	// The log is dropped, and there is another from here on: so a start that finds but a
	// part of the state finds no log.
	h := wal.Header{Kind: wal.KindDrop, Partition: l.id, Epoch: leaderEpoch, Offset: storage.NoOffset}
	if _, err := l.store.wal.Append(h, nil, &dropRelease{wal: l.store.wal, refs: l.everything(nil)}); err != nil {
		return nil, err
	}
	for p := l.inFlight.first; p != nil; p = p.next {
		p.cancelled = true
	}
	l.discount(l.end)
	l.store.indexBytes.Add(-l.index.bytes)
	l.index, l.stateRefs = index{}, nil
	if !l.given || logStart > l.logStart {
		l.logStart, l.given = logStart, true
	}
	l.localStart, l.released, l.uploaded, l.end = at, at, at, at
	l.replica.begins(at)
	l.replica.highWatermark, l.replica.told = at, storage.NoOffset
	l.epochs, l.asOf, l.asOfEpoch = s.epochs.trim(l.logStart).truncate(at), s.asOf, leaderEpoch
	l.uncountProducers(len(l.producers))
	l.producers = s.producers
	l.takeProducers(l.producers)
	l.producers.hear(l.store.o.Now().UnixMilli()) // when they were, others say by their own clocks
	l.noteTransactions(func(t *transactions) { t.restore(s) })
	if err := l.writeState(&release{log: l}); err != nil {
		l.refused = fmt.Errorf("%s was to begin anew at %d: %w", l.id, at, err)
		return l.takeWaiters(nil), l.refused
	}
	return l.takeWaiters(nil), nil
}

// takeProducers counts producers that a leader knew. Of more than there may be, those
// silent for longest are forgotten, unless they have a transaction open.
func (l *Log) takeProducers(of producers) {
	excess := l.addProducers(len(of)) - 2*int64(l.store.o.MaxProducers)
	if excess <= 0 {
		return
	}
	var silent []int64
	for id, p := range of {
		if p.open == storage.NoOffset {
			silent = append(silent, id)
		}
	}
	slices.SortFunc(silent, func(a, b int64) int { return cmp.Or(cmp.Compare(of[a].millis, of[b].millis), cmp.Compare(a, b)) })
	gone := silent[:min(excess, int64(len(silent)))]
	for _, id := range gone {
		delete(of, id)
	}
	l.uncountProducers(len(gone))
}

// forgetProducers has a log that is about to be led, and ends before what its producers
// are as of, know none: of those that there are, what was due next would be wrong. Nor
// does a start learn of them from what the log has until now.
func (l *Log) forgetProducers() error {
	admitted, err := l.admitState()
	if err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil || l.asOf <= l.end {
		return l.refused
	}
	return l.knowNone(func() error {
		l.asOf, l.asOfEpoch = l.end, storage.NoEpoch
		return l.writeState(&release{log: l})
	})
}

// knowNone forgets all producers and transactions, once write has written so. l.mu is
// held.
func (l *Log) knowNone(write func() error) error {
	known, decided, asOf := l.producers, l.transactions, l.asOf
	l.producers, l.transactions, l.asOf = nil, transactions{}, 0
	if err := write(); err != nil {
		l.producers, l.transactions, l.asOf = known, decided, asOf
		return err
	}
	l.store.indexBytes.Add(-decided.bytes())
	l.uncountProducers(len(known))
	return nil
}
