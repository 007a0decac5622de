package async

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// idleWait is how long a read waits for records while there are none.
	idleWait = 20 * time.Second
	// pieceBytes of records are what a module is given at once, of a piece.
	pieceBytes = 1 << 20
	// growAfter pieces without a failure a piece may be twice as large again.
	growAfter = 8
	// busyTime is how long a module may have no instance free.
	busyTime = 30 * time.Second
	// restartLeast and restartMost are between two attempts of a partition.
	restartLeast = 50 * time.Millisecond
	restartMost  = 5 * time.Second
	// tellAgain is between two lines in the log about one partition that waits.
	tellAgain = 30 * time.Second
	// maxTurns is how often a record is tried that not even the policy's topic takes, a minute
	// and a half, until the module is given up.
	maxTurns = 20
	// keepAfter is after how long without records the offset is committed anew: the
	// offsets of groups that nobody commits expire.
	keepAfter = time.Hour
)

// worker runs a task for one source partition: it reads what is committed, has the module
// decide, and writes, in transactions that hold the offset it has read up to. One
// goroutine runs it.
type worker struct {
	runner *Runner
	task   Task                 // what never changes of it
	calls  atomic.Pointer[Task] // whose module is asked, and who is told of failures
	of     source

	reader   reader
	producer producer
	out      output
	chunk    chunk

	position  int64     // offset of the next record to be decided about
	last      int64     // committed; -1: nothing
	began     time.Time // of the last transaction that ended
	piece     int       // most records that the module is given at once
	good      int       // pieces since one failed
	alone     int64     // up to this offset each record has a transaction of its own
	condemned int64     // offset of a record that its target refused; -1: none
	turns     int       // how often it was

	decided int64 // offset of the last record that was decided about

	shown []abi.Record // what a module is given, where that is not all
	at    []int        // of each of those, where in the piece it is

	counted  [outcomes]int // records, until the next commit
	progress progress
}

// progress is what others see of a worker.
type progress struct {
	state    atomic.Int32
	position atomic.Int64
	last     atomic.Int64
	end      atomic.Int64
	failure  atomic.Pointer[string]
	stuck    atomic.Int64 // when it failed first since it got on last, ns since 1970; 0: not since
}

func newWorker(r *Runner, t *Task, of source) *worker {
	w := &worker{runner: r, task: *t, of: of, piece: maxPiece, condemned: -1, alone: -1, last: -1}
	w.calls.Store(t)
	w.reader = reader{cluster: r.cluster, of: of, pool: &r.bodies, large: r.large}
	w.producer = producer{
		cluster: r.cluster, id: transactionalID(t.Name, of), group: GroupID(t.Name), of: of, timeout: r.o.TransactionTimeout,
	}
	w.progress.position.Store(-1)
	w.progress.last.Store(-1)
	w.progress.end.Store(-1)
	return w
}

// GroupID is the consumer group that holds the offsets of a task. It has no members.
func GroupID(task string) string { return pipeline.ClientPrefix + task }

// transactionalID is the same for every version of a task and every broker: who begins
// with it takes over from whoever had the partition before.
func transactionalID(task string, of source) string {
	return GroupID(task) + "-" + of.id.String() + "-" + strconv.Itoa(int(of.partition))
}

// run works until ctx ends. What goes wrong is tried again from the last transaction that
// was committed, after a pause.
func (w *worker) run(ctx context.Context) {
	defer w.reader.close()
	pause, told := restartLeast, time.Time{}
	for ctx.Err() == nil {
		before := w.last
		w.progress.state.Store(int32(Starting))
		err := w.process(ctx)
		if e := w.producer.abort(ctx); e != nil {
			w.runner.log.Debug("a transaction is left to who takes over, or to its time", "module", w.task.Name, "topic", w.of.topic, "partition", w.of.partition, "error", e)
		}
		w.out.forget()
		w.counted = [outcomes]int{}
		if ctx.Err() != nil {
			return
		}
		w.blame(err)
		if w.last > before {
			pause = restartLeast
		}
		w.stuck(err)
		w.runner.metrics.restarts.WithLabelValues(w.task.Name).Inc()
		if now := w.runner.now(); pause >= restartMost/2 && now.Sub(told) >= tellAgain {
			told = now
			w.runner.log.Warn("an asynchronous transform waits, and tries again", "module", w.task.Name, "topic", w.of.topic, "partition", w.of.partition, "offset", w.last, "error", err)
		}
		sleep(ctx, pause)
		pause = min(2*pause, restartMost)
	}
}

