package allocs

import "testing"

var kept []byte

// TestWhatIsTakenIsMeasured: what f always takes is found, what is taken beside it once is not.
func TestWhatIsTakenIsMeasured(t *testing.T) {
	if took := Within(0, func() { kept = make([]byte, 1<<20) }); took < 1<<20 || took > 1<<20+1<<16 {
		t.Errorf("%d bytes for a MiB", took)
	}
	n := 0
	took := Within(1<<16, func() {
		if n++; n == 1 {
			kept = make([]byte, 1<<20)
		}
	})
	if took > 1<<16 || n != 2 {
		t.Errorf("%d bytes for nothing, by %d tries", took, n)
	}
}
