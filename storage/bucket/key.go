package bucket

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"rustmq.dev/rustmq/storage/guard"
)

const (
	maxKey     = 1024 // bytes; what S3 and GCS take
	maxSegment = 255  // bytes between slashes; what file systems take
)

// errKey says that a key is none, whatever the store.
var errKey = errors.New("not a key")

// CheckKey refuses keys that not every store can hold: a key is a slash-separated
// path of valid UTF-8 without control characters and backslashes, at most 1024
// bytes long, whose segments are 1 to 255 bytes and begin with no dot.
func CheckKey(key string) error {
	if !guard.Check("bucket.key", validKey(key)) {
		return fmt.Errorf("%w: %.80q", errKey, key)
	}
	return nil
}

func validKey(key string) bool {
	if len(key) > maxKey || key == "." || !fs.ValidPath(key) {
		return false
	}
	for segment := range strings.SplitSeq(key, "/") {
		if len(segment) > maxSegment || segment[0] == '.' {
			return false
		}
	}
	return !strings.ContainsFunc(key, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
}

// checked is CheckKey as the operations report it.
func checked(op, key string) error {
	if err := CheckKey(key); err != nil {
		return &Error{Op: op, Key: key, Err: err}
	}
	return nil
}

// SizeError says that an object is larger than the reader takes.
type SizeError struct{ Size, Limit int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("%d bytes, more than %d", e.Size, e.Limit)
}
