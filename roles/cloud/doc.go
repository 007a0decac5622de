// Package cloud opens buckets of clouds for a node: it stands between the
// configuration and storage/bucket/cloud. It is a room of its own so that a program
// links the clouds' SDKs, most of its size, only if it wants them: main does, and
// hands [Open] to roles; an embedded broker does when its program says so.
package cloud
