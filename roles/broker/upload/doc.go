// Package upload moves what is committed from the WAL into the bucket.
//
// A planner, pure, decides which partitions go into which object and when: a
// partition with enough bytes gets an object of its own, the others share one
// when the oldest of them has waited for an interval, when they come to an
// object's size together, or when the WAL fills up. Where not all that is to be made may
// be at once, the object with the oldest records is.
//
// An [Uploader] runs what it decides: it takes an id that the controller has
// issued, writes the object (storage/object) straight from the log's memory or
// files, and has the controller commit its ranges, each under the leader epoch
// that it was read under. Only then may the log give the records up.
//
// Where acks wait for the bucket, what is appended goes there within AckInterval, in objects
// of its own, before anything else, and is committed by it: the log's high watermark follows.
//
// Promises. Only what is below the high watermark, or waits for nothing but this, and is on
// disk, is uploaded.
// A batch is checked against its CRC as it is packed, and the bucket answers for
// the stored bytes before they are committed. What is uploaded may be in a
// transaction that is open: a range says what was stable at its own end, however
// far the log was by then, and has the aborts whose marker it has. An object whose commit was refused,
// or whose fate is not known, is never written to or named again: the controller
// condemns its id in time. A failure is retried, with longer pauses, for ever,
// and costs nothing but the log's room.
//
// Concurrency: one goroutine plans, one runs per object under way; Close ends
// and awaits them. All methods are safe for concurrent use. Memory is bounded by
// the objects under way and the parts that the bucket buffers of each.
package upload
