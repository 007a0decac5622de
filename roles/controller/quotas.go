package controller

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
)

// QuotaChange is what is to change in the quotas of one entity: all of it or
// nothing.
type QuotaChange struct {
	Entity metadata.QuotaEntity
	Set    map[string]float64 // rates, in units a second
	Remove []string
}

// AlterClientQuotas carries out changes, each on its own; errors are in order of
// the request. With validateOnly it says what would happen.
func (c *Controller) AlterClientQuotas(ctx context.Context, changes []QuotaChange, validateOnly bool) []error {
	end, err := c.change(ctx)
	if err != nil {
		return slices.Repeat([]error{err}, len(changes))
	}
	defer end()
	results := make([]error, len(changes))
	for i, change := range changes {
		command := metadata.NewAlterClientQuotas(change.Entity, change.Set, change.Remove)
		results[i] = c.leads()
		switch {
		case results[i] != nil:
		case validateOnly:
			_, results[i] = encode(c.state.Image(), command)
		default:
			_, results[i] = c.propose(ctx, command)
		}
	}
	return results
}
