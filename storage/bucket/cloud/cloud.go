package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"gocloud.dev/blob"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// cloudBucket is a bucket of a store behind a driver.
type cloudBucket struct {
	store  *store
	o      Options
	prefix string // of all keys; "" or with a slash at its end
}

const contentType = "application/octet-stream"

// Put implements [bucket.Bucket].
func (b *cloudBucket) Put(ctx context.Context, key string, content io.WriterTo) error {
	size := int64(-1)
	if sized, ok := content.(interface{ Size() int64 }); ok {
		size = sized.Size()
	}
	return b.write(ctx, opPut, key, content, size)
}

// PutIfAbsent implements [bucket.Bucket].
func (b *cloudBucket) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return b.write(ctx, opPutNew, key, bucket.Bytes(data), int64(len(data)))
}

func (b *cloudBucket) write(ctx context.Context, op, key string, content io.WriterTo, size int64) error {
	if err := b.begin(ctx, op, key); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(b.context(ctx))
	defer cancel() // of an upload that was not closed nothing stays
	u := &upload{size: size, sums: newSums(b.o.PartSize, b.store.sums)}
	var to put
	if b.store.put != nil {
		to = b.store.put(inner, b.prefix+key, u, op == opPutNew)
	} else {
		// Upload, and not the driver's Writer: that of Azure ends the process when it
		// closes a writer whose upload has failed.
		to = pipeTo(func(from io.Reader) error { return b.upload(inner, b.prefix+key, from, u, op == opPutNew) })
	}
	summed := &summing{w: to, sums: u.sums}
	_, err := content.WriteTo(summed)
	var failed error
	if err != nil {
		cancel() // before the end is seen, which would make an object of what there is
		failed = to.abort(err)
	} else {
		failed = to.finish()
	}
	switch {
	case err != nil && summed.err == nil: // the content's own failure
		return &bucket.Error{Op: op, Key: key, Err: err}
	case failed != nil:
		return b.failed(ctx, op, key, failed)
	case err != nil:
		return b.failed(ctx, op, key, err)
	}
	return b.verify(inner, ctx, op, key, u)
}

// upload stores what it reads by the driver.
func (b *cloudBucket) upload(ctx context.Context, key string, from io.Reader, u *upload, ifAbsent bool) error {
	return b.store.blob.Upload(ctx, key, from, &blob.WriterOptions{
		BufferSize:     b.o.PartSize,
		MaxConcurrency: b.o.Concurrency,
		ContentType:    contentType,
		IfNotExist:     ifAbsent,
		BeforeWrite: func(as func(any) bool) error {
			if b.store.prepareWrite == nil {
				return nil
			}
			return b.store.prepareWrite(as, u)
		},
	})
}

// verify makes sure that the store has what was written. inner is the context of
// the upload, which may know what the store answered.
func (b *cloudBucket) verify(inner, ctx context.Context, op, key string, u *upload) error {
	known, same := false, false
	switch r, isS3 := inner.Value(receiptKey{}).(*receipt); {
	case b.o.Verify == VerifyReadBack:
	case isS3:
		known, same = r.compare(u.sums)
	case u.stored != nil:
		known, same = u.stored(u.sums)
	}
	if !known {
		var err error
		if same, err = b.readBack(ctx, key, u.sums); err != nil {
			return b.failed(ctx, op, key, fmt.Errorf("read back: %w", err))
		}
	}
	if guard.Check("bucket.cloud-stored-as-written", same) {
		return nil
	}
	err := errDamaged
	if op == opPutNew { // or it would stand for good where a whole one should
		if gone := b.Delete(ctx, key); gone != nil {
			err = errors.Join(err, gone)
		}
	}
	return &bucket.Error{Op: op, Key: key, Err: err, Temporary: true}
}

// readBack compares the stored object with the sums.
func (b *cloudBucket) readBack(ctx context.Context, key string, want *sums) (same bool, err error) {
	r, err := b.store.blob.NewReader(b.context(ctx), b.prefix+key, nil)
	if err != nil {
		return false, err
	}
	defer r.Close()
	hash, sum := want.again()
	size, err := io.Copy(hash, r)
	if err != nil {
		return false, err
	}
	return size == want.size && hash.Sum32() == sum, nil
}

// ReadAt implements [bucket.Bucket].
func (b *cloudBucket) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if err := b.begin(ctx, opRead, key); err != nil {
		return err
	}
	if len(p) == 0 && off >= 0 { // HTTP has no such range
		info, err := b.Stat(ctx, key)
		if err == nil && off > info.Size {
			err = &bucket.Error{Op: opRead, Key: key, Err: fmt.Errorf("at %d of %d: %w", off, info.Size, io.ErrUnexpectedEOF)}
		}
		return err
	}
	return b.ReadParts(ctx, key, [][]byte{p}, off, func(int) {})
}

