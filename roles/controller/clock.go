package controller

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// maxClockJump is how far the wall clock may move against the monotonic one
	// before retention deletes nothing until an operator confirms (RULES 5.5).
	maxClockJump = time.Hour

	// maxOff is how far ahead of what was last believed the wall clock may be after
	// a start. How long the node was off cannot be known: it is two weeks of
	// holidays, or a clock that is wrong.
	maxOff = 15 * 24 * time.Hour

	// catchUp is how many times as fast as time goes by what is believed approaches
	// the wall clock after a start. A clock that is wrong then and set right an hour
	// later has cost three hours of retention; a node that is off for two thirds of
	// each day still keeps up.
	catchUp = 4

	// clockSaved is how far what is believed moves on until the bucket is told. What a
	// kill loses of it is caught up with; a node that never lives for that long has told
	// what it has caught up with after its start.
	clockSaved = time.Hour
	// clockStop is what a stop takes to tell it, at most.
	clockStop = 2 * time.Second

	maxClockText = 1024 // far above what it takes
)

// clockRecord is what the bucket keeps of retention's clock: RULES 5.5 outlasts a
// start by it, also where the bucket has no clock of its own. One line:
//
//	clock 1 <unix milliseconds, believed> <held: 0, or milliseconds of the jump> <8 hex digits: crc32c of the line up to here>\n
type clockRecord struct {
	believed time.Time
	held     time.Duration // since such a jump; 0: not
}

func (r clockRecord) encode() []byte {
	line := fmt.Sprintf("clock 1 %d %d ", r.believed.UnixMilli(), r.held.Milliseconds())
	return fmt.Appendf(nil, "%s%08x\n", line, crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)))
}

// decodeClock reads a record. The first servers wrote a word, which is none.
func decodeClock(raw []byte) (r clockRecord, there bool, err error) {
	text := string(raw)
	if text == "now" {
		return r, false, nil
	}
	at := strings.LastIndexByte(text, ' ') + 1
	want, sumErr := strconv.ParseUint(strings.TrimSuffix(text[at:], "\n"), 16, 32)
	if !guard.Check("controller.clock-crc", sumErr == nil && uint32(want) == crc32.Checksum(raw[:at], crc32.MakeTable(crc32.Castagnoli))) {
		return r, false, errors.New("its checksum does not hold")
	}
	var believed, held int64
	if _, err := fmt.Sscanf(text[:at], "clock 1 %d %d ", &believed, &held); err != nil {
		return r, false, fmt.Errorf("%q: %w", text[:at], err)
	}
	return clockRecord{time.UnixMilli(believed), time.Duration(held) * time.Millisecond}, true, nil
}

// clock tells which time may be believed where what was acknowledged goes by it: by
// retention, and whatever else expires. While it runs, the wall clock must
// not jump against the monotonic one. At a start it goes on from what was believed
// last, and catches up.
type clock struct {
	mu       sync.Mutex
	loaded   bool // what was believed last is known, or that nothing was
	wall     time.Time
	mono     time.Duration // when wall was looked at
	believed time.Time     // then; zero: nothing yet
	held     time.Duration // the jump, or gap, since which nothing is believed; 0: none
	why      error         // it is not believed
	confirm  bool          // an operator has; the next look takes note

	saved clockRecord
	// starting: what is believed has not caught up with the wall clock since the start,
	// or the bucket was not told of it.
	starting bool
}

// load begins anew from what was believed last; there is false where nothing was, or
// where an operator need not be asked again.
func (c *clock) load(r clockRecord, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	confirm := c.confirm
	c.forgetLocked()
	c.loaded, c.confirm = true, confirm
	if there {
		c.believed, c.saved, c.starting = r.believed, r, true
		c.hold(r.held)
	}
}

// forget has the record be loaded again: another controller may have written it.
func (c *clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded {
		c.forgetLocked()
	}
}

