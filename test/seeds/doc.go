// Package seeds lets whole nodes live together in one test, in simulated time, while what
// is around them fails, and holds what their clients saw to the promises.
//
// A seed is three nodes, each a controller and a broker as [rustmq.dev/rustmq/roles]
// composes them, disks in memory that lose their power, one bucket with its weather, and
// a network that loses its links in one direction or both (franz-go speaks over it too).
// Its clients live for about a minute of simulated time:
//
//	always       two idempotent writers of a topic and a reader; a third that speaks by hand
//	             over several connections, so that what it sends comes twice, late and out
//	             of order; who asks every node for the ends of its partitions and for some of
//	             its records, whether it leads them or not
//	every other  who copies it in transactions, by hand: some are aborted, some left open,
//	             some ended late by one whose place another has taken
//	every other  a group of members that join, leave and vanish
//	every other  who creates, deletes, grows, configures and looks at topics
//	every other  a writer with acks=1, on three replicas or on one
//
// Meanwhile nodes are stopped, killed or lose their power, one or all of them, at once or in
// turn, the one too that leads the controllers, together with one that leads a partition; one
// loses its disk and comes back as another; a bit of what one has logged flips, and then it is
// made a leader; followers fall out of sync one after the other and then the leader ends, or
// loses its disk; nodes are paused, cut off, told nothing, not heard, slow to hear, or
// apart from one other; they are drained, leaderships and replicas moved. Beside that, as they
// like, a disk is slow, and the bucket fails, loses answers or is away. Clocks are one: a node
// has no time of its own. Then all is healed, and everybody has to come to an end.
//
// What is checked:
//
//	promise 1    nothing that was acked is missing, at its offset, with its value; committed
//	             offsets stay, and are not behind what a member was given
//	promise 2    offsets have no gap and are never given out twice, what was read stays; no
//	             record is there twice, or before one that its producer sent before; a copy
//	             has each record of its source once, in order, and nothing of what was aborted;
//	             the logs of replicas are the same, byte by byte
//	promise 3    an epoch of a partition has one leader, on all nodes, for ever
//	promise 4    an object that the catalogue names is in the bucket
//	promise 10   two controllers never have different metadata at one offset
//
// and by porcupine, that one order explains all answers: appends to a log and its ends (a
// leader may not know for a lease that it is none), committed offsets, and what was asked of
// topic names. What a node shows of a topic may be old, as in Kafka, but not older than what
// was done through it; a creation that is told that the topic is there may have made it.
//
// Files:
//
//	seeds_test.go    the seeds, and the course of one
//	nemesis_test.go  what happens to nodes; rot_test.go: to what they have logged;
//	                 operator_test.go: what operators do
//	node_test.go     the lives of a node
//	network_test.go  hosts, links and connections; wire_test.go: one direction of one
//	bucket_test.go   the bucket and its weather
//	history_test.go  what a topic is known to hold
//	crowd_test.go    who uses the cluster: clients_test.go writers and readers,
//	                 pusher_test.go, copier_test.go, members_test.go, topics_test.go;
//	                 speaker_test.go: requests by hand
//	log_test.go      the ends of logs; linear_test.go: is there an order
//	judge_test.go    what is compared
//	checker_test.go  the judges themselves
//	mutants_test.go  what the seeds find; mutants.txt: the list
//	drills_test.go   one thing over and over: power cuts of all nodes, and leaders that are gone
//	soak_test.go     that they take the time that they are given
//
// Mutants: mutants.txt has checks (package guard) and how many seeds, from 1 on, it may take
// until one breaks a promise without that check, and keeps it with it. MUTANTS=all or names has
// TestMutantsAreCaught try it; make soak does, within the suite mutants.
//
// The suite (make suite-seeds) takes ten seeds of the commit (package seeded) and prints
// them, a soak new ones; its tag is seeds. SEED=number repeats one, TIMES=n so many times; CAST=all has everybody take part;
// FAULTS=names has nothing else happen to nodes; SEED_LOGS=directory gets what the nodes of a seed that failed have logged.
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
