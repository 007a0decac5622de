package controller

import (
	"testing"
	"time"
)

// What fails for ever is tried less and less, and said at first, and then once in an hour.
func TestWhatFailsForEverIsSaidSeldom(t *testing.T) {
	began := time.Now()
	var p patience
	tries, said := 0, 0
	for now := began; now.Before(began.Add(24 * time.Hour)); now = now.Add(125 * time.Millisecond) {
		if !p.over(now) {
			continue
		}
		if tries++; p.failed(now) {
			said++
		}
	}
	if tries < 24*60 || tries > 24*60+10 || said < 24 || said > 26 {
		t.Errorf("in a day it was tried %d times and said %d times", tries, said)
	}
	if p.over(p.next.Add(-1)) || !p.over(p.next) {
		t.Error("it is not tried again when that is due")
	}
}
