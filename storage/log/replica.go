package log

import "rustmq.dev/rustmq/storage"

// replica decides where the high watermark of a partition stands: at the
// smallest synced end among the replicas in sync, and never back. It does no
// I/O and reads no clock. With one replica the only end is the leader's own; the
// ends that followers confirm join in confirm.
type replica struct {
	synced        storage.Offset // what this broker has on disk ends here
	highWatermark storage.Offset
	inSync        int // replicas that must hold a record, this one among them
}

// confirm takes note that this broker's log is on disk up to synced, and reports
// whether the high watermark moved. Below the minimum of replicas in sync it
// stands still, for acks 0 and 1 too: what it passes must survive the loss of
// a machine.
func (r *replica) confirm(synced storage.Offset, minInSync int) (moved bool) {
	r.synced = max(r.synced, synced)
	if !r.enough(minInSync) || r.synced <= r.highWatermark {
		return false
	}
	r.highWatermark = r.synced
	return true
}

// enough reports whether acks=all may be promised.
func (r *replica) enough(minInSync int) bool { return r.inSync >= minInSync }
