//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/tally"
)

// cluster is servers with the default ports and one bucket, each on an address of its own:
// of the loopback network, or on a host of its own.
type cluster struct {
	t       *testing.T
	rng     *rand.Rand
	bin     string
	dir     string
	number  int // 127.number.0.x is theirs
	network *network
	volumes []*volume // the data directories are on, and the last one the bucket; or none
	nodes   []*server
	set     []string
	clients []kgo.Opt    // more of them, of every client
	counts  tally.Counts // of what happened to it, and of what was found whole
}

// newCluster starts size servers, and waits until all listen.
func newCluster(t *testing.T, number, size int, set ...string) *cluster {
	t.Helper()
	c := assemble(t, number, size, set...)
	c.begin()
	return c
}

// assemble prepares a cluster, and starts nothing.
func assemble(t *testing.T, number, size int, set ...string) *cluster {
	t.Helper()
	return &cluster{t: t, rng: newRand(t), bin: program(t), dir: t.TempDir(), number: number, nodes: make([]*server, size), counts: tally.Counts{},
		set: slices.Concat([]string{"wal.segment_size=8MiB", "wal.capacity=512MiB", "wal.memory=16MiB"}, collecting, set)}
}

// begin starts all servers, and waits until all listen.
func (c *cluster) begin() {
	c.t.Helper()
	for i := range c.nodes {
		c.start(i)
	}
	for _, s := range c.nodes {
		s.address(c.t)
	}
}

func (c *cluster) host(i int) string {
	if c.network != nil {
		return c.network.addr(i)
	}
	return fmt.Sprintf("127.%d.0.%d", c.number, i+1)
}

// data is the data directory of a server.
func (c *cluster) data(i int) string {
	if c.volumes != nil {
		return c.volumes[i].dir + "/data"
	}
	return fmt.Sprintf("%s/node-%d", c.dir, i+1)
}

func (c *cluster) bucket() string {
	if c.volumes != nil {
		return c.volumes[len(c.nodes)].dir + "/bucket"
	}
	return c.dir + "/bucket"
}

func (c *cluster) start(i int) {
	c.t.Helper()
	peers := make([]string, len(c.nodes))
	for j := range peers {
		peers[j] = fmt.Sprintf("%d@%s", j+1, c.host(j))
	}
	args := []string{c.bin, "serve", "--node-id", fmt.Sprint(i + 1), "--bind", c.host(i), "--peers", strings.Join(peers, ","),
		"--data-dir", c.data(i), "--bucket", "file://" + c.bucket()}
	for _, s := range c.set {
		args = append(args, "--set", s)
	}
	if c.network != nil {
		args = slices.Concat(c.network.on(i), args, []string{"--set", "security.allow_insecure=true"})
	}
	c.nodes[i] = launch(c.t, args[0], args[1:]...)
	c.t.Cleanup(c.nodes[i].kill)
}

// kill ends a server by SIGKILL.
func (c *cluster) kill(i int) {
	c.nodes[i].kill()
	c.counts["kills"]++
}

// restart starts a server again, and waits until it listens.
func (c *cluster) restart(i int) {
	c.t.Helper()
	c.start(i)
	c.nodes[i].address(c.t)
}

func (c *cluster) way() []kgo.Opt {
	seeds := make([]string, len(c.nodes))
	for i := range seeds {
		seeds[i] = c.host(i) + ":9092"
	}
	return append([]kgo.Opt{kgo.SeedBrokers(seeds...)}, c.clients...)
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
		c.kill(i)
		<-time.After(c.between(0, 3*time.Second))
		c.restart(i)
		return fmt.Sprintf("SIGKILL of node %d", i+1)
	case 2, 3:
		must(c.t, s.cmd.Process.Signal(syscall.SIGSTOP))
		<-time.After(c.between(200*time.Millisecond, 4*time.Second))
		must(c.t, s.cmd.Process.Signal(syscall.SIGCONT))
		c.counts["pauses"]++
		return fmt.Sprintf("SIGSTOP of node %d", i+1)
	case 4:
		must(c.t, s.cmd.Process.Signal(syscall.SIGTERM))
		<-s.ended
		c.counts["stops"]++
		c.restart(i)
		return fmt.Sprintf("SIGTERM of node %d", i+1)
	}
	for i := range c.nodes {
		c.kill(i)
	}
	c.begin()
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

// advance waits until more of a partition is acked than was sent to its leader before.
func (d *drilled) advance(partition int32) error {
	<-time.After(50 * time.Millisecond) // acks that were on their way
	begun := d.history.known(partition)
	for deadline := time.Now().Add(time.Minute); d.history.known(partition) == begun; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing was acked in partition %d for a minute", partition)
		}
	}
	return nil
}

// drilled is a cluster whose topic is written and read while things happen to it.
type drilled struct {
	*cluster
	history *history
	writer  *producer
	reader  *consumer
	done    []string // what happened
}

