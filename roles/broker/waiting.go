package broker

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// Requests that wait for records or for other members may do so for minutes. They
// give their frames back, so that a few of them, made large, do not keep the others
// from being read, and keep what is theirs in a memory of its own.

const (
	// A fetch keeps this much, and as much again for each of its partitions as those
	// of a session have in theirs.
	waitingFetch     = 1 << 10
	waitingPartition = 520

	// waitingElement is a protocol of a member, or its assignment.
	waitingElement = 200
)

// errNoRoomToWait is told to members of groups, which try again. A fetch is answered
// at once, as if its time were over.
var errNoRoomToWait = kerr.CoordinatorLoadInProgress

// park gives back the frame of a fetch that begins to wait. False: it may not wait.
func (f *fetchRequest) park() bool {
	return f.r.Park(waitingFetch + waitingPartition*int64(cap(f.own)))
}

// parkJoin gives back the frame of a member that begins to wait for the others.
func parkJoin(r *kafka.Request, q *kmsg.JoinGroupRequest) bool {
	keeps := int64(len(r.Body)) + waitingElement*int64(len(q.Protocols))
	for i := range q.Protocols {
		q.Protocols[i].Metadata = bytes.Clone(q.Protocols[i].Metadata)
	}
	return r.Park(keeps)
}

// parkSync gives back the frame of a member that begins to wait for its assignment.
func parkSync(r *kafka.Request, q *kmsg.SyncGroupRequest) bool {
	keeps := int64(len(r.Body)) + waitingElement*int64(len(q.GroupAssignment))
	for i := range q.GroupAssignment {
		q.GroupAssignment[i].MemberAssignment = bytes.Clone(q.GroupAssignment[i].MemberAssignment)
	}
	return r.Park(keeps)
}
