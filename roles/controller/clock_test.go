package controller

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/test/seeded"
)

const day = 24 * time.Hour

// TestWrongClockOfAStart: a clock that was wrong before the start does not jump, and
// a bucket in a directory has no other. What was believed last tells.
func TestWrongClockOfAStart(t *testing.T) {
	for name, at := range map[string]struct {
		ahead time.Duration
		held  bool // until it is confirmed
	}{
		"ten years ahead": {10 * 365 * day, true},
		"sixteen days":    {16 * day, true},
		"a week ahead":    {7 * day, false}, // it may have been off for as long
		"back":            {-40 * day, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBucket(t, func(t *testing.T, k *kept) {
				k.alone = true
				p := k.topic("t", map[string]string{"age": "6h"})
				k.upload(p, 0, 10, time.Now())
				pass(2 * time.Minute)
				k.ahead.Store(int64(at.ahead))
				k.reopen()
				pass(time.Hour)
				if k.logStart(p) != 0 {
					t.Fatalf("records of the last hour are gone up to %d", k.logStart(p))
				}
				if err := k.c.BucketHealth(); (err != nil) != at.held {
					t.Fatalf("health: %v", err)
				}
				k.reopen()
				pass(time.Minute)
				if err := k.c.BucketHealth(); (err != nil) != at.held {
					t.Fatalf("health after another start: %v", err)
				}
				k.ahead.Store(0)
				k.reopen()
				pass(10 * time.Minute)
				k.c.ConfirmClock()
				pass(time.Minute)
				if err := k.c.BucketHealth(); err != nil || k.logStart(p) != 0 {
					t.Fatalf("set right, and confirmed: %v, log start %d", err, k.logStart(p))
				}
				if pass(6 * time.Hour); k.logStart(p) != 10 {
					t.Errorf("the log start is %d", k.logStart(p))
				}
			})
		})
	}
}

// TestBelievedTimeOfOthers: what expires besides the records of the bucket asks for it.
func TestBelievedTimeOfOthers(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		is := func(when string, want bool) {
			t.Helper()
			now, ok := k.c.BelievedTime()
			if ok != want {
				t.Fatalf("%s: %v, %v", when, now, ok)
			}
			if off := time.Since(now); ok && (off < 0 || off > time.Minute) {
				t.Fatalf("%s: %v off", when, off)
			}
		}
		pass(2 * time.Minute)
		is("all is well", true)
		k.ahead.Store(int64(2 * day))
		is("right after a jump", false)
		k.ahead.Store(0)
		is("the clock is set back", false)
		pass(time.Minute)
		k.reopen()
		is("a start, before the bucket was asked", false)
		pass(time.Minute)
		is("held before the start", false)
		k.c.ConfirmClock()
		is("confirmed", true)
		pass(time.Minute)
		k.ahead.Store(int64(day))
		k.reopen()
		pass(time.Minute)
		now, ok := k.c.BelievedTime()
		if ahead := time.Until(now); !ok || ahead > time.Hour {
			t.Fatalf("a day ahead at the start: %v ahead, %v", ahead, ok)
		}
		k.ahead.Store(0)
		k.bucket.Set(bucket.Rule{Op: bucket.OpRead, Prefix: k.c.keeper().clockKey(), Err: errAway})
		k.reopen()
		pass(time.Hour)
		is("the bucket is away", false)
	})
}

// TestBelievedTimeWithoutABucket: nothing keeps it, and a jump is seen all the same.
func TestBelievedTimeWithoutABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead time.Duration
		c, err := Open(t.Context(), Options{NodeID: 1, Now: func() time.Time { return time.Now().Add(ahead) }})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if now, ok := c.BelievedTime(); !ok || !now.Equal(time.Now()) {
			t.Fatalf("%v, %v", now, ok)
		}
		ahead = 10 * 365 * day
		if now, ok := c.BelievedTime(); ok {
			t.Fatalf("%v is believed", now)
		}
	})
}

