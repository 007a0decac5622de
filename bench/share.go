package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/apache"
)

const (
	shareTopic      = "share"
	sharePartitions = 24
	// shareStored is what the cluster holds before a broker joins, in records of 1 KiB; a
	// trial has a quarter.
	shareStored = 1 << 20
	// shareRate is the load while it joins, in records a second.
	shareRate = 2000
	// fairLeads is how many leaderships are a fair share for one of four brokers, and
	// fairReplicas how many replicas in sync.
	fairLeads    = sharePartitions / (clusterSize + 1)
	fairReplicas = sharePartitions * clusterSize / (clusterSize + 1)
	shareEnd     = 5 * time.Minute
	joining      = clusterSize + 1 // the node
)

// share is how a broker came to its share.
type share struct {
	serving float64 // s from its start until it was in service
	fair    float64 // s from its start until it led as much as others
	moved   float64 // bytes that it was sent until then, the load's among them
}

// joined is the second part of K5: a fourth broker joins three that have 1 GiB and a load, and
// replicas are spread over it. Kafka is told which; it copies what they hold.
func (r *run) joined() error {
	stored := shareStored
	if r.pairs < 5 {
		stored /= 4
	}
	var times, moved []float64
	var ours, theirs share
	for range min(r.pairs, 3) {
		var err error
		if ours, err = joinRustmq(stored); err != nil {
			return fmt.Errorf("join three nodes of rustmq: %w", err)
		}
		if theirs, err = joinKafka(stored); err != nil {
			return fmt.Errorf("join three brokers of Kafka: %w", err)
		}
		times, moved = append(times, ours.fair/theirs.fair), append(moved, ours.moved/theirs.moved)
	}
	what := fmt.Sprintf("a fourth broker joins three with %d MiB of records, three replicas each", stored>>10)
	r.add(summarise(row{Figure: "K5", Name: what + ": from its start to a fair share of the leaderships, against Kafka", Unit: "×", Less: true,
		Detail: fmt.Sprintf("rustmq %.1f s, in service after %.1f; Kafka %.1f s, after %.1f", ours.fair, ours.serving, theirs.fair, theirs.serving)}, times))
	r.add(summarise(row{Figure: "K5", Name: what + ": bytes sent to it until then, against Kafka", Unit: "×", Less: true,
		Detail: fmt.Sprintf("rustmq %.1f MiB, Kafka %.1f MiB, of both what was produced meanwhile too", ours.moved/mib, theirs.moved/mib)}, moved))
	return nil
}

// fill has a cluster hold so many records, in its bucket if it has one.
func fill(p *process, records int) error {
	shape := append(args("topic", shareTopic, "records", records, "partitions", sharePartitions, "replicas", clusterSize, "connections", 4), "-keep")
	if _, err := p.load("produce", shape...); err != nil {
		return err
	}
	return p.settled()
}

// underLoad calls f while records are produced.
func underLoad(p *process, f func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), shareEnd)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addr), kgo.DefaultProduceTopic(shareTopic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	loading, stop := context.WithCancel(ctx)
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		payload := value(1024)
		ticker := time.NewTicker(time.Second / 100)
		defer ticker.Stop()
		for n := 0; ; {
			select {
			case <-loading.Done():
				return
			case <-ticker.C:
			}
			for range shareRate / 100 {
				cl.Produce(ctx, &kgo.Record{Value: payload, Partition: int32(n / 4 % sharePartitions)}, func(_ *kgo.Record, err error) {
					if err != nil && loading.Err() == nil {
						select {
						case failed <- err:
						default:
						}
					}
				})
				n++
			}
		}
	}()
	adm, err := kgo.NewClient(kgo.SeedBrokers(p.addr), kgo.MetadataMinAge(50*time.Millisecond))
	if err == nil {
		err = f(ctx, kadm.NewClient(adm))
		adm.Close()
	}
	stop()
	<-ended
	select {
	case lost := <-failed:
		err = errors.Join(err, fmt.Errorf("a producer met it: %w", lost))
	default:
	}
	return err
}

// until asks every 20 ms whether the cluster is as it is to be.
func until(ctx context.Context, what string, is func() (bool, error)) error {
	var last error
	for {
		ok, err := is()
		if ok && err == nil {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), last))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func inService(ctx context.Context, adm *kadm.Client) func() (bool, error) {
	return func() (bool, error) {
		brokers, err := adm.ListBrokers(ctx)
		return slices.Contains(brokers.NodeIDs(), joining), err
	}
}

// fairly asks whether the new broker leads its share, and has it in sync.
func fairly(ctx context.Context, adm *kadm.Client) func() (bool, error) {
	return func() (bool, error) {
		topics, err := adm.ListTopics(ctx, shareTopic)
		if err != nil {
			return false, err
		}
		leads, synced := 0, 0
		for _, p := range topics[shareTopic].Partitions {
			if p.Leader == joining {
				leads++
			}
			if slices.Contains(p.ISR, joining) {
				synced++
			}
		}
		return leads >= fairLeads && synced >= fairReplicas, nil
	}
}

