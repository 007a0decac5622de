package door

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestEveryControllerHearsABroker holds that those hear it too which do not lead, also
// while a heartbeat waits for a leader that does not answer; that one which comes back is
// found; and that they hear it no longer than it sends heartbeats.
func TestEveryControllerHearsABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		const every = 200 * time.Millisecond
		o := h.options(1, 2)
		o.Beat = every
		d := h.door(o)
		epoch := h.broker(d, 7)
		heard := func(what string, least, most int64, ids ...int32) {
			t.Helper()
			before := map[int32]int64{}
			for _, id := range ids {
				before[id] = h.member(id).heard.Load()
			}
			for range 10 {
				if err := d.Heartbeat(t.Context(), 7, epoch); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				time.Sleep(every)
			}
			for _, id := range ids {
				if n := h.member(id).heard.Load() - before[id]; n < least || n > most {
					t.Errorf("%s: controller %d heard the broker %d times, want %d to %d", what, id, n, least, most)
				}
			}
		}
		heard("all are there", 9, 11, 1, 2, 3)
		h.kill(3)
		heard("one has gone", 9, 11, 1, 2)
		h.start(3)
		heard("it is back", 7, 11, 3)
		time.Sleep(every / 2) // between two beats
		h.kill(3)
		back := h.start(3)
		time.Sleep(every)
		if n := back.heard.Load(); n != 1 {
			t.Errorf("behind a line that broke, the next beat is heard %d times", n)
		}

		// The leader takes a heartbeat, and says nothing any more.
		hang := make(chan struct{})
		h.member(1).then(func(err error) error { <-hang; return err })
		before := h.member(2).heard.Load()
		ended := make(chan error)
		go func() { ended <- d.Heartbeat(t.Context(), 7, epoch) }()
		time.Sleep(DefaultHeartbeatPatience - every/2)
		if n := h.member(2).heard.Load() - before; n < 4 {
			t.Errorf("while a heartbeat waits, the broker is heard %d times", n)
		}
		<-ended
		close(hang)
		time.Sleep(2 * DefaultHeartbeatPatience)
		before = h.member(2).heard.Load()
		time.Sleep(time.Minute)
		if n := h.member(2).heard.Load() - before; n != 0 {
			t.Errorf("a broker that sends no heartbeats is heard %d times", n)
		}
		broke := h.member(2).broke.Load()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := h.member(2).broke.Load() - broke; n != 1 {
			t.Errorf("its end was told %d times", n)
		}
	})
}
