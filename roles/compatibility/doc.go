// Package compatibility says how rustmq stands to Apache Kafka: every API and
// version, and every config of topics, brokers, groups and client metrics
// subscriptions: served, ignored or refused, and why. It owns the list of Kafka's APIs
// and docs/kafka-compatibility.md; what is served it reads from the broker's own table
// of handlers, and what becomes of configs from package configs, so that the page
// cannot say otherwise. So with docs/kafka-authorisation.md: what each API asks of a client.
//
// What is announced is driven by a test in roles/broker, version by version; the
// list of Kafka's APIs is compared with that of franz-go.
//
// The package does no I/O, keeps no state, and may be used by any goroutine.
package compatibility
