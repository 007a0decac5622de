package kafka

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// taking is a connection that takes whatever is written at once.
type taking struct {
	net.Conn
	took int
}

func (c *taking) Write(p []byte) (int, error)      { c.took += len(p); return len(p), nil }
func (c *taking) SetWriteDeadline(time.Time) error { return nil }

// TestALargeAnswerLetsOthersRun: on one processor others run while 32 MiB are sent, though
// the client takes all of them without a wait.
func TestALargeAnswerLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const size = 32 << 20
	to := &taking{}
	c := &Conn{net: to, server: &Server{limits: Limits{WriteTimeout: time.Minute, TotalUnsent: 1 << 30}}}
	c.info.Transport = "tcp"
	var turns atomic.Int64
	end, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-end:
				return
			default:
				turns.Add(1)
				runtime.Gosched()
			}
		}
	}()
	err := c.send(net.Buffers{make([]byte, 100), make([]byte, size-100)}, size)
	ran := turns.Load()
	close(end)
	<-stopped
	if least := int64(size / writeStep / 2); err != nil || to.took != size || ran < least {
		t.Errorf("%v, %d of %d bytes were sent; others ran %d times, want %d at least", err, to.took, size, ran, least)
	}
}
