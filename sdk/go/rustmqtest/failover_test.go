package rustmqtest_test

import (
	"fmt"
	"os"
	"testing"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

// failover has three nodes that are processes of their own.
func failover(t *testing.T, _ *rustmqtest.Server, r run) {
	const nodes = 3
	dir, subnet := t.TempDir(), fmt.Sprintf("127.%d.%d", 100+os.Getpid()%100, os.Getpid()/100%250)
	cluster := map[int32]*child{}
	var addresses []string
	for id := range int32(nodes) {
		cluster[id+1] = launch(t, "node", fmt.Sprintf("%s,%s,%d", dir, subnet, id+1))
		addresses = append(addresses, fmt.Sprintf("%s.%d:9092", subnet, id+1))
	}
	for _, node := range cluster {
		node.ready(t)
	}
	client, err := rustmq.New(rustmq.WithBrokers(addresses...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := client.Admin()
	eventually(t, "all brokers are there", func() bool {
		brokers, err := admin.Kafka().ListBrokers(t.Context())
		return err == nil && len(brokers) == nodes
	})
	topic(t, client, rustmq.Topic{Name: "t", Partitions: r.Partitions, Replicas: nodes})
	results := make(chan error, r.Records)
	for i := range r.Records {
		if i > 0 && i%(r.Records/(r.Kills+1)) == 0 && len(cluster) == nodes {
			var leader int32
			eventually(t, "partition 0 is led", func() bool {
				described, err := admin.Kafka().ListTopics(within(t, moments), "t")
				if err == nil {
					leader = described["t"].Partitions[0].Leader
				}
				return cluster[leader] != nil
			})
			cluster[leader].kill() // what it was sent and has not answered is sent to the next leader
			delete(cluster, leader)
		}
		client.Produce(within(t, 2*moments), &rustmq.Record{Topic: "t", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}, func(_ *rustmq.Record, err error) { results <- err })
	}
	for range r.Records {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	r.judge(t, r.Records, values(t, client, r.Records, "t"))
}