// drill begins to write and to read a topic with a replica on each server.
func (c *cluster) drill(perSecond int) *drilled {
	c.t.Helper()
	d := &drilled{cluster: c, history: newHistory("replicated")}
	c.create(d.history.topic, int16(len(c.nodes)))
	var err error
	d.writer, err = newProducer(c, d.history, 1, perSecond, true)
	must(c.t, err)
	c.t.Cleanup(d.writer.drop)
	d.reader, err = newConsumer(c, d.history)
	must(c.t, err)
	c.t.Cleanup(d.reader.close)
	must(c.t, c.settle(d.history))
	return d
}

// judge ends the test if anything is wrong so far.
func (d *drilled) judge(err error) {
	d.t.Helper()
	if found := d.history.found(); len(found) > 0 || err != nil {
		d.t.Fatalf("after %v: %v\n%s\n%s", d.done, err, strings.Join(found, "\n"), d.logs())
	}
}

// suffer has things happen for a while, and the cluster be whole after each.
func (d *drilled) suffer(least time.Duration, disturb func() string) {
	d.t.Helper()
	for begin := time.Now(); time.Since(begin) < max(least, soak(d.t)); {
		d.done = append(d.done, disturb())
		d.judge(d.settle(d.history))
	}
}

// finish judges the whole: what was sent was acked, and is there, once, in its place, read
// by who was there all along and by who was not; the replicas agree, and the bucket holds
// what the catalogue names.
func (d *drilled) finish() {
	d.t.Helper()
	d.finishBeside()
}

// finishBeside does so where others wrote too, who need not know what became of it.
func (d *drilled) finishBeside(others ...*producer) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := d.writer.finish(ctx); err != nil {
		d.judge(fmt.Errorf("what was sent was not acked: %w", err))
	}
	d.judge(readAll(ctx, d, d.history))
	acked, held := d.history.counts()
	sent, unsure := d.writer.sent.Load(), int64(0)
	for _, o := range others {
		sent, unsure = sent+o.sent.Load(), unsure+o.unsure.Load()
	}
	if int64(acked)+unsure != sent || held < acked || int64(held) > sent {
		d.judge(fmt.Errorf("%d records sent, %d acked, %d there", sent, acked, held))
	}
	var deadline time.Time
	for seen := int64(-1); seen < int64(held); <-time.After(10 * time.Millisecond) {
		if now := d.reader.seen.Load(); now > seen {
			seen, deadline = now, time.Now().Add(readLimit)
		}
		if time.Now().After(deadline) {
			d.judge(fmt.Errorf("the consumer is stuck: it was given %d records of %d", seen, held))
		}
	}
	d.judge(d.clean())
	d.judge(d.agree(d.t.Context(), d.history.topic))
	d.counts["records"] += int64(acked)
	tally.Log(d.t, d.counts)
	d.t.Logf("%d records acked and there, once, in their place, after %v", acked, d.done)
}

// clean waits until the bucket holds what the catalogue names, whole, and nothing else.
func (c *cluster) clean() error {
	audited := int64(0)
	for i, s := range c.nodes {
		report, took, err := s.awaitClean(c.bin, func() (int64, error) { return filesOf(c.bucket()) })
		if err != nil {
			return fmt.Errorf("asked of node %d: %w", i+1, err)
		}
		c.t.Logf("node %d finds the bucket clean after %v: %d objects, all verified", i+1, took.Round(100*time.Millisecond), report.Committed.Objects)
		audited = report.Committed.Objects
	}
	c.counts["objects_audited"] += audited
	return nil
}

// Three servers are killed, stopped, paused, one at a time and all at once: what was
// acked stays, once, at its place.
func TestClusterSurvives(t *testing.T) {
	t.Parallel()
	d := newCluster(t, 71, 3).drill(2000)
	d.suffer(25*time.Second, d.disturb)
	d.finish()
}

// From SIGKILL of a leader to the next acks of its partitions.
func TestFailover(t *testing.T) {
	t.Parallel()
	for number, profile := range map[int][]string{
		72: nil,
		73: {"replication.heartbeat_interval=50ms", "replication.heartbeat_timeout=250ms"},
	} {
		t.Run(strings.Join(append([]string{"default"}, profile...), ","), func(t *testing.T) {
			t.Parallel()
			d := newCluster(t, number, 3, profile...).drill(2000)
			var took []time.Duration
			for i, begun := 0, time.Now(); i < 6 || time.Since(begun) < soak(t); i++ {
				victim := i % len(d.nodes)
				d.judge(d.inSync(d.history.topic))
				leaders, err := d.leaders(d.history.topic)
				must(t, err)
				d.kill(victim)
				begin := time.Now()
				for p, leader := range leaders {
					if leader == victim {
						d.judge(d.advance(int32(p)))
						took = append(took, time.Since(begin))
					}
				}
				d.judge(d.settle(d.history))
				d.restart(victim)
			}
			d.finish()
			if len(took) == 0 {
				t.Error("no node that was killed led anything: this drill proves nothing")
			}
			slices.Sort(took)
			inTime, _ := slices.BinarySearch(took, 1500*time.Millisecond+1)
			tally.Log(t, tally.Counts{"failovers": int64(len(took)), "failovers_in_time": int64(inTime)})
			t.Logf("from SIGKILL to the acks after it: %v", took)
		})
	}
}
