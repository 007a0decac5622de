// Package metadata is the state that all controllers agree on, without I/O:
// the commands of the log, the image they build, apply, and the snapshot.
//
// It owns every type of the log and the image and their encoding. It knows no
// raft, disk, network or clock, and decides nothing that depends on time:
// roles/controller decides, a command carries the decision, [State.Apply]
// checks it against the image of its own moment.
//
// Promises. The same commands at the same indexes give the same image and the
// same snapshot bytes on every controller: no clock, no map order, no random
// number. What a command may do is gated by the feature level in the image,
// never by the binary. A command (or a field of one) that this binary does not
// know stops the node: Apply returns [*StopError] and must not be called again.
// A command that a stale broker could send carries its broker epoch and is
// refused. A refused command changes nothing but the image's offset.
//
// The catalogue says what is in the bucket: the objects by id and state, and for
// each partition its ranges, each ending where the next begins (feature level 2,
// docs/design/0002-objects.md). An id is issued once, to one registration of one
// broker, and committed by no other. An object that a range names is committed;
// one that loses its last range is condemned in that step, and only condemned
// ones are forgotten. A range enters at the committed end, from the leader of the
// present epoch, or takes the place of ranges that are all still there. No state
// ends by time: the controller condemns by a command.
// How far compaction by key has come is noted with each partition (feature level
// 4, [Cleaning], docs/design/0005-compaction-by-key.md).
//
// Manifests (feature level 3, docs/design/0004-manifests.md) hold the ranges that a
// partition has long had, in the bucket: the image has a reference to each, and
// nothing of the objects that they list. An object is thus in a state, or listed in
// one manifest, or was forgotten. What a manifest must say follows from the image,
// entry for entry, and is compared with what the broker wrote. A manifest that no
// partition names any more is dying until a command brings its content, by which
// the objects in it are condemned.
//
// A cluster of several processes (feature level 9, docs/design/0012-cluster-metadata.md).
// Of each partition the ISR and the ELR hold every record that was acknowledged, and
// nobody else is known to: whom a partition is led by is derived from them, in the same
// command that fences, registers, drains or lets in a broker, under a leader epoch of its
// own. Who of them cut the tail of its log is doubted (doubts.go, feature level 10): it
// leads only if it has the most of enough others. Others lead only where that is asked
// for. A leader changes its ISR at the partition epoch that it knows, and names each
// follower by its registration. A reassignment keeps old and new replicas until all that
// are to stay are in sync.
//
// A cluster that is brought back from its bucket (feature level 10, [Recover]) is another
// life of it: whatever the lost log may have given out is leapt over, and who leads a
// partition follows from what its replicas say that they have ([Recovery]). The life
// before ends with EndLife (feature level 11): from then on Apply refuses everything.
//
// The rules of who may do what (feature level 12, [Image.ACLs]) are those of security/acl,
// and go to every broker whole. Tokens of the admin API (feature level 13, [Image.APITokens])
// are kept as hashes, which stay out of the bucket as the keys of passwords do.
//
// Modules that transform records (feature level 14, [Image.Transforms], docs/etl.md) are known
// by name, with their versions, of which one is active or none, and a history. Their bytes lie
// in the bucket by their SHA-256. Bytes that no version has any more are condemned by a
// command before they are deleted there, and a version that needs them is refused until
// another says that they are; one whose writer looked into the bucket before that, too.
//
// What was set on brokers has a history from feature level 15 on ([Image.ConfigRevisions]): the
// last 256 changes, with who asked for them, and when by the clock of the controller that led.
//
// An entry of the metadata log in the bucket is announced before it is put (feature level
// 8, [Image.Announced], docs/design/0007-lineage.md), and has nothing that comes after:
// by that an image knows its own entries from those of a copy.
//
// A broker is shown a slice of the image: ranges, manifests and the state of compaction
// by key only of partitions that it is a replica of, and the objects that those name
// (docs/design/0010-deltas.md). [EncodeDelta] says what changed in it between two images,
// and a [View] follows. A view takes a delta only where the image that it has is the one
// before, never goes back, and is left as it was by one that is damaged, or cannot be.
//
// Concurrency. Apply and Restore are called by one goroutine. Image may be
// called by any; an [Image] never changes, and shares with its successor
// whatever the command between them did not touch: a change costs the path to
// it in a tree, and one chunk of a topic's partitions, however many there are.
//
// Commands are protobuf (command.proto). A snapshot, integers little-endian:
//
//	offset size field
//	0      8    magic      "RMQMETA\n"
//	8      4    version    1
//	12     4    crc32c     of the body
//	16     8    length     of the body
//	24     n    body       records: uvarint length, SnapshotRecord (snapshot.proto)
//
// The first record is the header; it counts the brokers, configs (of brokers; of groups
// from feature level 6 on, of client metrics from 7), client quotas (feature level 5),
// controllers (feature level 9), ACLs, users (feature level 12), API tokens (feature level 13),
// transforms and unnamed modules (feature level 14), changes of brokers' configs (feature
// level 15), topics, objects, manifests and
// ranges that follow in that order, each kind sorted,
// many ranges to a record. Nothing may follow them. Ranges are written as columns
// (columns.go), in commands too: about 20 bytes each, and 16 more where each is of
// another topic. A cluster at level 1 or 2 has the snapshot that the first versions
// wrote, and one below level 9 that of the last version before it.
//
// A delta between two images, integers little-endian:
//
//	offset size field
//	0      8    magic      "RMQDLTA\x01", the last byte is the version
//	8      4    crc32c     of all but these four bytes
//	12     4    zero
//	16     8    length     of the body
//	24     n    body       records: uvarint length, DeltaRecord (delta.proto)
//
// The first record is the header. It names the offsets of both images, the broker, what
// of the image is one number, and how many of each kind the whole image has. The others
// say what is new, changed or gone. Partitions, objects and ranges are columns, 1000 to a
// record at most. Of what lies in the bucket only what is new is named: a range or a
// manifest takes the place of those that it overlaps, and what lies wholly below the log
// start, or as a range before the end of the manifests, is gone. What is not continued in
// that way, for the topic was deleted and its id given to another, is reset before.
//
// An entry of the metadata log in the bucket, see [LogEntry], little-endian:
//
//	offset size field
//	0      8    magic        "RMQMLOG\x01", the last byte is the version
//	8      4    crc32c       of all that follows
//	12     4    kind         1 commands, 2 a snapshot
//	16     4    incarnation  of the cluster
//	20     4    zero
//	24     8    number       of the entry, as in its key; from 1, without gaps
//	32     8    term         of raft, in which its writer led
//	40     8    writer       random, of the process
//	48     8    first        index of the first command; a snapshot's own
//	56     8    last         index of the last command; a snapshot's own
//	64     8    length       of the body
//	72     n    body         commands: uvarint index less the one before (at first
//	                         less `first`), uvarint length, command; or a snapshot
package metadata
