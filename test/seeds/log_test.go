//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lease is how long a leader that others have taken the place of may answer what the end
// of its log is (RULES 3.7), with what a heartbeat is on its way.
const lease = time.Second + 100*time.Millisecond

// logCall is what was asked of a partition's log, and what was answered.
type logCall struct {
	what   string // append, read, end
	offset int64  // given, read, or the end
}

// logModel is a log as its end: an append is given the end, what is read lies before it,
// and who asks for the end is told it.
var logModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, _, output any) (bool, any) {
		c, end := output.(logCall), state.(int64)
		switch c.what {
		case "append":
			return c.offset == end, end + 1
		case "read":
			return c.offset < end, end
		}
		return c.offset == end, end
	},
	DescribeOperation: func(_, output any) string {
		c := output.(logCall)
		return fmt.Sprintf("%s: %d", c.what, c.offset)
	},
}

// record is the calls of a topic's partitions.
type record struct {
	w     *world
	topic string
	of    *history // of that topic

	mu    sync.Mutex
	calls map[int32][]porcupine.Operation
	count map[string]int
}

func (w *world) record(topic string) *record {
	return &record{w: w, topic: topic, calls: map[int32][]porcupine.Operation{}, count: map[string]int{}}
}

// note remembers an answer that was just given to what was asked then.
func (r *record) note(partition int32, called time.Time, c logCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := porcupine.Operation{Call: max(0, called.Sub(r.w.began).Nanoseconds()), Return: time.Since(r.w.began).Nanoseconds(), Output: c}
	r.calls[partition] = append(r.calls[partition], op)
	r.count[c.what]++
}

// observers ask every node for the ends of a topic, and for some of its records, whether it
// leads them or not.
type observers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func (w *world) observe(r *record) *observers {
	ctx, stop := context.WithCancel(context.Background())
	o := &observers{stop: stop}
	for node := range size {
		rng := w.dice()
		s := w.speak(false)
		o.wg.Go(func() {
			defer s.close()
			for w.sleep(ctx, time.Duration(rng.Int64N(int64(400*time.Millisecond)))) {
				r.askEnds(ctx, s, node)
				r.askRecords(ctx, s, node, rng)
			}
		})
	}
	return o
}

func (o *observers) finish() {
	o.stop()
	o.wg.Wait()
}

// askEnds asks a node for the ends that readers of all records have.
func (r *record) askEnds(ctx context.Context, s *speaker, node int) {
	q := kmsg.NewPtrListOffsetsRequest()
	q.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = r.topic
	for p := range int32(partitions) {
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p, -1, -1
		t.Partitions = append(t.Partitions, part)
	}
	q.Topics = append(q.Topics, t)
	called := time.Now().Add(-lease)
	a, err := ask[*kmsg.ListOffsetsResponse](ctx, s, node, q)
	if err != nil {
		return
	}
	for _, p := range a.Topics[0].Partitions {
		switch err := kerr.ErrorForCode(p.ErrorCode); {
		case err == nil:
			r.note(p.Partition, called, logCall{"end", p.Offset})
		case errors.Is(err, kerr.OffsetOutOfRange):
			s.w.problem("node %d was asked for the end of %s-%d: %v", node+1, r.topic, p.Partition, err)
		}
	}
}

// askRecords asks a node for some of the last records of a partition; half of the time as one
// that stands in its rack, whom it serves though it only follows (KIP-392).
func (r *record) askRecords(ctx context.Context, s *speaker, node int, rng *rand.Rand) {
	partition, near := rng.Int32N(partitions), rng.IntN(2) == 0
	from := max(0, r.of.known(partition)-rng.Int64N(30))
	q := kmsg.NewPtrFetchRequest()
	if q.MaxWaitMillis = 0; near {
		q.Rack = s.w.nodes[node].rack()
	}
	called := time.Now()
	is, err := s.fetchFrom(ctx, node, q, r.topic, partition, from)
	if err != nil {
		return
	}
	records, _, err := decode(is, from)
	if err != nil {
		s.w.problem("node %d was asked for %s-%d at %d: %v", node+1, r.topic, partition, from, err)
	}
	for i, got := range records {
		if got.offset != from+int64(i) {
			s.w.problem("node %d gives offset %d of %s-%d, asked for %d", node+1, got.offset, r.topic, partition, from+int64(i))
		}
		r.of.read(got.value, partition, got.offset)
	}
	switch {
	case len(records) > 0:
		r.note(partition, called, logCall{"read", records[len(records)-1].offset})
	case !near && is.PreferredReadReplica < 0 && is.HighWatermark < from:
		// That is the end, it says: who does not know, having just begun to lead, gives an error.
		r.note(partition, called.Add(-lease), logCall{"end", is.HighWatermark})
	}
}
