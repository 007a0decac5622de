package clean

import (
	"fmt"
	"testing"
)

// TestWhatAnAbortIsBehindStays: what its producer committed before is not aborted.
func TestWhatAnAbortIsBehindStays(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.transact(9, "a=1")
	w.end(9, true)
	w.transact(9, "b=1")
	w.end(9, false)
	w.keyed("c=1")
	w.uploadAll()
	w.clean(c)
	w.shows("0:a=1 1:end(9) 3:end(9) 4:c=1 ")
	w.check(true)
}

// TestWhatIsAbortedBehindTheObjectGoes: with the ranges that one object takes the place
// of, though the marker lies in those of the next.
func TestWhatIsAbortedBehindTheObjectGoes(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1", "a=2")
	w.transact(9, fmt.Sprintf("b=%0100000d", 1))
	w.upload(2)
	w.keyed(fmt.Sprintf("c=%0100000d", 1))
	w.upload(1)
	w.end(9, false)
	w.keyed("c=2")
	w.uploadAll()
	w.clean(c)
	w.shows("1:a=2 4:end(9) 5:c=2 ")
	if s := c.Stats(); s.Objects < 2 {
		t.Fatalf("one object takes the place of all: %+v", s)
	}
	w.check(true)
}
