package controller

import (
	"context"

	"rustmq.dev/rustmq/consensus/metadata"
)

// CreateAPIToken adds a token of the admin API. The same one may be added again.
func (c *Controller) CreateAPIToken(ctx context.Context, t metadata.APIToken) error {
	if t.Lost() {
		return metadata.Errorf(metadata.InvalidRequest, "an API token without its hash")
	}
	if err := c.leads(); err != nil {
		return err
	}
	_, err := c.propose(ctx, metadata.NewCreateAPIToken(&t))
	return err
}

// DeleteAPIToken takes the token of that name away.
func (c *Controller) DeleteAPIToken(ctx context.Context, name string) error {
	if err := c.leads(); err != nil {
		return err
	}
	_, err := c.propose(ctx, metadata.NewDeleteAPIToken(name))
	return err
}
