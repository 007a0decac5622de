// Command document writes docs/promises.md to standard output; with the argument missing, what
// does not hold: sentences without a row, rows without a sentence, proofs that are not there. It
// runs in the root of a checkout.
package main
