package door

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
)

// stateFresh is how old what the leading controller says of itself may be for who shows it to
// people.
const stateFresh = time.Second

type (
	leaderStateQ struct{ State bool }
	toldState    struct{ State leaderState }
	snapshotQ    struct{ Snapshot bool }
	snapshotMade struct {
		Index uint64
		Err   fault
	}
)

func (toldState) decided() bool      { return true }
func (r snapshotMade) decided() bool { return !r.Err.undecided() }

// Two snapshots are one more than was asked for, and do no harm.
var takeSnapshot = method[snapshotQ, snapshotMade]{"TakeSnapshot", true, 0, func(ctx context.Context, c Controller, _ snapshotQ) snapshotMade {
	index, err := c.TakeSnapshot(ctx)
	return snapshotMade{index, faultOf(err)}
}}

// TakeSnapshot is as of [controller.Controller].
func (d *Door) TakeSnapshot(ctx context.Context) (index uint64, err error) {
	r, err := call(ctx, d, takeSnapshot, snapshotQ{true})
	if err != nil {
		return 0, err
	}
	return r.Index, r.Err.err()
}

var tellState = method[leaderStateQ, toldState]{"LeaderState", true, 0, func(_ context.Context, c Controller, _ leaderStateQ) toldState {
	return toldState{stateOf(c)}
}}

// Refresh has the leading controller say how it stands to the bucket and the time, where no
// broker of this process hears that with its heartbeats. It asks once a second at most.
func (d *Door) Refresh(ctx context.Context) error {
	if _, age, known := d.leaderState(); d.opt.Broker != metadata.NoBroker || known && age < stateFresh {
		return nil
	}
	r, err := call(ctx, d, tellState, leaderStateQ{true})
	if err == nil {
		d.tell(r.State)
	}
	return err
}
