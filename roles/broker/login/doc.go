// Package login has clients say who they are: it keeps what stands between two messages
// of SASL (package sasl) for each connection, and slows down who guesses. It knows no
// Kafka message and no metadata.
//
// Promises. A connection has one exchange at a time, and becomes somebody once: when it
// authenticates again (KIP-368) it is by the same mechanism, as the same user, or not at
// all. What a client is told of a failure is the same whatever was wrong. Who has failed
// too often lately, as one user or in all from one address, is not judged, and not told
// anything ([ErrSlowed]), but for what nobody can guess ([Table.Judge]); nobody is kept out by what comes from elsewhere. No password,
// token or proof is logged.
//
// A [Table] may be used from any goroutine; messages of one connection come one after
// the other. Authenticate blocks on processor time where a password is to be salted, of
// which no more than half of the cores is given to strangers, and on a read of the keys of
// tokens if one names a key that is not known.
package login
