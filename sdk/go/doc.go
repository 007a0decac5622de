// Package rustmq is a client of rustmq, by Kafka's protocol, with safe defaults
// and the small things of daily use. It is a thin layer over franz-go: what is not
// wrapped is reached by [Client.Kafka].
//
//	client, err := rustmq.New(rustmq.WithBrokers("127.0.0.1:9092"))
//	if err != nil { … }
//	defer client.Close()
//	err = client.ProduceSync(ctx, &rustmq.Record{Topic: "greetings", Value: []byte("hello")}).Err()
//
// # What it promises
//
// A record whose result is nil was acked by every replica in sync, once: producers
// are idempotent, and acks are all, unless [WithAcks] says otherwise. Records of one
// partition are written in the order in which they were produced. What is not acked
// within [WithDeliveryTimeout] fails; such a record may have been written all the
// same, as may one whose context ended.
//
// A consumer commits what was handled, and nothing else: a record is handled at least
// once, and in the order of its key, whatever the concurrency, through rebalances and
// restarts. [Processor] handles exactly once what goes from topic to topic.
//
// # Concurrency
//
// Client, Admin and Consumer are safe for concurrent use, but of a consumer one call
// of Poll, Run or RunBatch is under way at a time. Tx is for the function that it was
// given to. Hooks must not block.
//
// # Errors
//
// Errors of the protocol are those of franz-go's package kerr, and are matched with
// errors.Is. [IsRetriable] says of any error whether the same may succeed later.
package rustmq
