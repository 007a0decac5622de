// Package apache runs the Apache Kafka that rustmq is compared with: one node in
// KRaft mode, broker and controller at once, as a process on free loopback ports.
// The suites and the benchmarks start it; nothing of rustmq imports it.
//
// It owns the process and what it writes into the directory that the caller gives;
// it downloads nothing. scripts/deps.sh puts Kafka's jars, of the version that
// pom.xml names, into build/kafka/lib: the broker and its tools.
//
// A Server that [Start] returns has registered its broker and names it to clients.
// It has Kafka's own JVM options and defaults, but for what one node cannot have
// (replication factors of 3) and what [Options] says. Its methods may be called
// concurrently; after Stop or Kill the process is gone.
package apache
