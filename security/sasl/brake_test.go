package sasl

import (
	"fmt"
	"testing"
	"time"
)

func TestBrake(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := NewBrake(BrakeLimits{UserBurst: 3, UserEvery: time.Second, AddressBurst: 8, AddressEvery: time.Second})
	fails := func(address, user string) (judged int) {
		for range 20 {
			if b.Begin(now, address, user) {
				judged++
			}
		}
		return judged
	}
	if n := fails("a", "alice"); n != 3 {
		t.Errorf("%d guesses as one user", n)
	}
	if !b.Allows(now, "b", "alice") {
		t.Error("a user is kept out by what others do from elsewhere")
	}
	if n := fails("a", "bob"); n != 3 {
		t.Errorf("%d guesses as another user", n)
	}
	if n := fails("a", "carol"); n != 2 {
		t.Errorf("%d guesses with what is left to the address", n)
	}
	if n := fails("a", ""); n != 0 {
		t.Errorf("%d guesses of a token with nothing left", n)
	}
	now = now.Add(time.Second)
	if n := fails("a", "alice"); n != 1 {
		t.Errorf("%d guesses a second later", n)
	}
	now = now.Add(time.Minute)
	if n := fails("a", "alice"); n != 3 {
		t.Errorf("%d guesses a minute later", n)
	}
}

// Who knows the password is never slowed down, however often it is shown.
func TestBrakeLetsSuccessPass(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := NewBrake(BrakeLimits{})
	for range 10_000 {
		if !b.Begin(now, "a", "alice") {
			t.Fatal("refused")
		}
		b.Succeeded(now, "a", "alice")
	}
	if b.Len() != 0 {
		t.Errorf("%d entries of attempts that succeeded", b.Len())
	}
}

func TestBrakeIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := NewBrake(BrakeLimits{UserBurst: 1, Entries: 100})
	b.Begin(now, "a", "alice")
	for i := range 10_000 {
		b.Begin(now, fmt.Sprint("10.0.", i), fmt.Sprint("user", i))
		b.Begin(now, "a", "alice") // refused, and so forgotten with the rest in the end
	}
	if b.Len() > 200 {
		t.Errorf("%d entries", b.Len())
	}
}
