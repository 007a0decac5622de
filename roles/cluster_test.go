package roles_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
)

// processes is a cluster of processes on this machine, each with an address of loopback
// of its own.
type processes struct {
	*testing.T
	net    string // the first three numbers of the addresses
	dir    string
	first  int    // controllers that the group begins with
	as     string // what else than serve the test binary is started as; empty: that
	nodes  map[int]*clusterNode
	client *http.Client
	asked  int // the node that was asked last
}

type clusterNode struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed when it has said that it is
	ended  chan struct{} // closed when the process has
	stderr lockedBuffer
}

// newProcesses starts so many nodes, all of them controllers and brokers.
func newProcesses(t *testing.T, first int) *processes {
	t.Helper()
	return newProcessesAs(t, first, "")
}

func newProcessesAs(t *testing.T, first int, as string, more ...string) *processes {
	t.Helper()
	c := &processes{
		T: t, first: first, as: as, dir: t.TempDir(), nodes: map[int]*clusterNode{}, client: newHTTP(), net: newNet(),
	}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.end(id, syscall.SIGKILL)
		}
		c.client.CloseIdleConnections()
	})
	for id := range first {
		c.start(id+1, more...)
	}
	for id := range first {
		c.await(id + 1)
	}
	return c
}

// newHTTP has more patience than any call of the admin API, also where the machine is busy.
func newHTTP() *http.Client { return &http.Client{Timeout: 30 * time.Second} }

// newNet is a net of loopback that nobody uses, as far as luck has it.
func newNet() string { return fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250)) }

func (c *processes) host(id int) string { return fmt.Sprintf("%s.%d", c.net, id) }

func (c *processes) data(id int) string { return filepath.Join(c.dir, fmt.Sprintf("d%d", id)) }

// start starts a node, with more flags, and does not wait for it.
func (c *processes) start(id int, more ...string) *clusterNode {
	c.Helper()
	var peers []string
	for i := range c.first {
		peers = append(peers, fmt.Sprintf("%d@%s", i+1, c.host(i+1)))
	}
	args := append(strings.Fields(cmp.Or(c.as, "serve")),
		"--node-id", fmt.Sprint(id), "--bind", c.host(id), "--peers", strings.Join(peers, ","), "--data-dir", c.data(id),
		"--bucket", "file://"+filepath.Join(c.dir, "bucket"),
		"--set", "wal.capacity=64MiB", "--set", "wal.segment_size=8MiB", "--set", "wal.upload_bytes=8MiB", "--set", "wal.memory=16MiB",
		// As long as a machine that runs other tests too needs.
		"--set", "replication.heartbeat_timeout=5s", "--set", "controller.raft.election_timeout=1s",
	)
	n := &clusterNode{cmd: program(c.T, append(args, more...)...), ready: make(chan struct{}), ended: make(chan struct{})}
	n.cmd.Stderr = &n.stderr
	stdout, err := n.cmd.StdoutPipe()
	must(c.T, err)
	must(c.T, n.cmd.Start())
	go func() {
		defer close(n.ended)
		if _, err := bufio.NewReader(stdout).ReadBytes('\n'); err == nil {
			close(n.ready)
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = n.cmd.Wait() // how it ended is for the test to say
	}()
	c.nodes[id] = n
	return n
}

// await waits until a node can be used.
func (c *processes) await(id int) {
	c.Helper()
	n := c.nodes[id]
	select {
	case <-n.ready:
	case <-n.ended:
		c.Fatalf("node %d ended: %s", id, n.stderr.String())
	case <-time.After(time.Minute):
		c.Fatalf("node %d does not begin: %s", id, n.stderr.String())
	}
}

// end ends a node and waits for it.
func (c *processes) end(id int, by syscall.Signal) {
	n := c.nodes[id]
	delete(c.nodes, id)
	_ = n.cmd.Process.Signal(by) // it may have ended
	<-n.ended
}

// refused waits until a node that cannot start has said why.
func (c *processes) refused(id int, want string, more ...string) {
	c.Helper()
	n := c.start(id, more...)
	select {
	case <-n.ended:
	case <-n.ready:
		c.Errorf("node %d starts, and was to say %q", id, want)
	case <-time.After(time.Minute):
		c.Errorf("node %d waits, and was to say %q", id, want)
	}
	c.end(id, syscall.SIGKILL)
	if said := n.stderr.String(); !strings.Contains(said, want) {
		c.Errorf("node %d says %q, without %q", id, said, want)
	}
}

// admin runs `rustmq admin …` at a node, which is to succeed: again, while it needs a
// feature level to which nodes that have just started have yet to rise.
func (c *processes) admin(at int, args ...string) string {
	c.Helper()
	c.abreast(at)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		code, stdout, stderr := rustmq(c.T, "", append([]string{"admin", "--url", "http://" + c.host(at) + ":9642"}, args...)...)
		switch {
		case code == 0:
			return stdout
		case !strings.Contains(stderr, "the level rises by itself") || time.Now().After(deadline):
			c.Fatalf("at node %d, %v: exit %d, %s", at, args, code, stderr)
		}
	}
}

// abreast waits until a node has the metadata that any has, if another was asked before: what
// that one did is known elsewhere a little later. A node that does not come up, or does not
// tell, is asked as it is.
func (c *processes) abreast(at int) {
	c.Helper()
	if c.asked == at {
		return
	}
	c.asked = at
	most := 0
	for id := range c.nodes {
		most = max(most, c.applied(id))
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		if is := c.applied(at); is < 0 || is >= most {
			return
		}
	}
}

