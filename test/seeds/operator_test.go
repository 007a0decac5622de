//go:build seeds

package seeds

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/disk"
)

// operate has a node do what an operator asks of its REST API, and reports whether it has
// said that it did. What it says goes to answer, if that is not nil.
func (w *world) operate(n *node, method, path string, body, answer any) bool {
	h := w.client()
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return h.dial(ctx, address) }}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // it does not depend on the seed
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://"+n.name()+":9642"+path, bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	q.Header.Set("Content-Type", "application/json")
	r, err := (&http.Client{Transport: t}).Do(q)
	if err != nil {
		return false
	}
	defer func() { _ = r.Body.Close() }()
	said, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode/100 != 2 {
		w.happened("%s %s at node %d: %s %s", method, path, n.id, r.Status, said)
		return false
	}
	return answer == nil || json.Unmarshal(said, answer) == nil
}

// drain has the leaderships of a node go to others, for a while.
func (w *world) drain(n *node, d time.Duration) string {
	path := fmt.Sprintf("/api/v1/brokers/%d/drain", n.id)
	asked := w.nodes[w.rng.IntN(size)]
	done := w.operate(asked, "POST", path, map[string]bool{"draining": true}, nil)
	pass(d)
	if w.rng.IntN(3) == 0 {
		w.finish(n, ending(w.rng.IntN(3)))
		n.start()
	}
	for i := range 20 {
		if w.operate(w.nodes[(asked.id+i)%size], "POST", path, map[string]bool{"draining": false}, nil) {
			w.counted("changes", 1)
			return fmt.Sprintf("node %d drained (%v) for %v", n.id, done, d)
		}
		pass(500 * time.Millisecond)
	}
	return fmt.Sprintf("node %d drained (%v), and nobody has ended that", n.id, done)
}

// wipe takes the disk of a node away. It comes back as another controller, and fetches all
// it had from the others. Until it has, no other disk is lost: no promise covers two.
func (w *world) wipe(n *node) string {
	if !w.mayLose() {
		return fmt.Sprintf("node %d keeps its disk", n.id)
	}
	// The others have to be able to go on, for whom it is no member any more.
	w.finish(n, cut)
	w.burn(n)
	pass(w.between(0, 3*time.Second))
	n.start()
	return w.readmit(n)
}

// mayLose reports whether a disk may be lost, with what others have.
func (w *world) mayLose() bool {
	return !w.lossy && w.spread() && (w.wiped == nil || w.whole())
}

// burn gives a node that has ended an empty disk.
func (w *world) burn(n *node) {
	n.mu.Lock()
	n.mem = disk.NewMem(disk.MemOptions{})
	n.mu.Unlock()
	w.wiped = n
	w.counted("disks_lost", 1)
}

// readmit has the controllers take a node that lost its disk for another one.
func (w *world) readmit(n *node) string {
	others := []*node{w.nodes[n.id%size], w.nodes[(n.id+1)%size]}
	removed := false
	for i := range 40 {
		asked := others[i%2]
		if !removed {
			removed = w.operate(asked, "DELETE", fmt.Sprintf("/api/v1/controllers/%d", n.id), nil, nil)
		}
		if removed && w.operate(asked, "POST", "/api/v1/controllers", map[string]int{"id": n.id}, nil) {
			return fmt.Sprintf("node %d wiped, and another one", n.id)
		}
		pass(500 * time.Millisecond)
	}
	w.problem("node %d was wiped, and is not taken for another controller with all well", n.id)
	return ""
}

// kept are the topics that must not lose anything.
var kept = []string{"source", "copied", "weak", "__consumer_offsets", "__transaction_state"}

// spread reports whether all of them that are there have a replica on each node.
func (w *world) spread() bool {
	for _, n := range w.nodes {
		l := n.now()
		if l == nil {
			continue
		}
		for _, name := range kept {
			if t, ok := l.node.Image().Topic(name); ok {
				for i := range t.Partitions.Len() {
					if len(t.Partitions.At(i).Replicas) < size {
						return false
					}
				}
			}
		}
	}
	return true
}

// whole reports whether all that the writers' topics have is on all nodes.
func (w *world) whole() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	for _, topic := range kept {
		if w.inSync(ctx, topic) == nil && w.has(topic) {
			return false
		}
	}
	w.wiped = nil
	return true
}

// has reports whether a topic is there, as far as one can tell.
func (w *world) has(topic string) bool {
	for _, n := range w.nodes {
		if l := n.now(); l != nil {
			if _, ok := l.node.Image().Topic(topic); ok {
				return true
			}
		}
	}
	return false
}

// move has leaderships and replicas go elsewhere, and come back.
func (w *world) move() string {
	s := w.speak(false)
	defer s.close()
	partition, node := w.rng.Int32N(partitions), w.rng.IntN(size)
	order := []int32{}
	for _, at := range w.rng.Perm(size) {
		order = append(order, int32(at)+1)
	}
	fewer := w.rng.IntN(2) == 0 && w.wiped == nil // a partition of which one of two is gone has one
	if fewer {
		_ = s.assign(node, partition, order[:2])
		pass(w.between(0, 4*time.Second))
	}
	for s.assign(node, partition, order) != nil {
		pass(500 * time.Millisecond)
		node = (node + 1) % size
	}
	pass(w.between(0, 2*time.Second))
	s.elect(node)
	w.counted("changes", 1)
	return fmt.Sprintf("source-%d is to be on %v, by way of two of them: %v", partition, order, fewer)
}

// assign has a partition of the source be on those replicas.
func (s *speaker) assign(asked int, partition int32, replicas []int32) error {
	q := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	t, p := kmsg.NewAlterPartitionAssignmentsRequestTopic(), kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = partition, replicas
	t.Topic, t.Partitions = "source", append(t.Partitions, p)
	q.Topics, q.TimeoutMillis = append(q.Topics, t), 2500
	_, err := ask[*kmsg.AlterPartitionAssignmentsResponse](context.Background(), s, asked, q)
	return err
}

// elect has the first replicas lead that can; balance does it too.
func (s *speaker) elect(asked int) {
	q := kmsg.NewPtrElectLeadersRequest()
	q.TimeoutMillis = 2500
	_, _ = ask[*kmsg.ElectLeadersResponse](context.Background(), s, asked, q)
}
