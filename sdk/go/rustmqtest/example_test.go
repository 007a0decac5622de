package rustmqtest_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"rustmq.dev/rustmq/embed"
	rustmq "rustmq.dev/rustmq/sdk/go"
)

// A record is produced, and read.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := embed.Start(ctx, embed.Options{}) // in a test: rustmqtest.Start(t)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	client, err := rustmq.New(rustmq.WithBrokers(node.Kafka()), rustmq.WithTopicCreation())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "greetings", Value: []byte("hello")}).Err(); err != nil {
		log.Fatal(err)
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{"greetings"}})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	messages, err := consumer.Poll(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range messages {
		fmt.Printf("offset %d: %s\n", m.Record.Offset, m.Value)
	}
	// Output: offset 0: hello
}
