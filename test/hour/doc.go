// Package hour lets a node live for an hour of simulated time beside a bucket that
// fails in every way, and then counts: no object in the bucket that nothing names
// (an orphan), none named that is not there (missing), no record lost, none twice,
// none with another value, and none gone before its retention or a deletion of
// records asked for it.
//
// It composes what a process is made of: controller with collector, retention, audit
// and shipper of the metadata log; broker with uploader, compactor and reader of the
// bucket, and the one who files ranges in manifests, asked by clients over the Kafka
// protocol; one disk in memory, whose power can be cut; one bucket in memory, behind
// the retries and the circuit breaker that a process has. The weather of the bucket changes about once a minute: refusals, lost
// answers, puts and deletions that land minutes after they have failed, lists of
// minutes ago and half lists, bits that flip on the way, and no answer at all. The
// process is stopped, killed, or loses its power every few minutes; topics come and
// go. Compaction by key is not part of it: no topic here is compacted.
//
//	sky_test.go     the bucket and its weather
//	life_test.go    a process from its start to its end
//	client_test.go  who writes, reads and deletes
//	model_test.go   what must be there, and what may
//	hour_test.go    the course of an hour, and the count
//
// Time is that of testing/synctest: minutes take seconds. The short form is part of
// make test; make soak takes hours of it: SOAK=minutes for each of SEEDS seeds
// (scripts/suite.sh hour). -seed, or TEST_SEED (package seeded), repeats the choices,
// not what the scheduler makes of them.
package hour
