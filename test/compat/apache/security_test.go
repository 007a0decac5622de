//go:build suites

package apache

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// securing asks servers that ask nobody who it is, and authorise nobody, for what both have
// to do with that.
func securing(r *run) {
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Mechanism = "SCRAM-SHA-256"
	r.ask("handshake where nobody is asked", handshake)
	authenticate := kmsg.NewPtrSASLAuthenticateRequest()
	authenticate.SASLAuthBytes = []byte("n,,n=user,r=nonce")
	r.ask("authenticate where nobody is asked", authenticate)

	rules := kmsg.NewPtrDescribeACLsRequest()
	rules.ResourceType, rules.ResourcePatternType, rules.Operation, rules.PermissionType = 1, 1, 1, 1
	r.ask("rules where nobody is authorised", rules)
	create := kmsg.NewPtrCreateACLsRequest()
	create.Creations = []kmsg.CreateACLsRequestCreation{{
		ResourceType: 2, ResourceName: r.tag, ResourcePatternType: 3, Principal: "User:" + r.tag, Host: "*", Operation: 3, PermissionType: 3,
	}}
	r.ask("a rule where nobody is authorised", create)
	remove := kmsg.NewPtrDeleteACLsRequest()
	remove.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: 2, ResourceName: &r.tag, ResourcePatternType: 3, Operation: 1, PermissionType: 1}}
	r.ask("remove a rule where nobody is authorised", remove)

	user := r.tag + "-s"
	set := func(label, name string, mechanism int8, iterations int32) {
		q := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		q.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{
			Name: name, Mechanism: mechanism, Iterations: iterations, Salt: []byte("salt of sixteen."), SaltedPassword: slices.Repeat([]byte{7}, 32),
		}}
		r.ask(label, q)
	}
	unset := func(label, name string, mechanism int8) {
		q := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		q.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: name, Mechanism: mechanism}}
		r.ask(label, q)
	}
	set("a password", user, 1, 4096)
	set("a password of too few iterations", user, 1, 4095)
	set("a password of too many iterations", user, 1, 16385)
	set("a password of no mechanism", user, 9, 4096)
	set("a password of nobody", "", 1, 4096)
	described := func() *kmsg.DescribeUserSCRAMCredentialsRequest {
		q := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		q.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: user}}
		return q
	}
	has := func(n int) func() bool {
		return func() bool {
			results := r.silent(described()).(*kmsg.DescribeUserSCRAMCredentialsResponse).Results
			return len(results) == 1 && len(results[0].CredentialInfos) == n
		}
	}
	r.until("a password is set", has(1))
	r.ask("who has a password", described())
	unset("remove a password", user, 1)
	r.until("no password is set", has(0))
	unset("remove a password there is not", user, 1)
}
