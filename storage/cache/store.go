package cache

import "iter"

// store is where entries are kept, by one policy. It reports each entry that
// leaves to the ledger, once. All methods are safe for concurrent use, and call
// nothing besides the ledger under their locks.
type store[K comparable, V any] interface {
	get(K) *entry[V] // nil: none; an access, which the policy remembers
	// put adds the entry, which the ledger has counted already.
	put(K, *entry[V])
	// remove removes the key's entry if it is e, or whatever it is when e is nil.
	remove(K, *entry[V], Reason)
	// settle does what is left to be done; afterwards the weight is within the
	// capacity, as far as no put is under way.
	settle()
	// all walks the entries; those that come or go meanwhile may be missed.
	all() iter.Seq2[K, *entry[V]]
}
