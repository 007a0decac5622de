// Package roles composes what a rustmq process can be, and is the command line.
//
// A process is a [Node]: a data directory, and the roles broker, controller and
// admin over it. One with the role admin alone is a front: it keeps nothing. Start puts the rooms together in one fixed order — directory
// lock and identity, ports for other servers, bucket, controller and the door to the one
// that leads, log, broker, listeners, HTTP — and Close takes them down in the reverse one. No algorithm of the rooms lives here.
//
// [Main] is the whole program: `rustmq serve` starts a Node from a config; the
// client and admin commands come from roles/client and roles/admin. Tests and
// the package embed start nodes through the same Start. How the process collects its
// garbage is for the program to say, not for a node: see boundGarbage.
//
// When a log dies, the node says so (health, /readyz, NodeOptions.Failed) and goes on
// answering what it can. `rustmq serve` ends the process at once, with exit code 1:
// whoever starts it again finds out whether the disk is well. A program that embeds a
// node has only its health to look at.
//
// A node with controller.peers is one of a cluster. It binds its ports of gRPC before its
// controller opens, for the others wait for it to say who it is; it learns its cluster from
// them, and reaches whichever controller leads by a door. Other controllers are looked for
// where the configuration says and where they have said themselves, in turn. meta.json says
// whether the directory has had a metadata log: an empty raft/ begins a group, waits to be
// added, or was lost. Before it stops, others lead what its broker and its controller led.
// A node alone opens none of these ports.
//
// A hang-up (SIGHUP) reloads the certificates of a process, as does that their files have
// changed, unless it comes from the terminal that went away: that ends it.
//
// The data directory says what it is: meta.json names the node, its cluster, its bucket
// and its log, which has its id in wal/id. A node does not start on a log that is lost,
// or another's, unasked: see [LostWALError].
//
// A node's methods are safe for concurrent use. Nothing here keeps package-level
// state, so several nodes live in one process.
package roles
