package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// errOffset says that a reader asked for what lies before the beginning.
var errOffset = errors.New("negative offset")

// inside refuses a range that is not wholly in an object.
func inside(off int64, length int, size int64) error {
	switch {
	case off < 0:
		return errOffset
	case off > size || int64(length) > size-off:
		return fmt.Errorf("bytes %d to %d of %d: %w", off, off+int64(length), size, io.ErrUnexpectedEOF)
	}
	return nil
}

// ReadEach is ReadParts of a bucket in which a request costs next to nothing: one
// ReadAt for each part.
func ReadEach(ctx context.Context, b Bucket, key string, parts [][]byte, off int64, arrived func(part int)) error {
	for i, p := range parts {
		if err := b.ReadAt(ctx, key, p, off); err != nil {
			return err
		}
		off += int64(len(p))
		arrived(i)
	}
	return nil
}

// bytesOf is how many bytes parts have together.
func bytesOf(parts [][]byte) (n int64) {
	for _, p := range parts {
		n += int64(len(p))
	}
	return n
}
