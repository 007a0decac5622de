// Package bundle gathers what somebody needs who helps with a cluster, into one archive: of
// each process its metrics, health, description, configuration, logs and profiles, and of
// this machine what its caller adds. It has no records in it, and no secret that it knows.
//
// Every text goes through a [Redactor] on its way in. That knows the forms that secrets
// have (private keys in PEM, tokens, passwords in URLs, values of keys that are named like
// secrets), and the very texts that it is told. What is anybody's name (topics, groups,
// users, hosts) stays.
//
// Who gathers says which processes there are ([Options]: Servers), and which of them cannot be
// asked (Absent).
//
// What could not be had is no failure: the archive's last file, manifest.json, lists all
// that was asked for, with why it is not there, or how much of it was cut off. Each part and
// the whole are bounded in bytes, each question in time. Nothing is changed, and no server
// is asked what it may not tell the caller.
//
// [Collect] writes from one goroutine; servers are asked side by side.
package bundle
