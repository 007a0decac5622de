package group

import (
	"testing"
	"testing/synctest"
	"time"
)

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
