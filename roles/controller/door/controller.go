package door

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// Controller is what a door stands before: [*controller.Controller]. What its methods
// promise, those of a [Door] do, for the controller that leads.
type Controller interface {
	NodeID() int32
	Leads() bool
	Image() *metadata.Image
	Subscribe(func(*metadata.Image)) (cancel func())

	RegisterBroker(context.Context, controller.Registration) (epoch int64, err error)
	Heartbeat(ctx context.Context, brokerID int32, epoch int64) error
	FenceBroker(ctx context.Context, brokerID int32, epoch int64) error
	Hear(brokerID int32, epoch int64)
	Broke(brokerID int32, epoch int64)
	ReportLoad(ctx context.Context, brokerID int32, brokerEpoch int64, syncs time.Duration, loads []controller.PartitionLoad) error
	ReportTroubles(ctx context.Context, node int32, found []controller.Trouble) error
	ReportEnds(ctx context.Context, brokerID int32, brokerEpoch int64, ends []metadata.PartitionEnd) error
	GiveUpReplicas(ctx context.Context, brokerID int32, brokerEpoch int64, partitions []storage.PartitionID) []error
	PlanRebalance(context.Context) (controller.RebalancePlan, error)
	DrainBroker(ctx context.Context, id int32, draining bool) error
	UnregisterBroker(ctx context.Context, id int32) error
	RegisterController(context.Context, metadata.ControllerNode) error
	UnregisterController(ctx context.Context, id uint64) error
	Members(context.Context) (*controller.Group, error)
	AddController(ctx context.Context, id uint64) error
	RemoveController(ctx context.Context, id uint64) error

	CreateTopics(context.Context, []controller.NewTopic, bool) []controller.TopicResult
	DeleteTopics(context.Context, []controller.TopicRef) []controller.TopicResult
	CreatePartitions(ctx context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error
	AlterConfigs(ctx context.Context, changes []controller.ConfigChange, validateOnly bool) []error
	AlterClientQuotas(ctx context.Context, changes []controller.QuotaChange, validateOnly bool) []error
	AlterACLs(ctx context.Context, changes []controller.ACLChange) []error
	AlterUsers(ctx context.Context, changes []metadata.UserChange) []error
	CreateAPIToken(context.Context, metadata.APIToken) error
	DeleteAPIToken(ctx context.Context, name string) error
	DeployTransform(ctx context.Context, name string, v metadata.TransformVersion, activate bool, seen uint64) error
	SetTransform(ctx context.Context, name string, change metadata.TransformChange) error
	DeleteTransform(ctx context.Context, name string, change metadata.TransformChange, force bool) error
	SpendTransformBudget(ctx context.Context, name string, version uint32, by, reason string) error
	AlterPartitions(ctx context.Context, brokerID int32, brokerEpoch int64, changes []metadata.PartitionChange) []error
	ElectLeaders(context.Context, []controller.LeaderElection) []error
	ReassignPartitions(context.Context, []controller.Reassignment) []error

	AdvanceLogStart(ctx context.Context, brokerID int32, brokerEpoch int64, starts []controller.LogStart) []error
	PrepareObjects(ctx context.Context, brokerID int32, brokerEpoch int64, count int) (first storage.ObjectID, err error)
	CommitObject(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) (results []error, err error)
	ReplaceRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error)
	FileRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error
	RecordCleaning(ctx context.Context, brokerID int32, brokerEpoch int64, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error
	AllocateProducerIDs(ctx context.Context, brokerID int32, brokerEpoch int64) (first int64, count int32, err error)

	TakeSnapshot(context.Context) (index uint64, err error)
	BelievedTime() (now time.Time, ok bool)
	ConfirmClock() (was error)
	CheckBucket(context.Context, controller.CheckRequest) (*controller.CheckReport, error)
	BucketState() controller.BucketState
	Shipped() uint64
	ShippedOnce() uint64
	HurryLog()
}
