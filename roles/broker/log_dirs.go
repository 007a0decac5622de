package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// describeLogDirs shows the data directory as the one log directory. The size of a
// partition is that of its batches in the WAL: what is in the bucket only takes no
// room here.
func (b *Broker) describeLogDirs(_ context.Context, _ *kafka.Request, q *kmsg.DescribeLogDirsRequest) *kmsg.DescribeLogDirsResponse {
	p := q.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = b.opt.DataDir
	dir.TotalBytes, dir.UsableBytes = -1, -1 // not known
	if b.opt.Space != nil {
		free, total, err := b.opt.Space()
		if err != nil {
			b.log.Warn("the space of the data directory is not known", "error", err)
		} else {
			dir.TotalBytes, dir.UsableBytes = total, free
		}
	}
	if b.Health() != nil {
		dir.ErrorCode = code(b.Health())
	}
	wanted := map[string]map[int32]bool{}
	for _, t := range q.Topics {
		if wanted[t.Topic] == nil {
			wanted[t.Topic] = map[int32]bool{}
		}
		for _, i := range t.Partitions {
			wanted[t.Topic][i] = true
		}
	}
	for t := range b.images.image().Topics() {
		partitions, named := wanted[t.Name]
		if q.Topics != nil && !named {
			continue
		}
		out := kmsg.NewDescribeLogDirsResponseDirTopic()
		out.Topic = t.Name
		for i := range int32(t.Partitions.Len()) {
			if named && !partitions[i] {
				continue
			}
			l, here := b.store.Log(storage.PartitionID{Topic: t.ID, Index: i})
			if !here {
				continue
			}
			part := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			part.Partition, part.Size = i, l.Footprint().WAL
			out.Partitions = append(out.Partitions, part)
		}
		if len(out.Partitions) > 0 {
			dir.Topics = append(dir.Topics, out)
		}
	}
	p.Dirs = append(p.Dirs, dir)
	return p
}
