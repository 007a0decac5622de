package batch

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// First reads the first record alone. Of a compressed batch no more is expanded
// than that takes: the blocks that it lies in, of snappy all. It may take limit
// bytes, and the decoder as many again; limit ≤ 0 stands for
// [DefaultMaxDecompressed]. b is as for [Batch.Records]. What follows the record
// is not looked at. Errors are of type *[Error].
func (b Batch) First(limit int64) (*Record, error) {
	if limit <= 0 {
		limit = DefaultMaxDecompressed
	}
	it := b.Records(limit)
	var err error
	switch c := b.Codec(); c {
	case Gzip:
		it.rest, err = firstOfGzip(b.body(), limit)
	case LZ4:
		it.rest, err = firstOfLZ4(b.body(), limit)
	case Zstd:
		it.rest, err = firstOfZstd(b.body(), limit)
	default:
		if it.rest, err = Decompress(c, b.body(), limit); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, decompressionError(b.Codec(), b.body(), limit, err)
	}
	if err := it.parse(); err != nil {
		return nil, err
	}
	return &it.record, nil
}

func firstOfGzip(src []byte, limit int64) ([]byte, error) {
	r := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return nil, err
	}
	return readRecord(r, limit)
}

func firstOfLZ4(src []byte, limit int64) ([]byte, error) {
	r := lz4Readers.Get().(*lz4.Reader)
	defer lz4Readers.Put(r)
	defer r.Reset(nil) // it stands in the middle
	r.Reset(bytes.NewReader(src))
	return readRecord(r, limit)
}

func firstOfZstd(src []byte, limit int64) ([]byte, error) {
	d, pool, err := zstdDecoder(limit)
	if err != nil {
		return nil, err
	}
	defer pool.Put(d)
	defer func() { _ = d.Reset(nil) }() // it stands in the middle
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		return nil, err
	}
	first, err := readRecord(d, limit)
	return first, zstdError(err)
}

// zstdError says in this room's words that a bound is reached.
func zstdError(err error) error {
	switch err {
	case zstd.ErrDecoderSizeExceeded, zstd.ErrWindowSizeExceeded:
		return errTooLarge
	}
	return err
}

// readRecord reads one record with the length before it off r. Where r ends too
// soon, or no length is there, it returns what there is: who parses it says so.
func readRecord(r io.Reader, limit int64) ([]byte, error) {
	head := make([]byte, 0, binary.MaxVarintLen32)
	for len(head) == 0 || head[len(head)-1] >= 0x80 {
		n, err := io.ReadFull(r, head[len(head):len(head)+1])
		if err == io.EOF {
			return head, nil
		}
		if err != nil {
			return nil, err
		}
		if head = head[:len(head)+n]; len(head) == cap(head) {
			break
		}
	}
	length, n := binary.Varint(head)
	if n <= 0 || length < 0 {
		return head, nil
	}
	if length > limit-int64(n) {
		return nil, errTooLarge
	}
	rest, err := readAll(io.LimitReader(r, length), make([]byte, 0, min(length, 4096)), limit)
	return append(head, rest...), err
}
