//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stallRounds are the stalls that one cluster goes through in TestLeadersStallOverAndOver.
const stallRounds = 20

// A server that leads a partition is paused, or its links to or from the others lose
// everything, until another leads and acks, over and over, for SOAK minutes. What the one that
// led is sent then with acks=1, by a client that knows of no other, it does not ack.
func TestLeadersStallOverAndOver(t *testing.T) {
	begun, least := time.Now(), 2*soak(t)
	for lane := range 2 {
		t.Run(fmt.Sprint("lane=", lane), func(t *testing.T) {
			t.Parallel()
			for round := 0; round == 0 || time.Since(begun) < least; round++ {
				if !t.Run(fmt.Sprint("round=", round), func(t *testing.T) { stallLeaders(t, 95+lane, round) }) {
					return
				}
			}
		})
	}
}

// stallLeaders is the life of one cluster.
func stallLeaders(t *testing.T, number, round int) {
	c := newNetworkCluster(t, number, 3)
	c.vary(round)
	// Who hears nothing is left soon, or a stall takes as long as a client is patient.
	c.clients = []kgo.Opt{kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(2 * time.Second)}
	d := c.drill(300)
	alone := &producer{writer: 3}
	refused := 0
	for range stallRounds {
		d.judge(d.inSync(d.history.topic))
		leaders, err := d.leaders(d.history.topic)
		must(t, err)
		partition := d.rng.IntN(partitions)
		s := &stall{drilled: d, partition: int32(partition), leader: leaders[partition], alone: alone}
		if s.happens() {
			refused++
		}
	}
	if refused < stallRounds/2 {
		d.judge(fmt.Errorf("%d leaders of %d were found out of office and asked: this drill shows less than it should", refused, stallRounds))
	}
	d.done = append(d.done, fmt.Sprintf("%d stalls, and in %d of them the one that had led was asked", stallRounds, refused))
	d.judge(d.settle(d.history))
	d.finishBeside(alone)
}

// stall is that of one leader.
type stall struct {
	*drilled
	partition int32
	leader    int       // a server
	alone     *producer // counts what was sent to it alone
}

// happens reports whether another led when the stalled one was asked, and it did not ack.
func (s *stall) happens() bool {
	t := s.t
	t.Helper()
	client, err := kgo.NewClient(append(clientOptions(only{s.cluster, s.leader}), kgo.DefaultProduceTopic(s.history.topic), kgo.RequiredAcks(kgo.LeaderAck()),
		kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	must(t, err)
	defer client.Close()
	if s.send(client) != nil { // it has just lost its place
		return false
	}
	paused, how := s.rng.IntN(2) == 0, 1+s.rng.IntN(3)
	answered := make(chan error, 1)
	if paused {
		process := s.nodes[s.leader].cmd.Process
		must(t, process.Signal(syscall.SIGSTOP))
		s.judge(s.advance(s.partition))
		go func() { answered <- s.send(client) }() // it finds it when it wakes
		<-time.After(s.between(50*time.Millisecond, 2*time.Second))
		must(t, process.Signal(syscall.SIGCONT))
		s.counts["pauses"]++
	} else {
		s.links(how, s.network.cut)
		s.judge(s.advance(s.partition))
		<-time.After(s.between(time.Second, 2*time.Second)) // its lease is out
		go func() { answered <- s.send(client) }()
	}
	err = <-answered
	now, lookErr := leadersBy(only{s.cluster, (s.leader + 1) % len(s.nodes)}, s.history.topic)
	if !paused {
		s.links(how, s.network.mend)
		s.counts["partitions"]++
	}
	s.judge(lookErr)
	s.judge(s.settle(s.history))
	if now[s.partition] == s.leader {
		return false // it may have come back before it was asked
	}
	if err == nil {
		s.judge(fmt.Errorf("server %d acked a record of partition %d with acks=1, and server %d leads it", s.leader+1, s.partition, now[s.partition]+1))
	}
	return true
}

// links does something with those of the leader to the others (1), from them (2), or both (3).
func (s *stall) links(how int, do func(from, to int)) {
	for other := range s.nodes {
		if other == s.leader {
			continue
		}
		if how&1 != 0 {
			do(s.leader, other)
		}
		if how&2 != 0 {
			do(other, s.leader)
		}
	}
}

// send sends one record, once. Whatever is said, it may be there.
func (s *stall) send(client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	i := newID(s.alone.writer, uint32(s.alone.sent.Add(1)))
	s.alone.unsure.Add(1)
	return client.ProduceSync(ctx, &kgo.Record{Partition: s.partition, Value: i.value()}).FirstErr()
}
