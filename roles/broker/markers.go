package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

const (
	// markedAtOnce is the most partitions of one call to another broker: with the longest
	// names, half of what one may take.
	markedAtOnce = 4096
	// markerCalls go to one broker at a time. What comes meanwhile is one call more.
	markerCalls = 4
	// markerPatience is how long another broker waits for markers to be committed before
	// it tells which are; the rest is tried again.
	markerPatience = 5 * time.Second
	// markerDeadline is after how long a broker that says nothing is given up.
	markerDeadline = 2 * markerPatience
	// maxGroupMarkers is how many markers of one partition of the groups may be under way:
	// at ten milliseconds each, a hundred thousand transactions a second. They are not
	// taken back when who sent them has stopped waiting, and sends them again.
	maxGroupMarkers = 1024
)

// markers writes the ends of transactions, to partitions that are led here and
// elsewhere.
type markers struct {
	b *Broker

	mu    sync.Mutex // guards lines, and what is in them
	lines map[int32]*markerLine
}

// markerLine is the markers that wait for one broker.
type markerLine struct {
	waiting []dueMarker
	calls   int // under way
}

// dueMarker is a marker that is due in partitions which one broker leads, markedAtOnce
// at most. done is called once, with an error for each.
type dueMarker struct {
	marker     log.Marker
	partitions []txn.Partition
	done       func([]error)
}

func newMarkers(b *Broker) *markers { return &markers{b: b, lines: map[int32]*markerLine{}} }

// WriteMarkers implements [txn.Markers].
func (m *markers) WriteMarkers(of txn.Marker, done func(left []txn.Partition)) {
	marker := log.Marker{
		ProducerID: of.ProducerID, ProducerEpoch: of.ProducerEpoch, CoordinatorEpoch: int32(of.CoordinatorEpoch),
		Commit: of.Commit, TransactionVersion: int8(of.Version),
	}
	m.b.done.Go(func() { m.write(marker, of.Partitions, done) }) // the coordinator's goroutine, which calls this, ends before done is waited for
}

// write sends a marker to each partition's leader. It waits for room in the WAL.
func (m *markers) write(marker log.Marker, partitions []txn.Partition, done func(left []txn.Partition)) {
	by := m.b.byLeader(partitions)
	here := by[m.b.opt.NodeID]
	delete(by, m.b.opt.NodeID)
	var mu sync.Mutex // guards the two
	var left []txn.Partition
	open := 0
	if len(here) > 0 {
		open = 1
	}
	for _, of := range by {
		open += (len(of) + markedAtOnce - 1) / markedAtOnce
	}
	tell := func(of []txn.Partition) func([]error) {
		return func(errs []error) {
			mu.Lock()
			for i, p := range of {
				if m.b.again(p, errs[i]) {
					left = append(left, p)
				}
			}
			open--
			over := open == 0
			mu.Unlock()
			if over {
				done(left)
			}
		}
	}
	for at, of := range by {
		for part := range slices.Chunk(of, markedAtOnce) {
			m.send(at, dueMarker{marker, part, tell(part)})
		}
	}
	if len(here) > 0 { // last: it may wait
		m.b.writeMarkers(m.b.ctx, marker, here, tell(here))
	}
}

// byLeader divides partitions by the broker that leads them. What nobody leads, or is
// not known, is this broker's, which says why it cannot take them.
func (b *Broker) byLeader(partitions []txn.Partition) map[int32][]txn.Partition {
	image := b.images.image()
	by := map[int32][]txn.Partition{}
	for _, p := range partitions {
		at, elsewhere := ledElsewhere(image, b.opt.NodeID, p.Topic, p.Index)
		if !elsewhere {
			at = b.opt.NodeID
		}
		by[at] = append(by[at], p)
	}
	return by
}

// send has a marker go to another broker, with others.
func (m *markers) send(at int32, due dueMarker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := m.lines[at]
	if line == nil {
		line = &markerLine{}
		m.lines[at] = line
	}
	line.waiting = append(line.waiting, due)
	if line.calls < markerCalls {
		line.calls++
		m.b.done.Go(func() { m.run(at, line) }) // counted while send is called
	}
}

