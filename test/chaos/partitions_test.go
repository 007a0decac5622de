//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newNetworkCluster starts size servers on hosts of their own.
func newNetworkCluster(t *testing.T, number, size int, set ...string) *cluster {
	t.Helper()
	c := assemble(t, number, size, set...)
	c.network = newNetwork(t, number, size)
	c.begin()
	return c
}

// link is a direction that packets are lost in.
type link struct{ from, to int }

// partition returns what to cut, at random, and what that is. Of the others and the
// clients each must reach a majority.
func (c *cluster) partition() (links []link, what string) {
	a := c.rng.IntN(len(c.nodes))
	b := (a + 1 + c.rng.IntN(len(c.nodes)-1)) % len(c.nodes)
	switch c.rng.IntN(5) {
	case 0:
		return []link{{a, b}, {b, a}}, fmt.Sprintf("%d and %d apart", a+1, b+1)
	case 1:
		return []link{{a, b}}, fmt.Sprintf("%d not to %d", a+1, b+1)
	}
	var to, from []link
	for other := range len(c.nodes) {
		if other != a {
			to, from = append(to, link{a, other}), append(from, link{other, a})
		}
	}
	switch c.rng.IntN(4) {
	case 0:
		return to, fmt.Sprintf("%d to no server", a+1)
	case 1:
		return from, fmt.Sprintf("no server to %d", a+1)
	case 2:
		client := len(c.nodes)
		return append(append(to, from...), link{a, client}, link{client, a}), fmt.Sprintf("%d alone", a+1)
	}
	return append(to, from...), fmt.Sprintf("%d without servers", a+1)
}

// Links between servers, or all of one server, lose packets, in one direction or both:
// writing goes on meanwhile, and nothing acked is lost.
func TestClusterSurvivesPartitions(t *testing.T) {
	t.Parallel()
	d := newNetworkCluster(t, 75, 3).drill(1000)
	d.suffer(20*time.Second, func() string {
		links, what := d.partition()
		var wait time.Duration
		flaps := 1 + d.rng.IntN(2)*d.rng.IntN(4)
		for range flaps {
			begin := time.Now()
			for _, l := range links {
				d.network.cut(l.from, l.to)
			}
			if flaps > 1 {
				<-time.After(d.between(50*time.Millisecond, 1500*time.Millisecond))
			} else if err := d.settle(d.history); err != nil {
				d.judge(fmt.Errorf("while %s: %w", what, err))
			}
			wait = time.Since(begin).Round(100 * time.Millisecond)
			for _, l := range links {
				d.network.mend(l.from, l.to)
			}
			<-time.After(d.between(0, time.Second))
			d.counts["partitions"]++
		}
		if flaps > 1 {
			return fmt.Sprintf("%s, %d times", what, flaps)
		}
		return fmt.Sprintf("%s, acks after %v", what, wait)
	})
	d.finish()
}

// only is how a client comes to one server of a cluster, and to no other.
type only struct {
	*cluster
	node int
}

func (o only) way() []kgo.Opt {
	to := o.host(o.node) + ":9092"
	return []kgo.Opt{kgo.SeedBrokers(to), kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != to {
			return nil, errNoServer
		}
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	})}
}

// leaders are who leads each partition of a topic, by server, once all are led.
func (c *cluster) leaders(topic string) (by [partitions]int, err error) { return leadersBy(c, topic) }

// leadersBy is leaders, as those say whom a client comes to.
func leadersBy(to way, topic string) (by [partitions]int, err error) {
	client, err := kgo.NewClient(clientOptions(to)...)
	if err != nil {
		return by, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		topics, err := kadm.NewClient(client).ListTopics(ctx, topic)
		if err == nil {
			err = topics.Error()
		}
		if err == nil {
			for p := range int32(partitions) {
				by[p] = int(topics[topic].Partitions[p].Leader) - 1
			}
			return by, nil
		}
		select {
		case <-ctx.Done():
			return by, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// endCode asks one server for what comes after the end of a partition.
func (o only) endCode(ctx context.Context, client *kgo.Client, topic string, id [16]byte, partition int32, end int64) error {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, end, 1<<20
	in := kmsg.NewFetchRequestTopic()
	in.Topic, in.TopicID = topic, id
	in.Partitions = append(in.Partitions, part)
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 100, 1, 1<<20
	request.Topics = append(request.Topics, in)
	answer, err := client.SeedBrokers()[0].Request(ctx, request)
	if err != nil {
		return err
	}
	got := answer.(*kmsg.FetchResponse)
	if got.ErrorCode != 0 || len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return fmt.Errorf("an answer of %d topics: %w", len(got.Topics), kerr.ErrorForCode(got.ErrorCode))
	}
	return kerr.ErrorForCode(got.Topics[0].Partitions[0].ErrorCode)
}

// A leader that is cut off from the others but not from clients acks nothing that is lost,
// and tells who reads the end, or writes to it with acks=1, that it does not lead.
func TestZombieIsToldOf(t *testing.T) {
	t.Parallel()
	d := newNetworkCluster(t, 76, 3).drill(500)
	d.judge(d.inSync(d.history.topic))
	leaders, err := d.leaders(d.history.topic)
	must(t, err)
	const partition = 0
	zombie := only{d.cluster, leaders[partition]}
	alone, err := newProducer(zombie, d.history, 2, 500, false)
	must(t, err)
	t.Cleanup(alone.drop)
	hasty, err := kgo.NewClient(append(clientOptions(zombie), kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	must(t, err)
	defer hasty.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics, err := kadm.NewClient(hasty).ListTopics(ctx, d.history.topic)
	must(t, err)
	id := [16]byte(topics[d.history.topic].ID)
	for other := range d.nodes {
		if other != zombie.node {
			d.network.cut(other, zombie.node)
			d.network.cut(zombie.node, other)
		}
	}
	begin := time.Now()
	for {
		err := zombie.endCode(ctx, hasty, d.history.topic, id, partition, d.history.known(partition))
		if errors.Is(err, kerr.NotLeaderForPartition) {
			break
		}
		if ctx.Err() != nil {
			d.judge(fmt.Errorf("who reads at the end of a leader without followers was last told %v", err))
		}
		<-time.After(20 * time.Millisecond)
	}
	told := time.Since(begin)
	d.judge(d.settle(d.history)) // by the others
	other := time.Since(begin)
	short, cancelShort := context.WithTimeout(ctx, 3*time.Second)
	defer cancelShort()
	err = hasty.ProduceSync(short, &kgo.Record{Topic: d.history.topic, Partition: partition, Value: newID(3, 1).value()}).FirstErr()
	if err == nil {
		t.Errorf("a leader whose lease is out acked a record with acks=1")
	}
	for other := range d.nodes {
		if other != zombie.node {
			d.network.mend(other, zombie.node)
			d.network.mend(zombie.node, other)
		}
	}
	d.counts["partitions"]++
	d.judge(d.settle(d.history))
	alone.drop()
	hasty.Close()
	d.done = append(d.done, fmt.Sprintf("node %d was cut off", zombie.node+1))
	d.finishBeside(alone)
	t.Logf("readers were told after %v; the others acked after %v; acks=1 was told %v", told, other, strings.TrimSpace(err.Error()))
}
