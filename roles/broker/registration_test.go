package broker

import (
	"context"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
)

// busyController answers the first registrations too late, of which it has taken one.
type busyController struct {
	*testController
	late int
}

func (c *busyController) RegisterBroker(ctx context.Context, r controller.Registration) (int64, error) {
	epoch, err := c.testController.RegisterBroker(ctx, r)
	if c.late--; c.late >= 0 {
		return 0, metadata.Errorf(metadata.RequestTimedOut, "it may have happened")
	}
	return epoch, err
}

// A broker that starts while controllers are busy asks again, and is who it was when it asked first.
func TestABrokerAsksAgainForItsRegistration(t *testing.T) {
	var busy *busyController
	n := startNode(t, func(o *Options) {
		busy = &busyController{testController: o.Controller.(*testController), late: 2}
		o.Controller, o.Heartbeat = busy, 20*time.Millisecond
	})
	is, ok := n.controller.Image().Broker(1)
	if !ok || is.Fenced || is.Epoch != n.registration.epoch.Load() {
		t.Errorf("registered as %+v, knows epoch %d", is, n.registration.epoch.Load())
	}
	if busy.late >= 0 {
		t.Error("it was not asked again")
	}
}