// ReadParts implements [bucket.Bucket].
func (b *cloudBucket) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	if err := b.begin(ctx, opRead, key); err != nil {
		return err
	}
	failed := func(err error, temporary bool) error {
		return &bucket.Error{Op: opRead, Key: key, Err: err, Temporary: temporary}
	}
	if off < 0 {
		return failed(errors.New("negative offset"), false)
	}
	size := int64(0)
	for _, p := range parts {
		size += int64(len(p))
	}
	r, err := b.store.blob.NewRangeReader(b.context(ctx), b.prefix+key, off, size, nil)
	if err != nil {
		return b.absentOr(ctx, opRead, key, err)
	}
	defer r.Close()
	if b.store.rangeOf != nil {
		if from, known := b.store.rangeOf(r); !guard.Check("bucket.cloud-range", !known && off == 0 || known && from == off) {
			return failed(fmt.Errorf("%w: asked for %d, got %d", errWrongRange, off, from), true)
		}
	}
	for i, p := range parts {
		n, err := fill(p, r)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			cut := off+int64(len(p)) <= r.Size() // it has more than it sent
			return failed(fmt.Errorf("%d of %d bytes at %d of %d: %w", n, len(p), off, r.Size(), io.ErrUnexpectedEOF), cut)
		default:
			return b.failed(ctx, opRead, key, err)
		}
		off += int64(n)
		if i < len(parts)-1 {
			arrived(i)
		}
	}
	// To the end, so that the connection can be used again.
	if n, err := r.Read(make([]byte, 1)); !guard.Check("bucket.cloud-range-end", n == 0) {
		return failed(fmt.Errorf("%w: more than %d bytes", errWrongRange, size), true)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return b.failed(ctx, opRead, key, err)
	}
	arrived(len(parts) - 1)
	return nil
}

// fill is io.ReadFull in steps, between which others run: where the store is fast there is
// always something to read, and one call of the kernel copies all that has come.
func fill(p []byte, r io.Reader) (n int, err error) {
	for n < len(p) {
		m, err := io.ReadFull(r, p[n:min(n+yieldEvery, len(p))])
		n += m
		if err != nil {
			if errors.Is(err, io.EOF) && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		runtime.Gosched()
	}
	return n, nil
}

// Stat implements [bucket.Bucket].
func (b *cloudBucket) Stat(ctx context.Context, key string) (bucket.Info, error) {
	if err := b.begin(ctx, opStat, key); err != nil {
		return bucket.Info{}, err
	}
	attributes, err := b.store.blob.Attributes(b.context(ctx), b.prefix+key)
	if err != nil {
		return bucket.Info{}, b.absentOr(ctx, opStat, key, err)
	}
	return bucket.Info{Key: key, Size: attributes.Size, Modified: attributes.ModTime}, nil
}

// absentOr is failed, but where the answer leaves open whether it is the key that
// is missing, a list of that key decides: it fails if the bucket is not there.
func (b *cloudBucket) absentOr(ctx context.Context, op, key string, err error) error {
	if !b.missing(err) {
		return b.failed(ctx, op, key, err)
	}
	page, _, listed := b.store.blob.ListPage(b.context(ctx), blob.FirstPageToken, 1, &blob.ListOptions{Prefix: b.prefix + key})
	switch {
	case !guard.Check("bucket.cloud-absent", listed == nil):
		return b.failed(ctx, op, key, fmt.Errorf("%w, and a list of it says: %w", err, listed))
	case len(page) > 0 && page[0].Key == b.prefix+key:
		return &bucket.Error{Op: op, Key: key, Err: fmt.Errorf("%w: %w", errListed, err), Temporary: true}
	}
	return &bucket.Error{Op: op, Key: key, Err: fmt.Errorf("%w: %w", bucket.ErrNotFound, err)}
}

// List implements [bucket.Bucket].
func (b *cloudBucket) List(ctx context.Context, prefix, after string, yield func(bucket.Info) bool) error {
	if err := ctx.Err(); err != nil {
		return &bucket.Error{Op: opList, Key: prefix, Err: err}
	}
	list := b.store.blob.List(&blob.ListOptions{
		Prefix: b.prefix + prefix,
		BeforeList: func(as func(any) bool) error {
			if after != "" && b.store.prepareList != nil {
				b.store.prepareList(as, b.prefix+after)
			}
			return nil
		},
	})
	inner, last := b.context(ctx), ""
	for {
		o, err := list.Next(inner)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return b.failed(ctx, opList, prefix, err)
		}
		if !guard.Check("bucket.cloud-list-order", o.Key > last) {
			return &bucket.Error{Op: opList, Key: prefix, Err: fmt.Errorf("%w: %q after %q", errUnordered, o.Key, last)}
		}
		last = o.Key
		key := strings.TrimPrefix(o.Key, b.prefix)
		if key <= after || o.IsDir || bucket.CheckKey(key) != nil { // others may keep in there what they like
			continue
		}
		if !yield(bucket.Info{Key: key, Size: o.Size, Modified: o.ModTime}) {
			return nil
		}
	}
}

// Delete implements [bucket.Bucket].
func (b *cloudBucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, opDelete, key); err != nil {
		return err
	}
	remove := b.store.blob.Delete
	if b.store.remove != nil {
		remove = b.store.remove
	}
	err := remove(b.context(ctx), b.prefix+key)
	if err == nil {
		return nil
	}
	if err := b.absentOr(ctx, opDelete, key, err); !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	return nil
}

// Close implements [bucket.Bucket].
func (b *cloudBucket) Close() error {
	err := b.store.blob.Close()
	if b.store.close != nil {
		b.store.close()
	}
	if err != nil {
		return &bucket.Error{Op: opClose, Err: err}
	}
	return nil
}

// begin refuses keys that are none, and calls of nobody.
func (b *cloudBucket) begin(ctx context.Context, op, key string) error {
	err := bucket.CheckKey(b.prefix + key)
	if err == nil {
		err = bucket.CheckKey(key)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return &bucket.Error{Op: op, Key: key, Err: err}
	}
	return nil
}

// context is that of the requests of one call.
func (b *cloudBucket) context(ctx context.Context) context.Context {
	if b.store.context == nil {
		return ctx
	}
	return b.store.context(ctx)
}
