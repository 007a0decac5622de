package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	failoverRuns  = 20 // of ours, in each profile
	failoverKafka = 5  // of Kafka's, whose session is nine seconds
	failoverTopic = "failover"
	// failoverSteady is how long acks come before something happens, and failoverEnd how
	// long the next may take.
	failoverSteady = 2 * time.Second
	failoverEnd    = time.Minute
)

// fastProfile is what configs/example-production.toml has in comments.
var fastProfile = []string{
	"controller.raft.heartbeat=25ms", "controller.raft.election_timeout=250ms",
	"replication.heartbeat_interval=50ms", "replication.heartbeat_timeout=250ms",
}

// failover is K4: how long a producer with acks=all gets no ack when the leader of its
// partition dies by SIGKILL, on a cluster of its own each time; in half of the runs of
// rustmq it leads the controllers too. The same clients ask both sides.
func (r *run) failover() error {
	ours := func(runs int, set ...string) (gaps []float64, err error) {
		for i := range runs {
			gap, err := leaderDies(func() (*process, func(), error) {
				p, err := startRustmqCluster(set...)
				if err != nil {
					return nil, nil, err
				}
				return p, p.stop, nil
			}, i%2 == 0)
			if err != nil {
				return nil, fmt.Errorf("run %d: %w", i+1, err)
			}
			gaps = append(gaps, gap)
		}
		return gaps, nil
	}
	runs := min(failoverRuns, 4*r.pairs) // fewer pairs are a trial
	defaults, err := ours(runs)
	if err != nil {
		return err
	}
	fast, err := ours(runs, fastProfile...)
	if err != nil {
		return err
	}
	var theirs []float64
	for i := range min(failoverKafka, r.pairs) {
		gap, err := leaderDies(startKafkaCluster, false)
		if err != nil {
			return fmt.Errorf("run %d of Kafka: %w", i+1, err)
		}
		theirs = append(theirs, gap)
	}
	ms := func(name string, must float64, gaps []float64) row {
		return summarise(row{Figure: "K4", Name: name, Unit: "ms", Must: must, Less: true, Detail: fmt.Sprintf("%d runs", len(gaps))}, gaps)
	}
	kafka := ms("", 0, theirs).Median
	r.add(ms("longest wait for an ack when a leader dies, defaults", 1500, []float64{slices.Max(defaults)}))
	r.add(ms("wait for an ack when a leader dies, defaults", 0, defaults))
	r.add(ms("wait for an ack when a leader dies, fast profile", 500, fast))
	ratios := make([]float64, len(defaults))
	for i, gap := range defaults {
		ratios[i] = gap / kafka
	}
	r.add(summarise(row{Figure: "K4", Name: "wait for an ack when a leader dies, against Kafka, both by default", Unit: "×", Must: 0.25, Less: true,
		Detail: fmt.Sprintf("Kafka %.0f ms (%.0f–%.0f)", kafka, slices.Min(theirs), slices.Max(theirs))}, ratios))
	moves, err := leaderMoves(runs)
	if err != nil {
		return err
	}
	r.add(ms("wait for an ack when a leadership is moved", 100, moves))
	return nil
}

// leaderDies kills the leader of a partition and returns the milliseconds until the ack of
// the first record that was sent afterwards.
func leaderDies(start func() (*process, func(), error), leadsControllers bool) (float64, error) {
	p, stop, err := start()
	if err != nil {
		return 0, err
	}
	defer stop()
	a, err := newAcks(p, leadsControllers)
	if err != nil {
		return 0, err
	}
	defer a.close()
	if err := a.steady(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(a.leader.id(), syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill %s: %w", a.leader.name, err)
	}
	return a.gap(began)
}

// leaderMoves drains the leader of a partition, on one cluster, and returns the
// milliseconds without an ack of each move.
func leaderMoves(runs int) (gaps []float64, err error) {
	p, err := startRustmqCluster("controller.balance.enabled=false")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	for range runs {
		a, err := newAcks(p, false)
		if err != nil {
			return nil, err
		}
		gap, err := a.move()
		a.close()
		if err != nil {
			return nil, err
		}
		gaps = append(gaps, gap)
	}
	return gaps, nil
}

// acks is a producer of one record at a time to one partition.
type acks struct {
	cl     *kgo.Client
	adm    *kadm.Client
	leader *process // of the partition
	id     int32    // of it
	at     int32    // the partition
}

// newAcks makes a topic with a partition led by each node, and a producer to one of those of
// the node that leads the controllers, or does not.
func newAcks(p *process, leadsControllers bool) (*acks, error) {
	nodes := append([]*process{p}, p.others...)
	var seeds []string
	for _, n := range nodes {
		seeds = append(seeds, n.addr)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		// As clients in Java do by default: they ask who leads after each error, 100 ms apart.
		kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }))
	if err != nil {
		return nil, err
	}
	a := &acks{cl: cl, adm: kadm.NewClient(cl)}
	if err := a.choose(nodes, leadsControllers); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *acks) close() { a.cl.Close() }

