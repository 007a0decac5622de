// Package replication pushes what a broker leads to its followers, takes what others push
// to it, and keeps the sets of those in sync. It owns no log, and elects nobody: the
// metadata says who leads, package log decides what is committed.
//
// A [Leader] has a link to each follower broker, with two streams: one for the tail, one,
// over a connection of its own, for partitions that lack much (RULES 3.5). On a stream a
// partition has a session, numbered by the leader:
//
//	leader                              follower
//	open (epoch, metadata offset) ─▶    waits for its metadata; refuses another epoch
//	                              ◀─    history: epochs, where the log begins and ends
//	truncate | restart, records   ─▶    obeys, appends in order
//	                              ◀─    confirm: what is on disk ends here (in memory,
//	                                    of a topic whose acks come before the sync)
//
// Where the two logs cease to agree is computed from both histories (history.go, KIP-101,
// KIP-279). Who lacks what the leader's WAL has given up, or more of what the bucket has
// than it holds, begins anew at the committed end, with the leader's state. The high watermark goes with the records, and without them
// when it moves.
//
// Invariants:
//   - A stream names the registrations of both brokers, and a follower refuses any but
//     those of its metadata. A session names the leader epoch; the log refuses what comes
//     under another. With a stream what it confirmed is forgotten (RULES 3.1).
//   - A follower's end counts only as far as it was sent in the session, or agrees by
//     history.
//   - The log waits for the committed set of those in sync and for all who may have been
//     added to it (isr.go, KIP-497). One proposal of a partition is under way at a time.
//   - What a follower has not confirmed is bounded by a window for each stream, what it has
//     not taken by its own WAL: it admits a batch before it takes the next message. A
//     stream that takes nothing for some seconds is given up.
//   - Partitions with something to send are served in turn, a share of a message each.
//
// Goroutines: two for each stream of a leader, while it has one, and one that keeps those
// in sync; three for each stream to a follower, which end with it. Close of a Leader ends
// and waits for its own. Lock order: Leader.mu, led.mu, link.mu; Follower.mu, intake.mu;
// led.setting is taken before led.mu, and held while the log is told whom it waits for. No
// log is called under led.mu or link.mu; a log takes link.mu under its own.
package replication
