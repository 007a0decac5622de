package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage"
)

// stateVersion is the version of the state's encoding.
const stateVersion = 1

// Sizes of the state's encoding, see doc.go.
const (
	stateHeader   = 28
	stateEpoch    = 12
	stateProducer = 33
	stateBatch    = 26

	// maxStatePart is how large one state frame grows: the producers of a
	// partition may be more than fit in a frame.
	maxStatePart = 256 << 10
)

// state is what a log is besides its batches, as of its high watermark.
type state struct {
	localStart    storage.Offset
	highWatermark storage.Offset
	epochs        epochs
	producers     producers // nil: none
	begun         bool      // decode has met the first part
}

// encode returns the state in as many parts as it needs, of at most that many
// bytes each.
func (s *state) encode(most int) [][]byte {
	ids := make([]int64, 0, len(s.producers))
	for id, p := range s.producers {
		if len(p.committed(s.highWatermark)) > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)

	var parts [][]byte
	part := s.begin(s.epochs)
	count := 0
	for _, id := range ids {
		p := s.producers[id]
		sent := p.committed(s.highWatermark)
		if len(part)+stateProducer+len(sent)*stateBatch > most {
			binary.LittleEndian.PutUint32(part[24:], uint32(count))
			parts = append(parts, part)
			part, count = s.begin(nil), 0
		}
		part = appendProducer(part, id, p.millis, sent)
		count++
	}
	binary.LittleEndian.PutUint32(part[24:], uint32(count))
	parts = append(parts, part)
	for i := range parts {
		parts[i][1] = byte(min(i, 1)) // 1: goes on from the part before
		if i == len(parts)-1 {
			parts[i][1] |= 2
		}
	}
	return parts
}

func (s *state) begin(e epochs) []byte {
	b := make([]byte, stateHeader, stateHeader+len(e)*stateEpoch)
	b[0] = stateVersion
	binary.LittleEndian.PutUint64(b[4:], uint64(s.localStart))
	binary.LittleEndian.PutUint64(b[12:], uint64(s.highWatermark))
	binary.LittleEndian.PutUint32(b[20:], uint32(len(e)))
	for _, epoch := range e {
		b = binary.LittleEndian.AppendUint32(b, uint32(epoch.epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(epoch.start))
	}
	return b
}

func appendProducer(b []byte, id, millis int64, sent []sentBatch) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(id))
	b = binary.LittleEndian.AppendUint64(b, uint64(millis))
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // no open transaction
	b = binary.LittleEndian.AppendUint32(b, ^uint32(0)) // no coordinator
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, byte(len(sent)))
	for _, s := range sent {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.last))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.timestamp))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.first))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.delta))
		b = binary.LittleEndian.AppendUint16(b, uint16(s.epoch))
	}
	return b
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
	if b[0] != stateVersion {
		return false, fmt.Errorf("%w: version %d, this rustmq knows %d", errState, b[0], stateVersion)
	}
	goesOn, last := b[1]&1 != 0, b[1]&2 != 0
	localStart := storage.Offset(binary.LittleEndian.Uint64(b[4:]))
	highWatermark := storage.Offset(binary.LittleEndian.Uint64(b[12:]))
	if b[1] > 3 || goesOn && (!s.begun || localStart != s.localStart || highWatermark != s.highWatermark) {
		return false, fmt.Errorf("%w: a part of another state", errState)
	}
	if localStart < 0 || highWatermark < localStart {
		return false, fmt.Errorf("%w: local start %d, high watermark %d", errState, localStart, highWatermark)
	}
	if !goesOn {
		*s = state{localStart: localStart, highWatermark: highWatermark, begun: true}
	}
	nEpochs, nProducers := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
	b = b[stateHeader:]
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
	for range nProducers {
		if b, err = s.decodeProducer(b); err != nil {
			return false, err
		}
	}
	if len(b) > 0 {
		return false, fmt.Errorf("%w: %d bytes too many", errState, len(b))
	}
	return last, nil
}

func (s *state) decodeProducer(b []byte) (rest []byte, err error) {
	if len(b) < stateProducer || len(b) < stateProducer+int(b[stateProducer-1])*stateBatch {
		return nil, fmt.Errorf("%w: a producer is cut off", errState)
	}
	id, n := int64(binary.LittleEndian.Uint64(b)), int(b[stateProducer-1])
	if s.producers[id] != nil || id < 0 || n == 0 || n > dedupeBatches {
		return nil, fmt.Errorf("%w: producer %d with %d batches", errState, id, n)
	}
	p := &producer{millis: int64(binary.LittleEndian.Uint64(b[8:])), sent: make([]sentBatch, n)}
	b = b[stateProducer:]
	for i := range p.sent {
		sent := sentBatch{
			last:      storage.Offset(binary.LittleEndian.Uint64(b)),
			timestamp: int64(binary.LittleEndian.Uint64(b[8:])),
			first:     int32(binary.LittleEndian.Uint32(b[16:])),
			delta:     int32(binary.LittleEndian.Uint32(b[20:])),
			epoch:     int16(binary.LittleEndian.Uint16(b[24:])),
		}
		if sent.last >= s.highWatermark || sent.delta < 0 || i > 0 && sent.last <= p.sent[i-1].last {
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
