package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// Limits of a shipper.
const (
	// maxUnshipped bounds the commands that wait in memory while the bucket is
	// away; beyond it they are let go of, and a snapshot takes their place.
	maxUnshipped = 8 << 20
	// snapshotAfter is how many bytes of entries come between two snapshots, at
	// least: as many as the last one had, if that is more.
	snapshotAfter = 4 << 20
	// maxEntryWalk is how many entries are looked at for the last snapshot that an
	// earlier leader wrote. What is older is kept until two of our own stand there.
	maxEntryWalk = 64
	// maxEntryBytes is what is read of an entry, a snapshot included: far above
	// what an image comes to.
	maxEntryBytes = 1 << 30
)

// errLetGo says that what was to be shipped is not in memory any more.
var errLetGo = errors.New("the metadata log is shipped by a snapshot, with the next try")

// errDeposed says that another controller ships by now.
var errDeposed = errors.New("this controller does not lead any more")

// FencedError says that the bucket belongs to another cluster, or another life of
// this one: nothing is committed or deleted any more. A restart finds the same.
type FencedError struct {
	Reason string
	// Older: the bucket has what this directory does not know of. Else somebody else
	// was found to write there.
	Older bool
	// Incarnation is that of the life which the cluster was given anew from its bucket, in
	// place of this one; 0: it was not.
	Incarnation uint32
}

// Error says what was found, and what to do.
func (e *FencedError) Error() string {
	if e.Incarnation > 0 {
		return (&metadata.EndedError{By: uint64(e.Incarnation)}).Error()
	}
	if e.Older {
		return "this data directory is older than the bucket (a copy, or restored from a backup?): " + e.Reason + "; nothing is committed or deleted by it any more, see docs/storage.md"
	}
	return "the bucket is written by another cluster of the same id: " + e.Reason + "; this one commits and deletes nothing any more: if both run, stop one of the two, see docs/storage.md"
}

// lineage is what the metadata log knows of its entries in the bucket: [*metadata.Image].
type lineage interface {
	AnnouncedEntry() uint64
	Announced(*metadata.LogEntry) bool
}

// shipperOptions of a shipper.
type shipperOptions struct {
	Bucket      bucket.Bucket
	Prefix      string // of the entries' keys, with a slash at its end
	Incarnation uint32
	Writer      uint64 // random, of this process
	// Leads reports whether this controller leads, and in which term, and may write
	// to the bucket.
	Leads func() (term uint64, ok bool)
	// Barrier returns once all is applied here that was committed before, by the
	// word of a majority; whether this controller led is known better after it.
	Barrier func(context.Context) error
	// Applied is the index of the last command applied here.
	Applied func() uint64
	// Snapshot returns the state, and the index it stands at.
	Snapshot func() (index uint64, state []byte)
	// Lineage is what is applied here of entries that were announced; false: the
	// feature level does not allow for that yet.
	Lineage func() (lineage, bool)
	// Announce has the metadata log know that an entry is put next, and returns the
	// index of the command, which is applied here by then.
	Announce func(ctx context.Context, number, term, writer uint64) (index uint64, err error)
	// Wrote is told of the index up to which the bucket has the log, as it moves; nil:
	// nobody is.
	Wrote func(index uint64)
	// Ended is called when another life of the cluster was found to have begun, after
	// which nothing is shipped; nil: nobody is told.
	Ended    func(ctx context.Context, by uint32)
	Name     string        // of this controller, for who asks whether one lives
	Interval time.Duration // between two entries, if nobody is in a hurry
	Log      *slog.Logger
}

