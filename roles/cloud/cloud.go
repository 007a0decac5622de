package cloud

import (
	"context"
	"fmt"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/bucket/cloud"
)

// partsAtOnce is how many parts of one object are sent at once: objects of an
// upload have one or two.
const partsAtOnce = 2

// Open opens the bucket that c names: s3://, gs:// or azblob://.
func Open(ctx context.Context, c configs.Storage) (bucket.Bucket, error) {
	o := cloud.Options{
		StorageClass: c.StorageClass, Encryption: c.Encryption, Checksums: c.Checksum,
		PartSize: int(c.PartSize), Concurrency: partsAtOnce,
	}
	if err := o.Verify.UnmarshalText([]byte(c.Verify)); err != nil {
		return nil, fmt.Errorf("object_storage.verify: %w", err)
	}
	return cloud.Open(ctx, c.URL, o)
}
