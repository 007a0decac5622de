// Package broker answers the Kafka API: it brings together the partition logs
// (storage/log), the metadata image (consensus/metadata, by the controller) and
// the requests of clients (transport/kafka). It owns which partitions this
// process leads, who waits for records, fetch sessions and the coordinators'
// place in all this; it holds no record and decides no metadata.
//
// A file per API. Produce and Fetch carry the data: package wire parses them in
// place, records are copied once, by the WAL, and leave from the WAL's memory
// or from a read of its files. Every other API goes through kmsg.
//
// Invariants:
//   - A version is announced only when it is served (apis.go), and a test drives it
//     (TestEveryAnnouncedVersionIsServed).
//   - A partition is led only under an epoch that was given to this process's own
//     registration (registration.go, RULES 3.1), and is announced to clients by
//     Metadata only once its log is ready: requests are answered from the image
//     that leadership.go has carried out, not from the newest one.
//   - A log that is followed serves readers of this broker's rack, up to its own high
//     watermark, and nobody else (closest.go, KIP-392).
//   - Requests of one connection are started in order of arrival, on the
//     connection's goroutine, so that batches of one producer are appended in
//     order. That goroutine waits for nothing but admission to the WAL, and to the
//     memory that batches are expanded in, and to a lane, where waiting is the back-pressure, and
//     for the reads of a fetch whose records have left memory: its answer would hold back those behind it anyway.
//   - What a topic's modules are asked about waits in a lane of its partition (lane.go,
//     transform.go), in order of arrival, and holds up nobody else. It holds no room in the
//     WAL while it waits for modules or for other partitions, and nobody with room in the
//     WAL waits for it. What it sends to other topics (deliver.go) is committed there before
//     it is appended, and passes no lane.
//   - The first batch of a transaction in a partition waits, holding its room in the
//     WAL, until the coordinator of the transactional id has confirmed it; what its
//     producer sends behind it waits too, so that their order stays. No request waits for
//     room, in the WAL or to expand in, with a batch of it parked that the coordinator was
//     not asked about: they would wait for each other. A reader of
//     what is committed by transactions gets what lies below the last stable
//     offset, and is woken when that moves. Markers go to the leaders
//     of their partitions, on other brokers too (markers.go), and there in by mark: among
//     offsets by the coordinator of the groups, which obeys them, elsewhere by
//     markPartition. From clients they are taken only under epochs that a coordinator
//     of transactions has had.
//   - Other brokers are asked once (peers.go), under the metadata that the question comes
//     from; nothing that holds up others waits for them, but for a lane. What they ask here is as
//     bounded as what clients do.
//   - What a client makes the broker hold is bounded: bodies before they are
//     decoded (package wire), fetch sessions, records that slow readers have
//     not taken (fetch_memory.go: a connection has a share of that), and the metrics that clients push (package
//     telemetry).
//   - Typed errors become Kafka's codes in one place (errors.go), but for those
//     of coordinators' records (package coordinator). What storage cannot
//     do, for it is full, dead, damaged or away, is KAFKA_STORAGE_ERROR: clients try
//     again. What is damaged is said to a person as well, once, and is not looked for
//     as fast as clients ask (damage.go).
//   - Who a client is, where it is asked, is found out by package login (sasl.go); the
//     transport lets nothing else through before.
//   - Who comes from inside, the cluster's own transforms (inside.go) and records that operators send by
//     hand (operator_records.go), is held to no rule and no
//     quota, and served nothing that administers. Only this process, and brokers that have
//     proved to be some, come that way.
//   - Who exceeds a quota is told how long to wait, and muted for as long
//     (quotas.go); without quotas that costs a load of a pointer.
//   - Topic names come from clients and go nowhere but into maps and messages;
//     storage knows topics by id.
//
// A partition whose acks wait for the bucket (objecttopics.go) is brought to the committed
// end before it is led: its log is truncated there, or begins anew with what the bucket knows
// of producers (package rebuild), which goroutines of their own read, eight at a time.
//
// A replica that the disk cannot give back whole is given up and begins anew (heal.go,
// docs/design/0019). In a cluster that was brought back from its bucket so does a log that
// parted from what the bucket has (parted.go), and records of topics that it does not know
// are kept (strays.go, docs/design/0018). What nobody else confirms is answered only under a
// lease (lease.go).
//
// What reads the bucket, for consumers or to rewrite it, keeps to a rate while somebody
// produces (package pace).
//
// Goroutines: one follows images and brings up or gives up partitions, one
// sends heartbeats, one for each request that waits for the controller or
// another broker, or reads files; one for each lane that has batches, of those that
// lanes share (laneworkers.go), and one for each partition that it sends to; up to four to
// each broker that is owed markers. Produce ends on the WAL's committer, which must not be
// held up: what runs there encodes an answer and returns. Close ends and waits for all.
//
// Lock order: connection, session, log. The table's lock is a leaf.
package broker
