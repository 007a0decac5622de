package controller

// NodeID returns the id of this controller.
func (c *Controller) NodeID() int32 { return c.opt.NodeID }

// Leads reports whether this controller leads, as far as it knows, and has all that was
// decided before it did: what only the leader may decide, it does not refuse.
func (c *Controller) Leads() bool {
	_, ok := c.reigns()
	return ok
}
