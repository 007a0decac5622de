package door

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// commandTime is how long one controller may take over one command: far longer than
	// a log that works needs, and an election of the controllers.
	commandTime = 5 * time.Second
	// idsTime is that of ids of objects, which wait for the bucket twice.
	idsTime = 35 * time.Second
	// electionTime is that of elections, of which those that are unclean wait for the bucket first.
	electionTime = commandTime + controller.UncleanWait
	// checkTime is that of a check of the bucket, which ends by a budget of its own.
	checkTime = time.Minute
)

// method is one that the leading controller runs.
type method[Q any, R reply] struct {
	name string
	// again: after a try of which nobody knows what became, another does no harm.
	again bool
	time  time.Duration // of one try; 0: commandTime
	run   func(context.Context, Controller, Q) R
}

// The methods, and why each may be tried again.
var (
	// The same incarnation is given the same epoch.
	registerBroker = method[registerBrokerQ, registered]{"RegisterBroker", true, 0, func(ctx context.Context, c Controller, q registerBrokerQ) registered {
		epoch, err := c.RegisterBroker(ctx, q.Registration)
		return registered{epoch, faultOf(err)}
	}}
	// The next heartbeat is the other try.
	heartbeat = method[heartbeatQ, heard]{"Heartbeat", false, 0, func(ctx context.Context, c Controller, q heartbeatQ) heard {
		err := c.Heartbeat(ctx, q.Broker.ID, q.Broker.Epoch)
		return heard{stateOf(c), faultOf(err)}
	}}
	// It is by epoch of the registration, whose heartbeats have ended.
	fenceBroker = method[fenceBrokerQ, done]{"FenceBroker", true, 0, func(ctx context.Context, c Controller, q fenceBrokerQ) done {
		return done{faultOf(c.FenceBroker(ctx, q.Broker.ID, q.Broker.Epoch))}
	}}
	// The next report is the other try.
	reportLoad = method[reportLoadQ, done]{"ReportLoad", false, 0, func(ctx context.Context, c Controller, q reportLoadQ) done {
		return done{faultOf(c.ReportLoad(ctx, q.Broker.ID, q.Broker.Epoch, q.Syncs, q.Loads))}
	}}
	// The next report is the other try.
	reportTroubles = method[reportTroublesQ, done]{"ReportTroubles", false, 0, func(ctx context.Context, c Controller, q reportTroublesQ) done {
		return done{faultOf(c.ReportTroubles(ctx, q.Node, q.Troubles))}
	}}
	// It says how things are, for one registration.
	reportEnds = method[reportEndsQ, done]{"ReportEnds", true, 0, func(ctx context.Context, c Controller, q reportEndsQ) done {
		return done{faultOf(c.ReportEnds(ctx, q.Broker.ID, q.Broker.Epoch, q.Ends))}
	}}
	// It says how things are, for one registration.
	giveUpReplicas = method[giveUpReplicasQ, list[fault]]{"GiveUpReplicas", true, 0, func(ctx context.Context, c Controller, q giveUpReplicasQ) list[fault] {
		return list[fault]{faultsOf(c.GiveUpReplicas(ctx, q.Broker.ID, q.Broker.Epoch, q.Partitions))}
	}}
	// It changes nothing.
	planRebalance = method[planRebalanceQ, planned]{"PlanRebalance", true, 0, func(ctx context.Context, c Controller, _ planRebalanceQ) planned {
		plan, err := c.PlanRebalance(ctx)
		return planned{plan, faultOf(err)}
	}}
	// Both say what is to be.
	drainBroker = method[drainBrokerQ, done]{"DrainBroker", true, 0, func(ctx context.Context, c Controller, q drainBrokerQ) done {
		return done{faultOf(c.DrainBroker(ctx, q.ID, q.Draining))}
	}}
	registerController = method[registerControllerQ, done]{"RegisterController", true, 0, func(ctx context.Context, c Controller, q registerControllerQ) done {
		return done{faultOf(c.RegisterController(ctx, q.Node))}
	}}
	// A broker that comes back between two tries would go again.
	unregisterBroker = method[unregisterBrokerQ, done]{"UnregisterBroker", false, 0, func(ctx context.Context, c Controller, q unregisterBrokerQ) done {
		return done{faultOf(c.UnregisterBroker(ctx, q.ID))}
	}}
	unregisterController = method[unregisterControllerQ, done]{"UnregisterController", false, 0, func(ctx context.Context, c Controller, q unregisterControllerQ) done {
		return done{faultOf(c.UnregisterController(ctx, q.ID))}
	}}

	// As in Kafka, the answer may be that the topic is there already.
	createTopics = method[createTopicsQ, list[topicResult]]{"CreateTopics", true, 0, func(ctx context.Context, c Controller, q createTopicsQ) list[topicResult] {
		return topicResults(c.CreateTopics(ctx, each(q.Topics, newTopic.topic), q.ValidateOnly))
	}}
	// By name, another topic may have come to have it. Ids are not given twice: see
	// [Door.DeleteTopics].
	deleteTopics = method[deleteTopicsQ, list[topicResult]]{"DeleteTopics", false, 0, func(ctx context.Context, c Controller, q deleteTopicsQ) list[topicResult] {
		return topicResults(c.DeleteTopics(ctx, q.Topics))
	}}
	// All that follow say what is to be, and not what is to be added to it; as in Kafka,
	// the answer may be that it is so already.
	createPartitions = method[createPartitionsQ, done]{"CreatePartitions", true, 0, func(ctx context.Context, c Controller, q createPartitionsQ) done {
		return done{faultOf(c.CreatePartitions(ctx, q.Name, q.Total, q.Assignments, q.ValidateOnly))}
	}}
	alterConfigs = method[alterConfigsQ, list[fault]]{"AlterConfigs", true, 0, func(ctx context.Context, c Controller, q alterConfigsQ) list[fault] {
		return list[fault]{faultsOf(c.AlterConfigs(ctx, q.Changes, q.ValidateOnly))}
	}}
	alterClientQuotas = method[alterClientQuotasQ, list[fault]]{"AlterClientQuotas", true, 0, func(ctx context.Context, c Controller, q alterClientQuotasQ) list[fault] {
		return list[fault]{faultsOf(c.AlterClientQuotas(ctx, each(q.Changes, quotaChange.change), q.ValidateOnly))}
	}}
	alterACLs = method[alterACLsQ, list[fault]]{"AlterACLs", true, 0, func(ctx context.Context, c Controller, q alterACLsQ) list[fault] {
		return list[fault]{faultsOf(c.AlterACLs(ctx, q.Changes))}
	}}
	// A password that is set twice is the same one; one that is deleted twice is not there.
	alterUsers = method[alterUsersQ, list[fault]]{"AlterUsers", true, 0, func(ctx context.Context, c Controller, q alterUsersQ) list[fault] {
		return list[fault]{faultsOf(c.AlterUsers(ctx, q.Changes))}
	}}
	createAPIToken = method[createAPITokenQ, done]{"CreateAPIToken", true, 0, func(ctx context.Context, c Controller, q createAPITokenQ) done {
		return done{faultOf(c.CreateAPIToken(ctx, q.Token))}
	}}
	// By name, another token may have come to have it.
	deleteAPIToken = method[deleteAPITokenQ, done]{"DeleteAPIToken", false, 0, func(ctx context.Context, c Controller, q deleteAPITokenQ) done {
		return done{faultOf(c.DeleteAPIToken(ctx, q.Name))}
	}}
	// The version has a number, which is given out once.
	deployTransform = method[deployTransformQ, done]{"DeployTransform", true, 0, func(ctx context.Context, c Controller, q deployTransformQ) done {
		return done{faultOf(c.DeployTransform(ctx, q.Name, q.Version, q.Activate, q.Seen))}
	}}
	// What was done meanwhile, by somebody else, would be undone.
	setTransform = method[setTransformQ, done]{"SetTransform", false, 0, func(ctx context.Context, c Controller, q setTransformQ) done {
		return done{faultOf(c.SetTransform(ctx, q.Name, q.Change))}
	}}
	// By name, another module may have come to have it.
	deleteTransform = method[deleteTransformQ, done]{"DeleteTransform", false, 0, func(ctx context.Context, c Controller, q deleteTransformQ) done {
		return done{faultOf(c.DeleteTransform(ctx, q.Name, q.Change, q.Force))}
	}}
	// It says which version it is about, and the node says it again while that is active.
	spendTransformBudget = method[spendTransformBudgetQ, done]{"SpendTransformBudget", false, 0, func(ctx context.Context, c Controller, q spendTransformBudgetQ) done {
		return done{faultOf(c.SpendTransformBudget(ctx, q.Name, q.Version, q.By, q.Reason))}
	}}
	electLeaders = method[electLeadersQ, list[fault]]{"ElectLeaders", true, electionTime, func(ctx context.Context, c Controller, q electLeadersQ) list[fault] {
		return list[fault]{faultsOf(c.ElectLeaders(ctx, q.Elections))}
	}}
	reassignPartitions = method[reassignPartitionsQ, list[fault]]{"ReassignPartitions", true, 0, func(ctx context.Context, c Controller, q reassignPartitionsQ) list[fault] {
		return list[fault]{faultsOf(c.ReassignPartitions(ctx, q.Moves))}
	}}
	// It is by epoch of the partition, which every change raises: the answer may be that
	// the image is to be looked at.
	alterPartitions = method[alterPartitionsQ, list[fault]]{"AlterPartitions", true, 0, func(ctx context.Context, c Controller, q alterPartitionsQ) list[fault] {
		return list[fault]{faultsOf(c.AlterPartitions(ctx, q.Broker.ID, q.Broker.Epoch, q.Changes))}
	}}
	// A log start goes forward only.
	advanceLogStart = method[advanceLogStartQ, list[fault]]{"AdvanceLogStart", true, 0, func(ctx context.Context, c Controller, q advanceLogStartQ) list[fault] {
		return list[fault]{faultsOf(c.AdvanceLogStart(ctx, q.Broker.ID, q.Broker.Epoch, q.Starts))}
	}}

	// Others are issued; those that were are condemned in time.
	prepareObjects = method[prepareObjectsQ, issued]{"PrepareObjects", true, idsTime, func(ctx context.Context, c Controller, q prepareObjectsQ) issued {
		first, err := c.PrepareObjects(ctx, q.Broker.ID, q.Broker.Epoch, q.Count)
		return issued{first, faultOf(err)}
	}}
	allocateProducerIDs = method[allocateProducerIDsQ, producerIDs]{"AllocateProducerIDs", true, 0, func(ctx context.Context, c Controller, q allocateProducerIDsQ) producerIDs {
		first, count, err := c.AllocateProducerIDs(ctx, q.Broker.ID, q.Broker.Epoch)
		return producerIDs{first, count, faultOf(err)}
	}}
	// The second of two would be refused, and who asks take an object for not committed
	// that is: the image says what became of it.
	commitObject = method[commitObjectQ, committed]{"CommitObject", false, 0, func(ctx context.Context, c Controller, q commitObjectQ) committed {
		return committedOf(c.CommitObject(ctx, q.Broker.ID, q.Broker.Epoch, q.ID, q.Size, q.Ranges))
	}}
	replaceRanges = method[replaceRangesQ, committed]{"ReplaceRanges", false, 0, func(ctx context.Context, c Controller, q replaceRangesQ) committed {
		return committedOf(c.ReplaceRanges(ctx, q.Broker.ID, q.Broker.Epoch, q.ID, q.Size, q.Replacements))
	}}
	fileRanges = method[fileRangesQ, done]{"FileRanges", false, 0, func(ctx context.Context, c Controller, q fileRangesQ) done {
		return done{faultOf(c.FileRanges(ctx, q.Broker.ID, q.Broker.Epoch, q.ID, q.Ref, &q.Filing))}
	}}
	recordCleaning = method[recordCleaningQ, done]{"RecordCleaning", false, 0, func(ctx context.Context, c Controller, q recordCleaningQ) done {
		return done{faultOf(c.RecordCleaning(ctx, q.Broker.ID, q.Broker.Epoch, q.Partition, q.Epoch, q.Is))}
	}}

	// An operator who confirms once has not confirmed what happened since.
	confirmClock = method[confirmClockQ, clockConfirmed]{"ConfirmClock", false, 0, func(_ context.Context, c Controller, _ confirmClockQ) clockConfirmed {
		return clockConfirmed{faultOf(c.ConfirmClock())}
	}}
	// It deletes orphans at most, which it looks for anew.
	checkBucket = method[checkBucketQ, checked]{"CheckBucket", true, checkTime, func(ctx context.Context, c Controller, q checkBucketQ) checked {
		report, err := c.CheckBucket(ctx, q.Request)
		if report == nil {
			report = new(controller.CheckReport)
		}
		return checked{*report, faultOf(err)}
	}}
	hurryLog = method[hurryLogQ, done]{"HurryLog", true, 0, func(_ context.Context, c Controller, _ hurryLogQ) done {
		c.HurryLog()
		return done{}
	}}
)

