package roles

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBootTimeIsTheMachines: it is what the system says of how long it is up, sleep
// included, and not of this process.
func TestBootTimeIsTheMachines(t *testing.T) {
	raw, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip(err)
	}
	up, _, _ := strings.Cut(string(raw), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		t.Fatal(err)
	}
	since := bootTime()
	if since == nil {
		t.Fatal("the system has no such clock")
	}
	want := time.Duration(seconds * float64(time.Second))
	// A container may have a boot time of its own, in /proc only.
	if got := since(); got < want-time.Second || since() < got {
		t.Errorf("%v, then %v; the system is up for %v", got, since(), want)
	}
}
