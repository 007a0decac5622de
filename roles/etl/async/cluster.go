package async

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
)

const (
	// dialTime is how long a connection, askTime how long an answer may take.
	dialTime = 10 * time.Second
	askTime  = 30 * time.Second
	// persistence is for how long is asked again what may be answered otherwise by then,
	// with pauses from least to most.
	persistence = 30 * time.Second
	leastPause  = 5 * time.Millisecond
	mostPause   = 500 * time.Millisecond
)

// Versions of the requests, which every broker serves that has asynchronous transforms.
const (
	fetchVersion           = 13 // topics by id
	produceVersion         = 12 // partitions join the transaction by themselves (KIP-890)
	initProducerIDVersion  = 5
	txnOffsetCommitVersion = 5 // the group likewise
	endTxnVersion          = 5 // each transaction has an epoch of its own
	offsetFetchVersion     = 8
	findCoordinatorVersion = 4
	listOffsetsVersion     = 7
	metadataVersion        = 12
)

// Kinds of coordinators.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

// cluster is the brokers, as a client sees them: a connection to each that is asked.
type cluster struct {
	self  int32
	image func() *metadata.Image
	dial  func(ctx context.Context, broker int32) (net.Conn, error)

	mu     sync.Mutex // guards all below
	lines  map[int32]*line
	closed bool
}

func newCluster(o *Options) *cluster {
	return &cluster{self: o.NodeID, image: o.Image, dial: o.Dial, lines: map[int32]*line{}}
}

// ask asks a broker once, over the connection that all share.
func (c *cluster) ask(ctx context.Context, broker int32, q kmsg.Request) (kmsg.Response, error) {
	return c.askWith(ctx, broker, q, nil)
}

// askWith is ask for a Produce whose records are not in q.
func (c *cluster) askWith(ctx context.Context, broker int32, q kmsg.Request, records []byte) (kmsg.Response, error) {
	l, err := c.line(ctx, broker)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	p, err := l.askWith(ctx, q, records)
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", broker, err)
	}
	return p, nil
}

// line returns the connection to a broker, a new one where there is none.
func (c *cluster) line(ctx context.Context, broker int32) (*line, error) {
	c.mu.Lock()
	l := c.lines[broker]
	c.mu.Unlock()
	if l != nil && !l.ended() {
		return l, nil
	}
	l, err := c.open(ctx, broker, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch there := c.lines[broker]; {
	case c.closed:
		l.close()
		return nil, net.ErrClosed
	case there != nil && !there.ended(): // somebody was faster
		l.close()
		return there, nil
	}
	c.lines[broker] = l
	return l, nil
}

// open opens a connection of the caller's own.
func (c *cluster) open(ctx context.Context, broker int32, room func(int) []byte) (*line, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := c.dial(ctx, broker)
	if err != nil {
		return nil, fmt.Errorf("connect to broker %d: %w", broker, err)
	}
	return newLine(conn, room), nil
}

// close ends the connections.
func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.lines {
		l.close()
	}
}

// topic returns a topic that records go to. Where it is not there, brokers are asked for
// it, which makes it where they make topics on first use.
func (c *cluster) topic(ctx context.Context, name string) (*metadata.Topic, error) {
	if t, ok := c.image().Topic(name); ok {
		return t, nil
	}
	q := kmsg.NewPtrMetadataRequest()
	q.SetVersion(metadataVersion)
	q.AllowAutoTopicCreation = true
	q.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	p, err := c.ask(ctx, c.self, q)
	if err != nil {
		return nil, fmt.Errorf("look for topic %q: %w", name, err)
	}
	for _, t := range p.(*kmsg.MetadataResponse).Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
			return nil, fmt.Errorf("topic %q, which records are to go to, is not there: make it (rustmq admin topics create %s), and they will: %w", name, name, err)
		}
	}
	if t, ok := c.image().Topic(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("topic %q, which records are to go to, is not there: make it (rustmq admin topics create %s), and they will", name, name)
}

// coordinator returns the broker that coordinates a group, or transactional id.
func (c *cluster) coordinator(ctx context.Context, kind int8, key string) (int32, error) {
	q := kmsg.NewPtrFindCoordinatorRequest()
	q.SetVersion(findCoordinatorVersion)
	q.CoordinatorType, q.CoordinatorKeys = kind, []string{key}
	p, err := c.ask(ctx, c.self, q)
	if err != nil {
		return 0, err
	}
	found := p.(*kmsg.FindCoordinatorResponse).Coordinators
	if len(found) != 1 {
		return 0, fmt.Errorf("%d coordinators for %q", len(found), key)
	}
	if err := kerr.ErrorForCode(found[0].ErrorCode); err != nil {
		return 0, fmt.Errorf("find the coordinator of %q: %w", key, err)
	}
	return found[0].NodeID, nil
}

// askCoordinator asks a coordinator until it answers with something else than that it is
// to be asked again, or elsewhere. What it was asked is such that twice does no harm.
func (c *cluster) askCoordinator(ctx context.Context, kind int8, key string, q kmsg.Request, codeOf func(kmsg.Response) int16) (kmsg.Response, error) {
	var p kmsg.Response
	err := persist(ctx, func() error {
		at, err := c.coordinator(ctx, kind, key)
		if err != nil {
			return err
		}
		if p, err = c.ask(ctx, at, q); err != nil {
			return err
		}
		if err := kerr.ErrorForCode(codeOf(p)); err != nil {
			return fmt.Errorf("%s of %q: %w", kmsg.NameForKey(q.Key()), key, err)
		}
		return nil
	})
	return p, err
}

// persist tries until it succeeds, what went wrong will not pass, or the time is up.
func persist(ctx context.Context, try func() error) error {
	until, cancel := context.WithTimeout(ctx, persistence)
	defer cancel()
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		err := try()
		if err == nil || !passes(err) || ctx.Err() != nil {
			return err
		}
		if !sleep(until, pause) {
			return err
		}
	}
}

// passes reports whether what went wrong may be right in a while: a broker that is not
// reached, or says so.
func passes(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var answered *kerr.Error
	if !errors.As(err, &answered) {
		return true
	}
	return answered.Retriable || errors.Is(answered, kerr.ConcurrentTransactions)
}

// sleep waits; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
