package broker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
)

// acts reports whether a request administers: it changes what others have, or may do.
func acts(q kmsg.Request) bool {
	switch q := q.(type) {
	case *kmsg.CreateTopicsRequest:
		return !q.ValidateOnly
	case *kmsg.CreatePartitionsRequest:
		return !q.ValidateOnly
	case *kmsg.AlterConfigsRequest:
		return !q.ValidateOnly
	case *kmsg.IncrementalAlterConfigsRequest:
		return !q.ValidateOnly
	case *kmsg.AlterClientQuotasRequest:
		return !q.ValidateOnly
	case *kmsg.DeleteTopicsRequest, *kmsg.DeleteRecordsRequest, *kmsg.CreateACLsRequest, *kmsg.DeleteACLsRequest,
		*kmsg.AlterUserSCRAMCredentialsRequest, *kmsg.ElectLeadersRequest, *kmsg.AlterPartitionAssignmentsRequest,
		*kmsg.DeleteGroupsRequest, *kmsg.OffsetDeleteRequest, *kmsg.WriteTxnMarkersRequest:
		return true
	}
	return false
}

// tellAct is told one thing that was done, or failed with an error of Kafka's.
type tellAct func(action, kind, name string, code int16, detail string)

// tellActs tells what became of a request that administers, one thing after the other.
func tellActs(q kmsg.Request, p kmsg.Response, tell tellAct) {
	switch p := p.(type) {
	case *kmsg.CreateTopicsResponse:
		for _, t := range p.Topics {
			tell("topic.create", "topic", t.Topic, t.ErrorCode, "")
		}
	case *kmsg.DeleteTopicsResponse:
		for _, t := range p.Topics {
			name := fmt.Sprintf("id %x", t.TopicID)
			if t.Topic != nil {
				name = *t.Topic
			}
			tell("topic.delete", "topic", name, t.ErrorCode, "")
		}
	case *kmsg.CreatePartitionsResponse:
		counts := map[string]int32{}
		for _, t := range q.(*kmsg.CreatePartitionsRequest).Topics {
			counts[t.Topic] = t.Count
		}
		for _, t := range p.Topics {
			tell("topic.create-partitions", "topic", t.Topic, t.ErrorCode, fmt.Sprintf("partitions=%d", counts[t.Topic]))
		}
	case *kmsg.DeleteRecordsResponse:
		for _, t := range p.Topics {
			for _, part := range t.Partitions {
				tell("topic.delete-records", "topic", t.Topic, part.ErrorCode, fmt.Sprintf("partition=%d log_start=%d", part.Partition, part.LowWatermark))
			}
		}
	case *kmsg.ElectLeadersResponse:
		for _, t := range p.Topics {
			for _, part := range t.Partitions {
				tell("topic.elect-leader", "topic", t.Topic, part.ErrorCode, fmt.Sprintf("partition=%d", part.Partition))
			}
		}
	case *kmsg.AlterPartitionAssignmentsResponse:
		for _, t := range p.Topics {
			for _, part := range t.Partitions {
				tell("topic.reassign", "topic", t.Topic, part.ErrorCode, fmt.Sprintf("partition=%d", part.Partition))
			}
		}
	case *kmsg.DeleteGroupsResponse:
		for _, g := range p.Groups {
			tell("group.delete", "group", g.Group, g.ErrorCode, "")
		}
	case *kmsg.OffsetDeleteResponse:
		group := q.(*kmsg.OffsetDeleteRequest).Group
		if p.ErrorCode != 0 {
			tell("group.delete-offsets", "group", group, p.ErrorCode, "")
		}
		for _, t := range p.Topics {
			for _, part := range t.Partitions {
				tell("group.delete-offsets", "group", group, part.ErrorCode, fmt.Sprintf("topic=%s partition=%d", t.Topic, part.Partition))
			}
		}
	case *kmsg.WriteTxnMarkersResponse:
		for _, m := range p.Markers {
			for _, t := range m.Topics {
				for _, part := range t.Partitions {
					tell("transaction.write-marker", "topic", t.Topic, part.ErrorCode, fmt.Sprintf("partition=%d producer_id=%d", part.Partition, m.ProducerID))
				}
			}
		}
	default:
		tellRights(q, p, tell)
	}
}

