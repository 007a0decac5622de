package cold

import (
	"testing"
	"testing/synctest"
	"time"
)

// slow is a pace at which one second passes between two reads of the bucket.
type slow struct{ next time.Time }

func (s *slow) Delay() time.Duration { return time.Until(s.next) }

func (s *slow) Take(int64) time.Duration {
	s.next = time.Now().Add(time.Second)
	return 0
}

func TestReadsKeepToThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		o := w.options()
		o.Pace = &slow{}
		r := open(t, o)
		p := w.fill(t, partition(0), 1, 512, 1<<10)
		began := time.Now()
		must(t, newClient(r, p).drain(from(0), 0))
		// The last of them lies in the past, or the pace, of reading ahead.
		if reads := w.gets.total(); reads < 4 || time.Since(began) < time.Duration(reads-2)*time.Second {
			t.Errorf("%d reads in %v, want one a second", reads, time.Since(began))
		}
		must(t, r.Close())
	})
}

// What somebody waits for goes before what is read ahead, though that came first.
func TestWhatIsWaitedForGoesFirstAtThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		o := w.options()
		o.Pace = &slow{}
		r := open(t, o)
		scan := newClient(r, w.fill(t, partition(0), 1, 2048, 1<<10))
		q := from(0)
		for range 8 { // it reads ahead, and has more of that to do
			got, err := scan.read(q)
			must(t, err)
			q.Offset = got.Next
		}
		began := time.Now()
		_, err := newClient(r, w.fill(t, partition(1), 1, 16, 1<<10)).read(from(0))
		must(t, err)
		if took := time.Since(began); took > 3*time.Second { // its index, and its piece, behind one that was taken
			t.Errorf("who waits got it after %v, want the next turns", took)
		}
		must(t, r.Close())
	})
}
