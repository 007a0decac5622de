// Package rebuild finds in the bucket what a broker must know of a partition that it is to
// lead and has no log of: leader epochs, producers and open transactions as of the committed
// end (docs/design/0016-durability.md). It reads the indexes of the newest ranges, back to
// one that has producers, and the batches behind those, if there are any: uploads see to it
// that these are few.
//
// It owns no goroutine and keeps nothing. [State] is safe for concurrent use; it holds one
// read of the bucket in memory, and what it finds. What it reads was checked against its CRC.
package rebuild
