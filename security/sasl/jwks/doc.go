// Package jwks keeps the keys that sign tokens fresh: from a file, or from an https URL
// of who issues them. It is the shell around [sasl.KeySet].
//
// A [Source] reads its place at the start, again at an interval, and when somebody has a
// token whose key is not known, at most once in [MinRefresh]. What cannot be read leaves
// the keys as they were, with a line in the log: an issuer that is away locks nobody out
// whose key is known. A source that has never been read has no keys.
//
// An URL is read over TLS that is verified (http only on loopback), without redirects,
// within ten seconds and [sasl.MaxKeySet] bytes. One goroutine, run by Open, blocks on
// that; Close ends it and waits. Everything may be called from any goroutine.
package jwks
