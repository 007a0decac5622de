package controller

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
)

// aclsPerCommand keeps a command of the longest rules well below the most that one may
// take.
const aclsPerCommand = 500

// ACLChange is a rule that is to be, or not to be any more.
type ACLChange struct {
	Rule   acl.Rule
	Delete bool
}

// AlterACLs carries out changes; errors are in order of the request. A rule that is there
// may be created, and one that is not deleted. Changes that follow each other and are of
// one kind are one command, as far as it takes so many: all of it is done or nothing.
func (c *Controller) AlterACLs(ctx context.Context, changes []ACLChange) []error {
	end, err := c.change(ctx)
	if err != nil {
		return slices.Repeat([]error{err}, len(changes))
	}
	defer end()
	results := make([]error, len(changes))
	sound := make([]int, 0, len(changes)) // of changes
	for i := range changes {
		canonical, err := changes[i].Rule.Canonical()
		if err != nil {
			results[i] = metadata.Errorf(metadata.InvalidRequest, "%v", err)
			continue
		}
		changes[i].Rule = canonical
		sound = append(sound, i)
	}
	for len(sound) > 0 {
		n := 1
		for n < len(sound) && n < aclsPerCommand && changes[sound[n]].Delete == changes[sound[0]].Delete {
			n++
		}
		rules := make([]acl.Rule, n)
		for i, at := range sound[:n] {
			rules[i] = changes[at].Rule
		}
		err := c.proposeACLs(ctx, rules, changes[sound[0]].Delete)
		for _, at := range sound[:n] {
			results[at] = err
		}
		sound = sound[n:]
	}
	return results
}

func (c *Controller) proposeACLs(ctx context.Context, rules []acl.Rule, remove bool) error {
	if err := c.leads(); err != nil {
		return err
	}
	image := c.state.Image()
	command := proto.Message(metadata.NewCreateACLs(rules))
	if remove {
		command = metadata.NewDeleteACLs(rules)
	}
	if image.FeatureLevel() >= metadata.SecurityFeatureLevel && !slices.ContainsFunc(rules, func(r acl.Rule) bool { return image.HasACL(r) == remove }) {
		return nil // it is so already
	}
	_, err := c.propose(ctx, command)
	return err
}
