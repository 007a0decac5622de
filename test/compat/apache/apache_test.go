//go:build suites

package apache

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// only is the sequences to run, by a part of their name; "" is all. What is listed
// and does not occur is told only when all were run.
var only = os.Getenv("SEQUENCE")

// Whatever the sequences ask, rustmq answers as Apache Kafka does, but for what
// differences.txt lists.
func TestAnswersAreThoseOfApacheKafka(t *testing.T) {
	var kafka, rustmq *peer
	kafka = startKafka(t)
	rustmq = startRustmq(t)
	warm(t, kafka, rustmq)
	listed := readLines(t, "differences.txt")

	var steps, fields int
	var unlisted []difference
	var sequences int
	asked := map[int16]map[int16]bool{}
	for _, s := range sequencesOf() {
		if !strings.Contains(s.name, only) {
			continue
		}
		sequences++
		began := time.Now()
		for _, l := range laps(s, kafka, rustmq) {
			a, b := l[0], l[1]
			found, n := compare(s.name, a.steps, b.steps)
			fields += n
			steps += len(a.steps)
			for _, st := range a.steps {
				if asked[st.key] == nil {
					asked[st.key] = map[int16]bool{}
				}
				asked[st.key][st.version] = true
			}
			for _, d := range found {
				if !isListed(listed, d) {
					unlisted = append(unlisted, d)
				}
			}
		}
		t.Logf("%s: %v", s.name, time.Since(began).Round(time.Millisecond))
	}
	if len(unlisted) > 0 {
		t.Errorf("%d differences are not listed:\n%s", len(unlisted), strings.Join(lines(unlisted), "\n"))
	}
	if only == "" {
		for _, l := range listed {
			if !l.used {
				t.Errorf("listed, and does not occur: %s", l.text)
			}
		}
		allAsked(t, kafka, rustmq, asked)
	}
	versions := 0
	for _, v := range asked {
		versions += len(v)
	}
	t.Logf("apache: %d sequences, %d requests of %d keys and %d versions, %d fields compared", sequences, steps, len(asked), versions, fields)
}

// together is how many laps of a sequence are run at a time: they wait for disks
// and for each other's answers more than they compute.
const together = 4

// laps runs a sequence as often as its keys have versions, at both servers, and
// returns the pairs of runs in order.
func laps(s sequence, kafka, rustmq *peer) [][2]*run {
	lap := func(n int) [2]*run {
		a, b := newRun(s, n, kafka, rustmq), newRun(s, n, rustmq, kafka)
		var both sync.WaitGroup
		both.Go(func() { a.all(s) })
		both.Go(func() { b.all(s) })
		both.Wait()
		return [2]*run{a, b}
	}
	first := lap(0) // which tells how many there are
	more := max(first[0].wide, first[1].wide)
	if s.laps > 0 {
		more = s.laps - 1
	}
	all := make([][2]*run, more+1)
	all[0] = first
	free := make(chan struct{}, together)
	var running sync.WaitGroup
	for n := 1; n <= more; n++ {
		free <- struct{}{}
		running.Go(func() {
			all[n] = lap(n)
			<-free
		})
	}
	running.Wait()
	return all
}

func isListed(listed []*line, d difference) (found bool) {
	for _, l := range listed {
		if l.covers(d) {
			l.used, found = true, true
		}
	}
	return found
}

// allAsked fails for a version that both announce and no sequence asks.
func allAsked(t *testing.T, kafka, rustmq *peer, asked map[int16]map[int16]bool) {
	t.Helper()
	for key, a := range kafka.versions {
		b, ok := rustmq.versions[key]
		if !ok {
			continue
		}
		low := max(a.min, b.min)
		if key == int16(kmsg.Produce) {
			low = 0
		}
		for v := low; v <= min(a.max, b.max); v++ {
			if !asked[key][v] {
				t.Errorf("%s v%d: both announce it, and no sequence asks it", kmsg.NameForKey(key), v)
			}
		}
	}
}

// warm waits until both servers' coordinators serve: their topics are made at the
// first question.
func warm(t *testing.T, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		r := newRun(sequence{name: "warm"}, 0, p, p)
		for kind := range int8(2) {
			r.until("coordinator", func() bool {
				q := kmsg.NewPtrFindCoordinatorRequest()
				q.CoordinatorKeys, q.CoordinatorType = []string{"warm"}, kind
				a := r.silent(q).(*kmsg.FindCoordinatorResponse)
				return len(a.Coordinators) == 1 && a.Coordinators[0].ErrorCode == 0
			})
		}
		// Enough names to meet every partition of the coordinators' topics.
		var names []string
		for i := range 600 {
			names = append(names, fmt.Sprintf("warm-%d", i))
		}
		r.until("transactions", func() bool {
			q := kmsg.NewPtrDescribeTransactionsRequest()
			q.TransactionalIDs = names
			return !slices.ContainsFunc(r.silent(q).(*kmsg.DescribeTransactionsResponse).TransactionStates, func(s kmsg.DescribeTransactionsResponseTransactionState) bool {
				return s.ErrorCode != kerr.TransactionalIDNotFound.Code
			})
		})
		r.until("producer ids", func() bool {
			q := kmsg.NewPtrInitProducerIDRequest()
			q.TransactionTimeoutMillis = 60_000
			return r.silent(q).(*kmsg.InitProducerIDResponse).ErrorCode == 0
		})
		r.until("groups", func() bool {
			q := kmsg.NewPtrDescribeGroupsRequest()
			q.Groups = names
			return !slices.ContainsFunc(r.silent(q).(*kmsg.DescribeGroupsResponse).Groups, func(g kmsg.DescribeGroupsResponseGroup) bool {
				return g.ErrorCode != 0 && g.ErrorCode != kerr.GroupIDNotFound.Code
			})
		})
		for _, c := range r.conns {
			c.close()
		}
	}
}
