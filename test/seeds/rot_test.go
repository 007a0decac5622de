//go:build seeds

package seeds

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"rustmq.dev/rustmq/storage/disk"
)

// rot has a bit of what a node has logged flip while it is away, and then makes it the leader
// of a partition: what it cannot read back whole it has to fetch from the others first.
func (w *world) rot(n *node) string {
	if !w.mayLose() {
		return fmt.Sprintf("node %d keeps its bits", n.id)
	}
	how := ending(w.rng.IntN(3))
	w.finish(n, how)
	bit, err := w.flip(n)
	if err != nil {
		w.problem("flip a bit of node %d: %v", n.id, err)
	}
	w.wiped = n
	w.flips++
	w.counted("bits_flipped", 1)
	pass(w.between(0, 3*time.Second))
	n.start()
	partition := w.rng.Int32N(partitions)
	leads := w.makeLeader(n, partition)
	return fmt.Sprintf("node %d %v, %s flipped; it leads source-%d then: %v", n.id, how, bit, partition, leads)
}

// flip changes one bit of the segments of a node that has ended, where something is written.
func (w *world) flip(n *node) (what string, err error) {
	n.mu.Lock()
	mem := n.mem
	n.mu.Unlock()
	names, err := mem.List("wal")
	if err != nil {
		return "", err
	}
	contents, written := map[string][]byte{}, 0 // written: bytes that are not zero
	for _, name := range names {
		if strings.HasPrefix(name, "segment-") {
			b, err := disk.ReadFile(mem, "wal/"+name)
			if err != nil {
				return "", err
			}
			contents[name] = b
			written += len(b) - bytes.Count(b, []byte{0})
		}
	}
	if written == 0 {
		return "", errors.New("nothing is written")
	}
	left := w.rng.IntN(written)
	for _, name := range names {
		for at, is := range contents[name] {
			if is == 0 {
				continue
			}
			if left--; left < 0 {
				return flipAt(mem, "wal/"+name, int64(at), is, w.rng.IntN(8))
			}
		}
	}
	panic("fewer bytes than were counted")
}

func flipAt(mem *disk.Mem, name string, at int64, is byte, bit int) (what string, err error) {
	f, err := mem.Open(name)
	if err != nil {
		return "", err
	}
	err = errors.Join(f.WriteSync([][]byte{{is ^ 1<<bit}}, at), f.Close())
	return fmt.Sprintf("%s, byte %d, bit %d", name, at, bit), err
}

// makeLeader has a node lead a partition of the source, and reports whether it comes to that
// in time: it has to be in sync first.
func (w *world) makeLeader(n *node, partition int32) bool {
	s := w.speak(false)
	defer s.close()
	order := []int32{int32(n.id), int32(n.id%size + 1), int32((n.id+1)%size + 1)}
	for try := range 40 {
		asked := (n.id + try) % size
		if s.assign(asked, partition, order) == nil {
			s.elect(asked)
		}
		if w.leader(partition) == n {
			w.led++
			w.counted("changes", 1)
			return true
		}
		pass(500 * time.Millisecond)
	}
	return false
}