func joinRustmq(stored int) (s share, err error) {
	p, err := startRustmqCluster()
	if err != nil {
		return s, err
	}
	defer p.stop()
	if err := fill(p, stored); err != nil {
		return s, err
	}
	fourth := &process{name: "rustmq node 4", dir: filepath.Join(p.dir, "4")}
	command := slices.Clone(p.cmd.Args[1:])
	for i, flag := range command {
		switch flag {
		case "--node-id":
			command[i+1] = fmt.Sprint(joining)
		case "--bind":
			command[i+1] = fmt.Sprintf("127.73.0.%d", joining)
		case "--data-dir":
			command[i+1] = fourth.dir
		}
	}
	command = append(command, "--roles", "broker")
	err = underLoad(p, func(ctx context.Context, adm *kadm.Client) error {
		began := time.Now()
		fourth.cmd = exec.Command(p.cmd.Path, command...)
		fourth.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := fourth.cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := fourth.cmd.Start(); err != nil {
			return err
		}
		defer fourth.stop()
		first, err := bufio.NewReader(out).ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("node 4 says nothing: %w", err)
		}
		var line rustmqLine
		if err := json.Unmarshal(first, &line); err != nil {
			return err
		}
		fourth.http = line.HTTP
		if err := until(ctx, "node 4 in service", inService(ctx, adm)); err != nil {
			return err
		}
		s.serving = time.Since(began).Seconds()
		resp, err := http.Post("http://"+p.http+"/api/v1/cluster/rebalance", "application/json", bytes.NewReader([]byte("{}")))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("rebalance: %s", resp.Status)
		}
		if err := until(ctx, "a fair share for node 4", fairly(ctx, adm)); err != nil {
			return err
		}
		s.fair = time.Since(began).Seconds()
		s.moved, err = fourth.metric("rustmq_broker_replication_received_bytes_total")
		return err
	})
	return s, err
}

func joinKafka(stored int) (s share, err error) {
	p, stop, err := startKafkaCluster()
	if err != nil {
		return s, err
	}
	defer stop()
	if err := fill(p, stored); err != nil {
		return s, err
	}
	dir := filepath.Join(p.dir, fmt.Sprint(joining))
	err = underLoad(p, func(ctx context.Context, adm *kadm.Client) error {
		began := time.Now()
		fourth, err := startKafkaBroker(ctx, dir, joining)
		if err != nil {
			return err
		}
		defer fourth.Kill()
		if err := until(ctx, "node 4 in service", inService(ctx, adm)); err != nil {
			return err
		}
		s.serving = time.Since(began).Seconds()
		plan, err := spreadPlan(ctx, adm)
		if err != nil {
			return err
		}
		answers, err := adm.AlterPartitionAssignments(ctx, plan)
		if err == nil {
			err = answers.Error()
		}
		if err != nil {
			return fmt.Errorf("reassign: %w", err)
		}
		if err := until(ctx, "the end of the reassignment", func() (bool, error) {
			var topics kadm.TopicsSet
			for p := range int32(sharePartitions) {
				topics.Add(shareTopic, p)
			}
			going, err := adm.ListPartitionReassignments(ctx, topics)
			return len(going.Sorted()) == 0, err
		}); err != nil {
			return err
		}
		if err := until(ctx, "a fair share for node 4", func() (bool, error) {
			if ok, err := fairly(ctx, adm)(); ok || err != nil {
				return ok, err
			}
			_, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
			return false, err
		}); err != nil {
			return err
		}
		s.fair = time.Since(began).Seconds()
		s.moved, err = logBytes(dir)
		return err
	})
	return s, err
}

// startKafkaBroker starts a node that is a broker alone, beside those of startKafkaCluster.
func startKafkaBroker(ctx context.Context, dir string, id int) (*apache.Server, error) {
	lib, err := kafkaLib()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	address := kafkaAddress(id-1, 9092)
	return apache.Start(ctx, apache.Options{Lib: lib, Dir: dir, Addr: address, Properties: map[string]string{
		"process.roles": "broker", "node.id": fmt.Sprint(id), "controller.quorum.voters": kafkaVoters(), "listeners": "PLAINTEXT://" + address,
		"default.replication.factor": "3", "log.segment.delete.delay.ms": "1000",
	}})
}

// spreadPlan gives the new broker a replica of three partitions in four, in the place of one
// after the other of those there are; of one in four it is the preferred leader.
func spreadPlan(ctx context.Context, adm *kadm.Client) (plan kadm.AlterPartitionAssignmentsReq, err error) {
	topics, err := adm.ListTopics(ctx, shareTopic)
	if err != nil {
		return nil, err
	}
	leads := map[int32]int{}
	for n, p := range topics[shareTopic].Partitions.Sorted() {
		replicas := slices.Clone(p.Replicas)
		if leads[p.Leader] < fairLeads { // stays with it
			leads[p.Leader]++
			if follows := len(plan[shareTopic]) - leads[joining]; follows >= fairReplicas-fairLeads {
				continue
			}
			other := slices.IndexFunc(replicas[1:], func(id int32) bool { return id != p.Leader }) + 1
			replicas[other+n%2*(clusterSize-1-other)] = joining
		} else {
			leads[joining]++
			at := slices.Index(replicas, p.Leader)
			replicas[at] = joining
			replicas[0], replicas[at] = replicas[at], replicas[0]
		}
		plan.Assign(shareTopic, p.Partition, replicas)
	}
	return plan, nil
}

// logBytes are those of a topic's log segments in a data directory of Apache Kafka.
func logBytes(dir string) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".log") || !strings.HasPrefix(filepath.Base(filepath.Dir(path)), shareTopic+"-") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	return sum, err
}
