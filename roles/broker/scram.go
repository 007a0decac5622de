package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/transport/kafka"
)

// describeUserScramCredentials tells which users have passwords, and for which mechanisms
// (KIP-554); nothing of the passwords themselves.
func (b *Broker) describeUserScramCredentials(_ *kafka.Request, q *kmsg.DescribeUserSCRAMCredentialsRequest) *kmsg.DescribeUserSCRAMCredentialsResponse {
	p := q.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	p.Results = []kmsg.DescribeUserSCRAMCredentialsResponseResult{}
	image := b.images.image()
	if len(q.Users) == 0 { // null is everybody, and so is nobody, as in Kafka
		for u := range image.Users() {
			p.Results = append(p.Results, describedUser(u))
		}
		return p
	}
	seen := make(map[string]int, len(q.Users))
	for _, user := range q.Users {
		if at, twice := seen[user.Name]; twice {
			p.Results[at].CredentialInfos = nil
			p.Results[at].ErrorCode, p.Results[at].ErrorMessage = codeAndMessage(explained{kerr.DuplicateResource, "the user is named twice"})
			continue
		}
		seen[user.Name] = len(p.Results)
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		if u, known := image.User(user.Name); known {
			result = describedUser(u)
		} else {
			result.User = user.Name
			result.ErrorCode, result.ErrorMessage = codeAndMessage(explained{kerr.ResourceNotFound, "the user has no SCRAM credentials"})
		}
		p.Results = append(p.Results, result)
	}
	return p
}

func describedUser(u *metadata.User) kmsg.DescribeUserSCRAMCredentialsResponseResult {
	result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
	result.User = u.Name
	for _, c := range u.Credentials {
		info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
		info.Mechanism, info.Iterations = int8(c.Mechanism), c.Iterations
		result.CredentialInfos = append(result.CredentialInfos, info)
	}
	return result
}

// alterUserScramCredentials sets and deletes passwords (KIP-554), which clients have salted.
// Each user stands alone.
func (b *Broker) alterUserScramCredentials(ctx context.Context, _ *kafka.Request, q *kmsg.AlterUserSCRAMCredentialsRequest) *kmsg.AlterUserSCRAMCredentialsResponse {
	p := q.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	p.Results = []kmsg.AlterUserSCRAMCredentialsResponseResult{}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	asked := scramChanges(q)
	var changes []metadata.UserChange
	for _, a := range asked {
		if a.err == nil {
			changes = append(changes, a.change)
		}
	}
	errs := b.opt.Controller.AlterUsers(ctx, changes)
	for _, a := range asked {
		result := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		result.User = a.change.User
		if a.err == nil {
			a.err, errs = errs[0], errs[1:]
		}
		result.ErrorCode, result.ErrorMessage = codeAndMessage(a.err)
		p.Results = append(p.Results, result)
	}
	b.settle(ctx)
	return p
}

// scramChange is what a request asks for one user; err says why it cannot be.
type scramChange struct {
	change metadata.UserChange
	err    error
}

// scramChanges gathers a request by user, in order of their first mention.
func scramChanges(q *kmsg.AlterUserSCRAMCredentialsRequest) []*scramChange {
	var all []*scramChange
	type pair struct {
		user      string
		mechanism int8
	}
	byUser, seen := map[string]*scramChange{}, map[pair]bool{}
	of := func(user string, mechanism int8) *scramChange {
		a := byUser[user]
		if a == nil {
			a = &scramChange{change: metadata.UserChange{User: user}}
			byUser[user] = a
			all = append(all, a)
		}
		switch {
		case user == "":
			a.err = explained{kerr.UnacceptableCredential, "a user has a name"}
		case mechanism != int8(metadata.ScramSHA256) && mechanism != int8(metadata.ScramSHA512):
			a.err = explained{kerr.UnsupportedSaslMechanism, fmt.Sprintf("there is no SCRAM mechanism %d", mechanism)}
		case seen[pair{user, mechanism}]:
			a.err = explained{kerr.DuplicateResource, "the request names this user and mechanism twice"}
		}
		seen[pair{user, mechanism}] = true
		return a
	}
	for _, d := range q.Deletions {
		a := of(d.Name, d.Mechanism)
		a.change.Remove = append(a.change.Remove, metadata.ScramMechanism(d.Mechanism))
	}
	for _, u := range q.Upsertions {
		a := of(u.Name, u.Mechanism)
		if a.err != nil {
			continue
		}
		mechanism := metadata.ScramMechanism(u.Mechanism)
		if err := sasl.CheckName(u.Name); err != nil {
			a.err = explained{kerr.UnacceptableCredential, err.Error()}
			continue
		}
		c, err := sasl.SaltedCredential(mechanism.String(), append([]byte{}, u.SaltedPassword...), u.Salt, int(u.Iterations))
		if err != nil {
			a.err = explained{kerr.UnacceptableCredential, err.Error()}
			continue
		}
		a.change.Set = append(a.change.Set, ScramCredential(mechanism, c))
	}
	return all
}

// ScramCredential is what is kept of a password, as the metadata have it.
func ScramCredential(mechanism metadata.ScramMechanism, c sasl.Credential) metadata.ScramCredential {
	return metadata.ScramCredential{Mechanism: mechanism, Iterations: int32(c.Iterations), Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey}
}
