package recovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// Options of [Read].
type Options struct {
	Bucket  bucket.Bucket
	Prefix  string // of all keys
	Cluster string // its id
	// Brokers are those whose data directories are there; nil: all that are registered.
	Brokers []int32
	// CutTorn has torn transactions cut away: what of them is left, and all behind it. Where what is
	// torn cannot be told, or not be cut, Read is refused.
	CutTorn bool
	// Secrets is a backup of the metadata, whose passwords and API tokens take the place of
	// those that the bucket does not have; nil: there is none.
	Secrets *metadata.Image
}

// Plan is what the bucket comes to, and what another life would begin with.
type Plan struct {
	Cluster     string
	Nonce       [16]byte // of the bucket
	Incarnation uint32   // of the life that ended
	Entries     int      // of the metadata log that were read
	Written     time.Time
	Key         string // that the other life takes
	Partitions  []Partition
	Brokers     []int32 // that are registered
	Taken       []storage.ObjectID
	LeftOut     []storage.ObjectID // uploads that were not committed, and do not join
	Damaged     []string           // uploads that were not committed, and are not whole
	// Passwords and Tokens are how many a backup gives back.
	Passwords, Tokens int
	// Torn are the transactions of which a part is lost, of partitions that nobody is
	// awaited for, and Beyond what groups have committed behind the end of such ones. The
	// errors say why they could not be looked for; nil: they were.
	Torn          []Torn
	UnknownTorn   error
	Beyond        []Beyond
	UnknownBeyond error
	// Cuts are what is cut, with Options.CutTorn: partitions end there.
	Cuts []Cut

	options Options
	log     *lastLog
	next    *metadata.Image
	found   []metadata.FoundObject
	written []string // keys of what takes the place of ranges that are cut
}

// Partition is what is there of one. What lies behind End is in no object: it is what the
// brokers that are awaited have, or it is lost.
type Partition struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	LogStart  storage.Offset `json:"log_start"`
	Committed storage.Offset `json:"committed_end" doc:"what the metadata log says that the bucket has"`
	End       storage.Offset `json:"bucket_end" doc:"with uploads that were never committed, and without what is cut"`
	Replicas  []int32        `json:"replicas"`
	Awaited   []int32        `json:"awaited" doc:"brokers whose logs may have what lies behind; none: it is lost, unless the bucket holds all"`
	Held      bool           `json:"held" doc:"the bucket holds all that was acknowledged: nothing lies behind"`
}

// Read reads the bucket, and changes nothing.
func Read(ctx context.Context, o Options) (*Plan, error) {
	l, err := readLog(ctx, o.Bucket, o.Prefix, o.Cluster)
	if err != nil {
		return nil, err
	}
	is, set := l.image.Bucket()
	nonce, err := controller.ReadNonce(ctx, o.Bucket, o.Prefix, o.Cluster)
	if err != nil {
		return nil, err
	}
	if !set || !guard.Check("recovery.own-bucket", nonce == is.Nonce) {
		return nil, &controller.WrongBucketError{Found: nonce, Want: is.Nonce}
	}
	found, damaged, err := findUploads(ctx, o.Bucket, o.Prefix, l.image)
	if err != nil {
		return nil, err
	}
	next, taken, err := metadata.Recover(l.image, metadata.RecoverOptions{Brokers: o.Brokers, Objects: found})
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster: o.Cluster, Nonce: nonce, Incarnation: l.incarnation, Entries: l.entries, Written: l.written,
		Key: controller.LogKey(controller.LogPrefix(o.Prefix, o.Cluster, l.incarnation), l.next), Taken: taken, Damaged: damaged,
		options: o, log: l, next: next, found: found,
	}
	if o.Secrets != nil {
		if is := o.Secrets.ClusterID(); is != o.Cluster {
			return nil, fmt.Errorf("the backup is of cluster %s, and this is %s", is, o.Cluster)
		}
		_, p.Passwords, p.Tokens = next.WithSecretsOf(o.Secrets)
	}
	for _, f := range found {
		if !slices.Contains(taken, f.ID) {
			p.LeftOut = append(p.LeftOut, f.ID)
		}
	}
	if err := p.findTorn(ctx); err != nil {
		return nil, err
	}
	p.Beyond, p.UnknownBeyond = findBeyond(ctx, o, next, p.endOf)
	for b := range l.image.Brokers() {
		p.Brokers = append(p.Brokers, b.ID)
	}
	for t := range next.Topics() {
		for is := range t.Partitions.All() {
			_, was := l.image.Partition(storage.PartitionID{Topic: t.ID, Index: is.Index})
			p.Partitions = append(p.Partitions, Partition{
				Topic: t.Name, Partition: is.Index, LogStart: is.LogStart, Committed: was.CommittedEnd(), End: p.endOf(t.Name, is),
				Replicas: is.Replicas, Awaited: awaited(is), Held: held(is),
			})
		}
	}
	return p, nil
}