// shipper keeps the metadata log in the bucket: every command that was applied,
// in numbered entries that are put if absent. The bucket alone is then enough to
// bring the cluster back, and who finds a number taken knows that it is not alone.
//
// Apply leaves commands here and never waits; one goroutine, run, writes.
type shipper struct {
	o       shipperOptions
	limits  shipperLimits
	shipped atomic.Uint64 // index up to which the bucket has the log
	failing atomic.Bool   // the last try did not succeed
	// What a lookout (life.go) and run know of each other: where the log ends, as far as that
	// is known; that an entry was found there that is to be judged; and that the end was said.
	standing atomic.Pointer[standing]
	unjudged atomic.Bool
	said     atomic.Bool
	wake     chan struct{} // holds a token while somebody is in a hurry

	mu      sync.Mutex
	pending []metadata.LogCommand // applied here and not in the bucket; guarded by mu
	bytes   int                   // of them; guarded by mu
	gap     bool                  // there were more, and they are not here; guarded by mu
	fenced  error                 // guarded by mu
	moved   chan struct{}         // closed and replaced when who waits should look; guarded by mu
	// wanted: a snapshot is to be taken as of the next announcement that is applied;
	// taken is that one. guarded by mu.
	wanted bool
	taken  *shippedState
	// answered is the last question that was, see look; guarded by mu
	answered [16]byte

	// Only run uses these.
	announced     announcement
	next          uint64 // number of the next entry; 0: not known yet
	term          uint64 // in which it was found out
	sinceSnapshot int    // bytes of entries
	lastSnapshot  int    // its bytes
	snapshots     []uint64
}

// shipperLimits are maxUnshipped and snapshotAfter, in bytes; tests take less.
type shipperLimits struct{ unshipped, snapshot int }

// shippedState is the state as of a command.
type shippedState struct {
	index  uint64
	encode func() []byte
}

// announcement is an entry that may stand in the bucket, and has nothing behind last.
// What is tried again is the same entry.
type announcement struct {
	number, last uint64
	snapshot     *shippedState // of an entry with one
}

func newShipper(o shipperOptions) *shipper {
	return &shipper{o: o, limits: shipperLimits{unshipped: maxUnshipped, snapshot: snapshotAfter}, wake: make(chan struct{}, 1), moved: make(chan struct{}), gap: true}
}

// Applied leaves a command to be shipped; indexes grow. It does not block.
func (s *shipper) Applied(index uint64, command []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gap || index <= s.shipped.Load() {
		return // the snapshot that comes has it, or one that was quicker
	}
	s.pending = append(s.pending, metadata.LogCommand{Index: index, Command: command})
	if s.bytes += len(command); s.bytes > s.limits.unshipped {
		s.pending, s.bytes, s.gap = nil, 0, true
	}
}

// Announced is Applied of a command that announces an entry; encode returns the state
// as of it.
func (s *shipper) Announced(index uint64, command []byte, encode func() []byte) {
	s.mu.Lock()
	if s.wanted {
		// From here on commands are gathered again: the snapshot has all that came before.
		s.wanted, s.taken = false, &shippedState{index, encode}
		s.pending, s.bytes, s.gap = nil, 0, false
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.Applied(index, command)
}

// Shipped is the index up to which the bucket has the metadata log.
func (s *shipper) Shipped() uint64 { return s.shipped.Load() }

// Await has the log shipped up to an index, and returns when it is, when this
// process is found not to be alone, or when ctx ends.
func (s *shipper) Await(ctx context.Context, index uint64) error {
	return s.await(ctx, func() bool { return s.Shipped() >= index })
}

// AwaitBucket waits until a try to ship succeeds, if the last one did not. Errors are
// as of Await.
func (s *shipper) AwaitBucket(ctx context.Context) error {
	return s.await(ctx, func() bool { return !s.failing.Load() })
}

func (s *shipper) await(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		moved, fenced := s.moved, s.fenced
		s.mu.Unlock()
		if fenced != nil || done() {
			return fenced
		}
		s.Hurry()
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Fenced is a *FencedError once somebody else was found to write here.
func (s *shipper) Fenced() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fenced
}

// Hurry has what is pending shipped now.
func (s *shipper) Hurry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run ships until ctx ends, or another life begins. It blocks on the bucket, and a goroutine
// beside it looks out.
func (s *shipper) run(ctx context.Context) {
	shipping, cancel := context.WithCancel(ctx)
	var lookout sync.WaitGroup
	defer lookout.Wait()
	defer cancel()
	lookout.Go(func() {
		if err := s.lookOut(shipping); err != nil {
			cancel() // though a put hangs
			s.endsWith(ctx, err)
		}
	})
	s.endsWith(ctx, s.shipOn(shipping)) // who looks ends the shipping, but not what is said of an end
}

// shipOn does run's shipping. It returns a *FencedError, or nil once ctx ends.
func (s *shipper) shipOn(ctx context.Context) error {
	ticker := time.NewTicker(s.o.Interval)
	defer ticker.Stop()
	failed := false
	for {
		err := s.ship(ctx)
		fence, fenced := errors.AsType[*FencedError](err)
		switch {
		case fenced:
			return fence
		case errors.Is(err, errDeposed):
			err = nil // the next one that leads goes on
		case err != nil && ctx.Err() == nil && !failed:
			s.o.Log.Warn("the metadata log cannot be put into the bucket; trying on", "error", err)
		}
		failed = err != nil
		if s.failing.Swap(failed) && !failed {
			s.stir()
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				due = true
			case <-s.wake:
				due = true
			}
		}
	}
}

