package embed_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/embed"
)

// A whole broker in one call, and franz-go against it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := embed.Start(ctx, embed.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	client, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("greetings"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "greetings", Value: []byte("hello")}).FirstErr(); err != nil {
		log.Fatal(err)
	}
	for _, record := range client.PollFetches(ctx).Records() {
		fmt.Printf("offset %d: %s\n", record.Offset, record.Value)
	}
	// Output: offset 0: hello
}
