//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cluster is servers on addresses of their own of the loopback network, with the
// default ports and one bucket.
type cluster struct {
	t     *testing.T
	rng   *rand.Rand
	bin   string
	dir   string
	net   int // 127.net.0.x is theirs
	nodes []*server
	set   []string
}

// newCluster starts size servers, and waits until all listen.
func newCluster(t *testing.T, net, size int, set ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, rng: newRand(t), bin: program(t), dir: t.TempDir(), net: net, nodes: make([]*server, size),
		set: append([]string{"wal.segment_size=8MiB", "wal.capacity=512MiB", "wal.memory=16MiB"}, set...)}
	for i := range c.nodes {
		c.start(i)
	}
	for _, s := range c.nodes {
		s.address(t)
	}
	return c
}

func (c *cluster) host(i int) string { return fmt.Sprintf("127.%d.0.%d", c.net, i+1) }

func (c *cluster) start(i int) {
	c.t.Helper()
	peers := make([]string, len(c.nodes))
	for j := range peers {
		peers[j] = fmt.Sprintf("%d@%s", j+1, c.host(j))
	}
	args := []string{"serve", "--node-id", fmt.Sprint(i + 1), "--bind", c.host(i), "--peers", strings.Join(peers, ","),
		"--data-dir", fmt.Sprintf("%s/node-%d", c.dir, i+1), "--bucket", "file://" + c.dir + "/bucket"}
	for _, s := range c.set {
		args = append(args, "--set", s)
	}
	c.nodes[i] = launch(c.t, c.bin, args...)
	c.t.Cleanup(c.nodes[i].kill)
}

func (c *cluster) way() []kgo.Opt {
	seeds := make([]string, len(c.nodes))
	for i := range seeds {
		seeds[i] = c.host(i) + ":9092"
	}
	return []kgo.Opt{kgo.SeedBrokers(seeds...)}
}

// create makes a topic with a replica on each of so many servers.
func (c *cluster) create(topic string, replicas int16) {
	c.t.Helper()
	client, err := kgo.NewClient(clientOptions(c)...)
	must(c.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for { // brokers may be on their way into the cluster
		_, err := kadm.NewClient(client).CreateTopic(ctx, partitions, replicas, nil, topic)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatalf("create %s: %v\n%s", topic, err, c.logs())
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (c *cluster) logs() string {
	var all strings.Builder
	for i, s := range c.nodes {
		fmt.Fprintf(&all, "node %d says:\n%s\n", i+1, s.log.String())
	}
	return all.String()
}

// between is a random time.
func (c *cluster) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.rng.Int64N(int64(high-low)))
}

// disturb does one thing to the cluster that it must survive, and undoes it.
func (c *cluster) disturb() string {
	i := c.rng.IntN(len(c.nodes))
	s := c.nodes[i]
	switch c.rng.IntN(6) {
	case 0, 1:
		s.kill()
		<-time.After(c.between(0, 3*time.Second))
		c.start(i)
		c.nodes[i].address(c.t)
		return fmt.Sprintf("SIGKILL of node %d", i+1)
	case 2, 3:
		must(c.t, s.cmd.Process.Signal(syscall.SIGSTOP))
		<-time.After(c.between(200*time.Millisecond, 4*time.Second))
		must(c.t, s.cmd.Process.Signal(syscall.SIGCONT))
		return fmt.Sprintf("SIGSTOP of node %d", i+1)
	case 4:
		must(c.t, s.cmd.Process.Signal(syscall.SIGTERM))
		<-s.ended
		c.start(i)
		c.nodes[i].address(c.t)
		return fmt.Sprintf("SIGTERM of node %d", i+1)
	}
	for _, s := range c.nodes {
		s.kill()
	}
	for i := range c.nodes {
		c.start(i)
	}
	for _, s := range c.nodes {
		s.address(c.t)
	}
	return "SIGKILL of all"
}

// settle gives a cluster time to be whole again: as many acks as there are partitions,
// and more, must come.
func (c *cluster) settle(h *history) error {
	before, _ := h.counts()
	deadline := time.Now().Add(time.Minute)
	for {
		if now, _ := h.counts(); now > before+100 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing was acked for a minute\n%s", c.logs())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Three servers are killed, stopped, paused, one at a time and all at once: what was
// acked stays, once, at its place.
func TestClusterSurvives(t *testing.T) {
	c := newCluster(t, 71, 3)
	h := newHistory("replicated")
	c.create(h.topic, 3)
	writer, err := newProducer(c, h, 1, 2000, true)
	must(t, err)
	t.Cleanup(writer.drop)
	reader, err := newConsumer(c, h)
	must(t, err)
	t.Cleanup(reader.close)
	must(t, c.settle(h))
	var done []string
	for begin, least := time.Now(), max(45*time.Second, soak(t)); time.Since(begin) < least; {
		what := c.disturb()
		done = append(done, what)
		if err := c.settle(h); err != nil {
			t.Fatalf("after %s (%v): %v", what, done, err)
		}
		if found := h.found(); len(found) > 0 {
			t.Fatalf("after %v:\n%s\n%s", done, strings.Join(found, "\n"), c.logs())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := writer.finish(ctx); err != nil {
		t.Fatalf("what was sent was not acked: %v\n%s", err, c.logs())
	}
	err = readAll(ctx, c, h)
	if found := h.found(); len(found) > 0 || err != nil {
		t.Fatalf("%v:\n%v\n%s\n%s", done, errors.Join(err, ctx.Err()), strings.Join(found, "\n"), c.logs())
	}
	acked, _ := h.counts()
	if int64(acked) != writer.sent.Load() {
		t.Fatalf("%d records sent, %d acked", writer.sent.Load(), acked)
	}
	t.Logf("%d records acked and there, once, in their place, after %v", acked, done)
}

// From SIGKILL of a leader to the next ack of its partitions.
func TestFailover(t *testing.T) {
	c := newCluster(t, 72, 3)
	h := newHistory("failover")
	c.create(h.topic, 3)
	writer, err := newProducer(c, h, 1, 2000, true)
	must(t, err)
	t.Cleanup(writer.drop)
	var took []time.Duration
	for i := range 6 {
		must(t, c.settle(h))
		victim := i % len(c.nodes)
		c.nodes[victim].kill()
		begin := time.Now()
		must(t, c.settle(h))
		took = append(took, time.Since(begin))
		c.start(victim)
		c.nodes[victim].address(t)
		<-time.After(2 * time.Second)
	}
	slices.Sort(took)
	t.Logf("from SIGKILL to the acks after it: %v", took)
}
