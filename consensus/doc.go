// Package consensus is one member of a raft group: it makes proposals durable
// and ordered on a majority and feeds them to a state machine. It owns the
// directories raft/ (a log on storage/wal) and snapshots/; it knows no command,
// no transport and no role.
//
// The algorithm is go.etcd.io/raft/v3 with pre-vote and check-quorum. Here is
// what surrounds it: one goroutine, the loop, that owns the raft core, appends
// to the WAL without waiting and applies what is committed. The WAL's
// completions come back to it as events, so that any number of proposals share
// one sync.
//
// Promises. A proposal whose Wait returned a result is on disk on a majority
// and applied here. A restart applies the same entries at the same indexes. A
// snapshot or log that cannot be read is refused by an error that names it,
// never taken for empty. A member is a node id and a directory id: messages
// from a directory that the configuration does not know are refused, unless their
// sender's configuration is a later one; an empty raft/ starts a group only if every
// peer is empty too, asked twice, and nothing beside it shows that this node has had a
// log before: otherwise it waits to be added. Members change one set at a time,
// through a joint configuration where several votes are concerned
// ([Node.ChangeMembers]); a learner votes once it has caught up. A member that hears that
// its leader's process has gone ([Receiver]) forgets it, and stands without an election
// timeout: a hint, by which no leader is deposed that a majority hears. A failed write or sync of the
// log is the end of the node; a segment that cannot be made is not: proposals are
// refused until one can, and what must be written waits for a while. Nor is a
// snapshot that cannot be written. A leader whose disk takes ten times as long as that of
// another member, for 10 s in which it had something to write, hands over to that.
//
// Concurrency. All methods of [Node] may be called from any goroutine. The
// state machine's Apply, Snapshot and Restore are called by the loop alone; the
// function that Snapshot returns runs beside it. entryLog.mu is held while
// frames are appended, by the loop and by the WAL's cleaner; no lock is taken
// under it but the WAL's own.
//
// Bytes. Frames of the WAL belong to one partition, [LogPartition]:
//
//	kind      epoch  offset  payload
//	data      term   index   entry: 1 byte raft's entry type, then its data
//	state     term   0       hard state, below
//	truncate  term   index   entries from index on are gone
//	trim      term   index   entries before index are in a snapshot
//
// Hard state, integers little-endian:
//
//	offset size field
//	0      1    version    1
//	1      8    node       id of the member
//	9      16   directory  id of its data directory
//	25     8    term
//	33     8    vote       0: none
//	41     8    commit     known to be committed; may lag
//	49     8    base       index of the last received snapshot that the log begins at
//
// The data of a normal entry is 8 bytes boot (random, of the proposer's start),
// 8 bytes number, and the command. That of a configuration change is raft's
// ConfChangeV2, whose context is the list of members that results.
//
// A snapshot is a file snapshots/INDEX-TERM.snap, both in 16 hex digits; that of index 0
// is a member's that waits to be added:
//
//	offset size field
//	0      8    magic    "RMQSNAP\n"
//	8      4    version  1
//	12     4    crc32c   of all that follows; of a later version, of all that is before too
//	16     8    index    of the last entry in it
//	24     8    term     of that entry
//	32     4    c        length of the configuration
//	36     4    flags    1: came from a leader, in place of the log here
//	40     8    d        length of the data
//	48     c    raft's ConfState
//	48+c   d    data: members, then the state machine's bytes
//
// Members are a 4 byte count, then for each 8 bytes node id and 16 directory.
package consensus
