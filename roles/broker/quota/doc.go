// Package quota says how long a client has to wait that asks for more than its
// share. It owns the resolution of quotas, by Kafka's precedence, and the buckets
// that count what clients take; it knows no connection and no clock of its own.
//
// Of the rules that fit a client, the most specific counts, for each kind alone:
//
//	user and client id, user and any client id by default, user,
//	any user by default and client id, both by default, any user by default,
//	client id, any client id by default
//
// Clients share a bucket as Kafka's do: those of a rule with user and client id
// by both, those of a rule with a user by the user, the rest by client id.
//
// A bucket fills at the rate up to what comes together in [Window], and is taken
// from without asking: who leaves it in debt waits until the debt is filled up.
// That is what Kafka's samples of a second come to, whose quota is exceeded from
// ten seconds' worth at once on. Only what a client may be refused ([Client.Try])
// is asked for before.
//
// Invariants: without rules nothing is looked up. The number of buckets is
// bounded, however many names clients invent; beyond it they share one by rule.
// Everything may be called from any goroutine; a bucket's lock is a leaf.
package quota