// TestNodeThatWasOffCatchesUp: for a week, which nobody has to confirm.
func TestNodeThatWasOffCatchesUp(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		k.alone = true
		p := k.topic("t", map[string]string{"age": "72h"})
		k.upload(p, 0, 10, time.Now())
		pass(2 * time.Minute)
		k.close()
		pass(7 * day)
		k.open()
		if pass(17 * time.Hour); k.logStart(p) != 0 {
			t.Fatal("it believed at once how long it was off")
		}
		if pass(2 * time.Hour); k.logStart(p) != 10 {
			t.Fatalf("it does not catch up: log start %d", k.logStart(p))
		}
		k.upload(p, 10, 20, time.Now())
		if pass(71 * time.Hour); k.logStart(p) != 10 {
			t.Fatal("it runs ahead")
		}
		if pass(2 * time.Hour); k.logStart(p) != 20 || k.c.BucketHealth() != nil {
			t.Fatalf("log start %d, %v", k.logStart(p), k.c.BucketHealth())
		}
	})
}

// TestClockThatIsSetLate: a board without a battery begins in 1970, and learns the
// time later.
func TestClockThatIsSetLate(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		k.alone = true
		p := k.topic("t", map[string]string{"age": "2h"})
		k.upload(p, 0, 10, time.Now())
		pass(2 * time.Minute)
		k.ahead.Store(-int64(30 * 365 * day))
		k.reopen()
		pass(time.Minute)
		if err := k.c.BucketHealth(); err == nil || !strings.Contains(err.Error(), "behind") {
			t.Errorf("health: %v", err)
		}
		k.ahead.Store(0)
		pass(3 * time.Hour)
		if err := k.c.BucketHealth(); err != nil || k.logStart(p) != 10 {
			t.Errorf("set right: %v, log start %d", err, k.logStart(p))
		}
	})
}

// TestHeldClockOutlastsARestart: a start is no confirmation, and neither is one
// during which the bucket cannot be asked.
func TestHeldClockOutlastsARestart(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		k.alone = true
		p := k.topic("t", map[string]string{"age": "2h"})
		k.upload(p, 0, 10, time.Now())
		pass(2 * time.Minute)
		k.ahead.Store(int64(2 * day))
		pass(2 * time.Minute)
		k.reopen()
		pass(10 * time.Hour)
		if err := k.c.BucketHealth(); err == nil || k.logStart(p) != 0 {
			t.Fatalf("%v, log start %d", err, k.logStart(p))
		}
		key := k.c.keeper().clockKey()
		k.bucket.Set(bucket.Rule{Op: bucket.OpStat, Prefix: key, Err: errAway})
		k.reopen()
		if pass(10 * time.Hour); k.logStart(p) != 0 {
			t.Fatal("retention went on without knowing what was believed last")
		}
		k.bucket.Set()
		raw, err := bucket.ReadAll(t.Context(), k.memory, key, maxClockText)
		if err != nil {
			t.Fatal(err)
		}
		store := func(damage byte) {
			raw[len("clock 1 ")] ^= damage
			if err := k.memory.Put(t.Context(), key, bucket.Bytes(raw)); err != nil {
				t.Fatal(err)
			}
		}
		store(1)
		k.reopen()
		pass(10 * time.Hour)
		if err := k.c.BucketHealth(); err == nil || !strings.Contains(err.Error(), "damaged") || k.logStart(p) != 0 {
			t.Fatalf("what was believed is damaged: %v, log start %d", err, k.logStart(p))
		}
		store(1) // it was the reading
		pass(time.Minute)
		if err := k.c.BucketHealth(); err == nil || strings.Contains(err.Error(), "damaged") || k.logStart(p) != 0 {
			t.Fatalf("it can be read again, and is held: %v, log start %d", err, k.logStart(p))
		}
		store(1)
		k.reopen()
		pass(time.Minute)
		k.c.ConfirmClock()
		pass(time.Minute)
		k.reopen()
		pass(time.Minute)
		if err := k.c.BucketHealth(); err != nil || k.logStart(p) != 10 {
			t.Errorf("confirmed: %v, log start %d", err, k.logStart(p))
		}
	})
}