func (c *clock) forgetLocked() {
	c.loaded, c.wall, c.mono, c.believed, c.held, c.why, c.confirm = false, time.Time{}, 0, time.Time{}, 0, nil, false
	c.saved, c.starting = clockRecord{}, false
}

// unreadable stops retention until the record can be read, or an operator has
// confirmed the clock: then there is none.
func (c *clock) unreadable(why error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confirm {
		return nil
	}
	c.why = &clockError{Damage: why}
	return c.why
}

func (c *clock) isLoaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded
}

// hold stops retention until an operator confirms the clock.
func (c *clock) hold(jump time.Duration) {
	if jump != 0 {
		c.held, c.why = jump, &clockError{Jump: jump}
	}
}

// clockError says why no time is believed.
type clockError struct {
	Jump   time.Duration // of the clock, or how far behind it is
	Back   bool          // it is behind what was believed last, and may be set right by itself
	Damage error         // it is not known what was believed last
}

func (e *clockError) Error() string {
	what := fmt.Sprintf("the clock jumped by %s, or was ahead by that at the start", e.Jump.Round(time.Second))
	switch {
	case e.Damage != nil:
		what = fmt.Sprintf("what the bucket keeps of the time that was believed last is damaged (%v)", e.Damage)
	case e.Back:
		what = fmt.Sprintf("the clock is %s behind the time that it showed before the start", e.Jump.Round(time.Second))
	}
	return what + ": retention deletes nothing and nothing expires until it is confirmed (rustmq admin storage confirm-clock)"
}

// look compares the clocks, and returns the time that is believed, or why none is.
// mono grows steadily from any beginning.
func (c *clock) look(wall time.Time, mono time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookLocked(wall, mono)
}

// believe is look for those who do not load it; false: no time is believed, or it is not
// known which was last.
func (c *clock) believe(wall time.Time, mono time.Duration) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !guard.Check("controller.clock-loaded", c.loaded) {
		return time.Time{}, false
	}
	now, err := c.lookLocked(wall, mono)
	return now, guard.Check("controller.clock-believed", err == nil)
}

func (c *clock) lookLocked(wall time.Time, mono time.Duration) (time.Time, error) {
	if c.confirm {
		c.confirm, c.held, c.why, c.wall, c.believed = false, 0, nil, time.Time{}, time.Time{}
	}
	switch {
	case c.held != 0:
	case !c.wall.IsZero():
		jump := wall.Sub(c.wall) - (mono - c.mono)
		if !guard.Check("controller.clock-jump", jump.Abs() <= maxClockJump) {
			c.hold(jump)
		}
	case c.believed.IsZero():
		c.believed, c.mono, c.why = wall, mono, nil
	default: // the first look after a start
		off := wall.Sub(c.believed)
		if !guard.Check("controller.clock-back", off >= -maxClockJump) {
			c.why = &clockError{Jump: -off, Back: true}
			return time.Time{}, c.why // a clock that is not set yet may still be
		}
		c.mono, c.why = mono, nil
		if !guard.Check("controller.clock-off", off <= maxOff) {
			c.hold(off)
		}
	}
	if c.held == 0 {
		c.believed = c.believed.Add(catchUp * (mono - c.mono))
		if c.believed.After(wall) || guard.Check("controller.clock-catches-up", false) {
			c.believed = wall
		}
	}
	c.wall, c.mono = wall, mono
	return c.believed, c.why
}

// behind is how far what is believed has to catch up.
func (c *clock) behind() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wall.IsZero() {
		return 0
	}
	return c.wall.Sub(c.believed)
}

// due returns what the bucket is to be told, if it is time.
func (c *clock) due() (clockRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := clockRecord{c.believed, c.held}
	if c.wall.IsZero() {
		return r, false
	}
	moved := c.believed.Sub(c.saved.believed).Abs()
	return r, c.saved.believed.IsZero() || r.held != c.saved.held || moved >= clockSaved ||
		c.starting && moved > 0 && c.believed.Equal(c.wall)
}

// last returns what the bucket is to be told at the end, if it does not know.
func (c *clock) last() (clockRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := clockRecord{c.believed, c.held}
	return r, c.loaded && !c.wall.IsZero() && r != c.saved
}