// blame finds the record that a target refuses: those from the last commit on are tried
// one by one, and one that is refused alone is condemned.
func (w *worker) blame(err error) {
	var refused *refusedError
	if !errors.As(err, &refused) {
		return
	}
	if w.position > w.alone { // of several records
		w.alone = w.position
		return
	}
	if w.condemned != w.decided {
		w.condemned, w.turns = w.decided, 0
	}
	w.turns++
	w.failed(refused, 1)
}

// process takes the partition over, and works until something goes wrong.
func (w *worker) process(ctx context.Context) error {
	if err := w.takeOver(ctx); err != nil {
		return err
	}
	w.out = output{
		of: w.of, sender: &w.producer, free: w.out.free,
		topics: w.topic(ctx),
	}
	w.progress.state.Store(int32(Running))
	share := share{of: w.runner.shares, waiting: &w.runner.waiting}
	defer share.give()
	for {
		wait, most, behind := idleWait, int32(1), w.progress.end.Load() > w.position
		if w.position > w.last || w.producer.open {
			wait = w.due()
		}
		if behind {
			most = fetchBytes
			if err := share.take(ctx); err != nil {
				return err
			}
		}
		err := w.reader.read(ctx, w.position, most, wait)
		for first := true; err == nil && (first || w.reader.more()); first = false {
			if err = w.unpack(ctx, &share); err == nil {
				err = w.digest(ctx)
			}
		}
		if err == nil {
			err = w.lends(ctx, &share)
		}
		w.reader.done(&w.chunk)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			err = w.reposition(ctx)
		}
		if err != nil {
			return err
		}
		if w.position == w.last && !w.producer.open { // there is nothing left to do
			w.getsOn()
		}
		if !behind && len(w.chunk.records) == 0 {
			w.chunk = chunk{} // nobody keeps the memory of the last backlog
			w.shown, w.at = nil, nil
			w.out.shrink()
		}
	}
}

// unpack takes apart the next of what was read, once there is a share for it. Who has a share
// may wait for the one place of large batches, and not the other way round.
func (w *worker) unpack(ctx context.Context, share *share) error {
	if w.reader.more() {
		if err := share.take(ctx); err != nil {
			return err
		}
	}
	return w.reader.decode(ctx, w.position, &w.chunk)
}

