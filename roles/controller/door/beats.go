package door

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/transport/rpc"
)

// beat is a registration that lives, and when that was said last.
type beat struct {
	broker int32
	epoch  int64
	at     time.Time // zero: never
}

// beating notes that the broker sends a heartbeat.
func (d *Door) beating(broker int32, epoch int64) {
	now := d.opt.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beats = beat{broker, epoch, now}
}

// lives returns the registration that lives, as long as the last heartbeat can be under way;
// false: none does.
func (d *Door) lives() (beat, bool) {
	now := d.opt.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.beats
	return b, !b.at.IsZero() && now.Sub(b.at) < d.opt.HeartbeatPatience+d.opt.Beat
}

// beat has every controller hear the broker until ctx ends. A heartbeat waits for the
// controller that leads, which may be gone without a word; this waits for nobody.
func (d *Door) beat(ctx context.Context) {
	ticker := time.NewTicker(d.opt.Beat)
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	tellers := map[string]teller{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b, lives := d.lives()
		if !lives {
			continue
		}
		if d.opt.Local != nil {
			d.opt.Local.Hear(b.broker, b.epoch)
		}
		known := map[string]bool{}
		for _, address := range d.addresses(d.Image()) {
			known[address] = true
			t, ok := tellers[address]
			if !ok {
				telling, stop := context.WithCancel(ctx)
				t = teller{make(chan beat, 1), stop}
				tellers[address] = t
				running.Go(func() { d.tellThat(telling, address, t.beats) }) // blocks on the network
			}
			select {
			case t.beats <- b:
			default: // it waits for an answer
			}
		}
		for address, t := range tellers {
			if !known[address] {
				t.stop()
				delete(tellers, address)
			}
		}
	}
}

// teller has one controller hear the broker.
type teller struct {
	beats chan beat
	stop  func()
}

// tellThat has the controller at an address hear what comes, until ctx ends.
func (d *Door) tellThat(ctx context.Context, address string, beats <-chan beat) {
	var stream *rpc.Beats
	for {
		var b beat
		select {
		case <-ctx.Done():
			return
		case b = <-beats:
		}
		kept := stream != nil
		if stream = d.tellOver(ctx, stream, address, b); kept && stream == nil {
			stream = d.tellOver(ctx, nil, address, b) // the other side takes the break for the end of the broker
		}
	}
}

// tellOver has the controller at an address hear a beat over a stream, nil: over another, and
// returns the stream to go on with; nil: it was not heard.
func (d *Door) tellOver(ctx context.Context, stream *rpc.Beats, address string, b beat) *rpc.Beats {
	if stream == nil {
		var err error
		if stream, err = d.rpc.Beats(ctx, address); err != nil {
			return nil
		}
	}
	if err := stream.Beat(b.broker, b.epoch, d.opt.HeartbeatPatience); err != nil {
		stream.Close()
		return nil
	}
	return stream
}
