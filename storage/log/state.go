package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"rustmq.dev/rustmq/storage"
)

// Versions of the state's encoding. One that has nothing of transactions is
// written in the first, and one that says nothing of what lies behind its high watermark
// in the first or second, which older versions of rustmq read too.
const (
	stateVersion             = 1
	stateWithTransactions    = 2
	stateAhead               = 3
	stateTransactionsCounter = 28 // where versions 2 and 3 have their number
	stateAsOf                = 32 // where version 3 has what it is as of
)

// Sizes of the state's encoding, see doc.go.
const (
	stateHeader      = 28
	stateHeader2     = 32
	stateHeader3     = 40
	stateEpoch       = 12
	stateTransaction = 25
	stateProducer    = 33
	stateBatch       = 26

	// maxStatePart is how large one state frame grows: the producers of a
	// partition may be more than fit in a frame.
	maxStatePart = 256 << 10
)

// state is what a log is besides its batches, as of its high watermark, or, of one that
// began anew with what its leader knew, as of the leader's.
type state struct {
	localStart    storage.Offset
	highWatermark storage.Offset
	asOf          storage.Offset // of the leader, where it lies further; else it says nothing
	epochs        epochs         // up to the high watermark
	producers     producers      // nil: none
	// Transactions that ended between local start and knows.
	aborted, committed []span
	begun              bool // decode has met the first part
	heals              bool // it ends the damage of before: see heal.go
}

// knows is what the producers and transactions are as of: batches below are in them.
func (s *state) knows() storage.Offset { return max(s.asOf, s.highWatermark) }

// none reports whether it says nothing of producers and transactions.
func (s *state) none() bool { return len(s.producers)+len(s.aborted)+len(s.committed) == 0 }

// take adds the transactions that a log knows of.
func (s *state) take(t *transactions) {
	part := func(of []span) []span {
		return of[behind(of, s.localStart):max(behind(of, s.localStart), behind(of, s.knows()))]
	}
	s.aborted, s.committed = part(t.aborted), part(t.committed)
}

// encoder cuts a state into parts.
type encoder struct {
	state                   *state
	version                 byte
	most                    int
	parts                   [][]byte
	part                    []byte
	producers, transactions uint32 // in the part
}

// encode returns the state in as many parts as it needs, of at most that many
// bytes each.
func (s *state) encode(most int) [][]byte {
	e := &encoder{state: s, version: stateVersion, most: most}
	if len(s.aborted)+len(s.committed) > 0 {
		e.version = stateWithTransactions
	}
	ids := make([]int64, 0, len(s.producers))
	for id, p := range s.producers {
		sent, m, open := p.asOf(s.knows())
		if len(sent) == 0 && m == noMark {
			continue
		}
		if len(sent) == 0 || m != noMark || open != storage.NoOffset {
			e.version = stateWithTransactions
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if s.asOf > s.highWatermark {
		e.version = stateAhead
	}

	e.begin(s.epochs)
	for _, t := range s.aborted {
		e.transaction(t, true)
	}
	for _, t := range s.committed {
		e.transaction(t, false)
	}
	for _, id := range ids {
		e.producer(id, s.producers[id])
	}
	e.end()
	for i := range e.parts {
		e.parts[i][1] = byte(min(i, 1)) // 1: goes on from the part before
		if s.heals {
			e.parts[i][1] |= healFlag
		}
		if i == len(e.parts)-1 {
			e.parts[i][1] |= 2
		}
	}
	return e.parts
}

// asOf is what is remembered of a producer as of an offset not below the high watermark.
func (p *producer) asOf(end storage.Offset) (sent []sentBatch, m mark, open storage.Offset) {
	return p.committed(end), p.committedMark(end), p.openAsOf(end)
}

// headerOf is how long a part's header is.
func headerOf(version byte) int {
	switch version {
	case stateVersion:
		return stateHeader
	case stateWithTransactions:
		return stateHeader2
	}
	return stateHeader3
}

func (e *encoder) begin(of epochs) {
	size := headerOf(e.version)
	b := make([]byte, size, size+len(of)*stateEpoch)
	b[0] = e.version
	binary.LittleEndian.PutUint64(b[4:], uint64(e.state.localStart))
	binary.LittleEndian.PutUint64(b[12:], uint64(e.state.highWatermark))
	binary.LittleEndian.PutUint32(b[20:], uint32(len(of)))
	if e.version == stateAhead {
		binary.LittleEndian.PutUint64(b[stateAsOf:], uint64(e.state.asOf))
	}
	for _, epoch := range of {
		b = binary.LittleEndian.AppendUint32(b, uint32(epoch.epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(epoch.start))
	}
	e.part, e.producers, e.transactions = b, 0, 0
}

func (e *encoder) end() {
	binary.LittleEndian.PutUint32(e.part[24:], e.producers)
	if e.version >= stateWithTransactions {
		binary.LittleEndian.PutUint32(e.part[stateTransactionsCounter:], e.transactions)
	}
	e.parts = append(e.parts, e.part)
}

// room begins another part unless n bytes fit in this.
func (e *encoder) room(n int) {
	if len(e.part)+n > e.most {
		e.end()
		e.begin(nil)
	}
}

func (e *encoder) transaction(t span, aborted bool) {
	e.room(stateTransaction)
	e.transactions++
	b := binary.LittleEndian.AppendUint64(e.part, uint64(t.producer))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.first))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.last))
	if aborted {
		e.part = append(b, 1)
	} else {
		e.part = append(b, 0)
	}
}

