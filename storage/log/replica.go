package log

import (
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// replica decides where the high watermark of a partition stands, and never has it go
// back. It does no I/O and reads no clock.
//
// Of a log that is led: at the smallest end among this broker, the others in
// sync and those pending, while there are enough in sync. An end is what a follower has
// confirmed under the epoch that is led, and nothing until it has. Of a log that is
// followed: where the leader's is, as far as the log is held here. Held is what is on
// disk, and with early acks what is in memory too, but for markers and what lies behind
// them: a coordinator that is told of one forgets the transaction, which without it would
// stay open.
type replica struct {
	synced        storage.Offset   // what this broker has on disk ends here
	held          storage.Offset   // what it holds: synced, or further with early acks
	early         bool             // acks come before the sync
	bucket        bool             // acks come after the bucket
	stored        storage.Offset   // the bucket's part ends here, or further
	taken         storage.Offset   // with early acks: what it has in memory ends here, or before synced
	markers       []storage.Offset // with early acks: that are not on disk, in order
	highWatermark storage.Offset
	leads         bool
	start         storage.Offset // where the epoch that is led began
	told          storage.Offset // the high watermark of the leader that is followed; NoOffset: none
	inSync        int            // replicas in the committed set, this broker among them
	others        []otherReplica
}

// otherReplica is one that counts for the high watermark, or has confirmed something.
type otherReplica struct {
	id      int32
	counts  bool           // in sync, or pending
	pending bool           // not in the committed set
	synced  storage.Offset // what it has confirmed; NoOffset: nothing
}

func newReplica() replica { return replica{told: storage.NoOffset, inSync: 1} }

// lead begins an epoch at start: nobody has confirmed anything under it.
func (r *replica) lead(start storage.Offset) {
	r.leads, r.start, r.told = true, start, storage.NoOffset
	r.others = slices.DeleteFunc(r.others, func(o otherReplica) bool { return !o.counts })
	for i := range r.others {
		r.others[i].synced = storage.NoOffset
	}
}

// rest ends an epoch that was led or followed. Who the replicas are must be said anew.
func (r *replica) rest() {
	r.leads, r.told, r.inSync, r.others = false, storage.NoOffset, 1, nil
}

// set says who the other replicas are that count.
func (r *replica) set(of Replicas) {
	for i := range r.others {
		r.others[i].counts, r.others[i].pending = false, false
	}
	r.inSync = 1
	for _, id := range of.InSync {
		if o := r.other(id); !o.counts {
			o.counts = true
			r.inSync++
		}
	}
	for _, id := range of.Pending {
		if o := r.other(id); !o.counts {
			o.counts, o.pending = true, true
		}
	}
}

// other finds a replica, or adds it.
func (r *replica) other(id int32) *otherReplica {
	i := slices.IndexFunc(r.others, func(o otherReplica) bool { return o.id == id })
	if i < 0 {
		i = len(r.others)
		r.others = append(r.others, otherReplica{id: id, synced: storage.NoOffset})
	}
	return &r.others[i]
}

// confirm notes that a follower has what is led on disk up to an offset.
func (r *replica) confirm(id int32, synced storage.Offset) {
	o := r.other(id)
	o.synced = max(o.synced, synced)
}

// forget takes back what a follower confirmed.
func (r *replica) forget(id int32) {
	r.others = slices.DeleteFunc(r.others, func(o otherReplica) bool { return o.id == id && !o.counts })
	for i := range r.others {
		if r.others[i].id == id {
			r.others[i].synced = storage.NoOffset
		}
	}
}

// sync notes that this broker's log is on disk up to synced, and reports whether the
// high watermark moved.
func (r *replica) sync(synced storage.Offset, minInSync int) (moved bool) {
	r.onDisk(synced)
	return r.advance(minInSync)
}

// onDisk notes that what this broker has on disk reaches synced.
func (r *replica) onDisk(synced storage.Offset) {
	r.synced = max(r.synced, synced)
	r.reckon()
}

// took notes that a batch [base, end) is in this broker's memory, at least.
func (r *replica) took(base, end storage.Offset, marker bool) {
	if !r.early {
		return
	}
	if !guard.Check("log.marker-waits-for-disk", !marker) {
		r.markers = append(r.markers, base)
	}
	r.taken = end
	r.reckon()
}

// reckon finds what is held.
func (r *replica) reckon() {
	n, _ := slices.BinarySearch(r.markers, r.synced)
	r.markers = slices.Delete(r.markers, 0, n)
	r.held = max(r.taken, r.synced)
	if len(r.markers) > 0 {
		r.held = r.markers[0]
	}
}

// waits reports whether what comes next, with early acks, is not held until it is on disk.
func (r *replica) waits() bool { return len(r.markers) > 0 }

// begins has the log begin, and end, at an offset.
func (r *replica) begins(at storage.Offset) {
	r.stored = at
	r.synced, r.taken, r.held, r.markers = at, at, at, nil
}

// shorten has the log end at an offset.
func (r *replica) shorten(end storage.Offset) {
	n, _ := slices.BinarySearch(r.markers, end)
	r.markers = r.markers[:n]
	r.synced, r.taken = min(r.synced, end), min(r.taken, end)
	r.reckon()
}

// durable is how far the log is committed and on disk here.
func (r *replica) durable() storage.Offset { return min(r.highWatermark, r.synced) }

// advance moves the high watermark as far as it may, and reports whether it moved.
// Below the minimum of replicas in sync it stands still, for acks 0 and 1 too: what it
// passes must survive the loss of a machine.
func (r *replica) advance(minInSync int) (moved bool) {
	end := r.committable(minInSync)
	if r.bucket && !guard.Check("log.acks-after-bucket", end <= r.stored) {
		end = r.stored
	}
	if end <= r.highWatermark {
		return false
	}
	r.highWatermark = end
	return true
}

// committable is where the high watermark may come to by what the replicas have.
func (r *replica) committable(minInSync int) storage.Offset {
	end := r.held
	if r.leads {
		if !r.enough(minInSync) {
			return r.highWatermark
		}
		for i := range r.others {
			if o := &r.others[i]; o.counts && !guard.Check("log.commit-confirmed", o.synced >= end) {
				end = o.synced
			}
		}
	} else if !guard.Check("log.commit-told", r.told >= end) {
		end = r.told
	}
	return max(end, r.highWatermark)
}

// enough reports whether acks=all may be promised.
func (r *replica) enough(minInSync int) bool { return r.inSync >= minInSync }

// settled reports whether it is known how far the log is committed: of a log that is
// led, once the high watermark has passed the start of the epoch (KIP-207).
func (r *replica) settled() bool { return !r.leads || r.highWatermark >= r.start }
