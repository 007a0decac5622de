package broker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// holdingsWait is how long a leader may take to say what it holds: who asks for a list waits.
const holdingsWait = 3 * time.Second

// PartitionNamed names a partition.
type PartitionNamed struct {
	Topic string
	ID    storage.PartitionID
}

// partitionNamed is PartitionNamed as a request has it.
type partitionNamed struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// Holding is what the leader of a partition has of it.
type Holding struct {
	LogStart      storage.Offset `json:"log_start"`
	HighWatermark storage.Offset `json:"high_watermark"`
	LocalStart    storage.Offset `json:"local_start"`
	WALBytes      int64          `json:"wal_bytes"`
	MemoryBytes   int64          `json:"memory_bytes"`
	TailBytes     int64          `json:"tail_bytes"` // that the bucket does not have
	BucketBytes   int64          `json:"bucket_bytes"`
	BucketEnd     storage.Offset `json:"bucket_end"`
	CleanedEnd    storage.Offset `json:"cleaned_end"`
	Leader        int32          `json:"leader"`            // who answered
	Unknown       string         `json:"unknown,omitempty"` // why the rest is zero; "": it is not
}

// Holdings asks the leaders of partitions what they hold, all at once, and waits no longer than
// holdingsWait for any. The answers are in the order of the questions.
func (b *Broker) Holdings(ctx context.Context, wanted []PartitionNamed) []Holding {
	b.settle(ctx) // who asks may have made the topic
	return holdings(b.images.image(), wanted, func(at int32, q []partitionNamed) ([]Holding, error) {
		if at == b.opt.NodeID {
			return b.holdingsHere(q), nil
		}
		ctx, cancel := context.WithTimeout(ctx, holdingsWait)
		defer cancel()
		return askOwn[[]Holding](ctx, b, at, peerHoldings, q)
	})
}

// holdings has each leader asked, by ask.
func holdings(image *metadata.Image, wanted []PartitionNamed, ask func(at int32, q []partitionNamed) ([]Holding, error)) []Holding {
	out := make([]Holding, len(wanted))
	by := map[int32][]int{}
	for i, w := range wanted {
		_, p := image.Partition(w.ID)
		switch {
		case p == nil:
			out[i].Unknown = "the partition is gone"
		case p.Leader == metadata.NoLeader:
			out[i].Unknown = "the partition has no leader"
		default:
			by[p.Leader] = append(by[p.Leader], i)
		}
	}
	var asking sync.WaitGroup // each writes the answers to its own questions
	for at, places := range by {
		asking.Go(func() {
			for part := range slices.Chunk(places, partitionsAtOnce) {
				q := make([]partitionNamed, len(part))
				for n, i := range part {
					q[n] = partitionNamed{wanted[i].Topic, wanted[i].ID.Index}
				}
				is, err := ask(at, q)
				if err == nil && len(is) != len(part) {
					err = errNoAnswer
				}
				for n, i := range part {
					if err != nil {
						out[i].Unknown = fmt.Sprintf("broker %d, which leads it, does not say: %v", at, err)
					} else {
						out[i] = is[n]
					}
				}
			}
		})
	}
	asking.Wait()
	return out
}

// holdingsHere says what this broker holds of partitions that it leads.
func (b *Broker) holdingsHere(q []partitionNamed) []Holding {
	out := make([]Holding, len(q))
	for i, p := range q {
		l, _, err := b.leaderOf(p.Topic, p.Partition, storage.NoEpoch)
		if err != nil {
			out[i].Unknown = err.Error()
			continue
		}
		f := l.Footprint()
		out[i] = Holding{
			LogStart: l.LogStart(), HighWatermark: l.HighWatermark(), LocalStart: l.LocalStart(), WALBytes: f.WAL, MemoryBytes: f.Memory, TailBytes: l.Unuploaded(), Leader: b.opt.NodeID,
		}
		if _, in := b.inBucket(l.ID()); in != nil {
			out[i].BucketBytes, out[i].BucketEnd, out[i].CleanedEnd = in.TieredBytes(), in.CommittedEnd(), in.Cleaning().To
		}
	}
	return out
}
