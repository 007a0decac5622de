//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

// copyLimit is far above what it takes until something more is copied, or read of it.
const copyLimit = 60 * time.Second

// copySession is short: a member that a kill kept from leaving is outwaited, anew in
// each life of a server, before its group goes on. Where the machine has so much else to do
// that members are missed though they live, sessions become longer, up to patientSession.
const copySession, patientSession = 1500 * time.Millisecond, 24 * time.Second

// copied is a topic that is filled from another one in transactions: partition by
// partition it must come to hold the same records in the same order, each once.
type copied struct {
	topic  string
	source *history

	committed, aborted, abandoned atomic.Int64 // transactions
	cut                           atomic.Int64 // transactions in which their server died
}

// judge compares the nth record that a reader of what is committed is given.
func (c *copied) judge(reader string, n int64, r *kgo.Record) {
	got, err := idOf(r.Value)
	if want := c.source.held(r.Partition, n); err != nil || got != want {
		c.source.problem("%s of %s: record %d of partition %d, at offset %d, is %v, expected %v: %v",
			reader, c.topic, n, r.Partition, r.Offset, got, want, err)
	}
}

// copier copies, whatever happens to its servers and to itself: an incarnation ends
// when its client gives up, or in the middle of a transaction, and the next must
// end what it left open. Others of its group do the same with other partitions.
type copier struct {
	name    string
	group   string
	servers way
	life    func() int64 // changes when a server dies, or is disturbed otherwise
	to      *copied
	rng     *rand.Rand
	opts    []kgo.Opt
	told    string // the last error that ended an incarnation
	session time.Duration
	vain    int // transactions that its group did not let it commit, or waits for records, since one was committed
}

// errVain ends an incarnation whose group takes its members for dead over and over.
var errVain = errors.New("nothing is committed: a longer session")

// run goes on until it is to stop and nothing is open, or the test ends.
func (c *copier) run(ctx, stop context.Context) {
	for ctx.Err() == nil {
		err := c.incarnation(ctx, stop)
		if errors.Is(err, errVain) {
			c.session, c.vain = min(2*c.session, patientSession), 0
		}
		if err == nil && stop.Err() != nil {
			return
		}
		if err != nil {
			c.told = err.Error()
		}
	}
}

