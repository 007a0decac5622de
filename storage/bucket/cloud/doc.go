// Package cloud opens buckets of object stores by URL: s3://, gs://, azblob:// and,
// for tests, mem://. It is the only package that links the clouds' drivers.
//
// It owns what differs between stores: how an upload is cut into parts, how a
// condition is put, which answer means that there is no such key, and which
// checksum says that what is stored is what was written. It retries nothing, and
// keeps the drivers from retrying, for a budget that does not see a retry cannot
// count it: wrap what Open returns in [bucket.Resilient].
//
// Promises beyond those of [bucket.Bucket]:
//
//   - A Put returns nil only when the store's checksum of the object equals that
//     of the bytes that were written, or the object was read back and is the same
//     (Options.Verify).
//   - A read checks that the range that came is the one asked for.
//   - ErrNotFound is returned only where the store says that it is the key, and
//     not the bucket, the proxy or the permission, that is missing; where its
//     answer leaves that open, a list of that one key decides.
//   - A list that is not in order is an error.
//
// Calls may be concurrent. A put has goroutines of the driver, which end with it,
// and uses PartSize times Concurrency bytes.
package cloud
