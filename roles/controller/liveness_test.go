package controller

import (
	"fmt"
	"testing"
	"time"
)

func TestSilentBrokersAreFenced(t *testing.T) {
	const session = 8 * time.Second
	now := time.Unix(0, 0)
	s := newSessions(session)
	judge := func(after time.Duration, want string, inService map[int32]int64) {
		t.Helper()
		for end := now.Add(after); now.Before(end); {
			now = now.Add(time.Second)
			got := fmt.Sprint(s.judge(now, inService))
			if now.Before(end) && got != "[]" {
				t.Fatalf("at %s: fenced %s too early", now, got)
			}
			if !now.Before(end) && got != want {
				t.Fatalf("at %s: fenced %s, want %s", now, got, want)
			}
		}
	}
	both := map[int32]int64{1: 10, 2: 11}
	judge(time.Second, "[]", both) // the first look: whoever it has not heard of begins
	judge(6*time.Second, "[]", both)
	s.hear(now, 1, 10)
	judge(2*time.Second, "[{2 11}]", both)
	judge(time.Second, "[]", map[int32]int64{1: 10, 2: 20}) // back under another epoch
	s.hear(now, 2, 20)
	// The controller itself sleeps: nobody is fenced for that.
	now = now.Add(time.Hour)
	judge(time.Second, "[]", map[int32]int64{1: 10, 2: 20})
	s.hear(now, 2, 20)
	judge(7*time.Second, "[]", map[int32]int64{1: 10, 2: 20})
	s.hear(now, 2, 20)
	judge(time.Second, "[{1 10}]", map[int32]int64{1: 10, 2: 20})
	// A heartbeat of an older registration counts for nothing.
	s.hear(now, 2, 19)
	judge(time.Second, "[]", map[int32]int64{2: 20})
	if len(s.heard) != 1 {
		t.Fatalf("remembers %v", s.heard)
	}
}
