// Package pkitest issues certificates for tests, good ones and others: an [Authority] of a
// test, and templates of what it signs. No program imports it.
package pkitest
