package bucket

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// Class is a kind of request, as stores price them.
type Class uint8

// The classes; Classes is their number.
const (
	ClassPut Class = iota // also put if absent
	ClassGet
	ClassList
	ClassDelete
	ClassHead
	Classes
)

func (c Class) String() string { return [...]string{"put", "get", "list", "delete", "head"}[c] }

// Count is what was done of one class.
type Count struct {
	Calls    uint64
	Requests uint64        // by the store's own count, as far as the calls tell: see [Counted]
	Errors   uint64        // not found, and exists, are answers and not errors
	Bytes    uint64        // of objects, written or read; of failed calls only written ones, and parts that arrived
	Time     time.Duration // sum over calls
}

// Counts are those of all classes.
type Counts [Classes]Count

// Counted counts what passes to another bucket. Below a [Resilient] it counts
// attempts. Requests of a list are pages of 1,000 keys; those of a put are parts
// of PartSize, with two for beginning and end where there is more than one.
type Counted struct {
	inner    Bucket
	partSize int64
	classes  [Classes]counter
}

type counter struct{ calls, requests, errors, bytes, nanos atomic.Uint64 }

// NewCounted wraps a bucket that uploads in parts of that many bytes; 0: whole.
func NewCounted(b Bucket, partSize int64) *Counted { return &Counted{inner: b, partSize: partSize} }

// Counts returns the counts up to now: each is exact, though calls that end
// meanwhile may be in some and not yet in others.
func (c *Counted) Counts() (counts Counts) {
	for i := range c.classes {
		from := &c.classes[i]
		counts[i] = Count{
			Calls: from.calls.Load(), Requests: from.requests.Load(), Errors: from.errors.Load(),
			Bytes: from.bytes.Load(), Time: time.Duration(from.nanos.Load()),
		}
	}
	return counts
}

func (c *Counted) done(class Class, start time.Time, requests, bytes int64, err error) {
	to := &c.classes[class]
	to.calls.Add(1)
	to.requests.Add(uint64(requests))
	to.bytes.Add(uint64(bytes))
	to.nanos.Add(uint64(time.Since(start)))
	if judge(context.Background(), err) == fails {
		to.errors.Add(1)
	}
}

// Put implements [Bucket].
func (c *Counted) Put(ctx context.Context, key string, content io.WriterTo) error {
	start, counting := time.Now(), &countingContent{content: content}
	err := c.inner.Put(ctx, key, counting)
	requests := int64(1)
	if c.partSize > 0 && counting.n > c.partSize {
		requests = (counting.n+c.partSize-1)/c.partSize + 2
	}
	c.done(ClassPut, start, requests, counting.n, err)
	return err
}

// PutIfAbsent implements [Bucket].
func (c *Counted) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	start := time.Now()
	err := c.inner.PutIfAbsent(ctx, key, data)
	c.done(ClassPut, start, 1, int64(len(data)), err)
	return err
}

// ReadAt implements [Bucket].
func (c *Counted) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	start := time.Now()
	err := c.inner.ReadAt(ctx, key, p, off)
	n := int64(len(p))
	if err != nil {
		n = 0
	}
	c.done(ClassGet, start, 1, n, err)
	return err
}

// ReadParts implements [Bucket].
func (c *Counted) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	start, n := time.Now(), int64(0)
	err := c.inner.ReadParts(ctx, key, parts, off, func(part int) {
		n += int64(len(parts[part]))
		arrived(part)
	})
	c.done(ClassGet, start, 1, n, err)
	return err
}

// Stat implements [Bucket].
func (c *Counted) Stat(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := c.inner.Stat(ctx, key)
	c.done(ClassHead, start, 1, 0, err)
	return info, err
}

// List implements [Bucket].
func (c *Counted) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	const page = 1000 // keys a request, of every store there is
	var outside time.Duration
	start, keys := time.Now(), int64(0)
	err := c.inner.List(ctx, prefix, after, func(i Info) bool {
		keys++
		at := time.Now()
		defer func() { outside += time.Since(at) }()
		return yield(i)
	})
	c.done(ClassList, start.Add(outside), max(1, (keys+page-1)/page), 0, err)
	return err
}

// Delete implements [Bucket].
func (c *Counted) Delete(ctx context.Context, key string) error {
	start := time.Now()
	err := c.inner.Delete(ctx, key)
	c.done(ClassDelete, start, 1, 0, err)
	return err
}

// Close implements [Bucket].
func (c *Counted) Close() error { return c.inner.Close() }

// countingContent counts what content writes.
type countingContent struct {
	content io.WriterTo
	n       int64
}

func (c *countingContent) WriteTo(w io.Writer) (int64, error) {
	n, err := c.content.WriteTo(w)
	c.n += n
	return n, err
}

func (c *countingContent) Size() int64 { return sizeOf(c.content) }
