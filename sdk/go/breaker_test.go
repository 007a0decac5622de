package rustmq

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestBreakerStates(t *testing.T) {
	now := time.Unix(0, 0)
	var told []string
	b, err := newBreaker(Breaker{Failures: 3, Cooldown: time.Second, Changed: func(from, to BreakerState) { told = append(told, fmt.Sprint(to)) }}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		what  string
		do    func()
		state BreakerState
		allow bool
	}{
		{"nothing yet", func() {}, BreakerClosed, true},
		{"two failures", func() { b.done(undelivered); b.done(undelivered) }, BreakerClosed, true},
		{"a success starts the count anew", func() { b.done(delivered); b.done(undelivered); b.done(undelivered) }, BreakerClosed, true},
		{"what says nothing of brokers does not count", func() { b.done(neither) }, BreakerClosed, true},
		{"the third in a row", func() { b.done(undelivered) }, BreakerOpen, false},
		{"shortly before the cooldown ends", func() { now = now.Add(time.Second - 1) }, BreakerOpen, false},
		{"a probe", func() { now = now.Add(1) }, BreakerHalfOpen, true},
		{"no second one beside it", func() {}, BreakerHalfOpen, false},
		{"the probe was taken back: another", func() { b.done(neither) }, BreakerHalfOpen, true},
		{"it fails", func() { b.done(undelivered) }, BreakerOpen, false},
		{"another", func() { now = now.Add(time.Second) }, BreakerHalfOpen, true},
		{"it is delivered", func() { b.done(delivered) }, BreakerClosed, true},
		{"the count has begun anew", func() { b.done(undelivered); b.done(undelivered) }, BreakerClosed, true},
	} {
		step.do()
		if state, _ := b.view(); state != step.state {
			t.Errorf("%d, %s: %v, want %v", i, step.what, state, step.state)
		}
		if allow := b.allow(); allow != step.allow {
			t.Errorf("%d, %s: allowed is %v", i, step.what, allow)
		}
	}
	if want := []string{"open", "half-open", "open", "half-open", "closed"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if _, err := newBreaker(Breaker{}, time.Now); err == nil {
		t.Error("a breaker that opens after no failure")
	}
}
