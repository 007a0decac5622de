package doctor

import "time"

// By what is judged.
const (
	// syncs are how many syncs are timed, and syncTime how long that may take.
	syncs    = 200
	syncTime = 3 * time.Second
	// syncSize is what is written before each: a group of the log begins on a block of it.
	syncSize = 4096
	// slowSync is a median at which acks=all is felt: a disk with a write cache that
	// outlives the power takes well under 1 ms, a rotating one about 8.
	slowSync = 10 * time.Millisecond
	// fastSync is faster than any device confirms: who syncs so does not reach it.
	fastSync = 8 * time.Microsecond

	// leastFiles is the fewest open files by which a small node runs: segments, objects
	// under way, connections between servers, and a few hundred clients.
	leastFiles = 4096
	// otherFiles is what a node has open beside connections and segments.
	otherFiles = 1024

	// wantedSocketBuffer is what rmem_max and wmem_max have to allow for QUIC's full rate.
	// transport/quic asks for 7 MiB, and warns below 1 MiB.
	wantedSocketBuffer = 7 << 20
	leastSocketBuffer  = 1 << 20

	// leastBacklog is the queue of connections that wait to be taken: after a failover all
	// clients of a broker come at once.
	leastBacklog = 1024

	// leastMaps is the kernel's default of vm.max_map_count; modules in WebAssembly take
	// some for each instance.
	leastMaps = 65530

	// memoryShare is which part of the memory the budgets of a configuration may take:
	// garbage, metadata, and what goes by no budget come on top (docs/configuration.md).
	memoryShare = 0.75

	// skewWarn is a difference to the bucket's clock that is noticed in retention; from
	// skewFail on stores refuse signed requests (S3: 15 minutes).
	skewWarn = 5 * time.Second
	skewFail = 10 * time.Minute
	// clockError is the error that the kernel allows its clock to have, once it is in step.
	clockError = time.Second

	// certificateWarn is how long before its end a certificate is to be renewed: as nodes warn.
	certificateWarn = 30 * 24 * time.Hour
)
