package roles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What of the time that a stop has left each part may wait for others: clients that do
// not take their answers leave time for those that come after, and for the log.
const (
	httpShare  = 0.2
	auditShare = 0.2
	kafkaShare = 0.75
	drainShare = 0.5 // of Kafka's: for the coordinators
)

// leastStop is what a stop has at least for what waits for nobody but the disk.
const leastStop = time.Second

// UnclosedError says that a part of the node had not ended when its stop had to: that
// part, and all that it stands on, was left as it is.
type UnclosedError struct {
	What  string
	After time.Duration
}

func (e *UnclosedError) Error() string {
	return fmt.Sprintf("close the %s: not done after %v; it is left as after a kill, and what was acked is kept", e.What, e.After)
}

// share returns a context that ends when so much of the time left to ctx is over.
func share(ctx context.Context, part float64) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(float64(time.Until(end))*part))
}

// stopTimeout is how long a stop may take, by what is obeyed now.
func (n *Node) stopTimeout() time.Duration {
	return time.Duration(n.live.now.Load().Operations.GracefulShutdownTimeout)
}

// Close takes the node down in the reverse order of its opening, within
// operations.graceful_shutdown_timeout, or a second if that is less. What has not ended
// then is left running, with the data directory locked, until the process ends:
// *UnclosedError says what it was. The log is made for that, as for a kill.
func (n *Node) Close() error {
	n.mu.Lock()
	n.ready = false
	n.mu.Unlock()
	began, bound := time.Now(), n.stopTimeout()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	late := time.NewTimer(max(bound, leastStop))
	defer late.Stop()
	var err error
	for _, c := range slices.Backward(n.closers) {
		ended := make(chan error, 1)
		go func() { ended <- c.close(ctx) }()
		select {
		case e := <-ended:
			if e != nil {
				err = errors.Join(err, fmt.Errorf("close the %s: %w", c.what, e))
			}
		case <-late.C:
			n.closers = nil
			e := &UnclosedError{What: c.what, After: time.Since(began).Round(time.Millisecond)}
			n.log.Error("the stop took too long; what is left ends with the process", "waited_for", e.What, "took", e.After.String())
			return errors.Join(err, e)
		}
	}
	n.closers = nil
	n.serving.Wait()
	return err
}
