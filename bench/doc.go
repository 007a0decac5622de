// Command bench measures rustmq against named peers and bare floors, and
// writes what it measured to bench/results and docs/benchmarks.md.
//
//	bench run [-figures F1,F4] [-pairs 5]   measure; exit 1 when a must is missed
//	bench report                            remake docs/benchmarks.md from the newest results
//	bench peer kfake|nats …                 be a peer server (started by run)
//	bench load produce|consume|lone|…       be a client (started by run)
//	bench relay …                           delay TCP and UDP (started by run)
//
// Every server and every client is a process of its own. Two sides are run in
// turn, A B A B …, after one warm-up each; what counts is the median of the
// ratios of the pairs, for single figures drift by a factor of two on a shared
// machine. All traffic stays on loopback.
package main
