package cold

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/cache"
)

// Limits and sizes that no configuration moves.
const (
	// A stream that nobody read for so long gives its memory back.
	idle = 10 * time.Second

	// How many streams one consumer has of one partition: requests of it that are
	// under way at once, at different places. The one read longest ago goes.
	streamsEach = 4

	// A piece that arrived for somebody is kept for him at least so long, however
	// short memory is: he was woken, and is about to read it.
	grace = time.Second

	// Index blocks that one stream asks for ahead of the data that it reads ahead:
	// ranges may be small, and each costs a round trip before its data is known.
	indexesAhead = 16

	// An index takes at most so many times its stored bytes in memory, and is
	// charged for them until it is known how many. Data takes an eighth more than
	// its bytes at most: four bytes for each batch.
	indexGrowth = 8

	// What one request reads ahead is at most this part, as a divisor, of how far
	// ahead its stream reads.
	requestShare = 4

	// How many requests each stream can have memory for, out of its consumer's share.
	requestsEach = 2

	// A piece is counted in 32 bits.
	maxPieceSize = 1 << 30

	// Indexes have a part of the read-ahead memory to themselves, as a divisor, so
	// that no stream waits for an index while it holds data, or the other way round.
	indexPart = 8

	// One read gives out at most this part, as a divisor, of the read-ahead
	// memory, so that all of it can be held until it is answered.
	readShare = 4
)

// Pace bounds what is read of the bucket. Its methods must not block.
type Pace interface {
	Delay() time.Duration       // how long to wait before anything is read
	Take(n int64) time.Duration // that n bytes are read from now on, whatever it returns
}

// Options of a [Reader]. The zero value of all but Bucket and Key does.
type Options struct {
	Bucket bucket.Bucket                 // not closed by the Reader
	Key    func(storage.ObjectID) string // where an object lies in it

	Policy     cache.Policy  // of both caches; empty: w-tinylfu
	IndexCache int64         // bytes of index blocks; 0: 32 MiB
	BlockCache int64         // bytes of record batches; 0: 256 MiB
	TTL        time.Duration // how long both keep something; 0: 1 h

	// ReadAhead is how many bytes all streams together may hold and be loading,
	// besides what the caches hold; 0: 128 MiB. What one stream cannot do without
	// comes before what others read ahead.
	ReadAhead int64
	// MaxReadAhead is how far one stream reads ahead, in bytes; 0: 16 MiB.
	MaxReadAhead int64
	// Parallel is how many reads of the bucket are under way at most, three
	// quarters of them ahead; 0: 32.
	Parallel int
	// PieceSize is the bytes that are kept and given up together; blocks are not
	// divided. 0: 1 MiB.
	PieceSize int
	// RequestSize is the most that one request of the bucket reads ahead, in pieces
	// that lie one behind the other: one piece at least. 0: 4 MiB.
	RequestSize int

	// Pace says when more may be read of the bucket; nil: at once.
	Pace Pace

	// Poison is for tests: memory that nobody refers to any more is overwritten, so
	// that they see who still does.
	Poison bool

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: slog.Default()
}

// Validate returns an error that names what cannot be.
func (o *Options) Validate() error {
	var errs []error
	if o.Bucket == nil {
		errs = append(errs, errors.New("option Bucket is missing"))
	}
	if o.Key == nil {
		errs = append(errs, errors.New("option Key is missing"))
	}
	for _, of := range []struct {
		name string
		n    int64
	}{
		{"IndexCache", o.IndexCache},
		{"BlockCache", o.BlockCache},
		{"TTL", int64(o.TTL)},
		{"ReadAhead", o.ReadAhead},
		{"MaxReadAhead", o.MaxReadAhead},
		{"Parallel", int64(o.Parallel)},
		{"PieceSize", int64(o.PieceSize)},
		{"RequestSize", int64(o.RequestSize)},
	} {
		if of.n < 0 {
			errs = append(errs, fmt.Errorf("option %s is %d, want none below 0", of.name, of.n))
		}
	}
	if o.PieceSize > maxPieceSize {
		errs = append(errs, fmt.Errorf("option PieceSize is %d, want at most %d", o.PieceSize, maxPieceSize))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	set(&o.IndexCache, 32<<20)
	set(&o.BlockCache, 256<<20)
	set(&o.TTL, time.Hour)
	set(&o.ReadAhead, 128<<20)
	set(&o.MaxReadAhead, 16<<20)
	set(&o.Parallel, 32)
	set(&o.PieceSize, 1<<20)
	set(&o.RequestSize, 4<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

func set[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// aheadSlots is how many reads of the bucket may be ahead: the rest is for those
// who wait.
func (o *Options) aheadSlots() int { return max(1, o.Parallel-o.Parallel/4) }