func (a *acks) choose(nodes []*process, leadsControllers bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), failoverEnd)
	defer cancel()
	leads := int32(0)
	if nodes[0].http != "" {
		var err error
		if leads, err = controllerOf(nodes[0]); err != nil {
			return err
		}
	}
	if _, err := a.adm.CreateTopic(ctx, clusterSize, clusterSize, nil, failoverTopic); err != nil && !strings.Contains(err.Error(), "TOPIC_ALREADY_EXISTS") {
		return err
	}
	for {
		topics, err := a.adm.ListTopics(ctx, failoverTopic)
		if err != nil {
			return err
		}
		for _, p := range topics[failoverTopic].Partitions.Sorted() {
			if whole := p.Leader >= 1 && len(p.ISR) == clusterSize; whole && (leads == 0 || (p.Leader == leads) == leadsControllers) {
				a.id, a.at, a.leader = p.Leader, p.Partition, nodes[p.Leader-1]
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("no partition is led by the node that is to die"), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// controllerOf asks which node of rustmq leads the controllers.
func controllerOf(p *process) (int32, error) {
	resp, err := http.Get("http://" + p.http + "/api/v1/controllers")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var group struct {
		Leader int32 `json:"leader"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&group); err != nil || group.Leader == 0 {
		return 0, fmt.Errorf("who leads the controllers is not known: %w", errors.Join(err, errors.New(resp.Status)))
	}
	return group.Leader, nil
}

// one sends a record and waits for its ack.
func (a *acks) one() error {
	ctx, cancel := context.WithTimeout(context.Background(), failoverEnd)
	defer cancel()
	record := &kgo.Record{Topic: failoverTopic, Partition: a.at, Value: make([]byte, 100)}
	return a.cl.ProduceSync(ctx, record).FirstErr()
}

// steady sends until acks have come for a while.
func (a *acks) steady() error {
	for began := time.Now(); time.Since(began) < failoverSteady; {
		if err := a.one(); err != nil {
			return err
		}
	}
	return nil
}

// gap returns the milliseconds from a moment to the ack of a record that was sent since.
func (a *acks) gap(since time.Time) (float64, error) {
	err := a.one()
	return time.Since(since).Seconds() * 1000, err
}

// move drains the leader, and returns the longest time between two acks, in milliseconds.
func (a *acks) move() (float64, error) {
	if err := a.steady(); err != nil {
		return 0, err
	}
	drained := make(chan error, 1)
	go func() { drained <- drain(a.leader, a.id, true) }()
	longest, last := time.Duration(0), time.Now()
	for end := last.Add(failoverSteady); last.Before(end); {
		if err := a.one(); err != nil {
			return 0, err
		}
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
	}
	if err := <-drained; err != nil {
		return 0, err
	}
	return longest.Seconds() * 1000, drain(a.leader, a.id, false)
}

// drain has a node of rustmq lead nothing, or lead again.
func drain(p *process, id int32, draining bool) error {
	body := fmt.Sprintf(`{"draining":%v}`, draining)
	resp, err := http.Post(fmt.Sprintf("http://%s/api/v1/brokers/%d/drain", p.http, id), "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("drain node %d: %s", id, resp.Status)
	}
	return nil
}
