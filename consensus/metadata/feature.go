package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// Feature levels. The level in the image, not the binary, says which commands
// may be written and how apply treats them; it rises by a command of its own,
// after every node has said that it knows the new level.
const (
	FirstFeatureLevel   uint32 = 1
	ObjectsFeatureLevel uint32 = 2 // the bucket, objects and ranges
	// ManifestsFeatureLevel: manifests, whose bytes the image reckons with.
	ManifestsFeatureLevel uint32 = 3
	CleaningFeatureLevel  uint32 = 4 // compaction by key
	QuotasFeatureLevel    uint32 = 5 // client quotas
	// GroupConfigsFeatureLevel: configurations of consumer groups.
	GroupConfigsFeatureLevel uint32 = 6
	// ClientMetricsFeatureLevel: subscriptions to metrics of clients.
	ClientMetricsFeatureLevel uint32 = 7
	// LineageFeatureLevel: entries of the metadata log in the bucket are announced.
	LineageFeatureLevel uint32 = 8

	// ClusterFeatureLevel: more than one process, see docs/design/0012-cluster-metadata.md.
	ClusterFeatureLevel uint32 = 9

	// RecoveryFeatureLevel: a cluster brought back from its bucket, and what elections and
	// topics need besides.
	RecoveryFeatureLevel uint32 = 10

	// ObjectTopicsFeatureLevel: topics whose acks wait for the bucket, see
	// docs/design/0016-durability.md.
	ObjectTopicsFeatureLevel uint32 = 11

	// SecurityFeatureLevel: ACLs, credentials of users and revoked certificates.
	SecurityFeatureLevel uint32 = 12

	// OperationsFeatureLevel: what operators' programs need, see docs/design/0023-admin-api.md.
	OperationsFeatureLevel uint32 = 13

	// TransformsFeatureLevel: modules that transform records, see docs/etl.md.
	TransformsFeatureLevel uint32 = 14
	// LimitsFeatureLevel: quotas of addresses (KIP-612), and a bound of API tokens of one
	// principal.
	LimitsFeatureLevel uint32 = 14

	// DepartureFeatureLevel: who stops being a replica ends the leader epoch.
	DepartureFeatureLevel uint32 = 14

	// ConfigHistoryFeatureLevel: keys of the processes are set on brokers, and who changed
	// what is kept.
	ConfigHistoryFeatureLevel uint32 = 15

	LatestFeatureLevel = ConfigHistoryFeatureLevel // the highest that this binary knows
)

// levelOf returns the level that allows a command.
func levelOf(c *pb.Command) uint32 {
	switch body := c.Body.(type) {
	case *pb.Command_InitCluster:
		return 0
	case *pb.Command_RegisterBroker:
		if body.RegisterBroker.CutTail {
			return RecoveryFeatureLevel
		}
		if r := body.RegisterBroker; r.MaxFeatureLevel != 0 || r.UncleanEnd || r.AcksBeforeSync {
			return ClusterFeatureLevel
		}
		if len(body.RegisterBroker.BucketNonce) > 0 {
			return ObjectsFeatureLevel
		}
	case *pb.Command_CreateTopic:
		if slices.ContainsFunc(body.CreateTopic.Configs, func(e *pb.ConfigEntry) bool { return e.Key == durability && e.Value == objectDurability }) {
			return ObjectTopicsFeatureLevel
		}
		if body.CreateTopic.ReplicasUnset {
			return ClusterFeatureLevel
		}
	case *pb.Command_SetBucket, *pb.Command_PrepareObjects, *pb.Command_CommitObject, *pb.Command_ReplaceRanges,
		*pb.Command_CondemnObjects, *pb.Command_ForgetObjects, *pb.Command_MoveLogStarts:
		return ObjectsFeatureLevel
	case *pb.Command_FileRanges, *pb.Command_DissolveManifest:
		return ManifestsFeatureLevel
	case *pb.Command_RecordCleaning:
		return CleaningFeatureLevel
	case *pb.Command_AlterConfigs:
		switch body.AlterConfigs.ResourceType {
		case int32(GroupResource):
			return GroupConfigsFeatureLevel
		case int32(ClientMetricsResource):
			return ClientMetricsFeatureLevel
		}
		if c := body.AlterConfigs; c.By != "" || c.At != 0 {
			return ConfigHistoryFeatureLevel
		}
	case *pb.Command_AlterClientQuotas:
		if body.AlterClientQuotas.Entity.GetIp() != nil {
			return LimitsFeatureLevel
		}
		return QuotasFeatureLevel
	case *pb.Command_AnnounceEntry:
		return LineageFeatureLevel
	case *pb.Command_RegisterController, *pb.Command_UnregisterController, *pb.Command_AlterPartitions, *pb.Command_ElectLeaders,
		*pb.Command_ReassignPartitions, *pb.Command_ChangeBroker, *pb.Command_UnregisterBroker:
		return ClusterFeatureLevel
	case *pb.Command_ReportEnds:
		return RecoveryFeatureLevel
	case *pb.Command_EndLife:
		return ObjectTopicsFeatureLevel // that of all that came with it
	case *pb.Command_AlterUsers:
		return SecurityFeatureLevel
	case *pb.Command_GiveUpReplicas:
		return ObjectTopicsFeatureLevel
	case *pb.Command_CreateAcls, *pb.Command_DeleteAcls:
		return SecurityFeatureLevel
	case *pb.Command_CreateApiToken, *pb.Command_DeleteApiToken:
		return OperationsFeatureLevel
	case *pb.Command_DeployTransform, *pb.Command_SetTransform, *pb.Command_DeleteTransform, *pb.Command_CollectModules:
		return TransformsFeatureLevel
	}
	return FirstFeatureLevel
}

// checkLevel refuses a command above the image's level.
func checkLevel(image *Image, c *pb.Command) *Error { return checkLevelOf(image, levelOf(c)) }

func checkLevelOf(image *Image, need uint32) *Error {
	if need > 0 && image.clusterID == "" {
		return Errorf(NotController, "the cluster is not initialised yet")
	}
	if !guard.Check("metadata.feature-level", need <= image.featureLevel) {
		return Errorf(UnsupportedVersion, "needs feature level %d, the cluster is at %d", need, image.featureLevel)
	}
	return nil
}
