package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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

// errDeposed says that another controller ships by now.
var errDeposed = errors.New("this controller does not lead any more")

// FencedError says that the bucket belongs to another cluster, or another life of
// this one: nothing is committed or deleted any more.
type FencedError struct{ Reason string }

// Error says what was found.
func (e *FencedError) Error() string {
	return "the bucket is written by another cluster of the same id: " + e.Reason + "; stop one of the two"
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
	shipped atomic.Uint64 // index up to which the bucket has the log
	wake    chan struct{} // holds a token while somebody is in a hurry

	mu      sync.Mutex
	pending []metadata.LogCommand // applied here and not in the bucket; guarded by mu
	bytes   int                   // of them; guarded by mu
	gap     bool                  // there were more, and they are not here; guarded by mu
	fenced  error                 // guarded by mu
	moved   chan struct{}         // closed and replaced when shipped moves; guarded by mu

	// Only run uses these.
	next          uint64 // number of the next entry; 0: not known yet
	term          uint64 // in which it was found out
	sinceSnapshot int    // bytes of entries
	lastSnapshot  int    // its bytes
	snapshots     []uint64
}

func newShipper(o shipperOptions) *shipper {
	return &shipper{o: o, wake: make(chan struct{}, 1), moved: make(chan struct{}), gap: true}
}

// Applied leaves a command to be shipped; indexes grow. It does not block.
func (s *shipper) Applied(index uint64, command []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gap {
		return // the snapshot that comes has it
	}
	s.pending = append(s.pending, metadata.LogCommand{Index: index, Command: command})
	if s.bytes += len(command); s.bytes > maxUnshipped {
		s.pending, s.bytes, s.gap = nil, 0, true
	}
}

// Shipped is the index up to which the bucket has the metadata log.
func (s *shipper) Shipped() uint64 { return s.shipped.Load() }

