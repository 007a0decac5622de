// Package disk is the only door to files for storage and consensus.
//
// It owns the difference between written and durable, and says it the same way
// for a real disk and for the disks of tests: [OS] is the file system, [Mem] a
// disk in memory that can lose its power, [Faulty] either of them with faults
// given as data. It knows no format; it retries nothing, for after a failed
// sync the kernel may have dropped the very pages that failed.
//
// What an FS promises: data is durable after Sync or WriteSync of its file
// returned nil; a created, renamed or removed name is durable after SyncDir of
// its directory; everything else may be there, partly there, or not, after a
// power cut. Methods may be called from any goroutine; writes to overlapping
// ranges of a file are the caller's to order.
package disk
