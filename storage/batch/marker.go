package batch

import (
	"encoding/binary"
	"fmt"
)

// Marker ends a transaction: the one record of a control batch. Its key says
// which kind it is, its value who wrote it (Kafka's EndTransactionMarker).
type Marker struct {
	Commit           bool  // else abort
	CoordinatorEpoch int32 // leader epoch of the coordinator's partition
}

const (
	abortType  = 0
	commitType = 1

	markerKey   = 4
	markerValue = 6

	// MarkerSize is the length of a control batch with a marker.
	MarkerSize = HeaderSize + 17
)

// BuildMarker returns the control batch that ends the transaction of a producer.
func BuildMarker(millis, producerID int64, producerEpoch int16, m Marker) Batch {
	var key [markerKey]byte
	var value [markerValue]byte
	if m.Commit {
		binary.BigEndian.PutUint16(key[2:], commitType)
	}
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	w := NewBuilder(BuilderOptions{
		Producer:      &Producer{ID: producerID, Epoch: producerEpoch, BaseSequence: -1},
		Transactional: true, Control: true,
	})
	w.Add(millis, key[:], value[:])
	b, err := w.Build()
	if err != nil || len(b) != MarkerSize { // nothing is compressed, and nothing is long
		panic(fmt.Sprintf("batch: a marker of %d bytes, %v", len(b), err))
	}
	return b
}

// ReadMarker returns the marker in a control batch. ok is false for every other
// batch, and for control records of another kind or a version that is not known.
func ReadMarker(b Batch) (m Marker, ok bool) {
	if !b.IsControl() || !b.IsTransactional() || b.Codec() != None {
		return m, false
	}
	it := b.Records(0)
	if !it.Next() {
		return m, false
	}
	key, value := it.Record().Key, it.Record().Value
	if len(key) < markerKey || len(value) < markerValue {
		return m, false
	}
	kind := binary.BigEndian.Uint16(key[2:])
	if int16(binary.BigEndian.Uint16(key)) < 0 || kind > commitType || int16(binary.BigEndian.Uint16(value)) < 0 {
		return m, false
	}
	m = Marker{Commit: kind == commitType, CoordinatorEpoch: int32(binary.BigEndian.Uint32(value[2:]))}
	return m, m.CoordinatorEpoch >= 0
}
