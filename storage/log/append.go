package log

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// AppendOptions say how to append.
type AppendOptions struct {
	// Epoch is the leader epoch that the caller believes in. NoEpoch: any.
	Epoch storage.Epoch
	// LeaderOnly asks for an answer once this broker has the records on disk, or with
	// Config.EarlyAcks in memory (acks=1), even if the high watermark has not passed
	// them. acks=0 may use it too; there is no quicker answer. With Config.BucketAcks it
	// asks for nothing.
	LeaderOnly bool
	// Internal says that the broker itself appends: the share of the WAL that a
	// partition may hold does not count, control batches are admitted, and batches
	// of producers without a sequence number, which is then not looked at.
	// Markers go by [Log.AppendMarker].
	Internal bool
	// Transformed says that records were taken out of the batch, or changed, since
	// [Log.Screen] let it pass: those that are gone leave holes among its offsets, and its
	// times were looked at.
	Transformed bool
	// Screened says that the batch is the one that [Log.Screen] let pass, or what Transcode made
	// of it: its CRC was compared then.
	Screened bool
	// Guard is what BeginVerification gave for the first batch of a transaction,
	// once the coordinator has confirmed it.
	Guard Guard
	// Condition, which [Log.Transcode] reads, refuses the batch unless the partition
	// ends there. A batch that is there already is answered all the same.
	Condition Condition
	// Deadline is from when on [Log.Expire] answers the append, if it still waits for other
	// replicas, or the bucket, then; zero: it waits on.
	Deadline time.Time
}

// AppendResult is the answer to an append.
type AppendResult struct {
	Base, Last    storage.Offset
	LogAppendTime int64 // ms since 1970, batch.NoTimestamp with CreateTime
	LogStart      storage.Offset
	Duplicate     bool // it was there already
	// Synced is when this broker had it on disk; zero: it was not waited for, or it was there
	// already.
	Synced time.Time
	Err    error // then the rest says nothing
}

// Appended is told how an append ended, exactly once. It must not block. What is
// committed is told in the order of the log, on the WAL's goroutine or that of who
// confirms; an error, the answer to a duplicate, or any with Config.EarlyAcks, by Append
// itself too.
type Appended interface{ Appended(AppendResult) }

// Append appends one record batch, which it stamps in place; records may be
// reused when it returns. done, which may be nil, is told the outcome. Batches
// get their offsets in the order of the calls.
//
// A producer's batch goes through [Log.Transcode] before. The caller has admitted
// len(records) by [Store.Admit]; Append gives that back.
//
// Errors: *batch.Error, ErrNotLeader, ErrOutOfOrderSequence,
// ErrInvalidProducerEpoch, ErrNotTransactional, ErrUnverified, ErrTooManyProducers,
// ErrNotEnoughReplicas, ErrFull, ErrUploadLag, ErrBehindRefused, ErrDead, ErrClosed, ErrDropped,
// *CorruptionError; *UnexpectedEndError once the end that it names is committed.
func (l *Log) Append(now time.Time, records []byte, o AppendOptions, done Appended) {
	admitted := len(records)
	result, answered, err := l.append(now, records, o, done)
	l.store.Unadmit(admitted)
	if err != nil {
		l.Refused(records, err)
	} else if !answered {
		l.commitHeld()
		l.tellObserver()
	}
	tell(done, result, answered, err)
}

// tell answers an append that was refused, or is answered already.
func tell(done Appended, result AppendResult, answered bool, err error) {
	if done == nil {
		return
	}
	if err != nil {
		done.Appended(AppendResult{Base: storage.NoOffset, Last: storage.NoOffset, LogAppendTime: batch.NoTimestamp, LogStart: storage.NoOffset, Err: err})
	} else if answered {
		done.Appended(result)
	}
}

