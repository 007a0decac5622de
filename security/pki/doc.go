// Package pki makes and loads the certificates of a node, and judges those of others.
//
// A node without certificates of its own gets a development CA in its data
// directory at first start, and a server certificate for the addresses it is
// reached by; clients trust the CA's file. The server's certificate is made
// anew when an address is missing or its end is near; the CA is kept, and used by a
// clock too that says it is not valid yet.
//
//	ca.pem, ca.key           the development CA; the key is readable by its owner only
//	server.pem, server.key   the node's certificate, signed by it
//
// A file is replaced as a whole and synced, the key before its certificate; a
// server certificate whose key is missing, damaged or another's is made anew, a
// CA is not. A key that others may read is refused. Without ca.key the CA goes on
// being trusted and signs nothing more.
//
// [Load] reads an operator's certificate instead. A [Keeper] serves either, and
// takes a new one while connections go on.
//
// [Mutual] is for what servers say to each other. Their certificates name the cluster, the
// node and its roles in a URI, rustmq://<cluster>/node/<id>?roles=broker,controller
// ([Identity]): no other certificate of the same authorities is taken for a server's.
//
// [Trust] is whose certificates are taken: authorities, less what their revocation lists
// ([Revocations]) have. Handshakes are judged by what is there at their time, resumed sessions
// too, and open connections are held by [Connections], which ends those whose certificates do not
// stand any more. [Clients] knows clients by their certificates, of which a [Mapping] makes
// principals. docs/design/0020.
//
// Keys that are made here are ECDSA P-256. Nothing here skips verification, and no key is logged.
// Functions are safe for concurrent use on different directories.
package pki
