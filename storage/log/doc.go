// Package log keeps partitions: record batches in order of offset, and what a
// broker must know of them. It owns what goes into the frames of the broker's
// WAL; it knows no topic name, network or controller.
//
// A [Store] is all partitions of a broker over one WAL, a [Log] one of them. In
// memory a log has an index entry of 32 bytes for each batch, its producers, its
// leader epochs, and who waits; the batches are in the WAL: in its memory until
// evicted, then in its files.
//
// Two starts. The log start is the controller's word: what lies before is gone.
// The local start is where the WAL's part begins: between the two, records are in
// the bucket alone, and a read says so. What the bucket has ([Log.SetUploaded]), and
// who has nothing but the bucket could find there ([Log.Release]),
// stays in the WAL for readers, until that wants its oldest segment back; then
// the local start moves past it, and what the bucket has not is copied forward. Of a
// log with Config.KeepLocal all is copied forward. What the bucket has and the disk cannot
// give back any more is given up in any log, once all before it may be.
//
//	log start <= local start <= released <= uploaded <= high watermark <= end
//
// Promises. Offsets are given in the order of appends, without gaps, and never
// twice with other content. An append is answered when its batch is on disk and
// the high watermark has passed it (with LeaderOnly: when it is on disk). A
// reader sees nothing above the high watermark. A batch that a producer sends
// again is answered as the first was, once the high watermark has passed that;
// an unknown producer may begin with any sequence number, but not behind a batch of its
// own that was refused a moment ago and may be taken when it comes again. A batch whose producer
// expects another end ([Condition]) is refused once the end it was compared with is
// committed; of two that expect the same one is. Of a batch that is to be transformed before
// it is appended [Log.Screen] says so much before that, on the batch as its producer sent it;
// what a transform took out of it is a hole among its offsets. Where something is not
// found where the index said, the index is asked again: only the log start makes
// an offset out of range. No batch is given up before SetUploaded, with
// [Options].Hold Release, or the log start, covers it.
//
// With Config.EarlyAcks all of that is without the disk: what a replica has in memory counts
// as had, but for markers and what lies behind one that is not on disk. A power cut may then
// take back what was read, and a new leader epoch says so; the bucket gets only what is on
// disk. The high watermark of a follower goes back there when it begins anew as a leader
// has it that lost some; without EarlyAcks only by [Log.RestartDiscarding].
//
// With Config.BucketAcks what is committed waits for the bucket as well: the high watermark
// is where SetUploaded comes to, and appends, markers and acks=1 too, are answered then. Such
// a log has no other replicas. Whoever leads next begins with what the bucket has: one that
// may keep its log truncates it there ([Log.TruncateTo]), any other begins anew with what
// ranges say of producers and epochs ([Rebuild], [Log.RestartFromBucket]).
//
// Transactions. The first batch of one is appended only with the coordinator's
// word that it knows of the transaction, asked for in time
// ([Log.BeginVerification]); a marker ends it ([Log.AppendMarker]), unless a newer
// epoch of the producer, or of the coordinator, is known. Who reads what is
// committed by transactions reads up to the last stable offset, where the first
// one begins that is open, or whose marker is not committed, and is told which
// of those before were aborted. The log knows the transactions that are open,
// wherever they began, and those whose marker the WAL has; of the others the
// bucket's indexes know ([Log.Outcome]). Their memory is accounted as the index's.
//
// Replicas. A log is led, followed, or neither. The high watermark of one that is led is what
// is on disk here and, by what they have confirmed under this epoch ([Log.Confirm]), on the
// other replicas in sync and pending; it stands while fewer than Config.MinInSync are. Until
// it has passed the start of the epoch nobody is told where the log ends ([Log.Latest]). A
// follower takes batches as its leader has them ([Log.AppendReplicated]), of that epoch
// alone, and remembers producers and transactions of them as recovery does; its high
// watermark is its leader's, as far as its disk. What it appended itself while it led counts
// once that is on disk too, if the leader has it ([Log.Held]). It takes the controller's word of log start and bucket as
// far only, for what lies behind may not be its leader's. One that is too far behind begins
// anew at the committed end with what its leader knows ([Log.Restart]): as of the leader's
// high watermark, so that batches below that, which come again, do not count twice. Killed
// on the way there it goes on, also with the next leader if that is known to have what was
// committed ([Log.Believe]); led before it is there, it knows no producers.
//
// Recovery. The WAL replays frames in the order they were appended; copies of
// relocated batches come late. A partition must be whole from its local start to
// its end, and reach the high watermark that its state names, else it alone is
// refused, by a [*CorruptionError], until it is dropped. With [Options].Heal so is one that
// may have had a frame that is missing, and all others go on (loss.go,
// [Store.SettleLosses]); where the bucket has all that it may lack it goes on from there
// ([Log.Heal]). The high watermark after a start is the last
// one written in a state, until the log is led again. The disk does not know the
// log start: it is taken to be the local start until the controller's word comes
// ([Log.SetLogStart]), which may lie further back. Leader epochs are kept from
// the log start on. Producers and transactions are those of the
// last state with the batches at or above its high watermark added, whose producers
// count as heard of at the start: the same as before the stop, and those that were
// forgotten since the state. So that these are few, states are written at Close, each
// hour, and when much of producers lies behind them. Producers are forgotten by time
// only, by the broker's clock without what that is set ahead, not by a start, and not while they
// have a transaction open; while as
// many are remembered as may be, new ones are refused. Only a start that finds more
// forgets those that were silent for longest, and a log that begins anew at an offset
// that it had not reached knows none. Verifications do not outlive a leader.
//
// Concurrency. Everything exported is safe for concurrent use. Lock order:
// Store.mu or the lock of Store.backlogs, then Log.mu (several only under Store.mu),
// then the WAL's or that of Store.refusals. No file is read, and no caller's code runs but
// Confirmer.Stands, under a lock; the WAL's memory is written
// under Log.mu, which is what orders a partition's frames. Goroutines: one for
// each store, which forgets producers and writes states.
//
// Bytes. Frames of kind data hold one record batch, with its base offset and
// leader epoch in the frame's header; trim, truncate and drop hold nothing
// besides the header. A trim frame says where the local log begins. A state is written
// when a partition is made, in place of a trim that would lose something, when a segment
// is given back, and from time to time: in one frame, or several (parts) when there are
// many producers. Little-endian:
//
//	offset size field
//	0      1    version            1; 2 where there is anything of transactions; 3 where
//	                               it is as of an offset beyond the high watermark
//	1      1    flags              1: goes on from the part before; 2: the last part; 16: what
//	                               was said of damage before is over, the log begins here
//	2      2    zero
//	4      8    local start
//	12     8    high watermark     the producers are as of it, but in version 3
//	20     4    number of epochs   in the first part
//	24     4    number of producers in this part
//	28     4    number of transactions in this part; from version 2 on
//	32     8    as of              what producers and transactions are as of; only in version 3
//	…      12×  epochs             epoch (4), start offset (8); both grow; from the
//	                               log start on, which may lie before the local one
//	…      25×  transactions       that ended between local start and what it is as of:
//	                               producer id (8), first offset (8), the marker's (8),
//	                               1: aborted, 0: committed (1); each kind in order
//	…           producers          in order of id
//
//	what a leader sends of one (replica state); the log begins anew behind a drop frame
//	0      1    version            1
//	1      3    zero
//	4      4    crc32c             of all behind
//	8      8    log start
//	16     …    state              in one part: local start and high watermark are where the
//	                               follower begins, the rest is as of the leader's high watermark
//
//	a state that says why the partition is refused
//	0      1    version            1
//	1      1    flags              4; 12: it says what may be missing
//	2      2    zero
//	4      8    offset             at which it is corrupt
//	12     8    missing            with flags 12: all that may be missing begins before it
//	…      …    reason             text
//
//	a producer
//	0      8    id
//	8      8    last heard of      ms since 1970, by the broker's clock
//	16     8    first offset of its open transaction, or -1
//	24     4    epoch of its transaction coordinator, or -1
//	28     4    producer epoch of its last marker + 1, or 0
//	32     1    number of batches  0..5, of who has had a marker, else 1..5
//	33     26×  batches            last offset (8), timestamp (8), first sequence (4),
//	                               last offset delta (4), producer epoch (2)
package log