func stateOf(c Controller) leaderState {
	b := c.BucketState()
	s := leaderState{Shipped: c.Shipped(), ShippedOnce: c.ShippedOnce(), BucketApplied: b.Applied, BucketShipped: b.Shipped, BucketTrouble: faultOf(b.Err)}
	s.Believed, s.Believes = c.BelievedTime()
	return s
}

// handler is a method as a controller is asked for it.
type handler struct {
	// run runs it by the body of a call, and returns that of the answer; an error says
	// that the body is none, or is [errDenied].
	run          func(ctx context.Context, c Controller, body []byte) ([]byte, error)
	body, answer reflect.Type
}

func (m method[Q, R]) handler() handler {
	claim := claimOf(m.name, reflect.TypeFor[Q]())
	return handler{func(ctx context.Context, c Controller, body []byte) ([]byte, error) {
		var q Q
		if err := decode(body, &q); err != nil {
			return nil, err
		}
		if err := admit(ctx, m.name, claim(q)); !guard.Check("door.caller-may", err == nil) {
			return nil, fmt.Errorf("%w: %w", errDenied, err)
		}
		return encode(m.run(ctx, c, q))
	}, reflect.TypeFor[Q](), reflect.TypeFor[R]()}
}

// handlers are the methods by name.
func handlers() map[string]handler {
	return map[string]handler{
		registerBroker.name: registerBroker.handler(), heartbeat.name: heartbeat.handler(), fenceBroker.name: fenceBroker.handler(),
		reportLoad.name: reportLoad.handler(), reportTroubles.name: reportTroubles.handler(), reportEnds.name: reportEnds.handler(), giveUpReplicas.name: giveUpReplicas.handler(), planRebalance.name: planRebalance.handler(),
		drainBroker.name: drainBroker.handler(), unregisterBroker.name: unregisterBroker.handler(),
		registerController.name: registerController.handler(), unregisterController.name: unregisterController.handler(),
		members.name: members.handler(), addController.name: addController.handler(), removeController.name: removeController.handler(),
		createTopics.name: createTopics.handler(), deleteTopics.name: deleteTopics.handler(), createPartitions.name: createPartitions.handler(),
		alterConfigs.name: alterConfigs.handler(), alterClientQuotas.name: alterClientQuotas.handler(), alterPartitions.name: alterPartitions.handler(),
		alterACLs.name: alterACLs.handler(), alterUsers.name: alterUsers.handler(), createAPIToken.name: createAPIToken.handler(), deleteAPIToken.name: deleteAPIToken.handler(),
		deployTransform.name: deployTransform.handler(), setTransform.name: setTransform.handler(), deleteTransform.name: deleteTransform.handler(), spendTransformBudget.name: spendTransformBudget.handler(),
		electLeaders.name: electLeaders.handler(), reassignPartitions.name: reassignPartitions.handler(),
		advanceLogStart.name: advanceLogStart.handler(), prepareObjects.name: prepareObjects.handler(), commitObject.name: commitObject.handler(),
		replaceRanges.name: replaceRanges.handler(), fileRanges.name: fileRanges.handler(), recordCleaning.name: recordCleaning.handler(),
		allocateProducerIDs.name: allocateProducerIDs.handler(), confirmClock.name: confirmClock.handler(),
		checkBucket.name: checkBucket.handler(), hurryLog.name: hurryLog.handler(), tellState.name: tellState.handler(), takeSnapshot.name: takeSnapshot.handler(),
	}
}

var _ Controller = (*controller.Controller)(nil)

// addressOf returns where a controller is called; empty: not known.
func addressOf(image *metadata.Image, id int32) string {
	if id < 1 {
		return ""
	}
	if n, ok := image.ControllerNode(uint64(id)); ok {
		return n.Controller
	}
	return ""
}
