package door

import (
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
)

// A process without a broker hears no heartbeat's answer: it asks, once a second at most.
func TestLeaderTellsWhatItKnowsToAProcessWithoutABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		o := h.options(1)
		o.Broker = metadata.NoBroker
		d := h.door(o)
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d.Shipped() != h.real.Shipped() || d.BucketState() != h.real.BucketState() || d.BucketState().Err != nil {
			t.Errorf("shipped %d, %+v; want %d, %+v", d.Shipped(), d.BucketState(), h.real.Shipped(), h.real.BucketState())
		}
		h.kill(1)
		if err := d.Refresh(t.Context()); err != nil {
			t.Errorf("it asks again at once: %v", err)
		}
		<-time.After(2 * stateFresh)
		if err := d.Refresh(t.Context()); err == nil {
			t.Error("what was told long ago passes for what is")
		}
	})
}