// endsWith says, once, that nothing is shipped any more, if err is that somebody else writes
// there; and so on until the other nodes know it, or ctx ends.
func (s *shipper) endsWith(ctx context.Context, err error) {
	fence, fenced := errors.AsType[*FencedError](err)
	if !fenced || s.said.Swap(true) { // the other one of run's goroutines was quicker
		return
	}
	s.o.Log.Error("the metadata log in the bucket is not ours alone; nothing is committed or deleted any more", "error", fence)
	if fence.Incarnation > 0 && s.o.Ended != nil {
		s.o.Ended(ctx, fence.Incarnation)
	}
}

// ship writes what is pending, while this controller leads.
func (s *shipper) ship(ctx context.Context) error {
	for {
		if err := s.Fenced(); err != nil {
			return err
		}
		term, leads := s.o.Leads()
		if !leads {
			s.next = 0
			s.standing.Store(nil)
			s.stopGathering()
			return nil
		}
		if s.next == 0 || s.term != term {
			if err := s.open(ctx, term); err != nil {
				return err
			}
		}
		s.standing.Store(&standing{s.next, s.term})
		if s.unjudged.Swap(false) {
			if err := s.judgeNext(ctx); err != nil {
				return err
			}
		}
		e, err := s.entry(ctx)
		if errors.Is(err, errLetGo) {
			s.Hurry()
			return nil
		}
		if e == nil {
			return err
		}
		there, err := s.put(ctx, e)
		if err != nil {
			return err
		}
		if there.Writer != s.o.Writer || there.Term != s.term {
			// An earlier leader was quicker: what follows its entry is ours.
			s.next = there.Number + 1
			s.stopGathering()
			continue
		}
		s.wrote(ctx, there)
		if !guard.Check("controller.metadata-log-whole", e.Snapshot == nil || there.Last >= e.Last) {
			// An earlier try of ours stands there, whose answer was lost: what it does not
			// have, memory has let go of for the snapshot. Another one follows.
			s.stopGathering()
		}
	}
}

// stopGathering lets go of commands that another controller ships.
func (s *shipper) stopGathering() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.bytes, s.gap = nil, 0, true
}