// lends gives the share to who waits for one, or back where no backlog needs it, and writes
// before that what takes more than may be held without.
func (w *worker) lends(ctx context.Context, share *share) error {
	if w.progress.end.Load() > w.position && !share.wanted() {
		return nil
	}
	if w.out.bytes >= keptBytes {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	share.give()
	return nil
}

// takeOver begins where the last transaction ended, whoever's it was.
func (w *worker) takeOver(ctx context.Context) error {
	if err := w.producer.begin(ctx); err != nil {
		return err
	}
	offset, ok, err := w.producer.committed(ctx)
	if err != nil {
		return err
	}
	w.last = -1
	if ok {
		w.last = offset
	}
	start, end, err := w.reader.bounds(ctx)
	if err != nil {
		return err
	}
	w.position = w.last
	if !ok {
		w.position = start
		w.last = start // of which nothing was decided: it is where the next attempt begins too
	}
	w.progress.end.Store(end)
	w.progress.position.Store(w.position)
	w.progress.last.Store(w.last)
	w.began = w.runner.now()
	return nil
}

// reposition goes on where there are records, when those at the position are not there any
// more: retention was faster, or the log ends before it.
func (w *worker) reposition(ctx context.Context) error {
	start, end, err := w.reader.bounds(ctx)
	if err != nil {
		return err
	}
	at := min(max(w.position, start), end)
	w.runner.log.Warn("an asynchronous transform cannot read on where it was", "module", w.task.Name, "topic", w.of.topic, "partition", w.of.partition, "offset", w.position, "goes_on_at", at)
	w.runner.metrics.skipped.WithLabelValues(w.task.Name).Add(float64(max(0, at-w.position)))
	if at == w.position {
		return fmt.Errorf("read %s-%d at %d: %w", w.of.topic, w.of.partition, at, kerr.OffsetOutOfRange)
	}
	if err := w.commit(ctx, at); err != nil {
		return err
	}
	w.position = at
	return nil
}

// topic looks a topic up, for the output.
func (w *worker) topic(ctx context.Context) func(string) (*metadata.Topic, error) {
	return func(name string) (*metadata.Topic, error) { return w.runner.cluster.topic(ctx, name) }
}

// due is how long the transaction may wait yet.
func (w *worker) due() time.Duration {
	return max(0, w.runner.interval()-w.runner.now().Sub(w.began))
}

// digest decides about what was read, writes, and commits when it is time.
func (w *worker) digest(ctx context.Context) error {
	w.progress.end.Store(w.chunk.end)
	w.out.codec = w.chunk.codec
	if w.chunk.unreadable != nil {
		if err := w.skip(w.chunk.unreadable); err != nil {
			return err
		}
	}
	for records := w.chunk.records; len(records) > 0; {
		n, err := w.decide(ctx, records)
		if err != nil {
			return err
		}
		if n > 0 {
			w.decided = records[n-1].Offset
			records = records[n:]
			w.position = firstOf(records, w.chunk.next)
			w.progress.position.Store(w.position)
		}
		switch {
		case n == 0 && w.position == w.last && !w.producer.open:
			// nothing is done yet that a transaction could have
		case w.due() == 0 || w.position <= w.alone:
			err = w.commit(ctx, w.position)
		case w.out.bytes >= heldBytes:
			err = w.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	w.position = w.chunk.next
	w.progress.position.Store(w.position)
	idle := w.position == w.last && w.runner.now().Sub(w.began) >= keepAfter
	if w.position > w.last && w.due() == 0 || idle {
		return w.commit(ctx, w.position)
	}
	return nil
}

// skip goes on behind what nobody can read, or all that is behind it would wait for ever. Where
// there are dead letters, one tells of it.
func (w *worker) skip(u *unreadable) error {
	w.runner.log.Warn("an asynchronous transform goes on behind records that a producer made so that nobody can read them", "module", w.task.Name, "topic", w.of.topic, "partition", w.of.partition, "offset", u.from, "goes_on_at", w.chunk.next, "error", u.err)
	w.runner.metrics.skipped.WithLabelValues(w.task.Name).Add(float64(w.chunk.next - u.from))
	w.decided = u.from
	if w.task.Spec.OnFailure == pipeline.Pass {
		return nil
	}
	return w.dispose(&abi.Record{Offset: u.from, Timestamp: u.timestamp}, u.err.Error())
}

// firstOf is the offset of the first of the records that are left.
func firstOf(left []abi.Record, next int64) int64 {
	if len(left) == 0 {
		return next
	}
	return left[0].Offset
}

// decide has the module decide about the first of the records, and returns about how many
// it did; 0: about none, for it failed on them, and is to be given fewer.
func (w *worker) decide(ctx context.Context, records []abi.Record) (n int, err error) {
	piece := w.cut(records)
	shown := w.toShow(piece)
	var decisions []abi.Decision
	if len(shown) > 0 {
		decisions, err = w.transform(ctx, shown)
	}
	var failure *abi.Failure
	switch {
	case err == nil:
		w.grow()
		return len(piece), w.obey(piece, len(shown), decisions)
	case !errors.As(err, &failure):
		return 0, err
	case failure.Kind == abi.Init:
		w.failed(err, len(piece))
		return 0, err
	case failure.Kind == abi.Closed:
		return 0, err
	}
	w.good = 0
	if len(piece) > 1 {
		w.piece = len(piece) / 2
		w.runner.metrics.failures.WithLabelValues(w.task.Name, string(failure.Kind)).Inc()
		return 0, nil // with a commit between, when it is time: no transaction waits for the module
	}
	w.failed(err, 1)
	return 1, w.dispose(&piece[0], failure.Error())
}

// toShow returns those of a piece that the module is to be shown, and notes where in it
// they are.
func (w *worker) toShow(piece []abi.Record) []abi.Record {
	spec := w.task.Spec
	w.at = w.at[:0]
	if len(spec.When) == 0 && w.condemned < 0 {
		return piece
	}
	w.shown = w.shown[:0]
	now := w.runner.now().UnixMilli()
	for i := range piece {
		if piece[i].Offset != w.condemned && spec.Selects(&piece[i], now) {
			w.at = append(w.at, i)
			w.shown = append(w.shown, piece[i])
		}
	}
	return w.shown
}

// cut returns the first of the records that a module is given at once.
func (w *worker) cut(records []abi.Record) []abi.Record {
	most := w.piece
	if records[0].Offset < w.alone {
		most = 1
	}
	bytes := 0
	for i := range records {
		if bytes += recordSize(&records[i]); i > 0 && (i >= most || bytes > pieceBytes) {
			return records[:i]
		}
	}
	return records
}

// grow lets pieces grow after some that went well.
func (w *worker) grow() {
	if w.good++; w.good >= growAfter && w.piece < maxPiece {
		w.piece, w.good = min(2*w.piece, maxPiece), 0
	}
}

// transform has the module decide. While it has no instance free it waits.
func (w *worker) transform(ctx context.Context, records []abi.Record) ([]abi.Decision, error) {
	b := &abi.Batch{Topic: w.of.topic, Partition: w.of.partition, Flags: abi.Async, Records: records, Timestamp: records[0].Timestamp}
	for i := range records {
		b.Timestamp = max(b.Timestamp, records[i].Timestamp)
	}
	until, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		decisions, err := w.calls.Load().Transformer.Transform(ctx, b)
		var failure *abi.Failure
		if errors.As(err, &failure) && failure.Kind == abi.Busy {
			if sleep(until, pause) {
				continue
			}
			return nil, fmt.Errorf("module %s has had no instance free for %v: %s", w.task.Name, busyTime, failure.Text)
		}
		if err == nil && decisions != nil && len(decisions) != len(records) {
			err = &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("%d decisions about %d records", len(decisions), len(records))}
		}
		return decisions, err
	}
}

// obey does with the records of a piece what was decided. Those that the module was not
// shown are kept.
func (w *worker) obey(piece []abi.Record, shown int, decisions []abi.Decision) error {
	next := 0
	for i := range piece {
		r := &piece[i]
		var d *abi.Decision
		if next < shown && (shown == len(piece) || w.at[next] == i) {
			if decisions != nil {
				d = &decisions[next]
			}
			next++
		}
		var err error
		switch {
		case r.Offset == w.condemned:
			err = w.dispose(r, "its target does not take it")
		case d == nil:
			err = w.keep(r)
		default:
			err = w.carryOut(r, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep lets a record go on as it is.
func (w *worker) keep(r *abi.Record) error {
	w.counted[kept]++
	return w.out.add(w.task.Spec.Output, r, true)
}

func (w *worker) carryOut(r *abi.Record, d *abi.Decision) error {
	topic, as := w.task.Spec.Output, kept
	switch d.Action {
	case abi.Drop:
		w.counted[dropped]++
		return nil
	case abi.Reject:
		return w.dispose(r, d.Text)
	case abi.Route:
		topic, as = d.Text, routed
		if !guard.Check("async.route", w.task.Spec.MayRoute(topic)) {
			failure := &abi.Failure{Kind: abi.Output, Text: fmt.Sprintf("a route to topic %q, which routes does not have", topic)}
			w.failed(failure, 1)
			return w.dispose(r, failure.Error())
		}
	}
	w.counted[as]++
	if d.Replaces == 0 {
		return w.out.add(topic, r, true)
	}
	is := *r
	if d.Replaces&abi.Key != 0 {
		is.Key = d.Key
	}
	if d.Replaces&abi.Value != 0 {
		is.Value = d.Value
	}
	if d.Replaces&abi.Headers != 0 {
		is.Headers = d.Headers
	}
	return w.out.add(topic, &is, d.Replaces&abi.Key == 0)
}

// dispose does with a record that was rejected, or failed on, what the policy says.
func (w *worker) dispose(r *abi.Record, reason string) error {
	spec := w.task.Spec
	condemned, most := r.Offset == w.condemned, 1
	if spec.OnFailure == pipeline.DeadLetter {
		most = 2 // once whole, and once as small as can be
	}
	if condemned && w.turns > most {
		w.turns++
		err := fmt.Errorf("the record of %s-%d at %d is refused by the topic that the policy %s sends it to as well: have that topic take it, or disable module %s", w.of.topic, w.of.partition, r.Offset, spec.OnFailure, w.task.Name)
		w.failed(err, 1)
		if guard.Check("async.given-up", w.turns > maxTurns) {
			w.spend(err)
		}
		return err
	}
	if spec.OnFailure == pipeline.Pass {
		w.counted[passed]++
		return w.out.add(spec.Output, r, true)
	}
	w.counted[deadLettered]++
	if condemned && w.turns > 1 {
		r, reason = stub(r), reason+", nor does the dead-letter topic take it whole"
	}
	return w.out.add(spec.DeadLetterTopic, deadLetter(r, &w.task, w.of, reason, w.runner.now().UnixMilli()), true)
}

// spend has the whole error budget be spent: tries are further apart than a budget may ask for.
func (w *worker) spend(err error) {
	told := w.calls.Load().Failed
	for range w.task.Spec.ErrorBudget.Failures {
		if told != nil {
			told(err, 1)
		}
	}
}

// failed tells of a failure of the module.
func (w *worker) failed(err error, records int) {
	kind := "target"
	var failure *abi.Failure
	if errors.As(err, &failure) {
		kind = string(failure.Kind)
	}
	w.runner.metrics.failures.WithLabelValues(w.task.Name, kind).Inc()
	if told := w.calls.Load().Failed; told != nil {
		told(err, records)
	}
}

// flush writes what waits.
func (w *worker) flush(ctx context.Context) error {
	batches, err := w.out.take()
	if err != nil || len(batches) == 0 {
		return err
	}
	return w.producer.produce(ctx, batches)
}

// commit writes what waits, and ends the transaction at an offset.
func (w *worker) commit(ctx context.Context, offset int64) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := w.producer.commit(ctx, offset); err != nil {
		return err
	}
	w.last, w.began = offset, w.runner.now()
	w.progress.last.Store(offset)
	w.getsOn()
	w.runner.metrics.committed(w.task.Name, &w.counted)
	if w.condemned >= 0 && offset > w.condemned {
		w.condemned, w.turns = -1, 0
	}
	clear(w.out.places) // topics may have more partitions by now
	return nil
}

// stuck notes why nothing has come of the last attempt.
func (w *worker) stuck(err error) {
	text := err.Error()
	w.progress.failure.Store(&text)
	w.progress.stuck.CompareAndSwap(0, w.runner.now().UnixNano())
	w.progress.state.Store(int32(Waiting))
}

// getsOn notes that what failed before fails no more.
func (w *worker) getsOn() {
	w.progress.stuck.Store(0)
	w.progress.failure.Store(nil)
}
