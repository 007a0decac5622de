// Package disk is the only door to files for storage and consensus.
//
// It owns the difference between written and durable, and says it the same way
// for a real disk and for the disks of tests: [OS] is the file system, by
// pwritev or by io_uring; [Mem] a disk in memory that can lose its power;
// [Faulty] either of them with faults given as data. It knows no format; it
// retries nothing, for after a failed sync the kernel may have dropped the very
// pages that failed.
//
// What an FS promises:
//
//   - Data is durable after Sync or WriteSync of its file returned nil. The
//     whole file, whoever wrote it; not its name.
//   - A created, linked, renamed or removed name is durable after SyncDir of its
//     directory. A directory is durable when MkdirAll returns.
//   - Everything else may be there, partly there, or not, after a power cut;
//     crash.go says what "partly" may be.
//   - A write that returns an error may have been done in part. After a failed
//     Sync or WriteSync nothing is known of the file, and a later Sync that
//     returns nil says nothing about what came before.
//
// Methods may be called from any goroutine, Close while others run included;
// writes to overlapping ranges of a file are the caller's to order. Names are
// fs.ValidPath: nothing leads out of the root, except a link that somebody else
// put into it.
//
// Locks: each of Mem, Faulty and the pool of rings has one mutex, taken for one
// call; hooks of a Rule are called without it. No goroutines.
package disk
