// Package rpc carries what servers say to each other, over gRPC. [Raft] is the network
// of controllers (port 9094) that consensus declares.
//
// Promises. Send never blocks: what does not fit into the queue of a peer, or meets a
// line that is down, is lost, and the node is told. A line on which a batch is not
// answered in time is given up and made anew. What comes in is bounded: a batch by
// [MaxBatch], snapshots by RaftOptions.MaxSnapshot, one at a time. Whoever knows another
// cluster id is refused, both ways. Members and their directories are judged by
// consensus.
//
// Concurrency. All methods may be called from any goroutine. A goroutine for each peer
// sends, one for each snapshot; they block on the network alone. Close ends and waits
// for all.
package rpc
