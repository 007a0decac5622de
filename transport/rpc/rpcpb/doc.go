// Package rpcpb is generated from raft.proto in package rpc; see there.
package rpcpb
