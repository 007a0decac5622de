package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// addr is where clients reach a broker.
func (c *cluster) addr(id int32) string {
	return fmt.Sprintf("127.0.0.1:%d", c.nodes[id].options.Listeners[1].Port)
}

// A transaction writes to partitions that three brokers lead, and each of them in turn
// coordinates it: what is committed is read on all, what is aborted on none.
func TestTransactionsSpanBrokers(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, true, nil)
			c.controller.createTopic("out", 3)
			c.settle()
			ctx := within(t, 60*time.Second)
			reader := committed(t, c.addr(1), "out")
			for at := int32(1); at <= 3; at++ {
				cl := newProducer(t, c.addr(1+at%3), c.transactionAt(at), append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
				write := func(value string) {
					t.Helper()
					var records []*kgo.Record
					for i := range int32(3) {
						records = append(records, &kgo.Record{Partition: i, Value: fmt.Append(nil, value, i)})
					}
					if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					begin(t, cl)
					write("aborted")
					end(ctx, t, cl, kgo.TryAbort)
					begin(t, cl)
					write("a")
					write("b")
					end(ctx, t, cl, kgo.TryCommit)
					wantValues(ctx, t, reader, "a0", "a1", "a2", "b0", "b1", "b2")
				}
				cl.Close()
			}
		})
	}
}

// Copies from topic to topic, in transactions whose producer, group and partitions belong
// to different brokers, lose and double nothing.
func TestCopiesAcrossBrokersAreExact(t *testing.T) {
	const total = 200
	c := newCluster(t, 3, true, nil)
	for i := range 3 {
		c.controller.createTopic(fmt.Sprint("step-", i), 3)
	}
	c.settle()
	ctx := within(t, 120*time.Second)
	plain := newClient(t, c.addr(2), kgo.DefaultProduceTopic("step-0"))
	var want, got []string
	for i := range total {
		want = append(want, fmt.Sprint(i))
	}
	send(ctx, t, plain, want...)
	copies, stop := context.WithCancel(ctx)
	errs := make(chan error, 2)
	for step := range 2 {
		go func() {
			errs <- copyExactly(copies, c.addr(int32(1+step)), fmt.Sprint("step-", step), fmt.Sprint("step-", step+1))
		}()
	}
	for _, r := range consume(ctx, t, committed(t, c.addr(3), "step-2"), total) {
		got = append(got, string(r.Value))
	}
	stop()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
}

// Operators, and clients, ask any broker about groups that each of the brokers
// coordinates, and that consume what all of them lead.
func TestGroupsAreFoundFromEveryBroker(t *testing.T) {
	c := newCluster(t, 3, true, nil)
	c.controller.createTopic("in", 3)
	c.settle()
	ctx := within(t, 60*time.Second)
	producer := newClient(t, c.addr(1), kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range int32(3) {
		for range 10 {
			if err := producer.ProduceSync(ctx, &kgo.Record{Partition: i, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ids []string
	for at := int32(1); at <= 3; at++ {
		id := c.groupAt(at)
		ids = append(ids, id)
		cl := newClient(t, c.addr(at%3+1), kgo.ConsumerGroup(id), kgo.ConsumeTopics("in"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		consume(ctx, t, cl, 30)
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		d, err := c.nodes[at%3+1].DescribeGroup(ctx, id)
		if err != nil || d.Members != 1 || len(d.PartitionList) != 3 || d.Lag != 0 || d.PartitionList[0].MemberID == "" {
			t.Fatalf("%+v, %v", d, err)
		}
		if _, err := c.nodes[at%3+1].ResetOffsets(ctx, id, OffsetReset{AllTopics: true, To: ResetToEarliest, Execute: true}); !errors.Is(err, kerr.NonEmptyGroup) {
			t.Errorf("a group with members was reset: %v", err)
		}
		cl.LeaveGroup()
	}
	slices.Sort(ids)
	listed, err := kadm.NewClient(producer).ListGroups(ctx)
	if err != nil || !slices.Equal(listed.Groups(), ids) {
		t.Errorf("a client lists %v, %v, want %v", listed.Groups(), err, ids)
	}
	for from := int32(1); from <= 3; from++ {
		n := c.nodes[from]
		groups, err := n.ListGroups(ctx)
		var names []string
		lag := int64(0) // all is consumed at first, then reset from broker to broker
		if from > 1 {
			lag = 30 - 3*int64(from-1)
		}
		for _, g := range groups {
			names = append(names, g.Group)
			if g.Lag != lag || g.Partitions != 3 {
				t.Errorf("broker %d lists %+v", from, g)
			}
		}
		if err != nil || !slices.Equal(names, ids) {
			t.Fatalf("broker %d lists %v, %v, want %v", from, names, err, ids)
		}
		for _, id := range ids {
			plan, err := n.ResetOffsets(ctx, id, OffsetReset{Topics: []ResetTopic{{Topic: "in"}}, To: ResetToOffset, Value: int64(from), Execute: true})
			if err != nil || !plan.Executed || len(plan.Partitions) != 3 {
				t.Fatalf("reset of %s from broker %d: %+v, %v", id, from, plan, err)
			}
			for _, m := range plan.Partitions {
				if m.To == nil || *m.To != int64(from) || m.End != 10 {
					t.Errorf("reset of %s from broker %d: %+v", id, from, m)
				}
			}
			d, err := n.DescribeGroup(ctx, id)
			if want := 30 - 3*int64(from); err != nil || d.Lag != want {
				t.Errorf("%s, from broker %d: %+v, %v, want a lag of %d", id, from, d, err, want)
			}
		}
		_, err = n.DescribeGroup(ctx, "nobody")
		if !errors.Is(err, kerr.GroupIDNotFound) {
			t.Errorf("a group that is not there, from broker %d: %v", from, err)
		}
	}
	for at := int32(1); at <= 3; at++ { // whatever broker leads the partitions
		got := c.nodes[at].lags()
		for partition := range 3 {
			key := fmt.Sprintf("records %s %d in", c.groupAt(at), partition)
			if is, ok := got[key]; !ok || is != 7 {
				t.Errorf("broker %d: %s is %v (%t), want 7", at, key, is, ok)
			}
		}
		if left := got["left_out_partitions not_led"]; left != 0 {
			t.Errorf("broker %d leaves %v out", at, left)
		}
	}
	for i, id := range ids {
		n := c.nodes[int32(i+1)]
		if err := n.DeleteGroup(ctx, id); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
		if err := n.DeleteGroup(ctx, id); !errors.Is(err, kerr.GroupIDNotFound) {
			t.Errorf("delete %s again: %v", id, err)
		}
	}
}
