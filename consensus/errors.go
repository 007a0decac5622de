package consensus

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("consensus: node is closed")
	// ErrBusy is returned for a proposal above Options.MaxProposals. Nothing
	// was written.
	ErrBusy = errors.New("consensus: too many proposals in flight")
	// ErrStarting is returned for a message or a question of a peer that comes before the log was read.
	ErrStarting = errors.New("consensus: the log is not open yet")
	// ErrChanging is returned for a change of members while another one is under way,
	// or the leader is too new to begin one. Nothing was written.
	ErrChanging = errors.New("consensus: another change of the members is under way")
	// ErrLeadershipLost is returned for a proposal that was in flight when this
	// member ceased to lead: it may still be committed.
	ErrLeadershipLost = errors.New("consensus: leadership was lost while the proposal was in flight")
)

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

// LostLogError says that the log is empty although it cannot be: going on
// would forget votes and entries that others count on.
type LostLogError struct {
	Dir    string
	Reason string
}

func (e *LostLogError) Error() string {
	return fmt.Sprintf("%s/ is empty, but %s: its log was lost; bring it back. If most controllers have theirs, this one joins them as another member with `rustmq admin cluster recover --join`; "+
		"only if they do not, the cluster begins anew from the bucket with `rustmq admin cluster recover --from URL`", e.Dir, e.Reason)
}

// UnknownFormatError says that a file is of a version, or has what only a newer
// rustmq than this one knows.
type UnknownFormatError struct {
	File    string
	Feature string
}

func (e *UnknownFormatError) Error() string {
	return fmt.Sprintf("%s: %s is not known to this version of rustmq; a newer one wrote it", e.File, e.Feature)
}

// CorruptionError says that a file does not hold what was written.
type CorruptionError struct {
	File   string
	Reason string
}

func (e *CorruptionError) Error() string { return e.File + " is corrupt: " + e.Reason }