// incarnation copies until it is to stop between two transactions, which is no error,
// abandons one, or is told that it cannot go on.
func (c *copier) incarnation(test, stop context.Context) error {
	session, err := kgo.NewGroupTransactSession(append(append(clientOptions(c.servers),
		kgo.TransactionalID(c.name),
		kgo.TransactionTimeout(copyLimit), // who comes after it ends a transaction, not time
		kgo.ConsumerGroup(c.group),
		kgo.ConsumeTopics(c.to.source.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.SessionTimeout(c.session),
		kgo.RebalanceTimeout(c.session),
		kgo.HeartbeatInterval(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	), c.opts...)...)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(test, copyLimit)
	defer cancel()
	if _, _, err := session.Client().ProducerID(ctx); err != nil { // fences the incarnation before
		return fmt.Errorf("become %s: %w", c.name, err)
	}
	for stop.Err() == nil {
		if c.vain > 3 {
			return errVain
		}
		within, done := context.WithTimeout(stop, 4*c.session)
		fetches := session.PollRecords(within, 1+c.rng.IntN(200))
		if done(); fetches.NumRecords() == 0 {
			c.vain++
		}
		fetches.EachError(func(_ string, p int32, err error) {
			if lost := (&kgo.ErrDataLoss{}); errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) {
				c.to.source.problem("%s was told of partition %d: %v", c.name, p, err)
			}
		})
		if fetches.NumRecords() == 0 {
			continue
		}
		goOn, err := c.transaction(test, session, fetches.Records())
		if err != nil || !goOn {
			return err
		}
	}
	return nil
}

// transaction copies some records, and commits, aborts or abandons that.
func (c *copier) transaction(test context.Context, session *kgo.GroupTransactSession, records []*kgo.Record) (goOn bool, err error) {
	ctx, cancel := context.WithTimeout(test, copyLimit)
	defer cancel()
	life := c.life()
	defer func() {
		if c.life() != life {
			c.to.cut.Add(1)
		}
	}()
	if err := session.Begin(); err != nil {
		return false, fmt.Errorf("begin a transaction of %s: %w", c.name, err)
	}
	first := kgo.AbortingFirstErrPromise(session.Client())
	for _, r := range records {
		c.to.source.read(r.Value, r.Partition, r.Offset)
		session.Produce(ctx, &kgo.Record{Topic: c.to.topic, Partition: r.Partition, Value: r.Value}, first.Promise())
	}
	how := kgo.TryCommit
	switch c.rng.IntN(20) {
	case 0:
		err := first.Err()
		c.to.abandoned.Add(1)
		return false, err
	case 1:
		how = kgo.TryAbort
		if err := session.Client().Flush(ctx); err != nil {
			return false, fmt.Errorf("flush a transaction of %s: %w", c.name, err)
		}
	}
	if first.Err() != nil {
		how = kgo.TryAbort
	}
	committed, err := session.End(ctx, how)
	if err != nil { // it may be committed or not: the offsets of the group say so
		return false, fmt.Errorf("end a transaction of %s: %w", c.name, err)
	}
	if committed {
		c.to.committed.Add(1)
		c.vain = 0
	} else {
		c.to.aborted.Add(1)
		c.vain++
	}
	return true, nil
}

// copyReader reads what is committed of a copy.
type copyReader struct {
	client *kgo.Client
	name   string
	of     *copied
	at     [partitions]int64        // the next offset is not below; the reading goroutine's
	seen   [partitions]atomic.Int64 // records
}

func newCopyReader(servers way, name string, of *copied) (*copyReader, error) {
	client, err := kgo.NewClient(append(clientOptions(servers),
		kgo.ConsumePartitions(fromStart(of.topic)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // markers must stay too, and are all there is at the end
		kgo.FetchMaxWait(200*time.Millisecond),
	)...)
	return &copyReader{client: client, name: name, of: of}, err
}

// poll judges what there is, if need be once there is something.
func (r *copyReader) poll(ctx context.Context) {
	fetches := r.client.PollFetches(ctx)
	fetches.EachError(func(_ string, p int32, err error) {
		// kgo compares where an epoch ended with an offset behind aborted records of
		// the next one, as it forgets their epoch: what it was given is not lost by that.
		lost := &kgo.ErrDataLoss{}
		if errors.As(err, &lost) && lost.ResetTo >= r.at[p] {
			return
		}
		if ctx.Err() == nil {
			r.of.source.problem("%s was told of partition %d of %s: %v", r.name, p, r.of.topic, err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) {
		p := record.Partition
		if record.Offset < r.at[p] {
			r.of.source.problem("%s was given offset %d of partition %d of %s again", r.name, record.Offset, p, r.of.topic)
		}
		r.at[p] = record.Offset + 1
		if !record.Attrs.IsControl() {
			r.of.judge(r.name, r.seen[p].Load(), record)
			r.seen[p].Add(1)
		}
	})
}

// more polls once, and reports whether anything came before it took too long.
func (r *copyReader) more(ctx context.Context) bool {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), copyLimit)
	defer done()
	r.poll(ctx)
	return ctx.Err() == nil
}

// copies is a topic that is written, and copied, while its servers are disturbed.
type copies struct {
	servers way
	says    func() string // of the servers
	lives   atomic.Int64  // grows when they are disturbed
	source  *history
	to      *copied
	writer  *producer
	long    *copyReader // reads through all lives
	copiers []*copier
	endCopy func() // ends the copiers, each between two transactions
}

// newCopies begins to copy a topic, which exists, to another one, which does too.
func newCopies(t *testing.T, servers way, source *history, says func() string) *copies {
	t.Helper()
	c := &copies{servers: servers, says: says, source: source, to: &copied{topic: "copied", source: source}}
	var err error
	c.writer, err = newProducer(servers, source, 1, 1000, true)
	must(t, err)
	t.Cleanup(c.writer.drop)
	c.long, err = newCopyReader(servers, "the lasting reader", c.to)
	must(t, err)
	stop, cancel := context.WithCancel(t.Context())
	reading, endReading := context.WithCancel(t.Context())
	var copying, reader sync.WaitGroup
	c.endCopy = func() {
		cancel()
		copying.Wait()
	}
	t.Cleanup(func() {
		cancel()
		endReading()
		copying.Wait()
		reader.Wait()
		c.long.client.Close()
	})
	reader.Go(func() {
		for reading.Err() == nil {
			c.long.poll(reading)
		}
	})
	seed := seeded.Seed(t)
	for i, opts := range [][]kgo.Opt{nil, {kgo.InstanceID("static")}} {
		one := &copier{name: fmt.Sprintf("copier-%d", i), group: "copiers", servers: servers, life: c.lives.Load, to: c.to, session: copySession,
			rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), opts: opts}
		c.copiers = append(c.copiers, one)
		copying.Go(func() { one.run(t.Context(), stop) })
	}
	return c
}

// broken is what a step failed with and all that was found so far.
func (c *copies) broken(err error) error {
	if found := c.source.found(); len(found) > 0 {
		err = errors.Join(errors.New(strings.Join(found, "\n")), err)
	}
	if err == nil {
		return nil
	}
	for _, copier := range c.copiers {
		if copier.told != "" {
			err = fmt.Errorf("%w\n%s was last told: %s", err, copier.name, copier.told)
		}
	}
	return fmt.Errorf("life %d: %w\n%s", c.lives.Load(), err, c.says())
}

// readAgain gives a fresh reader what another one has been given.
func (c *copies) readAgain() error {
	r, err := newCopyReader(c.servers, fmt.Sprintf("a reader of life %d", c.lives.Load()), c.to)
	if err != nil {
		return err
	}
	defer r.client.Close()
	for p := range partitions {
		for known := c.long.seen[p].Load(); r.seen[p].Load() < known; {
			if !r.more(context.Background()) {
				return fmt.Errorf("%s was given %d records of partition %d of %s, another %d", r.name, r.seen[p].Load(), p, c.to.topic, known)
			}
		}
	}
	return nil
}

// goOn waits until records are copied in this life of a server.
func (c *copies) goOn() error {
	seen := func() (n int64) {
		for p := range partitions {
			n += c.long.seen[p].Load()
		}
		return n
	}
	before := seen()
	for deadline := time.Now().Add(copyLimit); seen() == before; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing was copied within %v", copyLimit)
		}
	}
	return nil
}

