package log

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Store is the logs of all partitions of one broker, over one WAL. All methods
// are safe for concurrent use.
type Store struct {
	o    Options
	wal  *wal.WAL
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done sync.WaitGroup

	config *Config // of logs that were not given one yet
	// ready is closed when Open is through: the WAL may want frames relocated
	// before.
	ready    chan struct{}
	recovery *recovery // Open alone

	mu   sync.RWMutex // guards logs and ofTopics
	logs map[storage.PartitionID]*Log
	// ofTopics are the producers that the logs of a topic remember together.
	ofTopics map[storage.TopicID]*atomic.Int64

	backlogs   backlogs
	unuploaded int64 // what one partition may hold of the WAL that the bucket has not
	indexBytes atomic.Int64
	producers  atomic.Int64
	guards     atomic.Uint64 // that were given out
	expansions expansions
	refusals   refusals
	dead       atomic.Pointer[error]
	onDamage   atomic.Pointer[func(storage.PartitionID, error)]
}

// Open recovers the logs of a directory. A partition that does not hold together
// is opened, and says so by a *CorruptionError; the others are not affected.
// ctx bounds the opening.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Store{
		o: o, config: &Config{MinInSync: 1}, ready: make(chan struct{}), recovery: newRecovery(),
		logs: map[storage.PartitionID]*Log{}, ofTopics: map[storage.TopicID]*atomic.Int64{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	wo := o.WAL
	wo.FS, wo.Dir, wo.Log = o.FS, o.Dir, o.Log
	wo.Owner = owner{s}
	wo.OnDead = s.onDead
	if o.Heal {
		wo.Lost = s.lost
	}
	began := o.Now()
	w, err := wal.Open(ctx, wo)
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s.wal = w
	s.unuploaded = math.MaxInt64
	if o.Tiered {
		s.unuploaded = int64(o.MaxUnuploadedShare * float64(w.Stats().CapacityBytes))
	}
	s.recover(began)
	close(s.ready)
	w.Ready()
	if err := s.noteLosses(); err != nil {
		s.stop()
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), w.Close())
	}
	var clock producerClock
	clock.look(s.o.Now(), 0)
	s.done.Go(func() { s.producerLoop(&clock) })
	return s, nil
}

// Close makes what was appended durable, writes the states that the next start would
// have to find out, if there is room, and ends every log. Close of a store whose WAL
// died returns why.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	if err := s.restateAll(); err != nil && !errors.Is(err, ErrClosed) {
		s.o.Log.Warn("the next start takes longer", "error", err)
	}
	err := s.wal.Close()
	for _, l := range s.all() {
		l.refuse(ErrClosed)
	}
	if err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// Err says why nothing can be appended any more, or nil: the WAL died.
func (s *Store) Err() error {
	if err := s.dead.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Store) onDead(err error) {
	s.dead.Store(&err)
	if s.o.WAL.OnDead != nil {
		s.o.WAL.OnDead(err)
	}
}

// Log returns the log of a partition, if there is one.
func (s *Store) Log(id storage.PartitionID) (*Log, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l, ok := s.logs[id]
	return l, ok
}

// Partitions lists the partitions that have a log, in no order.
func (s *Store) Partitions() []storage.PartitionID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make([]storage.PartitionID, 0, len(s.logs))
	for id := range s.logs {
		ids = append(ids, id)
	}
	return ids
}

func (s *Store) all() []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	logs := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		logs = append(logs, l)
	}
	return logs
}

