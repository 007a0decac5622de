package group

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that is years ahead takes no offsets: they expire by the time that is believed,
// and not at all while none is.
func TestOffsetsExpireByABelievedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		var doubtful atomic.Bool
		h := open(t, func(o *Options) {
			o.OffsetRetention = time.Hour
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			o.Believed = func() (time.Time, bool) { return time.Now(), !doubtful.Load() }
		})
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 7))), nil)
		ahead.Store(int64(10 * 365 * 24 * time.Hour))
		time.Sleep(2 * DefaultOffsetCheck)
		if got := h.fetched("g"); got != 7 {
			t.Fatalf("fetched %d after the clock jumped", got)
		}
		doubtful.Store(true)
		time.Sleep(24 * time.Hour)
		if got := h.fetched("g"); got != 7 {
			t.Fatalf("fetched %d while no time is believed", got)
		}
		doubtful.Store(false)
		time.Sleep(DefaultOffsetCheck)
		synctest.Wait() // it is looked in this very moment
		if got := h.fetched("g"); got != -1 {
			t.Fatalf("fetched %d after its time", got)
		}
	})
}

// The coordinator looks for offsets that have expired by itself.
func TestOffsetsExpireUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.OffsetRetention = time.Hour })
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 7))), nil)
		time.Sleep(time.Hour - time.Second)
		if got := h.fetched("g"); got != 7 {
			t.Fatalf("fetched %d before its time", got)
		}
		time.Sleep(DefaultOffsetCheck)
		if got := h.fetched("g"); got != -1 {
			t.Fatalf("fetched %d after its time", got)
		}
		if st := h.Stats(); st.Groups != 0 {
			t.Fatalf("%+v", st)
		}
		h.load(2)
		if got := h.fetched("g"); got != -1 {
			t.Fatalf("fetched %d after a restart", got)
		}
	})
}