// arrive waits until the long reader has been given all that is to be copied, as long as
// more comes.
func (c *copies) arrive() error {
	var deadline time.Time
	least := int64(math.MaxInt64)
	for ; ; <-time.After(20 * time.Millisecond) {
		left := int64(0)
		for p := range partitions {
			left += c.source.known(int32(p)) - c.long.seen[p].Load()
		}
		if left < least {
			least, deadline = left, time.Now().Add(copyLimit)
		}
		if left <= 0 || len(c.source.found()) > 0 {
			return nil // more than all is found by reading to the end
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d records of %s are left, and no more were copied for %v", left, c.source.topic, copyLimit)
		}
	}
}

// readToEnd is for a copy that is complete, without an open transaction: a fresh
// reader must come to the end of each partition, and have all records and no more.
func (c *copies) readToEnd() error {
	ctx, cancel := context.WithTimeout(context.Background(), copyLimit)
	defer cancel()
	r, err := newCopyReader(c.servers, "the last reader", c.to)
	if err != nil {
		return err
	}
	defer r.client.Close()
	ends, err := endsOf(ctx, r.client, c.to.topic)
	if err != nil {
		return err
	}
	for p := range int32(partitions) {
		end, _ := ends.Lookup(c.to.topic, p)
		for r.at[p] < end.Offset {
			if !r.more(ctx) {
				return fmt.Errorf("%s came to offset %d of partition %d of %s, which ends at %d", r.name, r.at[p], p, c.to.topic, end.Offset)
			}
		}
		if got, want := r.seen[p].Load(), c.source.known(p); got != want {
			return fmt.Errorf("partition %d of %s has %d records, its copy %d", p, c.source.topic, want, got)
		}
	}
	return nil
}

// finish ends the writing and the copying, and judges both topics as a whole.
func (c *copies) finish(t *testing.T) {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), copyLimit)
	defer done()
	must(t, c.broken(c.writer.finish(ctx)))
	must(t, c.broken(c.arrive()))
	c.endCopy()
	must(t, c.broken(c.readToEnd()))
	must(t, c.broken(readAll(t.Context(), c.servers, c.source)))
	must(t, c.broken(nil))
	to := c.to
	t.Logf("%d records copied once, in %d transactions; %d more were aborted, %d abandoned; servers were disturbed in %d",
		c.writer.sent.Load(), to.committed.Load(), to.aborted.Load(), to.abandoned.Load(), to.cut.Load())
}

// counts are what was copied, and what was not to be.
func (c *copies) counts() tally.Counts {
	return tally.Counts{
		"records": c.writer.sent.Load(), "transactions": c.to.committed.Load(), "transactions_aborted": c.to.aborted.Load() + c.to.abandoned.Load(),
	}
}

func TestExactlyOnceCopySurvivesKills(t *testing.T) {
	t.Parallel()
	d := newDrill(t, t.TempDir()+"/data", (*server).kill)
	d.throughBucket()
	d.set = append(d.set, "broker.groups.min_session_timeout=1s")
	s := d.begin()
	d.board.connect(s.address(t))
	must(t, d.create(d.lasting.topic))
	must(t, d.create("copied"))
	c := newCopies(t, d.board, d.lasting, func() string { return "the server says:\n" + s.log.String() })
	begin, least := time.Now(), max(25*time.Second, soak(t))
	for time.Since(begin) < least || c.to.cut.Load() < 3 {
		must(t, c.broken(c.goOn()))
		<-time.After(d.between(time.Second, 3*time.Second))
		s.kill()
		c.lives.Add(1)
		d.board.connect("")
		s = d.begin()
		d.board.connect(s.address(t))
		must(t, c.broken(c.readAgain()))
	}
	c.finish(t)
	if c.to.aborted.Load() == 0 || c.to.abandoned.Load() == 0 {
		t.Errorf("%d transactions were aborted and %d abandoned: this drill proves less than it should", c.to.aborted.Load(), c.to.abandoned.Load())
	}
	d.counts["kills"] += int64(d.lives - 1)
	d.counts.Add(c.counts())
	tally.Log(t, d.counts)
	t.Logf("%d times SIGKILL in %v", d.lives-1, time.Since(begin).Round(time.Second))
}
