package controller

import "context"

// NodeID returns the id of this controller.
func (c *Controller) NodeID() int32 { return c.opt.NodeID }

// Term returns the term of the log, and whether this controller leads in it, as far as
// it knows: another may lead in a later one.
func (c *Controller) Term() (term uint64, leads bool) {
	s := c.node.Status()
	return s.Term, s.Leader == uint64(c.opt.NodeID)
}

// Barrier returns once this controller has applied what was committed when it was
// called. Without a leader it waits for one.
func (c *Controller) Barrier(ctx context.Context) error { return c.node.Barrier(ctx) }
