// Package floor is the least that a durable log can do, to compare ours with:
// a bare group-commit loop over one zero-filled file, and a driver that keeps so
// many appends in flight on either.
//
// The loop has what no log can leave out (a length, a CRC, blocks of their own
// for each commit, one write and sync for everything that queued up) and nothing
// else: no recovery, no readers, no segments, no budgets.
package floor
