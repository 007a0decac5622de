package broker

import (
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// What became of the transaction of a record, as a peek says it.
const (
	PeekCommitted = "committed"
	PeekAborted   = "aborted"
	// PeekOpen is not decided yet, or lies behind one that is not: who reads what is committed
	// does not get it.
	PeekOpen = "open"
)

// decisions are what a look knows of transactions: all that concerns records from where it begins
// on, as of when it began.
type decisions struct {
	stable  storage.Offset          // the last stable offset
	aborted map[int64][]log.Aborted // by producer
}

// note adds one that was aborted, which may be known.
func (d *decisions) note(t log.Aborted) {
	if d.aborted == nil {
		d.aborted = map[int64][]log.Aborted{}
	}
	d.aborted[t.ProducerID] = append(d.aborted[t.ProducerID], t)
}

// outcome is what became of the transaction of a batch; "": it is of none.
func (d *decisions) outcome(b batch.Batch) string {
	if !b.IsTransactional() {
		return ""
	}
	at := b.BaseOffset()
	for _, t := range d.aborted[b.ProducerID()] {
		if t.First <= at && at < t.Last {
			return PeekAborted
		}
	}
	if at >= d.stable {
		return PeekOpen
	}
	return PeekCommitted
}
