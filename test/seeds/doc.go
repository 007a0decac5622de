// Package seeds lets whole nodes live together in one test, in simulated time, while what
// is around them fails, and holds what their clients saw to the promises.
//
// A seed is three nodes, each a controller and a broker as [rustmq.dev/rustmq/roles]
// composes them, disks in memory that lose their power, one bucket with its weather, and
// a network that loses its links in one direction or both (franz-go speaks over it too).
// Idempotent writers and a reader work for three simulated minutes. Meanwhile nodes are
// stopped, killed or lose their power, one or all of them, the one too that leads the
// controllers; they are cut off, told nothing or not heard; a disk is slow; the bucket fails or
// is away. Then all is healed, and everybody has to come to an end.
//
// What is checked:
//
//	promise 1    nothing that was acked is missing, at its offset, with its value
//	promise 2    offsets have no gap and are never given out twice, what was read stays; no
//	             record is there twice, or before one that its producer sent before; the
//	             logs of replicas are the same, byte by byte
//	promise 3    an epoch of a partition has one leader, on all nodes, for ever
//	promise 10   two nodes never have different metadata at one offset
//
// Files:
//
//	seeds_test.go    the seeds, and the course of one
//	nemesis_test.go  what happens to nodes
//	node_test.go     the lives of a node
//	network_test.go  hosts, links and connections; wire_test.go: one direction of one
//	bucket_test.go   the bucket and its weather
//	history_test.go  what a topic is known to hold
//	clients_test.go  who writes and reads
//	judge_test.go    what is compared
//
// The suite (make suite-seeds) takes new seeds for two minutes and prints them; its tag is
// seeds. SEED=number repeats one, TIMES=n so many times; SEED_LOGS=directory gets what the
// nodes of a seed that failed have logged.
//
// The seed decides what is done to whom and when, in simulated time. It does not decide
// which of two goroutines that can both run does so first: Go's scheduler does, and with it
// the order of messages of one instant. So the same seed meets the same faults at about the
// same places, and not the same interleaving: a failure comes back after a few tries, or
// after many.
//
// Simulated time stands still while a goroutine waits for a mutex whose holder waits for
// something else: a call under a lock makes a seed hang.
package seeds