// entry returns the next entry to put; nil: nothing is pending, or err says why not.
func (s *shipper) entry(ctx context.Context) (*metadata.LogEntry, error) {
	s.mu.Lock()
	snapshot := s.gap || s.sinceSnapshot > max(s.limits.snapshot, s.lastSnapshot)
	pending := len(s.pending) > 0
	s.mu.Unlock()
	known := s.announced.number == s.next && (s.announced.snapshot != nil || !snapshot)
	if !known && !snapshot && !pending {
		return nil, nil
	}
	if !known {
		var err error
		if s.announced, err = s.announce(ctx, snapshot); err != nil {
			return nil, err
		}
	}
	e := &metadata.LogEntry{Incarnation: s.o.Incarnation, Number: s.next, Term: s.term, Writer: s.o.Writer}
	if taken := s.announced.snapshot; taken != nil {
		e.First, e.Last, e.Snapshot = taken.index, taken.index, taken.encode()
		return e, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for _, c := range s.pending {
		if size += len(c.Command); c.Index > s.announced.last || size > metadata.MaxLogEntryBytes && len(e.Commands) > 0 {
			break
		}
		e.Commands = append(e.Commands, c)
	}
	if len(e.Commands) == 0 { // they were let go of meanwhile, and a snapshot is due
		s.announced = announcement{}
		return nil, errLetGo
	}
	e.First, e.Last = s.shipped.Load()+1, e.Commands[len(e.Commands)-1].Index
	return e, nil
}

// announce has the metadata log know of the entry before it is put: whoever has a
// copy of this log either knows of it, or of nothing that is in it.
func (s *shipper) announce(ctx context.Context, snapshot bool) (announcement, error) {
	is := announcement{number: s.next, last: math.MaxUint64}
	if _, announces := s.o.Lineage(); !announces {
		if snapshot {
			s.mu.Lock()
			s.pending, s.bytes, s.gap = nil, 0, false
			s.mu.Unlock()
			index, state := s.o.Snapshot()
			is.snapshot = &shippedState{index, func() []byte { return state }}
		}
		return is, nil
	}
	s.mu.Lock()
	s.wanted, s.taken = snapshot, nil
	s.mu.Unlock()
	index, err := s.o.Announce(ctx, s.next, s.term, s.o.Writer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = false
	if err != nil {
		if s.taken != nil { // nor is it put
			s.pending, s.bytes, s.gap = nil, 0, true
		}
		if term, leads := s.o.Leads(); !leads || term != s.term {
			s.next, err = 0, errDeposed
		}
		return announcement{}, fmt.Errorf("announce entry %d of the metadata log: %w", s.next, err)
	}
	is.last, is.snapshot = index, s.taken
	if snapshot && s.taken == nil { // the state came as a whole
		return announcement{}, errLetGo
	}
	return is, nil
}

// put writes an entry, and returns the one that then stands at its number: it, or
// one that this process or an earlier leader has put there before.
func (s *shipper) put(ctx context.Context, e *metadata.LogEntry) (there *metadata.LogEntry, err error) {
	encoded := e.Encode()
	err = s.o.Bucket.PutIfAbsent(ctx, s.key(e.Number), encoded)
	if err == nil {
		s.sinceSnapshot += len(encoded)
		return e, nil
	}
	if _, announces := s.o.Lineage(); !announces {
		s.announced = announcement{} // what came meanwhile goes along
		if e.Snapshot != nil {
			s.stopGathering()
		}
	}
	if !errors.Is(err, bucket.ErrExists) {
		return nil, err
	}
	if there, err = s.read(ctx, e.Number); err != nil {
		return nil, err
	}
	return there, s.judge(ctx, there)
}

// judge decides about an entry that stands where the next one was to be put. It is
// ours if it was announced in our own log, by this process or an earlier leader; a
// later leader's is what a deposed one finds; any other means that two clusters write
// here.
func (s *shipper) judge(ctx context.Context, other *metadata.LogEntry) error {
	if err := s.ended(ctx, other); err != nil {
		return err
	}
	l, announces := s.o.Lineage()
	mine := other.Term < s.term || other.Term == s.term && other.Writer == s.o.Writer
	if announces && l.AnnouncedEntry() > 0 {
		mine = l.Announced(other)
	}
	if guard.Check("controller.metadata-log-fence", other.Incarnation == s.o.Incarnation && mine) {
		return nil
	}
	if err := s.stillLeads(ctx); err != nil {
		return err
	}
	return s.fence(&FencedError{Reason: fmt.Sprintf("entry %d of the metadata log is of incarnation %d, term %d; this is incarnation %d, term %d, and has not announced it",
		other.Number, other.Incarnation, other.Term, s.o.Incarnation, s.term)})
}

// ended fences this life of the cluster if the entry ends it: recovery from the bucket
// takes the next number of the log that it brings back.
func (s *shipper) ended(ctx context.Context, e *metadata.LogEntry) error {
	if guard.Check("controller.life-ended", e.Incarnation <= s.o.Incarnation) {
		return nil
	}
	if err := s.stillLeads(ctx); err != nil {
		return err
	}
	return s.fence(&FencedError{Incarnation: e.Incarnation})
}

// stillLeads asks a majority whether this controller leads in the term that it
// ships in.
func (s *shipper) stillLeads(ctx context.Context) error {
	err := s.leadsStill(ctx, s.term)
	if errors.Is(err, errDeposed) {
		s.next = 0
	}
	return err
}

// leadsStill asks a majority whether this controller leads in a term.
func (s *shipper) leadsStill(ctx context.Context, in uint64) error {
	if err := s.o.Barrier(ctx); err != nil {
		return fmt.Errorf("ask whether this controller still leads: %w", err)
	}
	if term, leads := s.o.Leads(); !leads || term != in {
		return errDeposed
	}
	return nil
}

// fence ends all that this controller commits and deletes.
func (s *shipper) fence(err *FencedError) error {
	s.mu.Lock()
	s.fenced = err
	s.mu.Unlock()
	s.stir()
	return err
}

// stir has those who wait look again.
func (s *shipper) stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.moved)
	s.moved = make(chan struct{})
}

