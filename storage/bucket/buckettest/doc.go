// Package buckettest says by tests what every bucket must do, whatever it is made
// of. It is for tests only and writes below a prefix of its own in each.
package buckettest
