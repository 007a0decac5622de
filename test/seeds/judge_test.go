//go:build seeds

package seeds

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/storage/wal"
)

// watch looks at the metadata of all nodes: what one has at an offset the others have too
// (promise 10), and an epoch of a partition has one leader (promise 3).
type watch struct {
	w    *world
	stop context.CancelFunc
	wg   sync.WaitGroup

	images  map[uint64][sha256.Size]byte // by offset
	first   map[uint64]int               // whose it was
	leaders map[reign]int32
	shared  int          // images that were compared
	seen    [size]uint64 // the offset that was looked at last, of each node
}

// reign is an epoch of a partition.
type reign struct {
	id    storage.PartitionID
	epoch storage.Epoch
}

func (w *world) watch() *watch {
	ctx, stop := context.WithCancel(context.Background())
	v := &watch{w: w, stop: stop, images: map[uint64][sha256.Size]byte{}, first: map[uint64]int{}, leaders: map[reign]int32{}}
	v.wg.Go(func() {
		for w.sleep(ctx, 500*time.Millisecond) {
			for i, n := range w.nodes {
				if l := n.now(); l != nil {
					if image := l.node.Applied(); image.Offset() != v.seen[i] && image.ClusterID() != "" {
						v.seen[i] = image.Offset()
						v.look(n.id, image)
					}
				}
			}
		}
	})
	return v
}

func (v *watch) look(node int, image *metadata.Image) {
	sum := sha256.Sum256(image.Snapshot())
	if was, ok := v.images[image.Offset()]; !ok {
		v.images[image.Offset()], v.first[image.Offset()] = sum, node
	} else if first := v.first[image.Offset()]; first != node {
		if v.shared++; was != sum {
			v.w.problem("nodes %d and %d have different metadata at offset %d", first, node, image.Offset())
		}
	}
	for t := range image.Topics() {
		for i := range t.Partitions.Len() {
			p := t.Partitions.At(i)
			if p.Leader == metadata.NoBroker {
				continue
			}
			r := reign{storage.PartitionID{Topic: t.ID, Index: int32(i)}, p.LeaderEpoch}
			if was, ok := v.leaders[r]; ok && was != p.Leader {
				v.w.problem("epoch %d of %s-%d is led by brokers %d and %d", p.LeaderEpoch, t.Name, i, was, p.Leader)
			}
			v.leaders[r] = p.Leader
		}
	}
}

func (v *watch) finish() {
	v.stop()
	v.wg.Wait()
	if v.shared == 0 {
		v.w.problem("no two nodes were seen at one offset of the metadata: this seed shows less than it should")
	}
}

// judge compares what lies on the disks, once all replicas are in sync. It ends the nodes.
func (w *world) judge(c *crowd) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	topics := c.replicated()
	ends := map[string]kadm.ListedOffsets{}
	for i, name := range topics {
		topic := w.inSync(ctx, name)
		if topic == nil {
			w.problem("not all replicas of %s are in sync, with all well for %v", name, patience)
			return
		}
		var err error
		if ends[name], err = w.ends(ctx, name); err != nil {
			w.problem("ask for the ends of %s: %v", name, err)
			return
		}
		if i == 0 {
			w.objects(ctx)
		}
	}
	image := w.nodes[0].now().node.Image()
	for _, n := range w.nodes {
		w.finish(n, killed)
	}
	for _, name := range topics {
		topic, _ := image.Topic(name)
		w.compare(topic, ends[name], name == topics[0])
	}
}

// compare compares the replicas of a topic. Some of them have to have something in common,
// if so much is written.
func (w *world) compare(topic *metadata.Topic, ends kadm.ListedOffsets, much bool) {
	var err error
	compared := 0
	var logs [size]map[int32]replica
	for i, n := range w.nodes {
		if logs[i], err = replicasIn(n.mem, topic.ID); err != nil {
			w.problem("read the log of node %d: %v", n.id, err)
			return
		}
	}
	for p := range int32(partitions) {
		end, _ := ends.Lookup(topic.Name, p)
		for i := range logs {
			for j := range i {
				n, err := sameBatches(logs[i][p], logs[j][p], storage.Offset(end.Offset))
				if compared += n; err != nil {
					w.problem("%s-%d on nodes %d and %d: %v", topic.Name, p, i+1, j+1, err)
				}
			}
		}
	}
	w.counted("batches_compared", compared)
	if compared == 0 && much {
		w.problem("no batch of %s is in two logs: this seed shows less than it should", topic.Name)
	}
}

