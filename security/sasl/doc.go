// Package sasl is the server's side of SASL, as Kafka carries it: who is a client.
//
// An [Exchange] is one authentication, a pure state machine: bytes in, bytes out, who
// it was or why not. It reads no clock, blocks on nothing and keeps what it was given
// no longer than it lasts. [Mechanisms] begins one:
//
//	SCRAM-SHA-256, SCRAM-SHA-512   RFC 5802, RFC 7677, without channel binding
//	PLAIN                          RFC 4616, over TLS only, against the keys of SCRAM
//	OAUTHBEARER                    RFC 7628, over TLS only, signed JWTs (RFC 7519) by a [KeySet]
//
// Nobody has passwords: what is kept of one is a [Credential], salted and iterated
// (RFC 5802 §3), which does not let its owner log in elsewhere.
//
// Promises. A user who is not there is answered as one whose password is wrong: with a
// salt that is always the same for that name, the same steps, errors and work, and
// iterations and a kind of salt that are as frequent among those who are not there as among
// the users ([Shapes]). Secrets
// are compared in constant time. A proof is good for one exchange, whose nonce is half
// the server's. A token is taken only if a key of the set signed it with an algorithm
// that is allowed and belongs to that kind of key; what the token says of keys counts
// for nothing. What comes from a client is bounded by [MaxMessage], [MaxToken] and
// [MaxName] before it is looked at, and never panics.
//
// [Brake] slows down who guesses, also pure. Package jwks keeps a KeySet fresh.
//
// An Exchange belongs to one goroutine; the rest may be used by any, but for Brake,
// whose owner locks it.
package sasl
