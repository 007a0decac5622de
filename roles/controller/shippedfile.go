package controller

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// shippedName is a file of the data directory, one line:
//
//	shipped 1 <cluster id> <incarnation, 8 hex digits> <index> <8 hex digits: crc32c of the line up to here>\n
const shippedName = "shipped"

// shippedFile remembers up to which index the bucket has the metadata log, over a start
// that does not reach the bucket. It tells what the bucket has, and not whether anybody
// else writes there by now: what is deleted, or given out, waits for [shipper.Shipped].
type shippedFile struct {
	fs          disk.FS
	cluster     string
	incarnation uint32
	log         *slog.Logger

	index  atomic.Uint64
	failed bool // the last write did; only the shipper's goroutine uses it
}

// openShippedFile reads the file; applied is where the metadata log ends. What is
// damaged, of another cluster, or of a metadata log that went on further counts for
// nothing: then all that was uploaded is kept until the bucket was asked.
func openShippedFile(fsys disk.FS, cluster string, incarnation uint32, applied uint64, log *slog.Logger) *shippedFile {
	f := &shippedFile{fs: fsys, cluster: cluster, incarnation: incarnation, log: log}
	raw, err := disk.ReadFile(fsys, shippedName)
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	var index uint64
	if err == nil {
		index, err = f.decode(string(raw))
	}
	if err == nil && !guard.Check("controller.shipped-file-ahead", index <= applied) {
		err = fmt.Errorf("it goes on to index %d, the metadata log to %d", index, applied)
	}
	if err != nil {
		log.Warn("how far the bucket had the metadata log is not known; what was uploaded is kept until the bucket was asked", "file", shippedName, "error", err)
		f.write(0) // this log may come to that index with other commands
		return f
	}
	f.index.Store(index)
	return f
}

// wrote remembers an index. A file that cannot be written costs room after a start, and
// nothing else.
func (f *shippedFile) wrote(index uint64) {
	f.index.Store(index)
	f.write(index)
}

func (f *shippedFile) write(index uint64) {
	err := disk.WriteFileAtomic(f.fs, shippedName, f.encode(index))
	if err != nil && !f.failed {
		f.log.Warn("how far the bucket has the metadata log could not be noted", "file", shippedName, "error", err)
	}
	f.failed = err != nil
}

func (f *shippedFile) head() string {
	return fmt.Sprintf("shipped 1 %s %08x ", f.cluster, f.incarnation)
}

func (f *shippedFile) encode(index uint64) []byte {
	line := fmt.Sprintf("%s%d ", f.head(), index)
	return fmt.Appendf(nil, "%s%08x\n", line, crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)))
}

func (f *shippedFile) decode(text string) (index uint64, err error) {
	at := strings.LastIndexByte(text, ' ') + 1
	sum, err := strconv.ParseUint(strings.TrimSuffix(text[at:], "\n"), 16, 32)
	if !guard.Check("controller.shipped-file-crc", err == nil && uint32(sum) == crc32.Checksum([]byte(text[:at]), crc32.MakeTable(crc32.Castagnoli))) {
		return 0, errors.New("its checksum does not hold")
	}
	digits, own := strings.CutPrefix(text[:at], f.head())
	if !own {
		return 0, errors.New("it is of another cluster, or a later version of rustmq")
	}
	if index, err = strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 64); err != nil {
		return 0, fmt.Errorf("its index: %w", err)
	}
	return index, nil
}

// ShippedOnce is an index up to which the bucket has the metadata log, known also after a
// start that has not reached the bucket. It is for who keeps what the bucket may not know
// of; whoever deletes asks [Controller.Shipped].
func (c *Controller) ShippedOnce() uint64 {
	k := c.keeper()
	if k == nil {
		return 0
	}
	return max(k.shipped.index.Load(), k.shipper.Shipped())
}
