// Package logring keeps the last lines of a process's log in memory, so that they can be
// asked for where nobody has kept what was printed.
//
// Invariant: what is kept takes no more than the bytes that it was made for; the oldest lines
// go first. A Ring is safe for concurrent use, and never blocks on who reads it.
package logring
