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
)

func (toldState) decided() bool { return true }

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