// run sends what waits for a broker until nothing does. It waits for that broker.
func (m *markers) run(at int32, line *markerLine) {
	for {
		m.mu.Lock()
		n, partitions := 0, 0
		for n < len(line.waiting) && partitions+len(line.waiting[n].partitions) <= markedAtOnce {
			partitions += len(line.waiting[n].partitions)
			n++
		}
		taken := slices.Clone(line.waiting[:n])
		line.waiting = slices.Delete(line.waiting, 0, n)
		if n == 0 {
			line.calls--
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		for i, errs := range m.b.markAt(at, taken) {
			taken[i].done(errs)
		}
	}
}

// markAt has another broker write markers, and returns an error for each partition of
// each.
func (b *Broker) markAt(at int32, due []dueMarker) [][]error {
	q := kmsg.NewPtrWriteTxnMarkersRequest()
	q.Version = peerMarkers
	for _, d := range due {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch = d.marker.ProducerID, d.marker.ProducerEpoch, d.marker.CoordinatorEpoch
		m.Committed, m.TransactionVersion = d.marker.Commit, d.marker.TransactionVersion
		places := map[string]int{}
		for _, p := range d.partitions {
			i, ok := places[p.Topic]
			if !ok {
				i = len(m.Topics)
				places[p.Topic] = i
				m.Topics = append(m.Topics, kmsg.WriteTxnMarkersRequestMarkerTopic{Topic: p.Topic})
			}
			m.Topics[i].Partitions = append(m.Topics[i].Partitions, p.Index)
		}
		q.Markers = append(q.Markers, m)
	}
	ctx, cancel := context.WithTimeout(b.ctx, markerDeadline)
	defer cancel()
	p, err := askPeer[*kmsg.WriteTxnMarkersResponse](ctx, b, at, q)
	out := make([][]error, len(due))
	for i, d := range due {
		out[i] = make([]error, len(d.partitions))
		codes := map[txn.Partition]int16{}
		if err == nil && i < len(p.Markers) && p.Markers[i].ProducerID == d.marker.ProducerID {
			for _, t := range p.Markers[i].Topics {
				for _, tp := range t.Partitions {
					codes[txn.Partition{Topic: t.Topic, Index: tp.Partition}] = tp.ErrorCode
				}
			}
		}
		for j, of := range d.partitions {
			code, told := codes[of]
			switch {
			case err != nil:
				out[i][j] = err
			case !guard.Check("broker.marker-untold", told):
				out[i][j] = errNoAnswer
			default:
				out[i][j] = kerr.ErrorForCode(code)
			}
		}
	}
	return out
}

// again reports whether a marker is to be written again. One that its partition
// refuses is not: a newer producer, or coordinator, has ended the transaction.
func (b *Broker) again(p txn.Partition, err error) bool {
	switch {
	case err == nil:
		return false
	case guard.Check("broker.marker-dropped", !b.exists(p)):
		return false // deleted
	case errors.Is(err, log.ErrInvalidProducerEpoch), errors.Is(err, kerr.InvalidProducerEpoch),
		errors.Is(err, log.ErrCoordinatorFenced), errors.Is(err, kerr.TransactionCoordinatorFenced):
		b.log.Warn("the end of a transaction came late", "topic", p.Topic, "partition", p.Index, "error", err)
		return false
	}
	b.log.Debug("the end of a transaction could not be written; trying on", "topic", p.Topic, "partition", p.Index, "error", err)
	return true
}

// exists reports whether a partition exists. It asks the newest image: what is not
// carried out of it yet is not gone.
func (b *Broker) exists(p txn.Partition) bool {
	t, ok := b.images.newest.Load().Topic(p.Topic)
	return ok && t.Partition(p.Index) != nil
}

// writeMarkers writes a marker to each partition, all led here. done is called once, when
// all are committed or known not to be, with an error for each. It waits for room in the
// WAL, as long as ctx allows.
func (b *Broker) writeMarkers(ctx context.Context, m log.Marker, partitions []txn.Partition, done func([]error)) {
	t := newMarkTally([]int{len(partitions)}, func(errs [][]error) { done(errs[0]) })
	b.mark(ctx, t, 0, m, partitions)
	t.begun()
}

// markTally is what became of markers, as far as it is known.
type markTally struct {
	mu   sync.Mutex // guards errs until over
	errs [][]error
	left int
	over func([][]error) // called when all is known
}

// newMarkTally is of markers in so many partitions each, none of which is known to be
// written.
func newMarkTally(partitions []int, over func([][]error)) *markTally {
	t := &markTally{left: 1, over: over}
	for _, n := range partitions {
		t.errs = append(t.errs, slices.Repeat([]error{kerr.RequestTimedOut}, n))
		t.left += n
	}
	return t
}

// begun says that every marker was handed over.
func (t *markTally) begun() { t.count(func() {}) }

func (t *markTally) put(i, j int, err error) { t.count(func() { t.errs[i][j] = err }) }

func (t *markTally) count(note func()) {
	t.mu.Lock()
	note()
	t.left--
	over := t.left == 0
	t.mu.Unlock()
	if over {
		t.over(t.errs)
	}
}

// mark hands over the marker that t has in that place.
func (b *Broker) mark(ctx context.Context, t *markTally, place int, m log.Marker, partitions []txn.Partition) {
	for i, p := range partitions {
		put := func(err error) { t.put(place, i, err) }
		switch {
		case !guard.Check("broker.audit-markers", p.Topic != AuditTopic): // it has no transactions
			put(errInternalTopic)
		case p.Topic == offsetsTopic:
			b.markGroups(ctx, p.Index, m, put)
		default:
			b.markPartition(ctx, p.Topic, p.Index, m, put)
		}
	}
}

// markGroups hands a marker over to the coordinator of groups, unless too many are under
// way to that partition: its log may have no room, or too few replicas.
func (b *Broker) markGroups(ctx context.Context, index int32, m log.Marker, done func(error)) {
	if index < 0 || index >= coordinatorPartitions {
		done(errUnknownTopic)
		return
	}
	under := &b.groupMarkers[index]
	if !guard.Check("broker.group-markers", under.Add(1) <= maxGroupMarkers) {
		under.Add(-1)
		done(errManyMarkers)
		return
	}
	// Its turn comes later, when ctx may have ended.
	b.groups.EndTransaction(context.WithoutCancel(ctx), index, m, func(err error) {
		under.Add(-1)
		done(err)
	})
}

// writeTxnMarkers serves operators who end what hangs.
func (b *Broker) writeTxnMarkers(r *kafka.Request, q *kmsg.WriteTxnMarkersRequest, answer func(*kmsg.WriteTxnMarkersResponse)) {
	b.spawn(r, func(ctx context.Context) { // markers wait for room
		b.markAll(ctx, q, func(errs [][]error) { answer(markedBy(q, errs)) }).begun()
	})
}

// markersFor serves other coordinators. It tells what it knows after a while: the rest
// is RequestTimedOut, and comes again.
func (b *Broker) markersFor(ctx context.Context, q *kmsg.WriteTxnMarkersRequest) *kmsg.WriteTxnMarkersResponse {
	ctx, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	all := make(chan struct{})
	t := b.markAll(ctx, q, func([][]error) { close(all) })
	t.begun()
	select {
	case <-all:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return markedBy(q, t.errs)
}

// markAll hands over the markers of a request, each partition of one once. over may be
// called from any goroutine, once begun was.
func (b *Broker) markAll(ctx context.Context, q *kmsg.WriteTxnMarkersRequest, over func([][]error)) *markTally {
	type topic = kmsg.WriteTxnMarkersRequestMarkerTopic
	partitions := make([]int, len(q.Markers))
	for i := range q.Markers {
		m := &q.Markers[i]
		m.Topics = distinct(m.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
		for _, t := range m.Topics {
			partitions[i] += len(t.Partitions)
		}
	}
	t := newMarkTally(partitions, over)
	for i := range q.Markers {
		m := &q.Markers[i]
		if !b.hasCoordinated(storage.Epoch(m.CoordinatorEpoch)) {
			for j := range partitions[i] {
				t.put(i, j, errNeverCoordinated)
			}
			continue
		}
		b.mark(ctx, t, i, log.Marker{
			ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch,
			Commit: m.Committed, TransactionVersion: m.TransactionVersion,
		}, markedPartitions(m))
	}
	return t
}

// hasCoordinated reports whether a coordinator may have written markers under an epoch:
// it is that of a partition of its topic. A partition refuses those of lower epochs than
// the last it has seen, so that one which nobody has had yet would keep all true ones out.
func (b *Broker) hasCoordinated(epoch storage.Epoch) bool {
	highest := storage.Epoch(0) // of who ends what hangs where there is no coordinator
	if t, ok := b.images.newest.Load().Topic(transactionsTopic); ok {
		for i := range t.Partitions.Len() {
			highest = max(highest, t.Partitions.At(i).LeaderEpoch)
		}
	}
	return guard.Check("broker.coordinator-epoch", epoch <= highest)
}

func markedPartitions(m *kmsg.WriteTxnMarkersRequestMarker) []txn.Partition {
	var partitions []txn.Partition
	for _, t := range m.Topics {
		for _, index := range t.Partitions {
			partitions = append(partitions, txn.Partition{Topic: t.Topic, Index: index})
		}
	}
	return partitions
}

// markedBy tells what became of the markers of a request.
func markedBy(q *kmsg.WriteTxnMarkersRequest, errs [][]error) *kmsg.WriteTxnMarkersResponse {
	p := q.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	for i := range q.Markers {
		out := kmsg.NewWriteTxnMarkersResponseMarker()
		out.ProducerID = q.Markers[i].ProducerID
		of := errs[i]
		for _, t := range q.Markers[i].Topics {
			ot := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			ot.Topic = t.Topic
			for _, index := range t.Partitions {
				op := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				op.Partition, op.ErrorCode = index, code(of[0])
				ot.Partitions, of = append(ot.Partitions, op), of[1:]
			}
			out.Topics = append(out.Topics, ot)
		}
		p.Markers = append(p.Markers, out)
	}
	return p
}
