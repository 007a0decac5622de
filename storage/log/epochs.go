package log

import (
	"sort"

	"rustmq.dev/rustmq/storage"
)

// epochStart says at which offset a leader epoch began.
type epochStart struct {
	epoch storage.Epoch
	start storage.Offset
}

// epochs is the history of leader epochs of a log, as far back as its start:
// epochs grow strictly, starts too.
type epochs []epochStart

// latest is the newest epoch, or NoEpoch.
func (e epochs) latest() storage.Epoch {
	if len(e) == 0 {
		return storage.NoEpoch
	}
	return e[len(e)-1].epoch
}

// begin adds an epoch that starts at offset. An older one without a record of
// its own gives way.
func (e epochs) begin(epoch storage.Epoch, start storage.Offset) epochs {
	if epoch <= e.latest() {
		return e
	}
	return append(e.truncate(start), epochStart{epoch, start})
}

// truncate forgets epochs that start at or behind end.
func (e epochs) truncate(end storage.Offset) epochs {
	n := len(e)
	for n > 0 && e[n-1].start >= end {
		n--
	}
	return e[:n]
}

// trim forgets epochs that ended at or before start; the one that start lies in
// begins there.
func (e epochs) trim(start storage.Offset) epochs {
	i := e.find(start)
	if i <= 0 {
		return e
	}
	n := copy(e, e[i:])
	e[0].start = max(e[0].start, start)
	return e[:n]
}

// find returns the place of the epoch that offset lies in, or -1.
func (e epochs) find(offset storage.Offset) int {
	return sort.Search(len(e), func(i int) bool { return e[i].start > offset }) - 1
}

// at is the epoch that offset lies in, or NoEpoch.
func (e epochs) at(offset storage.Offset) storage.Epoch {
	if i := e.find(offset); i >= 0 {
		return e[i].epoch
	}
	return storage.NoEpoch
}

// endOf answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest epoch not
// above the asked one, and where it ended. end is the log's, where the newest
// epoch ends.
func (e epochs) endOf(asked storage.Epoch, end storage.Offset) (storage.Epoch, storage.Offset) {
	if asked < 0 || asked > e.latest() {
		return storage.NoEpoch, storage.NoOffset
	}
	next := sort.Search(len(e), func(i int) bool { return e[i].epoch > asked })
	switch next {
	case len(e):
		return e[next-1].epoch, end
	case 0:
		// Older than all that is known: whatever it was, it ended where the
		// oldest known one begins.
		return asked, e[0].start
	}
	return e[next-1].epoch, e[next].start
}
