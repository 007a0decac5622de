// Package rpc carries what servers say to each other, over gRPC. [Raft] is the network of
// controllers (port 9094) that consensus declares. [Controllers] is the way to a
// controller (port 9095), and [RegisterController] its other end: calls of methods, whose
// bodies it does not know, streams of images, and [Beats], by which it hears that a broker
// lives. [Peers] is what one broker has another serve (port 9093): requests of Kafka's, as
// the handler that the broker gives understands them; processes with the role controller or
// admin ask too, for operators ([OperatorID]). [Pushes] carries records to
// followers ([RegisterReplication]). [NewServer] is a gRPC server with bounds for any of
// them.
//
// Promises of Peers. A call is tried once, and its error says whether it may have had an
// effect. One that is ordered has none any more when a later one is served that was sent
// after it was given up. What is served at a time is bounded, in calls and bytes, and so is
// how long each is. A line that is dead without a word is made anew.
//
// Promises of Raft. Send never blocks: what does not fit into the queue of a peer, or meets a
// line that is down, is lost, and the node is told. A line on which a batch is not
// answered in time is given up and made anew. Where a line breaks and its port takes no
// other, the node is told that the peer has gone. What comes in is bounded: a batch by
// [MaxBatch], snapshots by RaftOptions.MaxSnapshot, one at a time. A snapshot goes on a
// connection of its own, as fast as the other side takes it: beside the image, which is
// not copied, [RaftWindow] bytes of it are under way at most, and some 100 KiB in buffers. Whoever knows another
// cluster id is refused, both ways. Members and their directories are judged by
// consensus.
//
// A call says whether it was certainly not run ([UntriedError], [Untried], [Refused]). A
// body has [MaxCall] bytes at most, a delta of an image as many as its receiver allows; a stream of
// images that says nothing is given up.
//
// Who calls, and who is called, proves it by certificate (options Mutual, [Gate]): by the
// identity that package pki reads of it. Without, servers are on loopback or trust their
// network. A call by somebody else than its message says, or without the role that its
// service is for, is refused with PermissionDenied ([Admit]); nothing is sent to another
// node than the one that is meant. A connection ends, on either side, with the certificate
// of the other; the next trusts who is trusted then.
//
// Concurrency. All methods may be called from any goroutine. A goroutine for each peer
// sends, one for each snapshot; they block on the network alone. Close ends and waits
// for all.
package rpc