// TestBelievedTime: over random lives it is never ahead of the wall clock, and never
// further ahead of the time that went by than catching up allows; a jump, or a gap
// that is too long, holds it.
func TestBelievedTime(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		wall, mono := time.Unix(1_000_000_000, 0), time.Duration(0)
		var record clockRecord
		there := false
		for range rapid.IntRange(1, 6).Draw(t, "lives") {
			c := &clock{}
			c.load(record, there)
			before, known, ran := record.believed, there, time.Duration(0)
			var first time.Time
			for look := range rapid.IntRange(1, 8).Draw(t, "looks") {
				step := time.Duration(rapid.Int64Range(0, int64(2*day)).Draw(t, "step"))
				jump := time.Duration(0)
				if rapid.IntRange(0, 5).Draw(t, "jumps") == 0 {
					jump = time.Duration(rapid.Int64Range(-int64(20*day), int64(20*day)).Draw(t, "jump"))
				}
				if look == 0 {
					first = wall.Add(step + jump)
				} else {
					mono, ran = mono+step, ran+step
				}
				wall = wall.Add(step + jump)
				held, looked := c.held, !c.wall.IsZero() // one that is behind at the start may be set right
				now, err := c.look(wall, mono)
				gap := first.Sub(before)
				switch {
				case held != 0 && err == nil:
					t.Fatal("it went on by itself")
				case looked && jump.Abs() > maxClockJump && held == 0 && err == nil:
					t.Fatalf("a jump of %v is believed", jump)
				case look == 0 && known && err == nil && (gap > maxOff || gap < -maxClockJump):
					t.Fatalf("a gap of %v is believed", gap)
				case err == nil && now.After(wall):
					t.Fatalf("%v is believed at %v", now, wall)
				case err == nil && known && now.After(before.Add(catchUp*ran)) && gap >= 0:
					t.Fatalf("%v after a start %v is %v ahead of before", ran, now, now.Sub(before))
				case err == nil && !known && jump == 0 && look == 0 && !now.Equal(wall):
					t.Fatalf("a first start believes %v at %v", now, wall)
				}
				if r, due := c.due(); due {
					c.told(r)
					back, ok, err := decodeClock(r.encode())
					if !ok || err != nil || back.believed.UnixMilli() != r.believed.UnixMilli() || back.held != r.held.Truncate(time.Millisecond) {
						t.Fatalf("%v was written, %v read, %v %v", r, back, ok, err)
					}
					record, there = r, true
				}
			}
			if rapid.Bool().Draw(t, "confirm") {
				before, stopped := c.believed, c.stopped()
				if was := c.confirmed(); was != stopped {
					t.Fatalf("confirmed, where it had stopped for %v: %v", stopped, was)
				}
				now, err := c.look(wall, mono)
				if err != nil || stopped != nil && !now.Equal(wall) {
					t.Fatalf("confirmed at %v: %v, %v", wall, now, err)
				}
				if stopped == nil && !now.Equal(before) {
					t.Fatalf("confirmed nothing, and believed are %v after %v", now, before)
				}
				record, there = clockRecord{c.believed, 0}, true
			}
		}
	})
}

// TestSleepIsNoJump: the machine slept, and its clock tells.
func TestSleepIsNoJump(t *testing.T) {
	c, wall := &clock{}, time.Unix(1_000_000_000, 0)
	c.load(clockRecord{}, false)
	for _, step := range []time.Duration{0, time.Minute, 9 * time.Hour, time.Minute} {
		wall = wall.Add(step)
		if now, err := c.look(wall, time.Duration(wall.UnixNano())); err != nil || !now.Equal(wall) {
			t.Fatalf("%v, %v", now, err)
		}
	}
}