// Create returns the log of a partition, which it makes, empty, if there is
// none. It is on disk before any record that is appended to it.
func (s *Store) Create(id storage.PartitionID, c Config) (*Log, error) {
	if l, ok := s.Log(id); ok {
		l.SetConfig(c)
		return l, nil
	}
	// Not from the reserve, which is for what makes room: new partitions must
	// not use up what trims and drops need.
	if err := s.wal.Admit(s.ctx, wal.Produce, stateHeader+frameOverhead); err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	defer s.wal.Unadmit(stateHeader + frameOverhead)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.logs[id]; ok {
		l.SetConfig(c)
		return l, nil
	}
	l := s.newLog(id)
	l.given = true
	l.SetConfig(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writeState(&release{log: l}); err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	s.logs[id] = l
	return l, nil
}

// newLog makes a log that nobody knows of. s.mu is held, or the store is being opened.
func (s *Store) newLog(id storage.PartitionID) *Log {
	l := &Log{store: s, id: id, epoch: storage.NoEpoch, followed: storage.NoEpoch, stateEpoch: storage.NoEpoch, newest: storage.NoEpoch, asOfEpoch: storage.NoEpoch, believed: storage.NoEpoch, parted: storage.NoEpoch, told: nothingTold, replica: newReplica()}
	l.config.Store(s.config)
	if l.ofTopic = s.ofTopics[id.Topic]; l.ofTopic == nil {
		l.ofTopic = new(atomic.Int64)
		s.ofTopics[id.Topic] = l.ofTopic
	}
	return l
}

// Drop removes all partitions of a topic, and lets go of their records as soon
// as that is on disk.
func (s *Store) Drop(topic storage.TopicID) error {
	if err := s.drop(storage.PartitionID{Topic: topic, Index: -1}); err != nil {
		return fmt.Errorf("drop topic %s: %w", topic, err)
	}
	return nil
}

// DropPartition is Drop of one partition. It may be made anew.
func (s *Store) DropPartition(id storage.PartitionID) error {
	if err := s.drop(id); err != nil {
		return fmt.Errorf("drop partition %s: %w", id, err)
	}
	return nil
}

// drop drops a partition, or, with index -1, all of a topic.
func (s *Store) drop(which storage.PartitionID) error {
	if err := s.wal.Admit(s.ctx, wal.Internal, frameOverhead); err != nil {
		return err
	}
	defer s.wal.Unadmit(frameOverhead)
	dropped, err := s.dropLogs(which)
	for _, l := range dropped {
		l.refuse(ErrDropped)
	}
	return err
}

func (s *Store) dropLogs(which storage.PartitionID) (dropped []*Log, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.logs {
		if id.Topic == which.Topic && (which.Index < 0 || id.Index == which.Index) {
			dropped = append(dropped, l)
		}
	}
	// Nothing may be appended behind the frame, so each log is held.
	for _, l := range dropped {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	freed := &dropRelease{wal: s.wal}
	for _, l := range dropped {
		freed.refs = l.everything(freed.refs)
	}
	h := wal.Header{Kind: wal.KindDrop, Partition: which, Epoch: storage.NoEpoch, Offset: storage.NoOffset}
	if _, err := s.wal.Append(h, nil, freed); err != nil {
		return nil, err
	}
	for _, l := range dropped {
		delete(s.logs, l.id)
		if l.refused == nil || errors.As(l.refused, new(*CorruptionError)) {
			l.refused = ErrDropped
		}
		l.discount(l.end)
		s.indexBytes.Add(-l.index.bytes - l.transactions.bytes())
		l.uncountProducers(len(l.producers))
		l.endVerifications(math.MaxInt64)
		l.index, l.producers, l.transactions = index{}, nil, transactions{}
	}
	if which.Index < 0 {
		delete(s.ofTopics, which.Topic)
	}
	return dropped, nil
}

// everything appends to refs where all that the log has in the WAL lies. l.mu
// is held.
func (l *Log) everything(refs []wal.Ref) []wal.Ref {
	for _, b := range l.index.blocks {
		for i := range b.entries {
			refs = append(refs, b.entries[i].ref)
		}
	}
	return append(refs, l.stateRefs...)
}

// dropRelease lets go of the frames of a topic.
type dropRelease struct {
	wal  *wal.WAL
	refs []wal.Ref
}

// Committed is called by the WAL.
func (r *dropRelease) Committed(err error) {
	if err != nil {
		return
	}
	r.wal.ReleaseAll(r.refs)
}

// Admit waits until a batch of n bytes has room in memory and on disk, and holds
// it until [Log.Append] takes it over. Errors: ErrFull, ErrNoSegment, ErrDead,
// ErrClosed, and ctx's.
func (s *Store) Admit(ctx context.Context, n int) error {
	if used := s.indexBytes.Load(); !guard.Check("log.index-budget", used < s.o.IndexMemory) {
		return fmt.Errorf("admit %d bytes, the index takes %d of %d: %w", n, used, s.o.IndexMemory, ErrFull)
	}
	return s.wal.Admit(ctx, wal.Produce, n+frameOverhead)
}

// TryAdmit is Admit for who must not wait, for others wait for what he holds. It reports
// false where Admit would not have admitted the batch at once.
func (s *Store) TryAdmit(n int) bool {
	fits := guard.Check("log.index-budget", s.indexBytes.Load() < s.o.IndexMemory)
	return fits && s.wal.TryAdmit(wal.Produce, n+frameOverhead)
}

// AdmitCoordinator is Admit for what the broker's own coordinators append: from
// a reserve of disk and index that produce cannot take, so that consumers can
// commit while producers are held back.
func (s *Store) AdmitCoordinator(ctx context.Context, n int) error {
	budget := s.o.IndexMemory + s.o.IndexMemory/8
	if used := s.indexBytes.Load(); !guard.Check("log.index-budget", used < budget) {
		return fmt.Errorf("admit %d bytes, the index takes %d of %d: %w", n, used, budget, ErrFull)
	}
	return s.wal.Admit(ctx, wal.Coordinator, n+frameOverhead)
}

// AdmitAudit is Admit for the account of who did what: from a reserve that neither produce
// nor coordinators can take.
func (s *Store) AdmitAudit(ctx context.Context, n int) error {
	budget := s.o.IndexMemory + s.o.IndexMemory/4
	if used := s.indexBytes.Load(); !guard.Check("log.index-budget", used < budget) {
		return fmt.Errorf("admit %d bytes, the index takes %d of %d: %w", n, used, budget, ErrFull)
	}
	return s.wal.Admit(ctx, wal.Audit, n+frameOverhead)
}

// Unadmit gives back what either held for a batch that is not appended.
func (s *Store) Unadmit(n int) { s.wal.Unadmit(n + frameOverhead) }

// Stats is a moment of a store.
type Stats struct {
	Capacity, Used int64   // bytes of the WAL's files: may have, have in use
	Fullness       float64 // share of what produce may use that is used, 0 to 1
	IndexBytes     int64
	Producers      int64
	Partitions     int
	WAL            wal.Stats
}

// Stats returns the present figures.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	partitions := len(s.logs)
	s.mu.RUnlock()
	w := s.wal.Stats()
	return Stats{
		Capacity: w.CapacityBytes, Used: w.UsedBytes, Fullness: s.wal.Fullness(), WAL: w,
		IndexBytes: s.indexBytes.Load(), Producers: s.producers.Load(), Partitions: partitions,
	}
}

// CutTail reports whether this start, or one before that nobody was told of, gave up the
// end of the WAL, for it was not whole: what was synced last may be among it.
func (s *Store) CutTail() bool { return s.wal.CutTail() }

// ForgetCut has CutTail say no from the next start on.
func (s *Store) ForgetCut() error { return s.wal.ForgetCut() }

// Flush returns when all that was appended before is on disk.
func (s *Store) Flush(ctx context.Context) error { return s.wal.Flush(ctx) }

// countProducer counts one more producer, unless there are as many as may be, of all topics or
// of the log's.
func (l *Log) countProducer() bool {
	n, o := l.addProducers(1), &l.store.o
	if !guard.Check("log.max-producers", n <= int64(o.MaxProducers)) || !guard.Check("log.topic-producers", l.ofTopic.Load() <= int64(o.MaxTopicProducers)) {
		l.uncountProducers(1)
		return false
	}
	return true
}

// addProducers counts n more, and returns how many all logs have.
func (l *Log) addProducers(n int) (all int64) {
	l.ofTopic.Add(int64(n))
	return l.store.producers.Add(int64(n))
}

func (l *Log) uncountProducers(n int) { l.addProducers(-n) }

// expire forgets the producers that were last heard of before millis.
func (s *Store) expire(millis int64) {
	if s.producers.Load() == 0 {
		return
	}
	verifying := s.o.Now().Add(-verificationExpiry).UnixMilli()
	for _, l := range s.all() {
		l.mu.Lock()
		l.endVerifications(verifying)
		if len(l.producers) > 0 {
			l.uncountProducers(l.producers.expire(millis, l.replica.highWatermark))
		}
		l.mu.Unlock()
	}
}

// owner is the side of a store that the WAL sees.
type owner struct{ *Store }

// Replay is called by the WAL while it opens.
func (o owner) Replay(h wal.Header, ref wal.Ref, payload []byte) error {
	o.recovery.replay(h, ref, payload)
	return nil
}

// lost is called by the WAL while it opens.
func (s *Store) lost(l wal.Loss) error {
	s.o.Log.Error("a part of the log cannot be read, and is gone on without", "from", l.From, "to", l.To, "error", l.Why)
	s.recovery.lose(l)
	return nil
}

// Relocate is called by the WAL when it wants a segment back.
func (o owner) Relocate(ctx context.Context, segment uint32) error {
	select {
	case <-o.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	var first error
	failed := 0
	for _, l := range o.all() {
		err := l.relocate(ctx, segment)
		if err == nil {
			continue
		}
		if failed++; first == nil {
			first = fmt.Errorf("relocate %s out of segment %d: %w", l.id, segment, err)
		}
		if ctx.Err() != nil || errors.Is(err, ErrDead) || errors.Is(err, ErrClosed) {
			break
		}
	}
	if failed > 1 {
		return fmt.Errorf("of %d logs, the first: %w", failed, first)
	}
	return first
}
