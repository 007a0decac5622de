package broker

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
)

func (c *testController) AlterPartitions(_ context.Context, brokerID int32, epoch int64, changes []metadata.PartitionChange) []error {
	result, err := c.propose(metadata.NewAlterPartitions(brokerID, epoch, changes))
	if err == nil {
		return result.(metadata.PartitionResults)
	}
	return slices.Repeat([]error{err}, len(changes))
}
