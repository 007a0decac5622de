package bucket

import (
	"context"
	"fmt"
	"unsafe"

	"rustmq.dev/rustmq/storage/disk"
)

const (
	// writeSize is the size of one write: large enough that the disk goes past the
	// page cache with it, and that its cost does not show.
	writeSize = 1 << 20
	// pageSize is how memory must lie for that.
	pageSize = 4096
)

// fileWriter writes a file from its beginning in large aligned writes.
type fileWriter struct {
	ctx context.Context
	f   disk.File
	buf []byte
	off int64
	err error // the first; none is retried
}

func newFileWriter(ctx context.Context, f disk.File) *fileWriter {
	return &fileWriter{ctx: ctx, f: f}
}

func (w *fileWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.err == nil {
		if w.buf == nil {
			w.buf = alignedBuffer(min(writeSize, max(pageSize, len(p))))
		}
		if len(w.buf) == cap(w.buf) {
			w.grow()
			continue
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
	}
	return total - len(p), w.err
}

// grow makes room: small objects never get a whole buffer.
func (w *fileWriter) grow() {
	if cap(w.buf) >= writeSize {
		w.err = w.flush()
		return
	}
	larger := alignedBuffer(writeSize)
	w.buf = append(larger, w.buf...)
}

// flush writes what is left.
func (w *fileWriter) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if len(w.buf) == 0 {
		return nil
	}
	if _, err := w.f.WriteAt(w.buf, w.off); err != nil {
		return fmt.Errorf("write %s at %d: %w", w.f.Name(), w.off, err)
	}
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// alignedBuffer returns empty memory of that capacity at the start of a page.
func alignedBuffer(size int) []byte {
	mem := make([]byte, size+pageSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (pageSize - 1)
	return mem[skip : skip : skip+size]
}
