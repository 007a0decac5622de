// Package admin is the operator's door to a process: /metrics, /healthz and
// /readyz on every process, /api/v1 on those with the role controller or admin,
// and the `rustmq admin` commands, which are clients of that API and have no
// other way in, but for `storage probe URL`, which opens the bucket itself, `cluster
// recover`, which works where no server can run (roles: recover.go), and `ca` and `certs`,
// which work on the files of an authority (security/ca).
//
// The API answers from the cluster's image, and from the partitions, the group
// coordinators and the bucket of this process; nothing is invented. No request names
// a bucket: a URL is probed by the process of the command, so that the server cannot
// be sent anywhere. Errors are RFC 9457 problems with Kafka's error name as their
// title. The document at /api/v1/openapi.json is made from the code that serves.
//
// The server trusts whoever reaches it, so it is bound to loopback (see the
// guard in transport); against pages in a browser it refuses requests with an
// Origin, or with a Host that is a name and none of its own: an address cannot be
// rebound. Where others reach it, the first three are answered by any name.
//
// A Server is safe for concurrent use.
package admin
