package door

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
)

// faultAt is the entry of a list of faults for what was not decided.
func faultAt(_ int, err error) fault { return faultOf(err) }

// CreateTopics is as of [controller.Controller].
func (d *Door) CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	return resultsOf(callEach(ctx, d, createTopics, topics,
		func(part []controller.NewTopic) createTopicsQ {
			return createTopicsQ{each(part, newTopicOf), validateOnly}
		},
		func(i int, err error) topicResult { return topicResult{Name: topics[i].Name, Err: faultOf(err)} }))
}

// DeleteTopics is as of [controller.Controller]. If topics are named, and not by id, it is not
// tried again once it may have happened: another topic may have the name by then.
func (d *Door) DeleteTopics(ctx context.Context, topics []controller.TopicRef) []controller.TopicResult {
	m := deleteTopics
	m.again = !slices.ContainsFunc(topics, func(ref controller.TopicRef) bool { return ref.ID.IsZero() })
	return resultsOf(callEach(ctx, d, m, topics,
		func(part []controller.TopicRef) deleteTopicsQ { return deleteTopicsQ{part} },
		func(i int, err error) topicResult {
			return topicResult{Name: topics[i].Name, ID: topics[i].ID, Err: faultOf(err)}
		}))
}

func resultsOf(entries []topicResult) []controller.TopicResult {
	results := make([]controller.TopicResult, len(entries))
	for i, e := range entries {
		results[i] = e.result()
	}
	return results
}

// CreatePartitions is as of [controller.Controller].
func (d *Door) CreatePartitions(ctx context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error {
	return errOf(call(ctx, d, createPartitions, createPartitionsQ{name, total, assignments, validateOnly}))
}

// AlterConfigs is as of [controller.Controller].
func (d *Door) AlterConfigs(ctx context.Context, changes []controller.ConfigChange, validateOnly bool) []error {
	return errorsOf(callEach(ctx, d, alterConfigs, changes, func(part []controller.ConfigChange) alterConfigsQ {
		return alterConfigsQ{part, validateOnly}
	}, faultAt))
}

// AlterClientQuotas is as of [controller.Controller].
func (d *Door) AlterClientQuotas(ctx context.Context, changes []controller.QuotaChange, validateOnly bool) []error {
	return errorsOf(callEach(ctx, d, alterClientQuotas, changes, func(part []controller.QuotaChange) alterClientQuotasQ {
		return alterClientQuotasQ{each(part, quotaChangeOf), validateOnly}
	}, faultAt))
}

// AlterACLs is as of [controller.Controller].
func (d *Door) AlterACLs(ctx context.Context, changes []controller.ACLChange) []error {
	return errorsOf(callEach(ctx, d, alterACLs, changes, func(part []controller.ACLChange) alterACLsQ {
		return alterACLsQ{part}
	}, faultAt))
}

// AlterUsers is as of [controller.Controller].
func (d *Door) AlterUsers(ctx context.Context, changes []metadata.UserChange) []error {
	return errorsOf(callEach(ctx, d, alterUsers, changes, func(part []metadata.UserChange) alterUsersQ { return alterUsersQ{part} }, faultAt))
}

// CreateAPIToken is as of [controller.Controller].
func (d *Door) CreateAPIToken(ctx context.Context, t metadata.APIToken) error {
	return errOf(call(ctx, d, createAPIToken, createAPITokenQ{t}))
}

// DeleteAPIToken is as of [controller.Controller]. It is not tried again once it may have
// happened: then the code is RequestTimedOut.
func (d *Door) DeleteAPIToken(ctx context.Context, name string) error {
	return errOf(call(ctx, d, deleteAPIToken, deleteAPITokenQ{name}))
}

// DeployTransform is as of [controller.Controller].
func (d *Door) DeployTransform(ctx context.Context, name string, v metadata.TransformVersion, activate bool, seen uint64) error {
	return errOf(call(ctx, d, deployTransform, deployTransformQ{name, v, activate, seen}))
}

// SetTransform is as of [controller.Controller]. Neither it nor DeleteTransform is tried again
// once it may have happened: then the code is RequestTimedOut.
func (d *Door) SetTransform(ctx context.Context, name string, change metadata.TransformChange) error {
	return errOf(call(ctx, d, setTransform, setTransformQ{name, change}))
}

// DeleteTransform is as of [controller.Controller].
func (d *Door) DeleteTransform(ctx context.Context, name string, change metadata.TransformChange, force bool) error {
	return errOf(call(ctx, d, deleteTransform, deleteTransformQ{name, change, force}))
}

// SpendTransformBudget is as of [controller.Controller].
func (d *Door) SpendTransformBudget(ctx context.Context, name string, version uint32, by, reason string) error {
	return errOf(call(ctx, d, spendTransformBudget, spendTransformBudgetQ{name, version, by, reason}))
}

// AlterPartitions is as of [controller.Controller]. InvalidUpdateVersion may mean that
// it was done at the first try: the image tells.
func (d *Door) AlterPartitions(ctx context.Context, brokerID int32, brokerEpoch int64, changes []metadata.PartitionChange) []error {
	return errorsOf(callEach(ctx, d, alterPartitions, changes, func(part []metadata.PartitionChange) alterPartitionsQ {
		return alterPartitionsQ{broker{brokerID, brokerEpoch}, part}
	}, faultAt))
}

// ElectLeaders is as of [controller.Controller].
func (d *Door) ElectLeaders(ctx context.Context, elections []controller.LeaderElection) []error {
	return errorsOf(callEach(ctx, d, electLeaders, elections, func(part []controller.LeaderElection) electLeadersQ {
		return electLeadersQ{part}
	}, faultAt))
}

// ReassignPartitions is as of [controller.Controller].
func (d *Door) ReassignPartitions(ctx context.Context, moves []controller.Reassignment) []error {
	return errorsOf(callEach(ctx, d, reassignPartitions, moves, func(part []controller.Reassignment) reassignPartitionsQ {
		return reassignPartitionsQ{part}
	}, faultAt))
}
