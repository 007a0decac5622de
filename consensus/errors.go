package consensus

import (
	"errors"
	"fmt"
)

// ErrClosed is returned once Close was called.
var ErrClosed = errors.New("consensus: node is closed")

// NotLeaderError says that this member cannot take a proposal. Nothing was
// written.
type NotLeaderError struct {
	Leader uint64 // 0 when none is known
}

func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return "consensus: no leader is known"
	}
	return fmt.Sprintf("consensus: member %d leads", e.Leader)
}

// DeadError says that the node has stopped for good: its log failed, or its
// state machine met what it may not pass over. Whether a proposal that was in
// flight is kept will show after a restart.
type DeadError struct {
	Cause error
}

func (e *DeadError) Error() string { return "consensus: node has stopped: " + e.Cause.Error() }
func (e *DeadError) Unwrap() error { return e.Cause }