// wrote counts an entry that stands in the bucket, and removes what two
// snapshots have outdated.
func (s *shipper) wrote(ctx context.Context, e *metadata.LogEntry) {
	s.next, s.announced = e.Number+1, announcement{}
	s.shipped.Store(e.Last)
	s.stir()
	if s.o.Wrote != nil {
		s.o.Wrote(e.Last)
	}
	if e.Snapshot == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, c := range s.pending {
			if c.Index > e.Last {
				s.pending = append([]metadata.LogCommand(nil), s.pending[i:]...)
				return
			}
			s.bytes -= len(c.Command)
		}
		s.pending, s.bytes = nil, 0
		return
	}
	s.dropShipped(e.Last)
	s.sinceSnapshot, s.lastSnapshot = 0, len(e.Snapshot)
	s.snapshots = append(s.snapshots, e.Number)
	if len(s.snapshots) > 1 {
		s.prune(ctx, s.snapshots[len(s.snapshots)-2])
		s.snapshots = s.snapshots[len(s.snapshots)-2:]
	}
}

// dropShipped lets go of commands that a snapshot has.
func (s *shipper) dropShipped(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.pending[:0:0]
	s.bytes = 0
	for _, c := range s.pending {
		if c.Index > last {
			kept = append(kept, c)
			s.bytes += len(c.Command)
		}
	}
	s.pending = kept
}

// prune removes the entries before a snapshot. What cannot be removed now is
// found by the next one.
func (s *shipper) prune(ctx context.Context, before uint64) {
	var old []string
	err := s.o.Bucket.List(ctx, s.o.Prefix, "", func(i bucket.Info) bool {
		number, ok := s.number(i.Key)
		if ok && number < before {
			old = append(old, i.Key)
		}
		return ok && number < before
	})
	for _, key := range old {
		err = errors.Join(err, s.o.Bucket.Delete(ctx, key))
		if s.Fenced() != nil {
			return // what is shipped next says so
		}
	}
	if err != nil && ctx.Err() == nil {
		s.o.Log.Warn("old entries of the metadata log could not be removed; trying with the next snapshot", "error", err)
	}
}

