package controller

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

type (
	// PartitionChange is who its leader says is in sync of one partition.
	PartitionChange = metadata.PartitionChange
	// ReplicaEpoch is one registration of a broker that holds a replica.
	ReplicaEpoch = metadata.ReplicaEpoch
)

// LeaderElection asks for another leader of one partition.
type LeaderElection struct {
	Partition storage.PartitionID
	Leader    int32 // metadata.NoLeader: the first of the replicas that may
	// Unclean lets a partition whose in-sync and eligible replicas are all gone be led
	// by any other: records that were acknowledged may be lost.
	Unclean bool
}

// Reassignment asks for other replicas of one partition.
type Reassignment struct {
	Partition storage.PartitionID
	Replicas  []int32 // the preferred leader first; none ends what is under way
}

// AlterPartitions changes who is in sync, for the leaders that ask; errors are in
// order of the request. It is sent by one registration of one broker.
func (c *Controller) AlterPartitions(ctx context.Context, brokerID int32, brokerEpoch int64, changes []PartitionChange) []error {
	return c.proposeEach(ctx, metadata.NewAlterPartitions(brokerID, brokerEpoch, changes), len(changes))
}

// maxEndsPerCommand of what a broker has: about 40 bytes each.
const maxEndsPerCommand = 10_000

// ReportEnds says what a broker has of partitions that ask their replicas. One that does
// not ask any more is passed over.
func (c *Controller) ReportEnds(ctx context.Context, brokerID int32, brokerEpoch int64, ends []metadata.PartitionEnd) error {
	for some := range slices.Chunk(ends, maxEndsPerCommand) {
		if _, err := c.propose(ctx, metadata.NewReportEnds(brokerID, brokerEpoch, some)); err != nil {
			return err
		}
	}
	return nil
}

// GiveUpReplicas says of which partitions a broker lacks, or may lack, what it had; errors
// are in order of the request. EligibleLeadersNotAvailable: nobody else is known to have it.
func (c *Controller) GiveUpReplicas(ctx context.Context, brokerID int32, brokerEpoch int64, partitions []storage.PartitionID) []error {
	results := make([]error, 0, len(partitions))
	for some := range slices.Chunk(partitions, maxEndsPerCommand) {
		results = append(results, c.proposeEach(ctx, metadata.NewGiveUpReplicas(brokerID, brokerEpoch, some), len(some))...)
	}
	return results
}

// ElectLeaders moves leaderships to replicas in sync, or to any where that is asked for
// and nobody else is left; errors are in order of the request. A partition that is led
// as asked for is refused with ElectionNotNeeded.
func (c *Controller) ElectLeaders(ctx context.Context, elections []LeaderElection) []error {
	command := &pb.ElectLeaders{}
	for _, e := range elections {
		command.Entries = append(command.Entries, &pb.ElectLeaders_Entry{
			TopicId: e.Partition.Topic[:], Partition: e.Partition.Index, Leader: e.Leader, Unclean: e.Unclean,
		})
	}
	c.endUploads(ctx, elections)
	return c.proposeEach(ctx, command, len(elections))
}

// ReassignPartitions begins to move replicas, or ends that; errors are in order of the
// request. A move is done once all replicas that are to stay are in sync: the image
// tells by Partition.Adding and Removing.
func (c *Controller) ReassignPartitions(ctx context.Context, moves []Reassignment) []error {
	end, err := c.change(ctx)
	if err != nil {
		return slices.Repeat([]error{err}, len(moves))
	}
	defer end()
	command := &pb.ReassignPartitions{}
	for _, r := range moves {
		command.Entries = append(command.Entries, &pb.ReassignPartitions_Entry{
			TopicId: r.Partition.Topic[:], Partition: r.Partition.Index, Replicas: r.Replicas,
		})
	}
	return c.proposeEach(ctx, command, len(moves))
}

// proposeEach proposes a command of n entries that each stand alone.
func (c *Controller) proposeEach(ctx context.Context, command proto.Message, n int) []error {
	result, err := c.propose(ctx, command)
	if err == nil {
		return result.(metadata.PartitionResults)
	}
	results := make([]error, n)
	for i := range results {
		results[i] = err
	}
	return results
}

// DrainBroker says that a broker is to be emptied, or no longer. What it leads goes to
// others in sync before this returns; it is given nothing new. Its replicas stay until
// they are reassigned.
func (c *Controller) DrainBroker(ctx context.Context, id int32, draining bool) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.propose(ctx, &pb.ChangeBroker{BrokerId: id, Draining: draining})
	return err
}

// UnregisterBroker forgets a broker. One that is still a replica of something is
// refused.
func (c *Controller) UnregisterBroker(ctx context.Context, id int32) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.propose(ctx, &pb.UnregisterBroker{BrokerId: id})
	return err
}

// RegisterController makes known where a controller is reached and what it knows. A
// MaxFeatureLevel of 0 is that of this binary.
func (c *Controller) RegisterController(ctx context.Context, n metadata.ControllerNode) error {
	if n.MaxFeatureLevel == 0 {
		n.MaxFeatureLevel = metadata.LatestFeatureLevel
	}
	_, err := c.propose(ctx, metadata.NewRegisterController(n))
	return err
}

// UnregisterController forgets where a controller was reached. It stays a member of the
// group, if it is one.
func (c *Controller) UnregisterController(ctx context.Context, id uint64) error {
	_, err := c.propose(ctx, &pb.UnregisterController{NodeId: id})
	return err
}