func (c *clock) told(r clockRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = r
	c.starting = c.starting && r.believed.Before(c.wall)
}

func (c *clock) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// confirmed believes the clock as it is, where it is not believed, and returns why it
// was not. Elsewhere there is nothing to confirm: a jump that is yet to come least of all.
func (c *clock) confirmed() (was error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirm = c.why != nil
	return c.why
}

// ConfirmClock has retention, and what expires besides, go on after the clock has jumped,
// and returns why they had stopped; nil: they had not, here, and nothing is changed.
func (c *Controller) ConfirmClock() (was error) { return c.clock.confirmed() }

// BelievedTime is the time by which whatever was acknowledged may expire: never ahead of
// the wall clock, and behind it for a while after a start. false: none is believed until
// an operator confirms the clock, or it is not known, as on a controller that does not
// lead, or while the bucket was not reached since the start. Any goroutine may ask.
func (c *Controller) BelievedTime() (time.Time, bool) {
	return c.clock.believe(c.opt.Now().Round(0), c.opt.Mono())
}

// now is the time that retention may believe by the controller's clock alone.
func (k *keeper) now(ctx context.Context) (time.Time, error) {
	key := k.clockKey()
	first := !k.c.clock.isLoaded()
	if first {
		raw, err := bucket.ReadAll(ctx, k.o.Bucket, key, maxClockText)
		var r clockRecord
		there := false
		if err == nil {
			var damage error
			if r, there, damage = decodeClock(raw); damage != nil {
				if err := k.c.clock.unreadable(damage); err != nil {
					return time.Time{}, err
				}
			}
		} else if !errors.Is(err, bucket.ErrNotFound) {
			return time.Time{}, fmt.Errorf("read the time that was believed last: %w", err)
		}
		k.c.clock.load(r, there)
	}
	now, why := k.c.clock.look(k.c.opt.Now().Round(0), k.c.opt.Mono())
	if behind := k.c.clock.behind(); first && why == nil && behind > clockSaved {
		k.c.log.Info("it is not known how long this node was off: retention catches up with the clock", "behind", behind.Round(time.Second), "takes", (behind / (catchUp - 1)).Round(time.Second))
	}
	if r, due := k.c.clock.due(); due {
		if err := k.saveClock(ctx, r); err != nil {
			return time.Time{}, errors.Join(err, why)
		}
	}
	return now, why
}

func (k *keeper) saveClock(ctx context.Context, r clockRecord) error {
	if err := k.o.Bucket.Put(ctx, k.clockKey(), bucket.Bytes(r.encode())); err != nil {
		return fmt.Errorf("write the time that is believed: %w", err)
	}
	k.c.clock.told(r)
	return nil
}

// stopClock tells the bucket what was believed last, where that is this controller's to
// say. It blocks on the bucket, for clockStop.
func (k *keeper) stopClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clockStop)
	defer cancel()
	r, moved := k.c.clock.last()
	if !moved || !k.ours.Load() || k.shipper.Fenced() != nil {
		return
	}
	if k.c.node.Barrier(ctx) != nil || k.c.leads() != nil {
		return
	}
	if err := k.saveClock(ctx, r); err != nil {
		k.c.log.Info("the bucket was not told of the time that is believed; the next start catches up with it", "error", err)
	}
}

func (k *keeper) clockKey() string { return NonceKey(k.o.Prefix, k.c.Image().ClusterID()) + ".clock" }

// bucketTime is the bucket's clock: it writes there and asks when.
func (k *keeper) bucketTime(ctx context.Context) (time.Time, error) {
	r, _ := k.c.clock.due()
	if err := k.saveClock(ctx, r); err != nil {
		return time.Time{}, err
	}
	info, err := k.o.Bucket.Stat(ctx, k.clockKey())
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the bucket's time: %w", err)
	}
	// Some stores count in seconds, and round down.
	return info.Modified.Add(time.Second), nil
}
