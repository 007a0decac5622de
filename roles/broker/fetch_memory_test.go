package broker

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTimeToTakeAnAnswerIsForWhatWasRead, not for what a fetch was granted and did not
// use, however often. Who takes a large answer at the pace has the time for it.
func TestTimeToTakeAnAnswerIsForWhatWasRead(t *testing.T) {
	const large = 8 << 20
	for name, test := range map[string]struct {
		reads []int // of grants of large
		due   time.Duration
	}{
		"little":        {[]int{1000}, fetchGrace},
		"little, often": {[]int{1000, 1000, 1000, 1000}, fetchGrace},
		"nothing after": {[]int{1000, 0, 0, 0}, fetchGrace},
		"much":          {[]int{large}, fetchGrace + large/fetchPace*time.Second},
		"more":          {[]int{large, large}, fetchGrace + 2*large/fetchPace*time.Second},
		"one batch":     {[]int{2 * large}, fetchGrace + 2*large/fetchPace*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, c := newFetchMemory(1<<30), new(connection)
			f := &fetchRequest{conn: c}
			for _, read := range test.reads {
				granted, ok := m.take(f, large)
				if !ok || granted != large {
					t.Fatalf("%s: %d bytes are granted", name, granted)
				}
				m.correct(c, granted, read)
			}
			isSlow := func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				return len(m.slow(time.Now())) > 0
			}
			pass(test.due)
			if isSlow() {
				t.Errorf("%s: slow after %v", name, test.due)
			}
			pass(slowLook)
			if !isSlow() {
				t.Errorf("%s: not slow after %v", name, test.due+slowLook)
			}
		})
	}
}

// pass lets time pass.
func pass(d time.Duration) { <-time.After(d) }
