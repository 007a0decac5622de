package cold

import (
	"errors"
	"fmt"

	"rustmq.dev/rustmq/storage"
)

// ErrClosed says that the reader was closed.
var ErrClosed = errors.New("the reader of the bucket is closed")

// ErrLookAgain says that an object is not in the bucket: that it was compacted or
// fell to retention since the image that was read by. Who gets it takes the
// newest image, and reads again by that.
var ErrLookAgain = errors.New("the object is not there: the image is to be looked at again")

// MissingError says that an object is not in the bucket although the newest image
// names it. It is damage, and says nothing of which offsets exist.
type MissingError struct {
	Partition storage.PartitionID
	Object    storage.ObjectID
	Key       string // in the bucket
	Err       error  // of the bucket
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("object %s is named by the newest image for %s, and is not in the bucket as %s: %v", e.Object, e.Partition, e.Key, e.Err)
}

// Unwrap returns what the bucket said.
func (e *MissingError) Unwrap() error { return e.Err }
