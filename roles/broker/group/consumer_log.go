package group

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// consumerLog is how a consumer group comes into the log. The group's state runs
// ahead of it: a change is applied, what it makes of the group's records is
// queued, and whoever was told to wait is answered when that is committed. One
// write is under way at a time, so that what failed has nothing behind it; the
// group then goes back to what the log says.
type consumerLog struct {
	committed   map[string][]byte // records by key: what the log has
	underWay    map[string][]byte // of the write under way; nil values take back
	queued      map[string][]byte // of the next
	whenWritten []func(now time.Time, err error)
	whenQueued  []func(now time.Time, err error)

	// burying counts writes under way that take all of it back, the group having
	// become a classic one.
	burying int
}

// latest returns what the log will have of a key when all is committed; nil:
// nothing.
func (l *consumerLog) latest(key string) []byte {
	for _, records := range []map[string][]byte{l.queued, l.underWay, l.committed} {
		if v, ok := records[key]; ok {
			return v
		}
	}
	return nil
}

// put queues a record, unless the log has it already.
func (l *consumerLog) put(key, value []byte) {
	if bytes.Equal(l.latest(string(key)), value) {
		return
	}
	if l.queued == nil {
		l.queued = map[string][]byte{}
	}
	l.queued[string(key)] = value
}

// keys returns all that the log has or may get.
func (l *consumerLog) keys() []string {
	all := map[string]bool{}
	for _, records := range []map[string][]byte{l.queued, l.underWay, l.committed} {
		for key := range records {
			all[key] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// settled reports whether the log has all that there is.
func (l *consumerLog) settled() bool { return l.queued == nil && l.underWay == nil && l.burying == 0 }

// noteCommitted takes over a record that is committed.
func (g *group) noteCommitted(key string, value []byte) {
	if key == string(groupKey(g.id)) {
		g.recorded(value)
		return
	}
	if was, ok := g.committed[key]; ok {
		g.core.bytes -= consumerRecordSize(key, was)
		delete(g.committed, key)
	}
	if value == nil {
		return
	}
	if g.committed == nil {
		g.committed = map[string][]byte{}
	}
	g.committed[key] = value
	g.core.bytes += consumerRecordSize(key, value)
}

// consumerRecordSize is about what a record takes in memory, with the state that
// it stands for.
func consumerRecordSize(key string, value []byte) int64 {
	return commitBytes + 2*int64(len(key)+len(value))
}

// persist queues what the group's state has that the log has not, and runs then
// when it is committed: at once if there is nothing. then may be nil.
func (g *group) persist(now time.Time, then func(now time.Time, err error)) {
	g.consumer.queue()
	if then == nil {
		then = func(time.Time, error) {}
	}
	switch {
	case g.queued != nil:
		g.whenQueued = append(g.whenQueued, then)
		g.launch()
	case g.underWay != nil:
		g.whenWritten = append(g.whenWritten, then)
	default:
		then(now, nil)
	}
}

// launch writes what is queued, once nothing is under way.
func (g *group) launch() {
	if g.underWay != nil || g.queued == nil {
		return
	}
	g.underWay, g.whenWritten, g.queued, g.whenQueued = g.queued, g.whenQueued, nil, nil
	of := g.consumer
	g.writeRecords(recordsOf(g.underWay), nil, func(now time.Time, err error) { g.landed(now, of, err) })
}

// landed goes on when a write is committed, or never will be.
func (g *group) landed(now time.Time, of *consumerGroup, err error) {
	flown, waiting := g.underWay, g.whenWritten
	g.underWay, g.whenWritten = nil, nil
	if !guard.Check("group.consumer-recorded", err == nil) {
		if g.consumer == of {
			waiting = append(waiting, g.whenQueued...)
			g.queued, g.whenQueued = nil, nil
			g.restore(now)
		}
	} else {
		for _, key := range slices.Sorted(maps.Keys(flown)) {
			g.noteCommitted(key, flown[key])
		}
		err = nil
	}
	for _, then := range waiting {
		then(now, err)
	}
	g.launch()
}

// restore takes the group back to what the log says.
func (g *group) restore(now time.Time) {
	g.consumer = nil
	if g.record != nil {
		if err := g.core.replayGroup(groupKey(g.id), g.record); err != nil {
			panic("group: a record that was written does not decode: " + err.Error())
		}
		for _, m := range g.members {
			g.beat(now, m)
		}
	} else if g.rebuild(now); g.consumer != nil {
		// Looked at when a member comes, not now: that may fail again and again.
		g.consumer.stale = true
	}
	g.note("group went back to what is recorded", nil)
}

// bury returns what takes back all that the log has, or may get, of the consumer
// group that this one was.
func (l *consumerLog) bury() []Record {
	var records []Record
	for _, key := range l.keys() {
		records = append(records, Record{Key: []byte(key)})
	}
	return records
}

// recordsOf is a write of records, in the order of their keys.
func recordsOf(records map[string][]byte) []Record {
	all := make([]Record, 0, len(records))
	for _, key := range slices.Sorted(maps.Keys(records)) {
		all = append(all, Record{Key: []byte(key), Value: records[key]})
	}
	return all
}