func (e *encoder) producer(id int64, p *producer) {
	sent, m, open := p.asOf(e.state.knows())
	e.room(stateProducer + len(sent)*stateBatch)
	e.producers++
	b := binary.LittleEndian.AppendUint64(e.part, uint64(id))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.millis))
	b = binary.LittleEndian.AppendUint64(b, uint64(open))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.coordinatorEpoch))
	// One more than it is, so that version 1 has zero here.
	b = binary.LittleEndian.AppendUint32(b, uint32(int32(m.epoch)+1))
	b = append(b, byte(len(sent)))
	for _, s := range sent {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.last))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.timestamp))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.first))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.delta))
		b = binary.LittleEndian.AppendUint16(b, uint16(s.epoch))
	}
	e.part = b
}

// errState says that a state frame, though its CRC is right, does not hold
// together.
var errState = errors.New("malformed state")

// decode adds one part to s, and reports whether it was the last. Parts come in
// order; a first one begins anew.
func (s *state) decode(b []byte) (last bool, err error) {
	if len(b) < stateHeader {
		return false, fmt.Errorf("%w: %d bytes", errState, len(b))
	}
	if b[0] < stateVersion || b[0] > stateAhead {
		return false, fmt.Errorf("%w: version %d, this rustmq knows %d to %d", errState, b[0], stateVersion, stateAhead)
	}
	version, nTransactions, header := b[0], uint32(0), headerOf(b[0])
	if len(b) < header {
		return false, fmt.Errorf("%w: %d bytes", errState, len(b))
	}
	goesOn, last, heals := b[1]&1 != 0, b[1]&2 != 0, b[1]&healFlag != 0
	localStart := storage.Offset(binary.LittleEndian.Uint64(b[4:]))
	highWatermark, asOf := storage.Offset(binary.LittleEndian.Uint64(b[12:])), storage.Offset(0)
	if version >= stateWithTransactions {
		nTransactions = binary.LittleEndian.Uint32(b[stateTransactionsCounter:])
	}
	if version == stateAhead {
		if asOf = storage.Offset(binary.LittleEndian.Uint64(b[stateAsOf:])); asOf <= highWatermark {
			return false, fmt.Errorf("%w: as of %d, high watermark %d", errState, asOf, highWatermark)
		}
	}
	if b[1]&^healFlag > 3 || goesOn && (!s.begun || heals != s.heals || localStart != s.localStart || highWatermark != s.highWatermark || asOf != s.asOf) {
		return false, fmt.Errorf("%w: a part of another state", errState)
	}
	if localStart < 0 || highWatermark < localStart {
		return false, fmt.Errorf("%w: local start %d, high watermark %d", errState, localStart, highWatermark)
	}
	if !goesOn {
		*s = state{localStart: localStart, highWatermark: highWatermark, asOf: asOf, begun: true, heals: heals}
	}
	nEpochs, nProducers := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
	b = b[header:]
	if uint64(nEpochs)*stateEpoch > uint64(len(b)) {
		return false, fmt.Errorf("%w: %d epochs in %d bytes", errState, nEpochs, len(b))
	}
	if nEpochs > 0 {
		s.epochs = slices.Grow(s.epochs, int(nEpochs))
	}
	for range nEpochs {
		e := epochStart{storage.Epoch(binary.LittleEndian.Uint32(b)), storage.Offset(binary.LittleEndian.Uint64(b[4:]))}
		if n := len(s.epochs); e.epoch < 0 || e.start < 0 || n > 0 && (e.epoch <= s.epochs[n-1].epoch || e.start <= s.epochs[n-1].start) {
			return false, fmt.Errorf("%w: epoch %d at %d", errState, e.epoch, e.start)
		}
		s.epochs = append(s.epochs, e)
		b = b[stateEpoch:]
	}
	for range nTransactions {
		if b, err = s.decodeTransaction(b); err != nil {
			return false, err
		}
	}
	for range nProducers {
		if b, err = s.decodeProducer(b, version); err != nil {
			return false, err
		}
	}
	if len(b) > 0 {
		return false, fmt.Errorf("%w: %d bytes too many", errState, len(b))
	}
	return last, nil
}

