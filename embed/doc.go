// Package embed runs a whole rustmq inside a Go program: the same node that
// `rustmq serve` runs, with real storage, ready in under a second.
//
//	node, err := embed.Start(ctx, embed.Options{})
//	if err != nil { … }
//	defer node.Close()
//	client, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()))
//
// Nodes are independent of each other; several live in one process. All methods
// are safe for concurrent use.
package embed
