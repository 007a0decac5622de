// Command bench measures rustmq against named peers and bare floors, and
// writes what it measured to bench/results and docs/performance.md.
//
//	bench run [-figures F1,B2] [-pairs 5]   measure; exit 1 when a must is missed
//	bench report                            remake docs/performance.md from the newest results
//	bench peer kfake|nats|broker …          be a peer server (started by run)
//	bench load produce|consume|lone|…       be a client (started by run)
//	bench relay …                           delay, narrow and lose TCP and UDP (started by run)
//
// Figures F are of the log, figures B of the bucket, figures K beside Apache Kafka.
//
// B1 is what the bucket is asked, B2 bandwidth, B3 what produce and the tail notice of
// it, B4 the block cache, B5 compaction by key. For B1 to B3 an S3 server is needed,
// versitygw (scripts/deps.sh): B1 counts requests in a proxy before it, in this process;
// B2 reaches it directly and through a relay that is a line of 1 Gbit/s; beside B2 and B3
// stands what a bare broker reaches (barebroker.go). B4 and B5 are
// read from benchmarks of the root module (gotest.go), which is where those of other
// rooms are to be added. K1 is partitions and groups by the thousand, K2 the same loads
// on both, K3 on three nodes of both; they need Java and Kafka's jars (scripts/deps.sh).
// K6 simulates the metadata of 100 brokers, in this process (docs/scale.md). K7 is what TLS,
// rules and audit cost, with certificates that `rustmq admin ca` makes; its peer is a bare server
// of crypto/tls. K8 is what a transform costs beside a bare call of wasmtime-go and beside Go; it
// is read from benchmarks of the root module, and needs nothing else. K9 is produce through a
// module that keeps all, and beside one. K10 is what transforms from topic to topic cost beside a
// client outside, and what a bare loop of the module and the codec does, read as K8 is. K11 to K14 are the Go SDK's transports; their links are relays in
// user space, of which sdk/go/transport/relay says what they are to TCP: kind. K15 is the Rust
// SDK beside rdkafka, by the loads of sdk/rust/bench, which needs Rust and the headers of OpenSSL and zlib.
//
// Some figures may be measured again without the others: the page says of each when,
// and at which commit.
//
// Every server and every client is a process of its own. Two sides are run in
// turn, A B A B …, after one warm-up each; what counts is the median of the
// ratios of the pairs, for single figures drift by a factor of two on a shared
// machine. All traffic stays on loopback.
package main