// append does Append. answered says that the result is known already: the batch
// duplicates a committed one.
func (l *Log) append(now time.Time, records []byte, o AppendOptions, done Appended) (result AppendResult, answered bool, err error) {
	c := l.config.Load()
	b, err := admissible(now, records, c, &o)
	if err != nil {
		return result, false, err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replica.bucket && !guard.Check("log.bucket-acks-all", !o.LeaderOnly) {
		o.LeaderOnly = false
	}
	if err := l.mayAppend(c, o); err != nil {
		return result, false, err
	}
	sequenced := b.ProducerID() != batch.NoProducerID && !b.IsControl()
	if sequenced {
		duplicate, err := l.producers.check(b)
		if err != nil {
			return result, false, err
		}
		if duplicate != nil {
			return l.answerDuplicate(duplicate, b, o, done)
		}
		if err := l.checkBehind(b); err != nil {
			return result, false, err
		}
		if b.IsTransactional() {
			if err := l.checkVerified(b, o.Guard); err != nil {
				return result, false, err
			}
		}
	}
	if o.Condition.set && !guard.Check("log.condition", o.Condition.end == l.end) {
		return result, false, l.refuseCondition(o, done)
	}
	held := l.backlog.held() + int64(len(b)) + frameOverhead
	if !o.Internal && !guard.Check("log.upload-share", held <= l.store.unuploaded) {
		return result, false, fmt.Errorf("%d bytes of %s would not be in the bucket, at most %d may: %w", held, l.id, l.store.unuploaded, ErrUploadLag)
	}
	fresh := sequenced && !l.counted(b.ProducerID())
	if fresh && !l.countProducer() {
		return result, false, ErrTooManyProducers
	}
	if err := l.appendBatch(now, b, o, done); err != nil {
		if fresh {
			l.uncountProducers(1)
		}
		return result, false, err
	}
	if sequenced {
		if !l.producers.sentIn(b.ProducerID(), b.ProducerEpoch()) {
			l.store.refusals.forget(l.refusedProducer(b))
		}
		l.rememberBatch(b.ProducerID(), sentOf(b), b.IsTransactional(), now.UnixMilli())
	}
	return result, false, nil
}

// admissible returns the batch to append, as the topic wants it stored. It is
// the part of an append that needs no lock.
func admissible(now time.Time, records []byte, c *Config, o *AppendOptions) (batch.Batch, error) {
	b, err := validated(now, records, c, o)
	if err != nil {
		return nil, err
	}
	if c.TimestampType == batch.CreateTime {
		batch.StampLatest(b)
	}
	if c.Recompress && !b.IsControl() && b.NumRecords() > 0 {
		if b, err = batch.Recompress(b, c.Codec, c.Level, 0); err != nil {
			return nil, err
		}
	}
	if c.TimestampType == batch.LogAppendTime {
		batch.StampLogAppendTime(b, now.UnixMilli())
	}
	return b, nil
}

// validated returns the batch, which is whole, alone and as the topic takes it.
func validated(now time.Time, records []byte, c *Config, o *AppendOptions) (batch.Batch, error) {
	b, rest, err := batch.Next(records)
	if err != nil {
		return nil, err
	}
	if !guard.Check("log.one-batch", len(rest) == 0) {
		return nil, &batch.Error{Code: batch.InvalidRecord, Reason: fmt.Sprintf("%d bytes after the first batch: a request brings one for each partition", len(rest))}
	}
	limits := batch.Limits{MaxBytes: c.MaxMessageBytes, MaxDecompressed: batch.DefaultMaxDecompressed, Internal: o.Internal, Sifted: o.Transformed, Compared: o.Screened, Now: now}
	if c.TimestampType == batch.CreateTime && !o.Transformed {
		limits.AfterMax, limits.BeforeMax = c.TimestampAfterMax, c.TimestampBeforeMax
	}
	return b, batch.Validate(b, &limits)
}

// mayAppend says why the log takes nothing. l.mu is held.
func (l *Log) mayAppend(c *Config, o AppendOptions) error {
	switch {
	case l.refused != nil:
		return l.refused
	case l.epoch == storage.NoEpoch:
		return ErrNotLeader
	case !guard.Check("log.append-epoch", o.Epoch == storage.NoEpoch || o.Epoch == l.epoch):
		return fmt.Errorf("append at leader epoch %d, %d is led: %w", o.Epoch, l.epoch, ErrNotLeader)
	case !o.LeaderOnly && !guard.Check("log.min-in-sync", l.replica.enough(c.MinInSync)):
		return ErrNotEnoughReplicas
	}
	return nil
}

// answerDuplicate answers a batch that is in the log already as the first of it
// is, or was, answered: not before the high watermark has passed it. l.mu is
// held.
func (l *Log) answerDuplicate(s *sentBatch, b batch.Batch, o AppendOptions, done Appended) (result AppendResult, answered bool, err error) {
	p := l.store.newPending(l, done)
	p.base, p.last, p.appendTime, p.duplicate, p.leaderOnly, p.patient, p.deadline = s.base(), s.last, batch.NoTimestamp, true, o.LeaderOnly, o.Internal, o.Deadline
	if b.TimestampType() == batch.LogAppendTime {
		p.appendTime = s.timestamp
	}
	if !guard.Check("log.duplicate-committed", s.last < l.replica.highWatermark) {
		return result, false, l.park(p)
	}
	result = p.result(l.logStart)
	p.recycle()
	return result, true, nil
}

// park has p answered once the high watermark has passed it, or what it waits for
// has failed. With a dead WAL that may be behind us. l.mu is held.
func (l *Log) park(p *pending) error {
	if !guard.Check("log.park-dead", l.dead == nil) {
		p.recycle()
		return l.dead
	}
	p.epoch = l.epoch
	l.parked = append(l.parked, p)
	return nil
}

// appendBatch stamps the batch and hands it to the WAL. l.mu is held.
func (l *Log) appendBatch(now time.Time, b batch.Batch, o AppendOptions, done Appended) error {
	p := l.store.newPending(l, done)
	p.leaderOnly, p.patient, p.deadline = o.LeaderOnly, o.Internal, o.Deadline
	batch.Stamp(b, l.end, l.epoch)
	p.base, p.last, p.appendTime = l.end, b.LastOffset(), batch.NoTimestamp
	if b.TimestampType() == batch.LogAppendTime {
		p.appendTime = b.MaxTimestamp()
	}
	p.epoch = l.epoch
	if !l.replica.early {
		return l.place(b, p, now.UnixMilli())
	}
	disk := l.store.newPending(l, nil) // the disk answers nobody, it only is waited for by uploads
	disk.base, disk.last, disk.epoch, disk.leaderOnly = p.base, p.last, p.epoch, true
	if err := l.place(b, disk, now.UnixMilli()); err != nil {
		p.recycle()
		return err
	}
	l.replica.took(p.base, l.end, b.IsControl())
	if o.LeaderOnly {
		l.passed = append(l.passed, p)
	} else {
		l.parked = append(l.parked, p)
	}
	return nil
}

// commitHeld lets the high watermark pass what acks do not wait for the disk for, and
// answers it.
func (l *Log) commitHeld() {
	if !l.config.Load().EarlyAcks {
		return
	}
	l.mu.Lock()
	o := l.advance()
	l.mu.Unlock()
	o.tell(l)
}

// place hands a batch that is stamped for the log's end to the WAL, which tells p, and
// takes it into the log. l.mu is held.
func (l *Log) place(b batch.Batch, p *pending, millis int64) error {
	h := wal.Header{Kind: wal.KindData, Partition: l.id, Epoch: b.LeaderEpoch(), Offset: b.BaseOffset()}
	ref, err := l.store.wal.AppendSummed(h, b, wal.Sum{From: batch.SummedFrom, CRC: b.CRC()}, p)
	if err != nil {
		p.recycle()
		if errors.Is(err, wal.ErrTooLarge) {
			return &batch.Error{Code: batch.MessageTooLarge, Reason: "append to the log", Err: err}
		}
		return err
	}
	l.inFlight.push(p)
	before := l.index.bytes
	l.index.append(b.BaseOffset(), uint32(b.LastOffsetDelta())+1, b.MaxTimestamp(), ref)
	l.store.indexBytes.Add(l.index.bytes - before)
	if l.backlog.batches == 0 {
		l.queueUpload(millis)
	}
	l.backlog.add(ref)
	l.end = b.NextOffset()
	return nil
}

// rememberBatch notes a batch that was appended in its producer's state. l.mu is
// held, or the log is being recovered.
func (l *Log) rememberBatch(id int64, sent sentBatch, transactional bool, millis int64) {
	l.handOver(id)
	l.stale++
	if l.producers.add(id, sent, transactional, l.replica.durable(), millis) {
		l.noteTransactions(func(t *transactions) { t.begin(id, sent.base()) })
		l.endVerification(id, nil)
	}
}

func sentOf(b batch.Batch) sentBatch {
	return sentBatch{
		last: b.LastOffset(), timestamp: b.MaxTimestamp(),
		first: b.BaseSequence(), delta: b.LastOffsetDelta(), epoch: b.ProducerEpoch(),
	}
}

// pending is an append that is not answered. Pendings are reused.
type pending struct {
	log        *Log
	done       Appended
	replicated Replicated    // of a log that is followed; beside done, if it was led when this was appended
	epoch      storage.Epoch // that was led
	base, last storage.Offset
	appendTime int64
	synced     time.Time // zero: not yet
	leaderOnly bool
	deadline   time.Time // see AppendOptions
	patient    bool      // waits on while too few replicas are in sync: a coordinator's
	duplicate  bool
	refusal    error    // the answer, once the high watermark has passed last; nil: it is appended
	cancelled  bool     // truncated before it was synced
	next       *pending // in flight behind it

	woken []Waiter // scratch space of Committed
}

var pendings = sync.Pool{New: func() any { return new(pending) }}

func (s *Store) newPending(l *Log, done Appended) *pending {
	p := pendings.Get().(*pending)
	p.log, p.done = l, done
	return p
}

func (p *pending) recycle() {
	clear(p.woken)
	*p = pending{woken: p.woken[:0]}
	pendings.Put(p)
}

func (p *pending) result(logStart storage.Offset) AppendResult {
	return AppendResult{Base: p.base, Last: p.last, LogAppendTime: p.appendTime, LogStart: logStart, Duplicate: p.duplicate, Synced: p.synced}
}

func (p *pending) answer(logStart storage.Offset) {
	if p.refusal != nil {
		p.refuse(p.refusal)
		return
	}
	if p.done != nil {
		p.done.Appended(p.result(logStart))
	}
	p.recycle()
}

func (p *pending) refuse(err error) {
	if p.replicated != nil {
		p.replicated.Replicated(storage.NoOffset, err)
	}
	if p.done != nil {
		p.done.Appended(AppendResult{Base: storage.NoOffset, Last: storage.NoOffset, LogAppendTime: batch.NoTimestamp, LogStart: storage.NoOffset, Err: err})
	}
	p.recycle()
}

// Committed is called by the WAL once the batch is synced, or never will be.
func (p *pending) Committed(err error) {
	l := p.log
	l.mu.Lock()
	l.inFlight.pop(p)
	if err != nil {
		l.dead = err
		parked := l.parked
		l.parked = nil
		l.mu.Unlock()
		p.refuse(err)
		for _, d := range parked {
			d.refuse(err)
		}
		return
	}
	replicated := p.replicated
	p.replicated = nil
	if p.cancelled {
		l.mu.Unlock()
		if replicated != nil {
			replicated.Replicated(storage.NoOffset, ErrFenced)
		}
		p.refuse(ErrNotLeader)
		return
	}
	minInSync := l.config.Load().MinInSync
	if p.done != nil {
		p.synced = l.store.o.Now()
	}
	moved := l.replica.sync(p.last+1, minInSync)
	if moved {
		l.settleTransactions()
		p.woken = l.takeReached(p.woken)
		l.passParked()
	}
	woken, another := p.woken, false // whose p is from here on
	switch {
	case p.leaderOnly:
	case p.last < l.replica.highWatermark:
		// Of a log without other replicas nobody else moves the high watermark.
		if another = len(l.passed) > 0 || l.telling || len(l.replica.others) > 0; another {
			l.passed = append(l.passed, p)
		}
	case p.epoch != l.epoch:
		err = ErrNotLeader // who leads now says whether it is committed
	case !p.patient && !guard.Check("log.park-in-sync", l.replica.enough(minInSync)):
		err = ErrNotEnoughReplicasAfterAppend
	default:
		another = true
		l.parked = append(l.parked, p)
	}
	if another {
		p.woken = nil
	}
	tells := l.beginTelling()
	logStart, held, follows := l.logStart, l.replica.held, l.followed != storage.NoEpoch
	l.mu.Unlock()
	switch {
	case another:
	case err != nil:
		p.tell(AppendResult{Base: storage.NoOffset, Last: storage.NoOffset, LogAppendTime: batch.NoTimestamp, LogStart: storage.NoOffset, Err: err})
	default:
		p.tell(p.result(logStart))
	}
	if replicated != nil {
		replicated.Replicated(held, nil)
	}
	if tells {
		l.tellPassed()
	}
	wake(woken)
	if !another {
		p.recycle()
	}
	if l.fed() || moved || follows {
		l.tellObserver()
	}
}

func (p *pending) tell(r AppendResult) {
	if p.done != nil {
		p.done.Appended(r)
	}
}

// passParked has the appends that the high watermark has passed wait for nothing but
// their answer. l.mu is held.
func (l *Log) passParked() {
	kept := 0
	for _, p := range l.parked {
		if p.last < l.replica.highWatermark {
			l.passed = append(l.passed, p)
		} else {
			l.parked[kept] = p
			kept++
		}
	}
	clear(l.parked[kept:])
	l.parked = l.parked[:kept]
}

// beginTelling reports whether who calls it is to call tellPassed, without the lock: some
// are passed, and nobody tells them yet. l.mu is held.
func (l *Log) beginTelling() bool {
	if len(l.passed) == 0 || !guard.Check("log.answers-in-order", !l.telling) {
		return false
	}
	l.telling = true
	return true
}

// tellPassed answers the appends that the high watermark has passed, also those that come
// while it does: one goroutine at a time, so that they are told in the order of the log.
func (l *Log) tellPassed() {
	var of []*pending
	l.mu.Lock()
	for len(l.passed) > 0 {
		of, l.passed = l.passed, of[:0]
		logStart := l.logStart
		l.mu.Unlock()
		for _, p := range of {
			p.answer(logStart)
		}
		clear(of)
		l.mu.Lock()
	}
	l.passed, l.telling = of[:0], false
	l.mu.Unlock()
}

// queue is the appends of a log in the order they were made.
type queue struct{ first, last *pending }

func (q *queue) push(p *pending) {
	if q.last == nil {
		q.first = p
	} else {
		q.last.next = p
	}
	q.last = p
}

// pop removes p, which is the first: the WAL completes in the order it was
// appended to.
func (q *queue) pop(p *pending) {
	if q.first != p {
		panic(fmt.Sprintf("append at offset %d completed before the one at %d", p.base, q.first.base))
	}
	if q.first = p.next; q.first == nil {
		q.last = nil
	}
	p.next = nil
}