// tellRights is tellActs for what concerns configurations, and who may do what. It is one
// list, a case for each API.
func tellRights(q kmsg.Request, p kmsg.Response, tell tellAct) {
	switch p := p.(type) {
	case *kmsg.AlterConfigsResponse:
		keys := map[string][]string{}
		for _, r := range q.(*kmsg.AlterConfigsRequest).Resources {
			for _, c := range r.Configs {
				keys[configuredKind(r.ResourceType)+r.ResourceName] = append(keys[configuredKind(r.ResourceType)+r.ResourceName], c.Name)
			}
		}
		for _, r := range p.Resources {
			kind := configuredKind(r.ResourceType)
			tell(kind+".alter-configs", kind, r.ResourceName, r.ErrorCode, "replaced by: "+strings.Join(keys[kind+r.ResourceName], ", "))
		}
	case *kmsg.IncrementalAlterConfigsResponse:
		keys := map[string][]string{}
		for _, r := range q.(*kmsg.IncrementalAlterConfigsRequest).Resources {
			for _, c := range r.Configs {
				keys[configuredKind(r.ResourceType)+r.ResourceName] = append(keys[configuredKind(r.ResourceType)+r.ResourceName], strings.ToLower(c.Op.String())+" "+c.Name)
			}
		}
		for _, r := range p.Resources {
			kind := configuredKind(r.ResourceType)
			tell(kind+".alter-configs", kind, r.ResourceName, r.ErrorCode, strings.Join(keys[kind+r.ResourceName], ", "))
		}
	case *kmsg.CreateACLsResponse:
		creations := q.(*kmsg.CreateACLsRequest).Creations
		for i, r := range p.Results {
			if i < len(creations) {
				c := &creations[i]
				kind, name := aclOf(c.ResourceType, c.ResourceName)
				tell("acl.create", kind, name, r.ErrorCode, aclDetail(c.PermissionType, c.Principal, c.Operation, c.Host, c.ResourcePatternType))
			}
		}
	case *kmsg.DeleteACLsResponse:
		for _, r := range p.Results {
			if r.ErrorCode != 0 {
				tell("acl.delete", "cluster", acl.ClusterName, r.ErrorCode, "")
			}
			for _, m := range r.MatchingACLs {
				kind, name := aclOf(m.ResourceType, m.ResourceName)
				tell("acl.delete", kind, name, m.ErrorCode, aclDetail(m.PermissionType, m.Principal, m.Operation, m.Host, m.ResourcePatternType))
			}
		}
	case *kmsg.AlterClientQuotasResponse:
		entries := q.(*kmsg.AlterClientQuotasRequest).Entries
		for i, e := range p.Entries {
			var of, keys []string
			for _, part := range e.Entity {
				name := "<default>"
				if part.Name != nil {
					name = *part.Name
				}
				of = append(of, part.Type+"="+name)
			}
			if i < len(entries) {
				for _, op := range entries[i].Ops {
					if op.Remove {
						keys = append(keys, "remove "+op.Key)
					} else {
						keys = append(keys, fmt.Sprintf("%s=%v", op.Key, op.Value))
					}
				}
			}
			slices.Sort(of)
			tell("quota.alter", "quota", strings.Join(of, ","), e.ErrorCode, strings.Join(keys, ", "))
		}
	case *kmsg.AlterUserSCRAMCredentialsResponse:
		asked := q.(*kmsg.AlterUserSCRAMCredentialsRequest)
		for _, r := range p.Results {
			action := "user.set-password"
			if slices.ContainsFunc(asked.Deletions, func(d kmsg.AlterUserSCRAMCredentialsRequestDeletion) bool { return d.Name == r.User }) {
				action = "user.delete-password"
			}
			tell(action, "user", r.User, r.ErrorCode, "")
		}
	}
}

// configuredKind names the kind of resource that has configurations.
func configuredKind(t kmsg.ConfigResourceType) string { return strings.ToLower(t.String()) }

func aclOf(t kmsg.ACLResourceType, name string) (kind, resource string) {
	return strings.ToLower(t.String()), name
}

func aclDetail(permission kmsg.ACLPermissionType, principal string, op kmsg.ACLOperation, host string, pattern kmsg.ACLResourcePatternType) string {
	return strings.ToLower(fmt.Sprintf("%v ", permission)) + principal + strings.ToLower(fmt.Sprintf(" %v", op)) + " from " + host + strings.ToLower(fmt.Sprintf(" (%v)", pattern))
}