// objects holds the catalogue against the bucket: what a range names is there (promise 4).
func (w *world) objects(ctx context.Context) {
	if err := w.level(ctx); err != nil {
		w.problem("%v", err)
		return
	}
	image := w.nodes[0].now().node.Image()
	for o := range image.ObjectsIn(metadata.Committed) {
		key := object.Key("", image.ClusterID(), controller.FirstIncarnation, o.ID)
		if _, err := w.sky.memory.Stat(ctx, key); err != nil {
			w.problem("object %s is in the catalogue: %v", o.ID, err)
		}
		w.named++
	}
	w.counted("objects_audited", w.named)
}

// level waits until all nodes know at least what any of them knows now of the metadata, and
// a while longer, in which their brokers carry it out.
func (w *world) level(ctx context.Context) error {
	known := func() (least, most uint64) {
		least = math.MaxUint64
		for _, n := range w.nodes {
			offset := uint64(0)
			if l := n.now(); l != nil {
				offset = l.node.Image().Offset()
			}
			least, most = min(least, offset), max(most, offset)
		}
		return least, most
	}
	_, all := known()
	for {
		least, most := known()
		if least >= all && least > 0 {
			w.sleep(ctx, time.Second)
			return nil
		}
		if !w.sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("a node knows the metadata up to %d, another up to %d, with all well", least, most)
		}
	}
}

// inSync waits until all replicas of a topic are; nil: they are not.
func (w *world) inSync(ctx context.Context, name string) *metadata.Topic {
	for {
		if l := w.nodes[0].now(); l != nil {
			if t, ok := l.node.Image().Topic(name); ok {
				whole := true
				for i := range t.Partitions.Len() {
					p := t.Partitions.At(i)
					whole = whole && p.Leader != metadata.NoBroker && len(p.ISR) == size
				}
				if whole {
					return t
				}
			}
		}
		if !w.sleep(ctx, 100*time.Millisecond) {
			return nil
		}
	}
}

// replica is what a log holds of a partition: the batches by base offset.
type replica map[storage.Offset]heldBatch

type heldBatch struct {
	next storage.Offset
	sum  [sha256.Size]byte
}

// standing is a frame that nothing has taken the place of.
type standing struct {
	sequence uint64
	header   wal.Header
	batches  replica
}

// replicasIn reads the log of a node that has ended, as it lies.
func replicasIn(fsys disk.FS, topic storage.TopicID) (map[int32]replica, error) {
	var frames []standing
	err := wal.Inspect(fsys, "wal", func(f wal.Inspected) error {
		if f.Problem != "" {
			return nil // the end may be torn, which loses nothing that was said to be there
		}
		// A recovery goes on where what it stands by ends, in a fresh file.
		frames = frames[:sort.Search(len(frames), func(i int) bool { return frames[i].sequence >= f.Sequence })]
		if f.Header.Partition.Topic != topic {
			return nil
		}
		s := standing{sequence: f.Sequence, header: f.Header, batches: replica{}}
		for rest := f.Payload; f.Header.Kind == wal.KindData && len(rest) > 0; {
			b, after, err := batch.Next(rest)
			if err != nil {
				return fmt.Errorf("frame %d of %s: %w", f.Sequence, f.File, err)
			}
			s.batches[b.BaseOffset()] = heldBatch{next: b.NextOffset(), sum: sha256.Sum256(rest[:len(rest)-len(after)])}
			rest = after
		}
		frames = append(frames, s)
		return nil
	})
	all := map[int32]replica{}
	for _, f := range frames {
		r := all[f.header.Partition.Index]
		if r == nil {
			r = replica{}
			all[f.header.Partition.Index] = r
		}
		switch f.header.Kind {
		case wal.KindTruncate:
			maps.DeleteFunc(r, func(base storage.Offset, _ heldBatch) bool { return base >= f.header.Offset })
		case wal.KindDrop:
			clear(r)
		case wal.KindData:
			maps.Copy(r, f.batches)
		}
	}
	return all, err
}

// sameBatches compares two replicas of a partition that ends at end, and returns how many
// batches they have in common. One that was begun anew there has none.
func sameBatches(a, b replica, end storage.Offset) (compared int, err error) {
	if len(a) == 0 || len(b) == 0 {
		return 0, nil
	}
	from := max(contiguousFrom(a, end), contiguousFrom(b, end))
	if from == end {
		return 0, errors.New("one of them does not end where the partition does")
	}
	for _, base := range slices.Sorted(maps.Keys(a)) {
		if base >= from && base < end {
			if a[base] != b[base] {
				return 0, fmt.Errorf("they differ at offset %d: %v and %v", base, a[base], b[base])
			}
			compared++
		}
	}
	return compared, nil
}

// contiguousFrom is the least offset from which a replica has all batches up to end; end
// if it has none.
func contiguousFrom(r replica, end storage.Offset) storage.Offset {
	from := end
	for _, base := range slices.Backward(slices.Sorted(maps.Keys(r))) {
		if r[base].next == from {
			from = base
		}
	}
	return from
}
