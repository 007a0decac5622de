package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// pipelining is an idempotent producer that has several batches on their way, and after an
// error sends again from the first that failed on, as clients do.
type pipelining struct {
	id     int64
	c      *client
	values []string // of the batches, by sequence
	bases  []int64  // of those that are acked
}

func (p *pipelining) send(t *testing.T, sequence int) {
	t.Helper()
	records := batchWith(t, batch.BuilderOptions{Producer: &batch.Producer{ID: p.id, BaseSequence: int32(sequence)}}, p.values[sequence])
	q := produceTo("in", 0, -1, records)
	q.Version = 9
	p.c.send(q)
}

func (p *pipelining) receive() (code int16, base int64) {
	part := p.c.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return part.ErrorCode, part.BaseOffset
}

// TestLanesKeepOrderWhateverFails: modules come and go, are not ready, and the topic that they
// route to is away, while producers have several batches on their way. None goes before one of
// its producer that came first, none is acked that is nowhere, and none is refused for good.
func TestLanesKeepOrderWhateverFails(t *testing.T) {
	m, w := &modules{t: t}, &wordy{}
	m.use(w, "")
	c := newCluster(t, 2, false, func(topic string, _ int32) int32 { return map[string]int32{"in": 1, "far": 2}[topic] },
		func(o *Options) { o.Transforms = m.set.Load })
	for _, topic := range []string{"in", "far"} {
		c.controller.createTopic(topic, 1)
	}
	c.settle()
	rng := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	stir := func() {
		switch rng.IntN(8) {
		case 0:
			m.use(absent{}, "")
		case 1:
			m.set.Store(nil)
		case 2, 3:
			m.use(w, "")
		case 4:
			c.sever(2, true)
		case 5, 6:
			c.sever(2, false)
		}
	}
	const atOnce = 5
	producers := []*pipelining{{id: 7, c: c.nodes[1].connect()}, {id: 8, c: c.nodes[1].connect()}}
	round := func(disturbed bool, want int) {
		t.Helper()
		for _, p := range producers {
			for len(p.values) < min(len(p.bases)+atOnce, want) {
				p.values = append(p.values, fmt.Sprintf([]string{"a:%d:%d", "up:%d:%d", "drop:%d:%d", "to:far:%d:%d"}[rng.IntN(4)], p.id, len(p.values)))
			}
			for i := len(p.bases); i < len(p.values); i++ {
				p.send(t, i)
				if disturbed {
					stir()
				}
			}
		}
		for _, p := range producers {
			failed := false
			for i := len(p.bases); i < len(p.values); i++ {
				code, base := p.receive()
				switch {
				case code != 0 && !failed && code != kerr.KafkaStorageError.Code:
					t.Fatalf("batch %d of producer %d is refused: %v", i, p.id, kerr.ErrorForCode(code))
				case code == 0 && failed:
					t.Fatalf("batch %d of producer %d is taken, and one before it is not", i, p.id)
				case code == 0:
					p.bases = append(p.bases, base)
				}
				failed = failed || code != 0
			}
			if n := len(p.bases); n > 0 && rng.IntN(3) == 0 { // the last once more
				p.send(t, n-1)
				if code, base := p.receive(); code == 0 && base != p.bases[n-1] {
					t.Fatalf("batch %d of producer %d once more: offset %d, was %d", n-1, p.id, base, p.bases[n-1])
				}
			}
		}
	}
	for i := range 60 {
		round(true, 3*i)
	}
	c.sever(2, false)
	m.use(w, "")
	for range 1000 {
		round(false, 200)
	}
	in, far := c.nodes[1].connect().all("in", 0), c.nodes[2].connect().all("far", 0)
	for _, p := range producers {
		if len(p.bases) != 200 || !slices.IsSorted(p.bases) {
			t.Fatalf("producer %d: %d batches are acked, at %v", p.id, len(p.bases), p.bases)
		}
		for i, value := range p.values {
			is := func(v string) bool { return slices.Contains(in, fmt.Sprintf("%d %s", p.bases[i], v)) }
			kept := is(value) || is(strings.ToUpper(value))
			sent := slices.ContainsFunc(far, func(r string) bool { return strings.HasSuffix(r, " "+value) })
			if !kept && !strings.HasPrefix(value, "drop") && !(sent && strings.HasPrefix(value, "to:")) {
				t.Errorf("%s is acked at %d, and nowhere", value, p.bases[i])
			}
		}
	}
}
