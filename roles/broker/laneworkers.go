package broker

import (
	"sync"
	"time"
)

const (
	// maxIdleLaneWorkers goroutines wait for a lane at most, each with the stack that the last
	// one has grown.
	maxIdleLaneWorkers = 64
	// laneLinger is for how long more of them wait than were needed.
	laneLinger = time.Second
)

// laneWorkers are goroutines that run lanes, one each. Those that have nothing to do wait a
// while for another lane, of any partition: a stack that modules have run on is there already,
// and most lanes are done in less time than it takes to grow one. There are as many as lanes
// have batches: none waits for a worker.
type laneWorkers struct {
	done sync.WaitGroup

	mu     sync.Mutex      // guards all below
	idle   []chan *laneRun // the one that came last is at the end, and goes first
	spare  int             // the fewest that were idle since ending last looked
	ending *time.Timer     // looks for those that are not needed; nil: none is idle
	closed bool
}

// run has a goroutine run a lane, and then tells the broker that the request is over that
// began it.
func (w *laneWorkers) run(lane *laneRun) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		worker := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.spare = min(w.spare, n-1)
		w.mu.Unlock()
		worker <- lane // which has room
		return
	}
	w.mu.Unlock()
	w.done.Go(func() { w.work(lane) }) // ends when it is not needed, or the broker closes
}

// work runs a lane, and others that come soon.
func (w *laneWorkers) work(lane *laneRun) {
	lanes := make(chan *laneRun, 1)
	for ok := true; ok; lane, ok = <-lanes {
		lane.run()
		over := &lane.b.requests
		if !w.wait(lanes) {
			close(lanes)
		}
		over.Done()
	}
}

// wait has a worker be idle, unless enough are.
func (w *laneWorkers) wait(lanes chan *laneRun) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == maxIdleLaneWorkers {
		return false
	}
	w.idle = append(w.idle, lanes)
	if w.ending == nil {
		w.spare = 0
		w.ending = time.AfterFunc(laneLinger, w.end)
	}
	return true
}

// end ends those that were idle all the time.
func (w *laneWorkers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.endFirst(w.spare)
	w.spare, w.ending = len(w.idle), nil
	if w.spare > 0 {
		w.ending = time.AfterFunc(laneLinger, w.end)
	}
}

// endFirst ends those that have been idle for longest. w.mu is held.
func (w *laneWorkers) endFirst(n int) {
	for _, worker := range w.idle[:n] {
		close(worker)
	}
	kept := copy(w.idle, w.idle[n:])
	clear(w.idle[kept:])
	w.idle = w.idle[:kept]
}

// close ends all that are idle, and waits for those that are not: nothing enters a lane any
// more.
func (w *laneWorkers) close() {
	w.mu.Lock()
	w.closed = true
	if w.ending != nil {
		w.ending.Stop()
	}
	w.endFirst(len(w.idle))
	w.mu.Unlock()
	w.done.Wait()
}
