package bucket

import (
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
