// Package seeded gives random tests the seed of their run, so that who runs the same
// commit meets the same choices, and every commit makes new ones.
//
// scripts/seed.sh reckons the seed from the tree of the commit, and scripts hand it in as
// TEST_SEED; where there is none, as while files differ from the commit and in a soak,
// each process draws one by the clock. A seed decides what a test chooses, not which of two
// goroutines goes first.
//
// Only tests import it. The variable is read while they run: go test remembers then that a
// result depends on it, and runs a package again when it changes, and no other.
package seeded
