package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// outage tells once that a broker cannot be reached, and once that it can again.
type outage struct {
	env  Env
	hint func(error) string // what to do, or ""

	mu   sync.Mutex
	down map[string]bool // guarded by mu; by host:port
}

func newOutage(e Env, hint func(error) string) *outage {
	return &outage{env: e, hint: hint, down: map[string]bool{}}
}

// OnBrokerConnect is called by franz-go after every dial.
func (o *outage) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && o.down[addr]:
		delete(o.down, addr)
		fmt.Fprintf(o.env.Stderr, "rustmq: the broker at %s answers again\n", addr)
	case err != nil && !o.down[addr] && !errors.Is(err, context.Canceled):
		o.down[addr] = true
		hint := o.hint(err)
		if hint != "" {
			hint = "; " + hint
		}
		fmt.Fprintf(o.env.Stderr, "rustmq: the broker at %s cannot be reached, trying on (Ctrl-C ends it): %v%s\n", addr, err, hint)
	}
}