// applied is the index up to which a node has applied the metadata log; -1: it does not tell.
func (c *processes) applied(at int) int {
	resp, err := c.client.Get("http://" + c.host(at) + ":9642/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, is := strings.CutPrefix(lines.Text(), "rustmq_controller_applied_index "); is {
			index, err := strconv.ParseFloat(text, 64)
			must(c.T, err)
			return int(index)
		}
	}
	return -1
}

// group is what a node says of the controllers, once it is as wanted.
func (c *processes) group(at int, what string, is func(admin.ControllerGroup) bool) (g admin.ControllerGroup) {
	c.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	said := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		resp, err := c.client.Get("http://" + c.host(at) + ":9642/api/v1/controllers")
		if err != nil {
			said = err.Error()
			continue
		}
		raw, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		said, g = string(raw), admin.ControllerGroup{}
		if resp.StatusCode == http.StatusOK && json.Unmarshal(raw, &g) == nil && is(g) {
			return g
		}
	}
	c.Fatalf("node %d: %s never came: %s", at, what, said)
	return g
}

// roundTrip produces a record to every partition by one node and consumes them by another.
func (c *processes) roundTrip(topic string, partitions int32, by, from int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(by)+":9092"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(c.T, err)
	defer client.Close()
	want := map[string]bool{}
	for p := range partitions {
		value := fmt.Sprintf("%s-%d by %d, %d", topic, p, by, rand.Int64())
		want[value] = true
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte(value)}).FirstErr(); err != nil {
			c.Fatalf("produce to %s-%d by node %d: %v", topic, p, by, err)
		}
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.host(from)+":9092"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(c.T, err)
	defer reader.Close()
	for len(want) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.Fatalf("consume %s by node %d: %v; %v are missing", topic, from, err, want)
		}
		fetches.EachRecord(func(r *kgo.Record) { delete(want, string(r.Value)) })
	}
}

func ofRole(g admin.ControllerGroup, role string) (ids []uint64) {
	for _, m := range g.Controllers {
		if m.Role == role {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// TestThreeProcessesAreACluster starts three processes as DESIGN §6 says, and ends and
// replaces some of them.
func TestThreeProcessesAreACluster(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	g := c.group(1, "three voters that are known", func(g admin.ControllerGroup) bool {
		return len(ofRole(g, "voter")) == 3 && !slices.ContainsFunc(g.Controllers, func(m admin.Controller) bool { return m.Raft == "" || !m.Active })
	})
	c.admin(1, "topics", "create", "t", "-p", "3", "-r", "1")
	for by := range 3 {
		c.roundTrip("t", 3, by+1, (by+1)%3+1)
	}

	// The leader dies: the others elect one, and metadata goes on.
	leader := int(g.Leader)
	c.end(leader, syscall.SIGKILL)
	other := leader%3 + 1
	g = c.group(other, "another leader", func(g admin.ControllerGroup) bool { return g.Leader != uint64(leader) })
	// Until the brokers' session is over the dead one may be given the only replica.
	c.brokers(other, "the dead one out of service", func(by map[int32]admin.Broker) bool { return by[int32(leader)].State != "serving" })
	c.admin(other, "topics", "create", "after", "-r", "1")
	c.roundTrip("after", 1, other, 6-leader-other)

	// It comes back as the member it was, with what it had.
	c.start(leader)
	c.await(leader)
	c.group(leader, "the member that came back", func(g admin.ControllerGroup) bool {
		return len(ofRole(g, "voter")) == 3 && !slices.ContainsFunc(g.Controllers, func(m admin.Controller) bool { return !m.Active || m.Lag > 0 })
	})
	c.roundTrip("t", 3, leader, other)

	// A leader that is told to stop hands over before.
	leader = int(g.Leader)
	c.end(leader, syscall.SIGTERM)
	other = leader%3 + 1
	c.group(other, "the leader that took over", func(g admin.ControllerGroup) bool { return g.Leader != uint64(leader) })

	// Without its metadata log it does not start as if it had never voted; without its
	// whole directory it waits to be added.
	must(t, os.Rename(filepath.Join(c.data(leader), "raft"), filepath.Join(c.data(leader), "lost")))
	c.refused(leader, "rustmq admin cluster recover")
	must(t, os.RemoveAll(c.data(leader)))
	c.start(leader)
	c.group(other, "the new directory that waits", func(g admin.ControllerGroup) bool {
		return slices.Contains(ofRole(g, "waiting"), uint64(leader))
	})
	c.admin(other, "controllers", "remove", fmt.Sprint(leader))
	c.admin(other, "controllers", "add", fmt.Sprint(leader))
	c.group(other, "three voters again", func(g admin.ControllerGroup) bool {
		return len(ofRole(g, "voter")) == 3 && len(ofRole(g, "waiting")) == 0
	})
	c.await(leader)
	c.admin(leader, "topics", "create", "again", "-r", "1")
}

// TestThreePrivateBuckets holds that a broker whose bucket is not the cluster's is refused
// (RULES 5.1), by whatever name that goes.
func TestThreePrivateBuckets(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 1)
	private := filepath.Join(c.dir, "private")
	c.refused(2, "set object_storage.url (--bucket)", "--bucket", "file://"+private)
	c.refused(3, "a cluster has one bucket", "--bucket", "")
	c.start(2)
	c.await(2)
}

// lockedBuffer is what a process says, to be read while it runs.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