// open finds out where the log in the bucket ends.
func (s *shipper) open(ctx context.Context, term uint64) error {
	var numbers []uint64
	err := s.o.Bucket.List(ctx, s.o.Prefix, "", func(i bucket.Info) bool {
		if number, ok := s.number(i.Key); ok {
			numbers = append(numbers, number)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list the metadata log: %w", err)
	}
	s.term, s.snapshots, s.sinceSnapshot, s.announced = term, nil, 0, announcement{}
	last := uint64(0)
	for i := len(numbers) - 1; i >= 0 && i >= len(numbers)-maxEntryWalk; i-- {
		e, err := s.read(ctx, numbers[i])
		if err != nil {
			return err
		}
		if i == len(numbers)-1 {
			if err := s.followsOn(ctx, e); err != nil {
				return err
			}
			last = e.Number
		}
		if e.Snapshot != nil {
			s.snapshots = []uint64{e.Number}
			break
		}
	}
	if l, announces := s.o.Lineage(); announces && last < l.AnnouncedEntry() {
		// The one that was announced last may have been put, and the list be behind: it
		// is found there then. A number that was used is not used again.
		if last+1 < l.AnnouncedEntry() {
			s.o.Log.Warn("the bucket does not list all of the metadata log that was put there; going on behind it", "last", last, "put", l.AnnouncedEntry()-1)
		}
		last = l.AnnouncedEntry() - 1
	}
	// What was applied before this term is not pending here: a snapshot has it.
	s.stopGathering()
	s.next = last + 1
	return nil
}

// followsOn fences a controller whose log does not know of the last entry in the
// bucket: it was cut, or is an older copy, or another copy of it has gone on, and it
// would give the same ids out again. Indexes and terms do not tell, for each copy
// counts its own.
func (s *shipper) followsOn(ctx context.Context, last *metadata.LogEntry) error {
	if err := s.stillLeads(ctx); err != nil {
		return err
	}
	if err := s.ended(ctx, last); err != nil {
		return err
	}
	l, announces := s.o.Lineage()
	if !announces || l.AnnouncedEntry() == 0 { // its entries are of before
		if applied := s.o.Applied(); !guard.Check("controller.metadata-log-ahead", last.Last <= applied) {
			return s.fence(&FencedError{Older: true, Reason: fmt.Sprintf("the metadata log in the bucket goes on to index %d, the one here ends at %d", last.Last, applied)})
		}
		if !guard.Check("controller.metadata-log-unannounced", !announces || !last.WasAnnounced()) {
			return s.fence(&FencedError{Older: true, Reason: fmt.Sprintf("entry %d of the metadata log in the bucket was announced, and none was here", last.Number)})
		}
		return s.judge(ctx, last)
	}
	if !guard.Check("controller.metadata-log-announced", last.Number <= l.AnnouncedEntry()) {
		return s.fence(&FencedError{Older: true, Reason: fmt.Sprintf("the metadata log in the bucket goes on to entry %d, the last that was announced here is %d", last.Number, l.AnnouncedEntry())})
	}
	if last.Number < l.AnnouncedEntry() {
		return nil // whoever announced the next one has seen it
	}
	return s.judge(ctx, last)
}

func (s *shipper) read(ctx context.Context, number uint64) (*metadata.LogEntry, error) {
	key := s.key(number)
	raw, err := bucket.ReadAll(ctx, s.o.Bucket, key, maxEntryBytes)
	if err != nil {
		return nil, fmt.Errorf("read the metadata log: %w", err)
	}
	e, err := metadata.DecodeLogEntry(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if e.Number != number {
		return nil, fmt.Errorf("read %s: entry %d of the metadata log stands there", key, e.Number)
	}
	return e, nil
}

func (s *shipper) key(number uint64) string { return LogKey(s.o.Prefix, number) }

func (s *shipper) number(key string) (uint64, bool) { return ParseLogKey(s.o.Prefix, key) }