func (s *state) decodeTransaction(b []byte) (rest []byte, err error) {
	if len(b) < stateTransaction {
		return nil, fmt.Errorf("%w: a transaction is cut off", errState)
	}
	t := span{
		producer: int64(binary.LittleEndian.Uint64(b)),
		first:    storage.Offset(binary.LittleEndian.Uint64(b[8:])),
		last:     storage.Offset(binary.LittleEndian.Uint64(b[16:])),
	}
	to := &s.committed
	if b[24] == 1 {
		to = &s.aborted
	}
	if n := len(*to); b[24] > 1 || t.producer < 0 || t.first < 0 || t.first >= t.last || t.last < s.localStart || t.last >= s.knows() || n > 0 && (*to)[n-1].last >= t.last {
		return nil, fmt.Errorf("%w: a transaction from %d to %d", errState, t.first, t.last)
	}
	*to = append(*to, t)
	return b[stateTransaction:], nil
}

func (s *state) decodeProducer(b []byte, version byte) (rest []byte, err error) {
	if len(b) < stateProducer || len(b) < stateProducer+int(b[stateProducer-1])*stateBatch {
		return nil, fmt.Errorf("%w: a producer is cut off", errState)
	}
	id, n := int64(binary.LittleEndian.Uint64(b)), int(b[stateProducer-1])
	p := &producer{millis: int64(binary.LittleEndian.Uint64(b[8:])), sent: make([]sentBatch, min(n, dedupeBatches)), open: storage.NoOffset}
	if version >= stateWithTransactions {
		m := noMark
		m.coordinatorEpoch = int32(binary.LittleEndian.Uint32(b[24:]))
		epoch := int64(binary.LittleEndian.Uint32(b[28:])) - 1
		m.epoch = int16(epoch)
		p.open = storage.Offset(binary.LittleEndian.Uint64(b[16:]))
		if epoch > math.MaxInt16 || m.coordinatorEpoch < noCoordinator || (m.epoch == noProducerEpoch) != (m.coordinatorEpoch == noCoordinator) ||
			p.open < storage.NoOffset || p.open >= s.knows() {
			return nil, fmt.Errorf("%w: producer %d has a marker of epoch %d by %d, a transaction from %d on", errState, id, epoch, m.coordinatorEpoch, p.open)
		}
		if m != noMark {
			p.marks = []mark{m}
		}
	}
	if s.producers[id] != nil || id < 0 || n == 0 && len(p.marks) == 0 || n > dedupeBatches {
		return nil, fmt.Errorf("%w: producer %d with %d batches", errState, id, n)
	}
	b = b[stateProducer:]
	for i := range p.sent {
		sent := sentBatch{
			last:      storage.Offset(binary.LittleEndian.Uint64(b)),
			timestamp: int64(binary.LittleEndian.Uint64(b[8:])),
			first:     int32(binary.LittleEndian.Uint32(b[16:])),
			delta:     int32(binary.LittleEndian.Uint32(b[20:])),
			epoch:     int16(binary.LittleEndian.Uint16(b[24:])),
		}
		if sent.last >= s.knows() || sent.delta < 0 || i > 0 && sent.last <= p.sent[i-1].last {
			return nil, fmt.Errorf("%w: producer %d has a batch to %d", errState, id, sent.last)
		}
		p.sent[i] = sent
		b = b[stateBatch:]
	}
	if s.producers == nil {
		s.producers = producers{}
	}
	s.producers[id] = p
	return b, nil
}
