package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// describeUserScramCredentials says that no user has any: there is no SASL. Kafka's
// tools ask for them whenever they describe a user, for its quotas too.
func (b *Broker) describeUserScramCredentials(_ *kafka.Request, q *kmsg.DescribeUserSCRAMCredentialsRequest) *kmsg.DescribeUserSCRAMCredentialsResponse {
	p := q.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	p.Results = []kmsg.DescribeUserSCRAMCredentialsResponseResult{}
	seen := make(map[string]int, len(q.Users))
	for _, user := range q.Users {
		if at, twice := seen[user.Name]; twice {
			p.Results[at].ErrorCode, p.Results[at].ErrorMessage = codeAndMessage(explained{kerr.DuplicateResource, "the user is named twice"})
			continue
		}
		seen[user.Name] = len(p.Results)
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		result.User = user.Name
		result.ErrorCode, result.ErrorMessage = codeAndMessage(explained{kerr.ResourceNotFound, "the user has no SCRAM credentials"})
		p.Results = append(p.Results, result)
	}
	return p
}
