package replication

import (
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// plan is how a follower's log is brought to where its leader can go on.
type plan struct {
	restart  bool           // begin anew at the committed end, with the leader's state
	truncate bool           // remove what lies behind at
	at       storage.Offset // where the leader goes on; with restart it is not known yet
}

// common returns where two logs cease to agree: they have the same records below that
// (KIP-101, KIP-279). An epoch has one leader, and a follower has of it what comes next
// or nothing, so two logs that have a record of the same epoch at the same offset have
// all before it in common. ok is false when neither that, nor a log start, which is
// committed, tells.
func common(a, b log.History) (at storage.Offset, ok bool) {
	i, j := len(a.Epochs)-1, len(b.Epochs)-1
	endA, endB := a.End, b.End
	for i >= 0 && j >= 0 {
		x, y := a.Epochs[i], b.Epochs[j]
		switch {
		case x.Epoch > y.Epoch:
			endA, i = x.Start, i-1
		case x.Epoch < y.Epoch:
			endB, j = y.Start, j-1
		default:
			if end := min(endA, endB); end > max(x.Start, y.Start) {
				return end, true
			}
			endA, endB = x.Start, y.Start
			i, j = i-1, j-1
		}
	}
	// No record of one is in the other. What lies before a log start is committed, and
	// so the same in both.
	at = max(a.LogStart, b.LogStart)
	return at, at <= min(a.End, b.End)
}

// planFor decides how a follower goes on with what the leader has. A partition whose WAL
// keeps what the bucket has too begins where its log begins, so its followers begin anew
// only if they end before that. Of the others begins anew too who lacks more of what the bucket
// has than it holds: a broker that is new is sent tails, though the leader has all.
func planFor(leader, follower log.History) plan {
	at, ok := common(leader, follower)
	switch {
	case ok && !guard.Check("replication.tails-alone", leader.Anew-at <= max(0, at-follower.LocalStart)):
		return plan{restart: true}
	case !ok || at < leader.LocalStart || at < follower.LocalStart || at < follower.HighWatermark:
		// What comes next has left the leader's WAL, or what is to go is not the log's to
		// remove any more.
		return plan{restart: true}
	case at < follower.End:
		return plan{truncate: true, at: at}
	}
	return plan{at: at}
}
