package metadata

import (
	"fmt"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// Bucket says which bucket the cluster stores in, and under which incarnation.
type Bucket struct {
	Nonce       [16]byte // stands in the bucket: who reads it there reaches the same one
	Incarnation uint64   // part of every key, at least 1
}

// Bucket returns the cluster's bucket, once one is set.
func (m *Image) Bucket() (Bucket, bool) { return m.bucket, m.bucket.Incarnation > 0 }

// setBucket is done once: a cluster has one bucket (RULES 5.1). Saying the same
// again changes nothing.
func (m *Image) setBucket(c *pb.SetBucket) *Error {
	var b Bucket
	if len(c.Nonce) != len(b.Nonce) || [16]byte(c.Nonce) == b.Nonce || c.Incarnation < 1 {
		return Errorf(InvalidRequest, "bucket nonce of %d bytes, or zero; incarnation %d", len(c.Nonce), c.Incarnation)
	}
	b = Bucket{Nonce: [16]byte(c.Nonce), Incarnation: c.Incarnation}
	is, set := m.Bucket()
	if !guard.Check("metadata.bucket-once", !set || is == b) {
		return Errorf(Conflict, "the cluster has bucket %x, incarnation %d, not %x, %d", is.Nonce, is.Incarnation, b.Nonce, b.Incarnation)
	}
	m.bucket = b
	return nil
}

// checkBucket refuses a broker that does not reach the cluster's bucket.
func (m *Image) checkBucket(c *pb.RegisterBroker) *Error {
	is, set := m.Bucket()
	if set && !guard.Check("metadata.bucket-nonce", string(c.BucketNonce) == string(is.Nonce[:])) {
		return Errorf(InvalidRegistration, "broker %d has bucket %s, the cluster has %x; a bucket in a directory must be one that all brokers share", c.BrokerId, quoted(fmt.Sprintf("%x", c.BucketNonce)), is.Nonce)
	}
	return nil
}

// encodeNonce returns what a snapshot says of the nonce: nothing while no bucket
// is set.
func (b Bucket) encodeNonce() []byte {
	if b == (Bucket{}) {
		return nil
	}
	return b.Nonce[:]
}
