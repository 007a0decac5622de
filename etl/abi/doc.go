// Package abi is the layout of what the host and a transform module say to each
// other: a batch of records goes in, one decision for each record comes out. It
// knows no WebAssembly, no I/O and no policy; docs/etl-abi.md says the same
// to those who write modules.
//
// Invariants: Encode writes exactly Size bytes, whatever the batch; what Decode
// accepts lies wholly in the memory it was given, and is no longer than its limits
// say. Decode copies: a decision is valid for as long as anybody holds it, and
// nothing in it aliases the guest's memory. Both are safe for concurrent use.
//
// Addresses are absolute in the guest's linear memory; everything is little-endian.
//
//	batch (8-byte aligned)                decision × n (8-byte aligned)
//	 0  u32 n, records                     0  u32 action 0 keep 1 drop 2 route 3 reject
//	 4  u32 flags                          4  u32 replaced parts 1 key 2 value 4 headers
//	 8  i64 timestamp, ms                  8  u32 key address
//	16  i32 partition                     12  i32 key length, -1 null
//	20  u32 length of the topic's name    16  u32 value address
//	24  u32 its address                   20  i32 value length, -1 null
//	28  u32 0                             24  u32 headers address
//	32  n × record                        28  u32 number of headers
//	                                      32  u32 text address
//	record (48 bytes)                     36  u32 text length
//	 0  i64 timestamp, ms
//	 8  i64 offset                        header (16 bytes)
//	16  u32 key address                    0  u32 name address
//	20  i32 key length, -1 null            4  u32 name length
//	24  u32 value address                  8  u32 value address
//	28  i32 value length, -1 null         12  i32 value length, -1 null
//	32  u32 headers address
//	36  u32 number of headers
//	40  u64 0
package abi
