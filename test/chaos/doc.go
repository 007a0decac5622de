// Package chaos breaks the real binary on a real file system, and holds it to
// the promises: an acked record is there once, at its offset, with its value;
// offsets grow without gaps and never carry another value than before; what a
// consumer has read stays.
//
// Its tests are built with the tag chaos (make suite-chaos):
//
//	RUSTMQ_BIN=$PWD/bin/rustmq go test -tags chaos -v ./test/chaos
//
// TestPowerCuts puts the data directory on an ext4 over a loop device and stops
// that file system as a power cut would (EXT4_IOC_SHUTDOWN without a flush of
// the journal), under load and during recovery. TestKillLoop sends SIGKILL
// instead. TestSyncedBytesSurvivePowerCut does without the binary: it shows that
// the rig loses what was not synced, and that storage/disk does not lose the
// rest.
//
// TestMemoryStaysInItsBudgets floods the server within a memory control group
// that holds what its budgets come to, and no more; where no group can be made it
// measures the process.
//
// One client lives through all the lives of a server: what it sends again after
// a restart must not be there twice. Others live as long as a server.
//
// Root and a loop device are needed; without them the tests are skipped, but
// fail if CI is set. They run in a mount namespace of their own, so that nothing
// stays behind whatever happens. SOAK=minutes makes them run longer, -seed
// repeats the moments of the cuts (not what the machine makes of them).
package chaos
