package roles

import (
	"context"
	"fmt"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/bucket"
)

func openCloud(_ context.Context, c configs.Storage) (bucket.Bucket, error) {
	return nil, fmt.Errorf("object_storage.url %s: not yet", c.URL)
}
