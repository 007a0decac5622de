package controller

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// lookingFirst is a bucket whose PutIfAbsent works on stores that have none: it
// looks whether the key is there, and puts. Of two that do so at once both may
// succeed: there, two clusters on one URL are not certain to be noticed, which is
// said once.
type lookingFirst struct {
	bucket.Bucket
	log  *slog.Logger
	must atomic.Bool // the store was found to have none
}

// PutIfAbsent implements bucket.Bucket.
func (b *lookingFirst) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if !b.must.Load() {
		err := b.Bucket.PutIfAbsent(ctx, key, data)
		if !errors.Is(err, bucket.ErrUnsupported) {
			return err
		}
		if !b.must.Swap(true) {
			b.log.Warn("the bucket has no conditional writes: two clusters that store under one URL and prefix would not be noticed", "error", err)
		}
	}
	_, err := b.Stat(ctx, key)
	absent := errors.Is(err, bucket.ErrNotFound)
	if !guard.Check("controller.looks-before-put", absent) {
		if err == nil {
			err = &bucket.Error{Op: "putifabsent", Key: key, Err: bucket.ErrExists}
		}
		return err
	}
	return b.Put(ctx, key, bucket.Bytes(data))
}
