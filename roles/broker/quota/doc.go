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
// Addresses are users of a set of rules of their own: what is said of a user holds.
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
// Who shares a bucket with all that meet a rule finds it by looking at the rules,
// which do not change, without a lock. Only a default tells clients apart: each has a
// budget of its own, behind the lock of one of 64 shards, and is forgotten once it is
// as new.
//
// Invariants: without rules nothing is looked up. The number of budgets is bounded,
// however many names clients invent; beyond it they share one by rule. So are the
// bytes of these names: who meets a default is told apart by 256 of them. Everything
// may be called from any goroutine; the locks of shards and of buckets are leaves,
// the latter taken under the former.
package quota
