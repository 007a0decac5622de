package bucket

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Awaited is a bucket that is not there yet. Each call tries to open it, until that
// succeeds; before, it is away.
type Awaited struct {
	open func() (Bucket, error)

	mu     sync.Mutex
	bucket Bucket // nil: not yet; guarded by mu
	closed bool   // guarded by mu
}

// NewAwaited returns a bucket that open gives, as soon as it does.
func NewAwaited(open func() (Bucket, error)) *Awaited { return &Awaited{open: open} }

var errClosed = errors.New("the bucket is closed")

func (a *Awaited) there(op, key string) (Bucket, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bucket != nil {
		return a.bucket, nil
	}
	if a.closed {
		return nil, &Error{Op: op, Key: key, Err: errClosed}
	}
	b, err := a.open()
	if err != nil {
		return nil, &Error{Op: op, Key: key, Err: err, Temporary: true}
	}
	a.bucket = b
	return b, nil
}

// Put implements [Bucket].
func (a *Awaited) Put(ctx context.Context, key string, content io.WriterTo) error {
	b, err := a.there(opPut, key)
	if err != nil {
		return err
	}
	return b.Put(ctx, key, content)
}

// PutIfAbsent implements [Bucket].
func (a *Awaited) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	b, err := a.there(opPutNew, key)
	if err != nil {
		return err
	}
	return b.PutIfAbsent(ctx, key, data)
}

// ReadAt implements [Bucket].
func (a *Awaited) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	b, err := a.there(opRead, key)
	if err != nil {
		return err
	}
	return b.ReadAt(ctx, key, p, off)
}

// ReadParts implements [Bucket].
func (a *Awaited) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	b, err := a.there(opRead, key)
	if err != nil {
		return err
	}
	return b.ReadParts(ctx, key, parts, off, arrived)
}

// Stat implements [Bucket].
func (a *Awaited) Stat(ctx context.Context, key string) (Info, error) {
	b, err := a.there(opStat, key)
	if err != nil {
		return Info{}, err
	}
	return b.Stat(ctx, key)
}

// List implements [Bucket].
func (a *Awaited) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	b, err := a.there(opList, prefix)
	if err != nil {
		return err
	}
	return b.List(ctx, prefix, after, yield)
}

// Delete implements [Bucket].
func (a *Awaited) Delete(ctx context.Context, key string) error {
	b, err := a.there(opDelete, key)
	if err != nil {
		return err
	}
	return b.Delete(ctx, key)
}

// Close implements [Bucket].
func (a *Awaited) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.bucket == nil {
		return nil
	}
	return a.bucket.Close()
}
