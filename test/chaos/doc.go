// Package chaos breaks the real binary on a real file system, and holds it to
// the promises: an acked record is there once, at its offset, with its value;
// offsets grow without gaps and never carry another value than before; what a
// consumer has read stays.
//
// Its tests are built with the tag chaos (make suite-chaos):
//
//	RUSTMQ_BIN=$PWD/bin/rustmq go test -tags chaos -parallel 8 -v ./test/chaos
//
// That a missing fsync of the bucket is found is seen with a binary of -tags mutants
// and RUSTMQ_MUTANT=bucket.dir-data-synced: TestPowerCuts fails.
//
// TestPowerCuts puts the data directory on an ext4 over a loop device and stops
// that file system as a power cut would (EXT4_IOC_SHUTDOWN without a flush of
// the journal), under load and during recovery. TestKillLoop sends SIGKILL
// instead. In both, the log is so small that the records of earlier lives are read
// from the bucket, a directory beside it, and topics are deleted, so that there is
// something to collect: in the end the bucket must hold what the catalogue names,
// whole, and nothing else. TestSyncedBytesSurvivePowerCut does without the binary: it shows that
// the rig loses what was not synced, and that storage/disk does not lose the
// rest.
//
// TestBucketOutages lets an S3 store fail in every way it can, under load and with a
// SIGKILL in the middle: it refuses, hangs, drips, forgets to answer, cuts answers
// off, changes bits, answers with other ranges than it was asked for, lists what there
// was once, and is away for longer than the log has room.
//
// TestMemoryStaysInItsBudgets floods the server within a memory control group
// that holds what its budgets come to, and no more; where no group can be made it
// measures the process.
//
// TestExactlyOnceCopySurvivesKills copies a topic in transactions, by clients that
// give up in the middle too, while their servers are killed every few seconds: who
// reads what is committed finds the same records in the same order. With a binary of
// -tags mutants and RUSTMQ_MUTANT=log.last-stable it fails.
//
// Clusters of three servers, on addresses of loopback or each in a network namespace of
// its own, go through the same: TestClusterSurvives kills, stops and pauses them,
// TestExactlyOnceCopySurvivesFailovers copies in transactions meanwhile,
// TestClusterSurvivesPartitions has links lose packets in one direction or both, without a
// word to the sender, TestZombieIsToldOf keeps a client with a leader that is cut off from
// the rest, and the other TestClusterSurvives… cut the power of one, two and all, fill a
// disk, wipe a data directory, flip one bit of what a server has logged and make that one the
// leader (TestClusterSurvivesAFlippedBit), or have one disk take half a second for every sync
// (TestClusterSurvivesASlowDisk: what it led is led elsewhere, and acks are quick again). In the end all of them hold the history to the promises, wait for the
// bucket to hold what the catalogue names and nothing else, and compare the logs of the
// replicas byte by byte. TestFailover logs how long clients wait after a SIGKILL.
//
// TestPowerFailsOverAndOver cuts the power of clusters as a whole, in cycles of two seconds: a
// suite of its own (scripts/suite.sh power), for make soak.
//
// One client lives through all the lives of a server: what it sends again after
// a restart must not be there twice. Others live as long as a server.
//
// Root and a loop device are needed; without them the tests are skipped, but
// fail if CI is set. They run in a mount and a network namespace of their own, so that
// nothing stays behind whatever happens. SOAK=minutes makes them run longer, the
// seed of the run (package seeded) repeats the moments of the cuts (not what the machine makes of them).
package chaos
