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

// outage tells once that a broker cannot be reached, or refuses its client, and once that
// one can be reached again.
type outage struct {
	env  Env
	hint func(error) string // what to do about a refusal; "": the error is none

	mu        sync.Mutex
	down      map[string]bool // guarded by mu, as the others are; by host:port
	refuses   map[string]bool // those of whom it was said
	refusal   string          // what the last of them said; "": it has answered since
	refusedBy int32
}

func newOutage(e Env, hint func(error) string) *outage {
	return &outage{env: e, hint: hint, down: map[string]bool{}, refuses: map[string]bool{}}
}

// OnBrokerConnect is called by franz-go after every dial.
func (o *outage) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if o.isRefused(meta, err) {
		return
	}
	addr := address(meta)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && o.down[addr]:
		delete(o.down, addr)
		fmt.Fprintf(o.env.Stderr, "rustmq: the broker at %s answers again\n", addr)
	case err != nil && !o.down[addr] && !errors.Is(err, context.Canceled):
		o.down[addr] = true
		fmt.Fprintf(o.env.Stderr, "rustmq: the broker at %s cannot be reached, trying on (Ctrl-C ends it): %v\n", addr, err)
	}
}

// OnBrokerRead is called by franz-go for every answer, or what came for it: over TLS 1.3 a
// client learns that it is refused after a dial that went well.
func (o *outage) OnBrokerRead(meta kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	if o.isRefused(meta, err) || err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusal != "" && o.refusedBy == meta.NodeID {
		o.refusal = ""
	}
}

// isRefused notes a broker that refuses its client, and tells of it once.
func (o *outage) isRefused(meta kgo.BrokerMetadata, err error) bool {
	hint := ""
	if err != nil {
		hint = o.hint(err)
	}
	if hint == "" {
		return false
	}
	addr := address(meta)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refusal, o.refusedBy = fmt.Sprintf("the broker at %s refuses this client: %v; %s", addr, err, hint), meta.NodeID
	if !o.refuses[addr] {
		o.refuses[addr] = true
		fmt.Fprintf(o.env.Stderr, "rustmq: %s; trying on (Ctrl-C ends it)\n", o.refusal)
	}
	return true
}

// refused is what the last broker said that refuses this client, and what to do; "": none does.
func (o *outage) refused() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refusal
}

func address(meta kgo.BrokerMetadata) string {
	return net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
}
