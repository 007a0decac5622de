package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
)

var clusterDenied = kerr.ClusterAuthorizationFailed.Code

func gateDescribeLogDirs(_ *Broker, c *acl.Client, q *kmsg.DescribeLogDirsRequest) (is ruling[*kmsg.DescribeLogDirsResponse]) {
	if mayCluster(c, acl.Describe) {
		return is
	}
	p := q.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	p.ErrorCode = clusterDenied // before version 3 there is no place for it, and no directory
	return refusedWith(p)
}

func gateElectLeaders(_ *Broker, c *acl.Client, q *kmsg.ElectLeadersRequest) (is ruling[*kmsg.ElectLeadersResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.ElectLeadersResponse)
	p.ErrorCode = clusterDenied
	for _, t := range q.Topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		for _, index := range t.Partitions {
			part := kmsg.NewElectLeadersResponseTopicPartition()
			part.Partition, part.ErrorCode = index, clusterDenied
			out.Partitions = append(out.Partitions, part)
		}
		p.Topics = append(p.Topics, out)
	}
	return refusedWith(p)
}

func gateAlterPartitionAssignments(_ *Broker, c *acl.Client, q *kmsg.AlterPartitionAssignmentsRequest) (is ruling[*kmsg.AlterPartitionAssignmentsResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateListPartitionReassignments(_ *Broker, c *acl.Client, q *kmsg.ListPartitionReassignmentsRequest) (is ruling[*kmsg.ListPartitionReassignmentsResponse]) {
	if mayCluster(c, acl.Describe) {
		return is
	}
	p := q.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateDescribeClientQuotas(_ *Broker, c *acl.Client, q *kmsg.DescribeClientQuotasRequest) (is ruling[*kmsg.DescribeClientQuotasResponse]) {
	if mayCluster(c, acl.DescribeConfigs) {
		return is
	}
	p := q.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateAlterClientQuotas(_ *Broker, c *acl.Client, q *kmsg.AlterClientQuotasRequest) (is ruling[*kmsg.AlterClientQuotasResponse]) {
	if mayCluster(c, acl.AlterConfigs) {
		return is
	}
	p := q.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	for _, entry := range q.Entries {
		out := kmsg.NewAlterClientQuotasResponseEntry()
		out.ErrorCode = clusterDenied
		for _, e := range entry.Entity {
			entity := kmsg.NewAlterClientQuotasResponseEntryEntity()
			entity.Type, entity.Name = e.Type, e.Name
			out.Entity = append(out.Entity, entity)
		}
		p.Entries = append(p.Entries, out)
	}
	return refusedWith(p)
}

func gateDescribeUserScramCredentials(_ *Broker, c *acl.Client, q *kmsg.DescribeUserSCRAMCredentialsRequest) (is ruling[*kmsg.DescribeUserSCRAMCredentialsResponse]) {
	if mayCluster(c, acl.Describe) {
		return is
	}
	p := q.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateAlterUserScramCredentials(_ *Broker, c *acl.Client, q *kmsg.AlterUserSCRAMCredentialsRequest) (is ruling[*kmsg.AlterUserSCRAMCredentialsResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	seen := map[string]bool{}
	refuse := func(user string) {
		if seen[user] {
			return
		}
		seen[user] = true
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		out.User, out.ErrorCode = user, clusterDenied
		p.Results = append(p.Results, out)
	}
	for _, d := range q.Deletions {
		refuse(d.Name)
	}
	for _, u := range q.Upsertions {
		refuse(u.Name)
	}
	return refusedWith(p)
}

func gateListConfigResources(_ *Broker, c *acl.Client, q *kmsg.ListConfigResourcesRequest) (is ruling[*kmsg.ListConfigResourcesResponse]) {
	if mayCluster(c, acl.DescribeConfigs) {
		return is
	}
	p := q.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateUpdateFeatures(_ *Broker, c *acl.Client, q *kmsg.UpdateFeaturesRequest) (is ruling[*kmsg.UpdateFeaturesResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateDescribeCluster(_ *Broker, c *acl.Client, q *kmsg.DescribeClusterRequest) ruling[*kmsg.DescribeClusterResponse] {
	return amendedBy(func(p *kmsg.DescribeClusterResponse) {
		if q.IncludeClusterAuthorizedOperations && p.ErrorCode == 0 {
			p.ClusterAuthorizedOperations = describedOperations(c)
		}
	})
}

// describedOperations are those on the cluster, for who may describe it.
func describedOperations(c *acl.Client) int32 {
	if !seesCluster(c, acl.Describe) {
		return 0
	}
	return operations(c, acl.Cluster, acl.ClusterName)
}

func gateDescribeACLs(_ *Broker, c *acl.Client, q *kmsg.DescribeACLsRequest) (is ruling[*kmsg.DescribeACLsResponse]) {
	if mayCluster(c, acl.Describe) {
		return is
	}
	p := q.ResponseKind().(*kmsg.DescribeACLsResponse)
	p.ErrorCode = clusterDenied
	return refusedWith(p)
}

func gateCreateACLs(_ *Broker, c *acl.Client, q *kmsg.CreateACLsRequest) (is ruling[*kmsg.CreateACLsResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.CreateACLsResponse)
	for range q.Creations {
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode = clusterDenied
		p.Results = append(p.Results, out)
	}
	return refusedWith(p)
}

func gateDeleteACLs(_ *Broker, c *acl.Client, q *kmsg.DeleteACLsRequest) (is ruling[*kmsg.DeleteACLsResponse]) {
	if mayCluster(c, acl.Alter) {
		return is
	}
	p := q.ResponseKind().(*kmsg.DeleteACLsResponse)
	for range q.Filters {
		out := kmsg.NewDeleteACLsResponseResult()
		out.ErrorCode = clusterDenied
		p.Results = append(p.Results, out)
	}
	return refusedWith(p)
}
