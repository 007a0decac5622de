package door

import (
	"context"
	"errors"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// errOf is the error of a method that returns no more.
func errOf(r done, err error) error {
	if err != nil {
		return err
	}
	return r.Err.err()
}

// RegisterBroker is as of [controller.Controller].
func (d *Door) RegisterBroker(ctx context.Context, r controller.Registration) (epoch int64, err error) {
	answer, err := call(ctx, d, registerBroker, registerBrokerQ{r})
	if err != nil {
		return 0, err
	}
	return answer.Epoch, answer.Err.err()
}

// Heartbeat is as of [controller.Controller]. It is tried once, for
// Options.HeartbeatPatience at most: the next is the other try. It returns when the
// image has the broker in service, and what the controller had when it heard that: who is
// heard and does not see yet that others lead must not think that it still does.
func (d *Door) Heartbeat(ctx context.Context, brokerID int32, epoch int64) error {
	d.beating(brokerID, epoch)
	ctx, cancel := context.WithTimeout(ctx, d.opt.HeartbeatPatience)
	defer cancel()
	answer, err := call(ctx, d, heartbeat, heartbeatQ{broker{brokerID, epoch}})
	if err != nil {
		return err
	}
	d.tell(answer.State)
	if err := answer.Err.err(); err != nil {
		return err
	}
	seen := d.seen.Load()
	err = d.await(ctx, func(image *metadata.Image) bool {
		b, ok := image.Broker(brokerID)
		return ok && guard.Check("door.heartbeat-shown", image.Offset() >= seen) && (b.Epoch == epoch && !b.Fenced || b.Epoch > epoch)
	})
	if err != nil {
		return metadata.Errorf(metadata.RequestTimedOut, "broker %d was heard, but what this node knows of the metadata lags behind", brokerID)
	}
	return nil
}

// FenceBroker is as of [controller.Controller].
func (d *Door) FenceBroker(ctx context.Context, brokerID int32, epoch int64) error {
	return errOf(call(ctx, d, fenceBroker, fenceBrokerQ{broker{brokerID, epoch}}))
}

// ReportLoad is as of [controller.Controller]. It is tried once.
func (d *Door) ReportLoad(ctx context.Context, brokerID int32, brokerEpoch int64, syncs time.Duration, loads []controller.PartitionLoad) error {
	return errOf(call(ctx, d, reportLoad, reportLoadQ{broker{brokerID, brokerEpoch}, syncs, loads}))
}

// ReportTroubles is as of [controller.Controller]. It is tried once.
func (d *Door) ReportTroubles(ctx context.Context, node int32, found []controller.Trouble) error {
	return errOf(call(ctx, d, reportTroubles, reportTroublesQ{node, found}))
}

// ReportEnds is as of [controller.Controller].
func (d *Door) ReportEnds(ctx context.Context, brokerID int32, brokerEpoch int64, ends []metadata.PartitionEnd) error {
	return errOf(call(ctx, d, reportEnds, reportEndsQ{broker{brokerID, brokerEpoch}, ends}))
}

// GiveUpReplicas is as of [controller.Controller].
func (d *Door) GiveUpReplicas(ctx context.Context, brokerID int32, brokerEpoch int64, partitions []storage.PartitionID) []error {
	return errorsOf(callEach(ctx, d, giveUpReplicas, partitions, func(part []storage.PartitionID) giveUpReplicasQ {
		return giveUpReplicasQ{broker{brokerID, brokerEpoch}, part}
	}, faultAt))
}

// PlanRebalance is as of [controller.Controller].
func (d *Door) PlanRebalance(ctx context.Context) (controller.RebalancePlan, error) {
	r, err := call(ctx, d, planRebalance, planRebalanceQ{true})
	if err != nil {
		return controller.RebalancePlan{}, err
	}
	return r.Plan, r.Err.err()
}

// DrainBroker is as of [controller.Controller].
func (d *Door) DrainBroker(ctx context.Context, id int32, draining bool) error {
	return errOf(call(ctx, d, drainBroker, drainBrokerQ{id, draining}))
}

// UnregisterBroker is as of [controller.Controller]. It is not tried again once it may
// have happened: then the code is RequestTimedOut.
func (d *Door) UnregisterBroker(ctx context.Context, id int32) error {
	return errOf(call(ctx, d, unregisterBroker, unregisterBrokerQ{id}))
}

// RegisterController is as of [controller.Controller].
func (d *Door) RegisterController(ctx context.Context, n metadata.ControllerNode) error {
	return errOf(call(ctx, d, registerController, registerControllerQ{n}))
}

// UnregisterController is as of [controller.Controller], and tried as UnregisterBroker is.
func (d *Door) UnregisterController(ctx context.Context, id uint64) error {
	return errOf(call(ctx, d, unregisterController, unregisterControllerQ{id}))
}

// AllocateProducerIDs is as of [controller.Controller]; ids of an answer that is lost
// are never used.
func (d *Door) AllocateProducerIDs(ctx context.Context, brokerID int32, brokerEpoch int64) (first int64, count int32, err error) {
	r, err := call(ctx, d, allocateProducerIDs, allocateProducerIDsQ{broker{brokerID, brokerEpoch}})
	if err != nil {
		return 0, 0, err
	}
	return r.First, r.Count, r.Err.err()
}

// BelievedTime is as of [controller.Controller], by what the leading one has told this
// broker with the last heartbeat; false: it has told nothing for a while.
func (d *Door) BelievedTime() (now time.Time, ok bool) {
	s, age, known := d.leaderState()
	if !known || !s.Believes || age > stateAge {
		return time.Time{}, false
	}
	told, clock := s.Believed.Add(age), d.opt.Now().Round(0)
	if told.After(clock) {
		return clock, true
	}
	return told, true
}

// ConfirmClock is as of [controller.Controller]; with err it is not known whether it was
// confirmed.
func (d *Door) ConfirmClock(ctx context.Context) (was, err error) {
	r, err := call(ctx, d, confirmClock, confirmClockQ{true})
	if err != nil {
		return nil, err
	}
	return r.Was.err(), nil
}

// CheckBucket is as of [controller.Controller].
func (d *Door) CheckBucket(ctx context.Context, request controller.CheckRequest) (*controller.CheckReport, error) {
	r, err := call(ctx, d, checkBucket, checkBucketQ{request})
	if err == nil {
		err = r.Err.err()
	}
	if err != nil {
		return nil, err
	}
	if r.Report.Findings == nil {
		r.Report.Findings = []controller.Finding{}
	}
	return &r.Report, nil
}

// errNotTold is in place of what no heartbeat has told yet.
var errNotTold = errors.New("the leading controller has not told yet how it stands to the bucket")

// BucketState is as of [controller.Controller], by the last heartbeat of this broker.
func (d *Door) BucketState() controller.BucketState {
	s, _, known := d.leaderState()
	if !known {
		return controller.BucketState{Err: errNotTold}
	}
	return controller.BucketState{Applied: s.BucketApplied, Shipped: s.BucketShipped, Err: s.BucketTrouble.err()}
}

// Shipped is as of [controller.Controller], by the last heartbeat of this broker; 0: it
// is not known. What was once shipped stays so.
func (d *Door) Shipped() uint64 {
	s, _, _ := d.leaderState()
	return s.Shipped
}

// ShippedOnce is as of [controller.Controller].
func (d *Door) ShippedOnce() uint64 {
	s, _, _ := d.leaderState()
	if c := d.opt.Local; c != nil {
		return max(s.ShippedOnce, c.ShippedOnce())
	}
	return s.ShippedOnce
}

// HurryLog is as of [controller.Controller]. It does not wait for that.
func (d *Door) HurryLog() {
	select {
	case d.hurry <- struct{}{}:
	default:
	}
}
