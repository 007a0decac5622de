package controller

import (
	"context"
	"crypto/rand"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
)

// fakeSecretSize is the length of what salts of users who are not there are made of.
const fakeSecretSize = 32

// AlterUsers carries out changes of users, each on its own; errors are in order of the
// request.
func (c *Controller) AlterUsers(ctx context.Context, changes []metadata.UserChange) []error {
	end, err := c.change(ctx)
	if err != nil {
		return slices.Repeat([]error{err}, len(changes))
	}
	defer end()
	results := make([]error, 0, len(changes))
	for part := range slices.Chunk(changes, metadata.MaxUserChanges) {
		applied, err := c.alterUsers(ctx, part)
		if err != nil {
			applied = slices.Repeat([]error{err}, len(part))
		}
		results = append(results, applied...)
	}
	return results
}

func (c *Controller) alterUsers(ctx context.Context, changes []metadata.UserChange) ([]error, error) {
	for _, change := range changes {
		if slices.ContainsFunc(change.Set, func(c metadata.ScramCredential) bool { return c.Lost() }) {
			return nil, metadata.Errorf(metadata.UnacceptableCredential, "a password without keys")
		}
	}
	if err := c.leads(); err != nil {
		return nil, err
	}
	var secret []byte
	if c.state.Image().FakeSecret() == nil {
		secret = make([]byte, fakeSecretSize)
		rand.Read(secret) // never fails
	}
	result, err := c.propose(ctx, metadata.NewAlterUsers(changes, secret))
	if err != nil {
		return nil, err
	}
	return result.(metadata.UserResults), nil
}
