// Package pki makes and loads the certificates of a node.
//
// A node without certificates of its own gets a development CA in its data
// directory at first start, and a server certificate for the addresses it is
// reached by; clients trust the CA's file. The server's certificate is made
// anew when an address is missing or its end is near; the CA is kept.
//
//	ca.pem, ca.key           the development CA; the key is readable by its owner only
//	server.pem, server.key   the node's certificate, signed by it
//
// Keys are ECDSA P-256. Nothing here skips verification, and no key is logged.
// Functions are safe for concurrent use on different directories.
package pki
