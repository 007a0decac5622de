// Package pace keeps what a broker does in the background with the bucket, reading it
// for those who catch up and rewriting it, from holding up those who produce and read
// the tail. It owns a rate, in bytes a second, and knows no request, object or disk.
//
// A [Pacer] gives out a [Meter] for each kind of background work; each may move as much
// as the rate allows. Without appends there is no rate: the bucket is read as fast as it
// gives. While there are, and something is moved, a goroutine sleeps for two
// milliseconds again and again and notes how much later it ran than it wanted to. A
// request of a producer, and each of its steps, waits as long for a processor. From
// that the governor, a core without clock, draws the rate a fifth of a second at a time:
//
//   - Many late: half of what was moved, or of the rate if that is less.
//   - None, or a few: a fortieth more, which doubles the rate in six seconds.
//   - Nothing was appended: twice as much, and no rate once it bounds nothing.
//
// It never falls below 32 MiB a second, on which a catch-up goes on however busy the
// machine is: it may be others that keep it so.
//
// Everything exported is safe for concurrent use. The goroutine of a pacer blocks on
// time alone; Close ends it.
package pace
