package log

import (
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Rebuild finds what a log knew as of the committed end from what the bucket has of it:
// leader epochs, producers and open transactions, for [Log.RestartFromBucket]. It is given
// the state that a range has ([UploadPoint].Producers), if any does, and then all that lies
// behind that, in order. It does no I/O, and is not safe for concurrent use.
type Rebuild struct {
	s     state
	knows storage.Offset // what it was given so far ends here
}

// Producers takes the state that a range has. It is called once, first, and returns what
// that is as of: batches from there on are to be given.
func (r *Rebuild) Producers(encoded []byte) (asOf storage.Offset, err error) {
	last, err := r.s.decode(encoded)
	if err != nil || !last {
		return 0, fmt.Errorf("producers of a range: whole %v: %w", last, err)
	}
	r.knows = r.s.knows()
	return r.knows, nil
}

// Epoch notes at which offset a leader epoch began. Those that are known do no harm.
func (r *Rebuild) Epoch(e EpochStart) { r.s.epochs = r.s.epochs.begin(e.Epoch, e.Start) }

// Batch takes a batch. Its producer is taken for heard of at millis since 1970.
func (r *Rebuild) Batch(b batch.Batch, millis int64) {
	if b.ProducerID() == batch.NoProducerID || b.LastOffset() < r.knows {
		return
	}
	if r.s.producers == nil {
		r.s.producers = producers{}
	}
	if !b.IsControl() {
		r.s.producers.add(b.ProducerID(), sentOf(b), b.IsTransactional(), b.BaseOffset(), millis)
		return
	}
	if m, is := batch.ReadMarker(b); is { // others say nothing of producers
		r.s.producers.mark(b.ProducerID(), markOf(b, m.CoordinatorEpoch), b.BaseOffset(), millis)
	}
}

// Encode returns the state of a log that begins at the committed end, and may be read from
// logStart on.
func (r *Rebuild) Encode(logStart, at storage.Offset) []byte {
	s := state{localStart: at, highWatermark: at, epochs: r.s.epochs.truncate(at).trim(logStart), producers: r.s.producers}
	return encodeReplicaState(logStart, &s)
}