// TestLivesOfMinutes: a node that is killed again and again before an hour is over does
// not fall behind, and no operator is asked whether it was off for weeks.
func TestLivesOfMinutes(t *testing.T) {
	wall := time.Unix(1_000_000_000, 0)
	record, there := clockRecord{}, false
	for range 1000 {
		c := &clock{}
		c.load(record, there)
		for minute := range 40 {
			if _, err := c.look(wall, time.Duration(minute)*time.Minute); err != nil {
				t.Fatalf("after %v: %v", wall.Sub(time.Unix(1_000_000_000, 0)), err)
			}
			if r, due := c.due(); due {
				c.told(r)
				record, there = r, true
			}
			wall = wall.Add(time.Minute)
		}
	}
	if behind := wall.Sub(record.believed); behind > time.Hour {
		t.Errorf("what is believed is %v behind", behind)
	}
}

// TestStopTellsWhatIsBelieved, to the bucket, and waits for it a moment at most.
func TestStopTellsWhatIsBelieved(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		pass(40 * time.Minute)
		k.reopen()
		raw, err := bucket.ReadAll(t.Context(), k.memory, k.c.keeper().clockKey(), maxClockText)
		if err != nil {
			t.Fatal(err)
		}
		if r, there, err := decodeClock(raw); !there || err != nil || time.Since(r.believed) > time.Minute {
			t.Errorf("%v, %v, %v: the stop was at %v", r, there, err, time.Now())
		}
		pass(40 * time.Minute)
		k.bucket.Set(bucket.Rule{Hook: func(ctx context.Context, _ bucket.Op, _ string) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		began := time.Now()
		if k.reopen(); time.Since(began) > clockStop+identityWait {
			t.Errorf("a stop and a start took %v", time.Since(began))
		}
	})
}

// FuzzClockRecord: bytes of the bucket are input.
func FuzzClockRecord(f *testing.F) {
	f.Add([]byte("now"))
	f.Add([]byte{})
	f.Add(clockRecord{time.UnixMilli(math.MaxInt32), 0}.encode())
	f.Add(clockRecord{time.UnixMilli(-1), -day}.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, there, err := decodeClock(raw)
		if err == nil && there && !strings.HasPrefix(string(raw), "clock ") {
			t.Errorf("%q is %v", raw, r)
		}
		for i := range raw {
			damaged := append([]byte(nil), raw...)
			damaged[i] ^= 4
			if d, ok, bad := decodeClock(damaged); err == nil && there && bad == nil && (!ok || d != r) {
				t.Errorf("%q, damaged at %d, is %v", raw, i, d)
			}
		}
	})
}

// TestNothingToConfirm: what was confirmed before a jump does not hold for it, nor end
// the catching up after a start.
func TestNothingToConfirm(t *testing.T) {
	c, wall := &clock{}, time.Unix(1_000_000_000, 0)
	if was := c.confirmed(); was != nil {
		t.Errorf("before it is known what was believed last: %v", was)
	}
	c.load(clockRecord{believed: wall.Add(-10 * 24 * time.Hour)}, true)
	if now, err := c.look(wall, 0); err != nil || !now.Before(wall.Add(-9*24*time.Hour)) {
		t.Fatalf("%v, %v", now, err)
	}
	if was := c.confirmed(); was != nil {
		t.Errorf("while it catches up: %v", was)
	}
	if now, err := c.look(wall, 0); err != nil || !now.Before(wall.Add(-9*24*time.Hour)) {
		t.Errorf("%v is believed at %v, %v", now, wall, err)
	}
	wall = wall.Add(3 * time.Hour)
	if now, err := c.look(wall, time.Second); err == nil {
		t.Errorf("a jump was confirmed before it came: %v", now)
	}
	if was := c.confirmed(); was == nil {
		t.Error("a jump is not confirmed")
	}
	if now, err := c.look(wall, time.Second); err != nil || !now.Equal(wall) {
		t.Errorf("confirmed: %v, %v", now, err)
	}
}
