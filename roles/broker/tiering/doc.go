// Package tiering is what uploads to the bucket and rewriting there have in
// common: [Objects], how an object gets its id, is put and is named, [Backoff], how long
// a partition waits after it failed, [Bandwidth], how fast is read, and [Look], how often
// it is looked what is due. It owns neither bucket nor catalogue.
//
// Objects and Bandwidth are safe for concurrent use; a Backoff is a core, used under its
// owner's lock.
package tiering
