//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// flipBit changes one bit of a batch of a topic in the log of a server that has ended.
func flipBit(rng *rand.Rand, dir string, topic storage.TopicID) (what string, err error) {
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		return "", err
	}
	type frame struct {
		file      string
		at        int64
		length    int
		partition int32
		offset    storage.Offset
	}
	var frames []frame
	err = wal.Inspect(fsys, ".", func(f wal.Inspected) error {
		if h := f.Header; f.Problem == "" && h.Kind == wal.KindData && h.Partition.Topic == topic && len(f.Payload) > 0 {
			frames = append(frames, frame{f.File, f.At, len(f.Payload), h.Partition.Index, h.Offset})
		}
		return nil
	})
	if err != nil || len(frames) == 0 {
		return "", errors.Join(fmt.Errorf("no batch of topic %v is in %s", topic, dir), err)
	}
	f := frames[rng.IntN(len(frames))]
	at, bit := f.at+rng.Int64N(int64(f.length)), rng.IntN(8)
	file, err := os.OpenFile(filepath.Join(dir, f.file), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	b := make([]byte, 1)
	if _, err = file.ReadAt(b, at); err == nil {
		b[0] ^= 1 << bit
		_, err = file.WriteAt(b, at)
	}
	return fmt.Sprintf("the batch at offset %d of partition %d: %s, byte %d, bit %d", f.offset, f.partition, f.file, at, bit), errors.Join(err, file.Sync(), file.Close())
}

// makeLeader has a server lead all partitions of a topic, once it is in sync.
func (c *cluster) makeLeader(i int, topic string) error {
	client, err := kgo.NewClient(clientOptions(c)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), syncLimit)
	defer cancel()
	order := []int32{int32(i) + 1}
	for j := range c.nodes {
		if j != i {
			order = append(order, int32(j)+1)
		}
	}
	assign, all := kadm.AlterPartitionAssignmentsReq{}, kadm.TopicsSet{}
	for p := range int32(partitions) {
		assign.Assign(topic, p, order)
		all.Add(topic, p)
	}
	admin := kadm.NewClient(client)
	for {
		_, err := admin.AlterPartitionAssignments(ctx, assign)
		if err == nil {
			_, err = admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, all)
		}
		by, asked := c.leaders(topic)
		if asked == nil && !slices.ContainsFunc(by[:], func(leader int) bool { return leader != i }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %d does not come to lead all of %s in %v: %v lead: %w", i+1, topic, syncLimit, by, errors.Join(err, asked))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A bit of what one server has logged flips while it is away, and then it is made the leader
// of all: what it cannot read back it has from the others, nothing that was acked is lost,
// and it is whole again.
func TestClusterSurvivesAFlippedBit(t *testing.T) {
	t.Parallel()
	d := newCluster(t, 82, 3).drill(1000)
	client, err := kgo.NewClient(clientOptions(d)...)
	must(t, err)
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(t.Context(), d.history.topic)
	must(t, errors.Join(err, topics.Error()))
	topic := storage.TopicID(topics[d.history.topic].ID)
	healed := 0
	flip := func() string {
		d.judge(d.inSync(d.history.topic)) // so that the others have all
		i := len(d.done) % len(d.nodes)
		d.kill(i)
		bit, err := flipBit(d.rng, d.data(i)+"/wal", topic)
		d.judge(err)
		d.counts["bits_flipped"]++
		d.restart(i)
		d.judge(d.makeLeader(i, d.history.topic))
		d.judge(d.settle(d.history))
		d.judge(d.inSync(d.history.topic))
		if strings.Contains(d.nodes[i].log.String(), "a damaged replica has begun anew") {
			healed++
			d.counts["replicas_healed"]++
		}
		return fmt.Sprintf("%s, of node %d, which led then", bit, i+1)
	}
	for range len(d.nodes) {
		d.done = append(d.done, flip())
	}
	d.suffer(0, flip)
	d.finish()
	if healed == 0 {
		t.Error("no server was healed of what it could not read: this drill proves nothing")
	}
	t.Logf("%d of %d servers have begun a replica anew", healed, len(d.done))
}
