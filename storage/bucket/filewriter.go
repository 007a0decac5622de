package bucket

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unsafe"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// writeSize is the size of one write: large enough that the disk goes past the
	// page cache with it, and that its cost does not show.
	writeSize = 1 << 20
	// pageSize is how memory must lie for that.
	pageSize = 4096
)

// castagnoli is the polynomial that processors know.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that another try may help: none of it has a name.
var errDamaged = errors.New("what is stored is not what was written")

// fileWriter writes a file from its beginning in large aligned writes.
type fileWriter struct {
	ctx context.Context
	f   disk.File
	buf []byte
	off int64
	sum uint32 // crc32c of what it was given, taken before it lies in buf
	err error  // the first; none is retried
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
		w.sum = crc32.Update(w.sum, castagnoli, p[:n])
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

// readBack compares what lies in the file, after the flush, with what was given: from
// here on there may be no other copy (RULES 5.3). Where writes go past the page cache
// it is the disk that answers.
func (w *fileWriter) readBack() error {
	size, err := w.f.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", w.f.Name(), err)
	}
	sum, buf := uint32(0), w.buf[:cap(w.buf)]
	for off := int64(0); off < w.off; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		n, err := w.f.ReadAt(buf[:min(int64(len(buf)), w.off-off)], off)
		if n == 0 {
			if errors.Is(err, io.EOF) { // which cannot be said as it is: trying again helps
				err = errDamaged
			}
			return fmt.Errorf("read %s back at %d: %w", w.f.Name(), off, err)
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		off += int64(n)
	}
	if !guard.Check("bucket.dir-stored-as-written", size == w.off && sum == w.sum) {
		return fmt.Errorf("%s: %w", w.f.Name(), errDamaged)
	}
	return nil
}

// alignedBuffer returns empty memory of that capacity at the start of a page.
func alignedBuffer(size int) []byte {
	mem := make([]byte, size+pageSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (pageSize - 1)
	return mem[skip : skip : skip+size]
}