// findTorn looks for what is torn, and says what is to be cut if that was asked for.
func (p *Plan) findTorn(ctx context.Context) error {
	e, err := readEvidence(ctx, p.options, p.next)
	if err != nil {
		if p.UnknownTorn = err; p.options.CutTorn {
			return fmt.Errorf("what is torn cannot be told, and not be cut: %w", err)
		}
		return nil
	}
	if p.Torn = e.torn(); p.options.CutTorn {
		p.Cuts, err = e.cuts(p.next)
	}
	return err
}

// endOf is where a partition of the next life ends in the bucket, once it is cut.
func (p *Plan) endOf(topic string, is *metadata.Partition) storage.Offset {
	for _, c := range p.Cuts {
		if c.Topic == topic && c.Partition == is.Index {
			return c.At
		}
	}
	return is.CommittedEnd()
}

// held reports whether the bucket has all that was acknowledged of a partition of the next
// life: nobody's word is waited for.
func held(p *metadata.Partition) bool { return p.Recovery() == nil }

// awaited are the brokers that may have more of a partition of the next life than the bucket.
func awaited(p *metadata.Partition) []int32 {
	if held(p) {
		return nil
	}
	return p.Recovery().Awaited
}

// Life is what another life of the cluster begins with.
type Life struct {
	Index, Term uint64 // that its log begins behind
	State       []byte // a snapshot of the metadata
}

// TakenError says that the number was taken since the bucket was read.
type TakenError struct{ Key string }

// Error says what to do.
func (e *TakenError) Error() string {
	return fmt.Sprintf("somebody has written %s since the bucket was read: a controller of this cluster runs, or somebody else recovers it. Stop all controllers, and try again", e.Key)
}

// Begin ends the life that the plan is of: no controller of it commits or deletes from
// then on, and one that reaches the bucket decides nothing after a few seconds. [Plan.Ask]
// comes before it. A store that has no conditional writes needs force, and that no controller
// runs: two that recover at once would not notice each other. Errors: *TakenError, one
// that wraps bucket.ErrUnsupported, and the bucket's, after which it may have happened:
// the bucket is to be read again.
func (p *Plan) Begin(ctx context.Context, force bool) (*Life, error) {
	// Whoever leads the old life looks there, though it has nothing to put.
	if err := p.question(ctx, [16]byte(p.Nonce)); err != nil {
		return nil, err
	}
	is, _ := p.next.Bucket()
	whole := p.next
	if kept := p.options.Secrets; kept != nil {
		whole, _, _ = p.next.WithSecretsOf(kept)
	}
	life := &Life{Index: p.next.Offset(), Term: p.log.term + 1, State: whole.Snapshot()}
	e := &metadata.LogEntry{
		Incarnation: uint32(is.Incarnation), Number: p.log.next, Term: life.Term, Writer: rand.Uint64(),
		First: life.Index, Last: life.Index, Snapshot: p.next.WithoutSecrets().Snapshot(),
	}
	err := p.options.Bucket.PutIfAbsent(ctx, p.Key, e.Encode())
	if errors.Is(err, bucket.ErrUnsupported) && force {
		err = p.putUnchecked(ctx, e)
	}
	switch {
	case errors.Is(err, bucket.ErrExists):
		return nil, errors.Join(&TakenError{Key: p.Key}, p.removeWritten(ctx)) // the question may be that of another recovery
	case errors.Is(err, bucket.ErrUnsupported):
		return nil, errors.Join(err, p.removeWritten(ctx), p.takeBack(ctx, controller.LogPrefix(p.options.Prefix, p.Cluster, p.Incarnation)))
	}
	if err != nil {
		return nil, fmt.Errorf("end incarnation %d of the cluster: %w", p.Incarnation, err)
	}
	return life, nil
}

// putUnchecked looks whether the key is there, and puts.
func (p *Plan) putUnchecked(ctx context.Context, e *metadata.LogEntry) error {
	_, err := p.options.Bucket.Stat(ctx, p.Key)
	if err == nil {
		return bucket.ErrExists
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	return p.options.Bucket.Put(ctx, p.Key, bucket.Bytes(e.Encode()))
}
