package bucket

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"
)

// Bucket is a flat store of immutable objects by key. Safe for concurrent use.
// Errors are of type [*Error]. A call that fails may have been done all the same,
// unless it says ErrExists or ErrNotFound.
type Bucket interface {
	// Put stores what content writes under key, replacing what is there. When it
	// returns, the bytes are durable and known to be stored as they were written;
	// until then readers find the old object, or none. content may be asked to
	// write again, the same bytes, when the call is retried; [Bytes] does. If it has
	// a method Size() int64, no more memory than that is taken for it; negative:
	// unknown.
	Put(ctx context.Context, key string, content io.WriterTo) error
	// PutIfAbsent stores data unless the key is there: ErrExists. Of many that
	// call at once, in any process, one succeeds. ErrUnsupported where the store
	// cannot promise that.
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// ReadAt fills p from offset off of the object. Fewer bytes are an error that
	// wraps io.ErrUnexpectedEOF; a key that is not there is ErrNotFound.
	ReadAt(ctx context.Context, key string, p []byte, off int64) error
	// ReadParts is ReadAt of parts that lie one behind the other, by one request, whose
	// price and time they share. arrived is told of each when it is full, in their
	// order, while those behind it are on their way; from then on it is arrived's, which
	// may take it out of parts. What arrived before an error is good. There is a part at
	// least, and none is empty.
	ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error
	// Stat returns size and time of last modification; ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List calls yield for the keys that begin with prefix and come behind after,
	// in the order of their bytes, until yield returns false. Keys that come or go
	// meanwhile may be among them.
	List(ctx context.Context, prefix, after string, yield func(Info) bool) error
	// Delete removes a key, durably; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	Close() error
}

// Info is what a store knows of an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time // by the clock of the store
}

// Errors to compare with, by errors.Is.
var (
	// ErrNotFound is the store's own word that it has no such key; a store, or a
	// directory, that is not there itself is another error.
	ErrNotFound = errors.New("no such key")
	ErrExists   = errors.New("key exists")
	// ErrUnsupported says that this store cannot do it at all.
	ErrUnsupported = errors.New("not supported by this store")
	// ErrUnavailable says that the store was not asked, or not asked again: the
	// circuit is open, or the budget of retries used up.
	ErrUnavailable = errors.New("bucket unavailable")
)

// Error says what was tried on which key.
type Error struct {
	Op        string // put, putifabsent, read, stat, list, delete
	Key       string // or the prefix of a list
	Err       error
	Temporary bool // trying again may help
}

// Error is one line: the text of a store may have many (Azure's shows the whole
// answer, between rules).
func (e *Error) Error() string {
	return "bucket: " + e.Op + " " + e.Key + ": " + oneLine(e.Err.Error())
}

// maxErrorText bounds what a store can put into our log by one error.
const maxErrorText = 1 << 10

func oneLine(text string) string {
	if len(text) <= maxErrorText && !strings.ContainsAny(text, "\r\n") {
		return text
	}
	var parts []string
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.Fields(line), " "); strings.Trim(line, "-") != "" {
			parts = append(parts, line)
		}
	}
	text = strings.Join(parts, "; ")
	if len(text) > maxErrorText {
		return strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// IsTemporary reports whether trying again may help.
func IsTemporary(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Temporary
}

// The names of operations in errors.
const (
	opPut    = "put"
	opPutNew = "putifabsent"
	opRead   = "read"
	opStat   = "stat"
	opList   = "list"
	opDelete = "delete"
	opOpen   = "open"
)

// Bytes is content that lies in memory.
type Bytes []byte

// WriteTo implements [io.WriterTo], as often as it is asked.
func (b Bytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// Size is how much WriteTo writes.
func (b Bytes) Size() int64 { return int64(len(b)) }

// sizeOf is how much content will write, or -1.
func sizeOf(content io.WriterTo) int64 {
	if sized, ok := content.(interface{ Size() int64 }); ok {
		return sized.Size()
	}
	return -1
}

// ReadAll returns a whole object of at most limit bytes.
func ReadAll(ctx context.Context, b Bucket, key string, limit int64) ([]byte, error) {
	info, err := b.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, &Error{Op: opRead, Key: key, Err: &SizeError{Size: info.Size, Limit: limit}}
	}
	p := make([]byte, info.Size)
	if len(p) == 0 {
		return p, nil
	}
	if err := b.ReadAt(ctx, key, p, 0); err != nil {
		return nil, err
	}
	return p, nil
}
