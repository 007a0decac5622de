// Package admin is the operator's door to a process: /metrics, /healthz,
// /readyz and what looks into it (/debug/pprof, /debug/logs) on every process, /api/v1 on those with the role controller or admin,
// and the `rustmq admin` commands, which are clients of that API and have no
// other way in, but for `storage probe URL`, which opens the bucket itself, `cluster
// recover`, which works where no server can run (roles: recover.go), and `ca` and `certs`,
// which work on the files of an authority (security/ca).
//
// The API answers from the cluster's image, from what the brokers say that lead partitions
// and coordinate groups, and from the bucket of this process; nothing is invented, and of the cluster nothing
// is kept but an hour of figures and of lag, in memory (history.go, lags.go): operations that go on
// after their call are read off the image. Answers that go on are server-sent events (stream.go); they
// end with the rights of who reads. The pages of the console are package console's, and what they may
// offer a user is told by the rows of the routes (may.go). No request names
// a bucket: a URL is probed by the process of the command, so that the server cannot
// be sent anywhere. Errors are RFC 9457 problems with Kafka's error name as their
// title. The document at /api/v1/openapi.json is made from the code that serves.
//
// Without [Access] the server trusts whoever reaches it, so it is bound to loopback (see the
// guard in transport). With it, /api/v1 asks who calls before it reads more than the head of a
// request: a client certificate, a password or a token of an identity provider (package
// login), an API token, of which the metadata have a hash, or the cookie of a session, which
// lives in this process. Secrets are taken over TLS or on loopback only. What a caller may do is
// what ACLs allow it, by the row of the route (rules.go), without which a server does not start.
//
// Against pages in a browser it refuses requests with an
// Origin other than its own, what a browser says it fetches for another site (browsers.go), changes by a session's cookie without the session's token, and, in the
// clear, a Host that is a name and none of its own: an address cannot be
// rebound. Where others reach it, the first three paths are answered by any name.
//
// Calls are bounded before that: connections in all and by address, calls by
// address, class and in all, heads, bodies and their nesting, and how long either may take.
//
// A Server is safe for concurrent use.
package admin