// Await has the log shipped up to an index, and returns when it is, when this
// process is found not to be alone, or when ctx ends.
func (s *shipper) Await(ctx context.Context, index uint64) error {
	for {
		s.mu.Lock()
		moved, fenced := s.moved, s.fenced
		s.mu.Unlock()
		if fenced != nil || s.Shipped() >= index {
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

// run ships until ctx ends. It blocks on the bucket.
func (s *shipper) run(ctx context.Context) {
	ticker := time.NewTicker(s.o.Interval)
	defer ticker.Stop()
	failed := false
	for {
		err := s.ship(ctx)
		switch fence := (*FencedError)(nil); {
		case errors.As(err, &fence):
			s.o.Log.Error("the metadata log in the bucket is not ours alone; nothing is committed or deleted any more", "error", err)
			return
		case errors.Is(err, errDeposed):
			err = nil // the next one that leads goes on
		case err != nil && ctx.Err() == nil && !failed:
			s.o.Log.Warn("the metadata log cannot be put into the bucket; trying on", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.wake:
		}
	}
}

// ship writes what is pending, while this controller leads.
func (s *shipper) ship(ctx context.Context) error {
	for {
		term, leads := s.o.Leads()
		if !leads {
			s.next = 0
			s.stopGathering()
			return nil
		}
		if s.next == 0 || s.term != term {
			if err := s.open(ctx, term); err != nil {
				return err
			}
		}
		e, ok := s.entry()
		if !ok {
			return nil
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
	}
}

// stopGathering lets go of commands that another controller ships.
func (s *shipper) stopGathering() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.bytes, s.gap = nil, 0, true
}

// entry takes the next entry from what is pending; false: nothing is.
func (s *shipper) entry() (*metadata.LogEntry, bool) {
	e := &metadata.LogEntry{Incarnation: s.o.Incarnation, Number: s.next, Term: s.term, Writer: s.o.Writer}
	s.mu.Lock()
	snapshot := s.gap || s.sinceSnapshot > max(snapshotAfter, s.lastSnapshot)
	if !snapshot {
		size := 0
		for _, c := range s.pending {
			if size += len(c.Command); size > metadata.MaxLogEntryBytes && len(e.Commands) > 0 {
				break
			}
			e.Commands = append(e.Commands, c)
		}
		s.mu.Unlock()
		if len(e.Commands) == 0 {
			return nil, false
		}
		e.First, e.Last = s.shipped.Load()+1, e.Commands[len(e.Commands)-1].Index
		return e, true
	}
	// From here on commands are gathered again: the snapshot, taken after, has all
	// that came before.
	s.pending, s.bytes, s.gap = nil, 0, false
	s.mu.Unlock()
	e.First, e.Snapshot = s.o.Snapshot()
	e.Last = e.First
	return e, true
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
	if e.Snapshot != nil {
		s.stopGathering() // it is taken anew
	}
	if !errors.Is(err, bucket.ErrExists) {
		return nil, err
	}
	if there, err = s.read(ctx, e.Number); err != nil {
		return nil, err
	}
	return there, s.judge(ctx, there)
}

// judge decides about an entry of another writer: one of an earlier leader is
// what a new leader finds, one of a later leader what a deposed one finds; any
// other means that two clusters write here.
func (s *shipper) judge(ctx context.Context, other *metadata.LogEntry) error {
	earlier := other.Incarnation == s.o.Incarnation && (other.Term < s.term || other.Term == s.term && other.Writer == s.o.Writer)
	if guard.Check("controller.metadata-log-fence", earlier) {
		return nil
	}
	if err := s.stillLeads(ctx); err != nil {
		return err
	}
	return s.fence(fmt.Sprintf("entry %d of the metadata log is of incarnation %d, term %d; this is incarnation %d, term %d",
		other.Number, other.Incarnation, other.Term, s.o.Incarnation, s.term))
}

// stillLeads asks a majority whether this controller leads in the term that it
// ships in.
func (s *shipper) stillLeads(ctx context.Context) error {
	if err := s.o.Barrier(ctx); err != nil {
		return fmt.Errorf("ask whether this controller still leads: %w", err)
	}
	if term, leads := s.o.Leads(); !leads || term != s.term {
		s.next = 0
		return errDeposed
	}
	return nil
}

// fence ends all that this controller commits and deletes.
func (s *shipper) fence(reason string) error {
	err := &FencedError{reason}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fenced = err
	return err
}

// wrote counts an entry that stands in the bucket, and removes what two
// snapshots have outdated.
func (s *shipper) wrote(ctx context.Context, e *metadata.LogEntry) {
	s.next = e.Number + 1
	s.shipped.Store(e.Last)
	s.mu.Lock()
	close(s.moved)
	s.moved = make(chan struct{})
	s.mu.Unlock()
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
	s.term, s.snapshots, s.sinceSnapshot = term, nil, 0
	last := uint64(0)
	for i := len(numbers) - 1; i >= 0 && i >= len(numbers)-maxEntryWalk; i-- {
		e, err := s.read(ctx, numbers[i])
		if err != nil {
			return err
		}
		if i == len(numbers)-1 {
			if err := s.judge(ctx, e); err != nil {
				return err
			}
			if err := s.isAhead(ctx, e); err != nil {
				return err
			}
			last = e.Number
		}
		if e.Snapshot != nil {
			s.snapshots = []uint64{e.Number}
			break
		}
	}
	// What was applied before this term is not pending here: a snapshot has it.
	s.stopGathering()
	s.next = last + 1
	return nil
}

// isAhead fences a controller whose log ends before what an earlier leader has
// put into the bucket: only what is applied is shipped, so its log was cut, or is
// an older copy, and would give the same ids out again.
func (s *shipper) isAhead(ctx context.Context, last *metadata.LogEntry) error {
	if err := s.stillLeads(ctx); err != nil {
		return err
	}
	if applied := s.o.Applied(); !guard.Check("controller.metadata-log-ahead", last.Last <= applied) {
		return s.fence(fmt.Sprintf("the metadata log in the bucket goes on to index %d, the one here ends at %d", last.Last, applied))
	}
	return nil
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

func (s *shipper) key(number uint64) string { return fmt.Sprintf("%s%016x", s.o.Prefix, number) }

func (s *shipper) number(key string) (uint64, bool) {
	if len(key) != len(s.o.Prefix)+16 {
		return 0, false
	}
	n, err := strconv.ParseUint(key[len(s.o.Prefix):], 16, 64)
	return n, err == nil && s.key(n) == key
}
