// Package ca is an operator's certificate authority, on files and without a server: a root,
// an intermediate that it has signed, what that has issued, and what it has taken back.
//
//	ca.json                          the ledger: generations, and every certificate, revoked or not
//	bundle.pem                       the roots that are to be trusted; two while one follows the other
//	crl.pem                          the revocation lists of the intermediates
//	N/root.pem, N/intermediate.pem   generation N, from 1 on
//	N/root.key, N/intermediate.key   their keys, in another directory if the operator wants that
//	issued/SERIAL.pem                the certificates, for the record; their keys are not kept
//	lock                             held by who changes any of these
//
// A key is PKCS#8 in PEM: as it is, or sealed by a passphrase with scrypt and AES-256-GCM
// (key.go). It is read where it signs, never logged, and can be read by its owner only. The
// root's key signs the intermediate and nothing after that: it may be taken away.
//
// Promises. A certificate is in the ledger before anybody has it. Serial numbers are
// random, 127 bits. What is issued ends no later than the intermediate. A file is replaced
// as a whole and synced. Names that only servers may have (pki.Identity) are given by the
// profiles of servers alone. Rotation makes a new generation beside the old one, and takes
// that away in a second step ([CA.Finish]): in between, everybody can trust both.
//
// A [CA] is for one goroutine. Processes exclude each other by the lock.
package ca
