//go:build chaos

package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// syncLimit is far above what a replica takes to be in sync again.
const syncLimit = 60 * time.Second

// inSync waits until each partition of a topic has a leader, and all replicas in sync.
func (c *cluster) inSync(topic string) error {
	client, err := kgo.NewClient(clientOptions(c)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), syncLimit)
	defer cancel()
	for {
		topics, err := kadm.NewClient(client).ListTopics(ctx, topic)
		if err == nil {
			err = topics.Error()
		}
		whole := err == nil
		for _, p := range topics[topic].Partitions {
			whole = whole && p.Leader >= 0 && len(p.ISR) == len(c.nodes)
		}
		if whole {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all replicas of %s are in sync after %v: %v: %v", topic, syncLimit, topics[topic].Partitions, err)
		case <-time.After(50 * time.Millisecond):
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

// replicasIn reads the log of a server that has ended, as it lies.
func replicasIn(dir string, topic storage.TopicID) (map[int32]replica, error) {
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		return nil, err
	}
	var frames []standing
	err = wal.Inspect(fsys, ".", func(f wal.Inspected) error {
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

// agree waits until all replicas of topics that nobody writes are in sync, ends the
// servers, and compares their logs byte by byte, as far back as all of them reach.
func (c *cluster) agree(ctx context.Context, topics ...string) error {
	client, err := kgo.NewClient(clientOptions(c)...)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, topic := range topics {
		if err := c.inSync(topic); err != nil {
			return err
		}
	}
	described, err := kadm.NewClient(client).ListTopics(ctx, topics...)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the ids of %v: %w", topics, err)
	}
	ends, err := endsOf(ctx, client, topics...)
	if err != nil {
		return err
	}
	for _, s := range c.nodes {
		s.kill()
	}
	compared := 0
	for _, topic := range topics {
		logs := make([]map[int32]replica, len(c.nodes))
		for i := range c.nodes {
			if logs[i], err = replicasIn(c.data(i)+"/wal", storage.TopicID(described[topic].ID)); err != nil {
				return fmt.Errorf("read the log of node %d: %w", i+1, err)
			}
		}
		for p := range int32(partitions) {
			end, _ := ends.Lookup(topic, p)
			for i := range logs {
				for j := range i {
					n, diverged := sameBatches(logs[i][p], logs[j][p], storage.Offset(end.Offset))
					if compared += n; diverged != nil {
						err = errors.Join(err, fmt.Errorf("partition %d of %s on nodes %d and %d: %w", p, topic, i+1, j+1, diverged))
					}
				}
			}
		}
	}
	if compared == 0 {
		err = errors.Join(err, fmt.Errorf("no batch of %v is in two logs", topics))
	}
	c.counts["batches_compared"] += int64(compared)
	c.t.Logf("%d batches of %v are the same in two logs", compared, topics)
	return err
}

// sameBatches compares two replicas of a partition that ends at end, and returns how many
// batches they have in common. One that was begun anew there has none.
func sameBatches(a, b replica, end storage.Offset) (compared int, err error) {
	if len(a) == 0 || len(b) == 0 {
		return 0, nil
	}
	from := max(contiguousFrom(a, end), contiguousFrom(b, end))
	if from == end {
		return 0, fmt.Errorf("one of them does not end at %d", end)
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
