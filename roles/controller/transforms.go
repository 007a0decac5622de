package controller

import (
	"context"

	"rustmq.dev/rustmq/consensus/metadata"
)

// DeployTransform adds a version to a module, and makes it active where activate says so. Its
// bytes are in the bucket; seen is the offset of an image from before it was looked whether
// they are. The same version may be deployed again.
func (c *Controller) DeployTransform(ctx context.Context, name string, v metadata.TransformVersion, activate bool, seen uint64) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.propose(ctx, metadata.NewDeployTransform(name, v, activate, seen))
	return err
}

// SetTransform has a version of a module be active, or none, as the action of change says.
func (c *Controller) SetTransform(ctx context.Context, name string, change metadata.TransformChange) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.propose(ctx, metadata.NewSetTransform(name, change, nil))
	return err
}

// DeleteTransform takes the version of change away, or with 0 the module.
func (c *Controller) DeleteTransform(ctx context.Context, name string, change metadata.TransformChange, force bool) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.propose(ctx, metadata.NewDeleteTransform(name, change, force))
	return err
}

// SpendTransformBudget disables a module of which that version is active, for it fails too
// often on a node; by and reason go into its history. Of several nodes that say so the first
// counts, and Conflict says that another version is active by now.
func (c *Controller) SpendTransformBudget(ctx context.Context, name string, version uint32, by, reason string) error {
	end, err := c.change(ctx)
	if err != nil {
		return err
	}
	defer end()
	change := metadata.TransformChange{At: c.opt.Now(), By: by, Action: metadata.TransformBudgetSpent, Version: version, Reason: reason}
	_, err = c.propose(ctx, metadata.NewSetTransform(name, change, &version))
	return err
}
