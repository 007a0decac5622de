package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"rustmq.dev/rustmq/storage/guard"
)

// Codec is a compression of records, by the number it has in the attributes.
type Codec uint8

// The codecs. The numbers above Zstd are not given out.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String returns the codec's name, as Kafka's compression.type has it (there
// "uncompressed" stands for none as well).
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// DefaultMaxDecompressed bounds what the records of a batch may expand to where
// a caller gives no bound: sixty-four times what a topic takes by default.
const DefaultMaxDecompressed = 64 << 20

// minZstdBound is the smallest bound a zstd decoder is made with: decoders also
// refuse a window above their bound, and encoders that do not know the size of
// what comes ask for as much as 8 MiB. A smaller bound is checked afterwards.
const minZstdBound = 8 << 20

// snappyMaxRatio is above what the format can reach: its longest copy makes 64
// bytes of 3. A block that claims more is refused before anything is allocated.
const snappyMaxRatio = 22

// maxRatio is how many bytes the formats can make of one: deflate 258 of two bits,
// LZ4 255 of each that makes a match longer, zstd a block of 128 KiB of four.
var maxRatio = [...]int64{None: 1, Gzip: 1032, Snappy: snappyMaxRatio, LZ4: 255, Zstd: 128 << 10 / 4}

// xerialMagic begins the framing of the Java snappy library: magic, version and
// lowest compatible version (4 bytes each), then blocks with their length.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

// Decoders are costly to make and hold no state between uses. Those of zstd
// have their bound built in: there is a pool for each power of two.
var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders [64]sync.Pool
)

// errTooLarge is how the decoders below say that the bound is reached.
var errTooLarge = errors.New("beyond the bound")

// Decompress expands src, which must not be longer than limit once expanded;
// limit ≤ 0 stands for [DefaultMaxDecompressed]. With [None] it returns src.
// Errors are of type *[Error].
func Decompress(c Codec, src []byte, limit int64) ([]byte, error) {
	return decompress(c, nil, src, limit)
}

// decompress is Decompress into memory, where that is enough: of no length, and the caller's
// again when it has done with what is returned.
func decompress(c Codec, memory, src []byte, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultMaxDecompressed
	}
	var (
		dst []byte
		err error
	)
	switch c {
	case None:
		return src, nil
	case Gzip:
		dst, err = gunzip(memory, src, limit)
	case Snappy:
		dst, err = unsnappy(memory, src, limit)
	case LZ4:
		dst, err = unlz4(memory, src, limit)
	case Zstd:
		dst, err = unzstd(memory, src, limit)
	default:
		return nil, errorf(UnsupportedCompression, "codec %d", c)
	}
	if err != nil {
		return nil, decompressionError(c, src, limit, err)
	}
	return dst, nil
}

// decompressionError says what a decoder's error means for the batch.
func decompressionError(c Codec, src []byte, limit int64, err error) *Error {
	if errors.Is(err, errTooLarge) {
		return errorf(DecompressedTooLarge, "%d bytes of %s expand to more than %d", len(src), c, limit)
	}
	return &Error{Code: CorruptMessage, Reason: fmt.Sprintf("decompress %d bytes of %s", len(src), c), Err: err}
}

// begun is the buffer that decompression starts with: memory, unless that is small.
func begun(memory, src []byte, limit int64) []byte {
	guess := min(limit, max(4096, 4*int64(len(src))))
	if int64(cap(memory)) >= guess {
		return memory[:0:min(int64(cap(memory)), limit)]
	}
	return make([]byte, 0, guess)
}

// readAll reads r to its end into a buffer that grows with what was read, never
// with what the input promises.
func readAll(r io.Reader, dst []byte, limit int64) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			if !guard.Check("batch.decompressed-limit", int64(len(dst)) < limit) {
				// Full to the bound: all is well only if nothing follows.
				var probe [1]byte
				if n, err := io.ReadFull(r, probe[:]); n == 0 && err == io.EOF {
					return dst, nil
				}
				return nil, errTooLarge
			}
			size := max(1, 2*int64(cap(dst)))
			if int64(cap(dst)) < limit {
				size = min(size, limit)
			}
			grown := make([]byte, len(dst), size)
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func gunzip(memory, src []byte, limit int64) ([]byte, error) {
	r := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return nil, err
	}
	return readAll(r, begun(memory, src, limit), limit)
}

func unlz4(memory, src []byte, limit int64) ([]byte, error) {
	if dst, ok := unlz4Plain(memory, src, limit); ok {
		return dst, nil
	}
	r := lz4Readers.Get().(*lz4.Reader)
	defer lz4Readers.Put(r)
	r.Reset(bytes.NewReader(src))
	dst, err := readAll(r, begun(memory, src, limit), limit)
	if err != nil {
		// Whatever state a broken frame left is not worth keeping.
		r.Reset(nil)
	}
	return dst, err
}

func unsnappy(memory, src []byte, limit int64) ([]byte, error) {
	dst := memory[:0]
	if !bytes.HasPrefix(src, xerialMagic) {
		return appendSnappy(dst, src, limit)
	}
	if len(src) < xerialHeader {
		return nil, io.ErrUnexpectedEOF
	}
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = appendSnappy(dst, src[4:4+n], limit); err != nil {
			return nil, err
		}
		src = src[4+n:]
	}
	return dst, nil
}

// appendSnappy appends one expanded block to dst.
func appendSnappy(dst, block []byte, limit int64) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if int64(n) > snappyMaxRatio*int64(len(block)) {
		return nil, snappy.ErrCorrupt
	}
	if !guard.Check("batch.snappy-limit", int64(len(dst))+int64(n) <= limit) {
		return nil, errTooLarge
	}
	if cap(dst)-len(dst) < n {
		grown := make([]byte, len(dst), max(len(dst)+n, min(2*cap(dst), int(limit))))
		copy(grown, dst)
		dst = grown
	}
	out, err := snappy.Decode(dst[len(dst):len(dst)+n], block)
	if err != nil {
		return nil, err
	}
	return dst[:len(dst)+len(out)], nil
}

// zstdDecoder returns a decoder for the bound, and the pool that it goes back to.
func zstdDecoder(limit int64) (*zstd.Decoder, *sync.Pool, error) {
	power := bits.Len64(uint64(max(limit, minZstdBound)-1)) & 63
	pool := &zstdReaders[power]
	if d, _ := pool.Get().(*zstd.Decoder); d != nil {
		return d, pool, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(1<<power))
	return d, pool, err
}

func unzstd(memory, src []byte, limit int64) ([]byte, error) {
	d, pool, err := zstdDecoder(limit)
	if err != nil {
		return nil, err
	}
	defer pool.Put(d)

	var h zstd.Header
	if h.Decode(src) == nil && h.HasFCS && h.FrameContentSize > uint64(limit) {
		return nil, errTooLarge
	}
	dst, err := d.DecodeAll(src, memory[:0])
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || !guard.Check("batch.zstd-limit", int64(len(dst)) <= limit) {
		return nil, errTooLarge
	}
	return dst, err
}

// Compress compresses src. level 0 is the codec's default; otherwise it is what
// Kafka's compression.LEVEL settings mean: gzip 1–9, lz4 1–17, zstd 1–22.
// Snappy has none. With [None] it returns src.
func Compress(c Codec, level int, src []byte) ([]byte, error) {
	var out bytes.Buffer
	switch c {
	case None:
		return src, nil
	case Gzip:
		if level == 0 {
			level = gzip.DefaultCompression
		}
		w, err := gzip.NewWriterLevel(&out, level)
		if err != nil {
			return nil, err
		}
		err = writeAll(w, src)
		return out.Bytes(), err
	case Snappy:
		return snappy.Encode(nil, src), nil
	case LZ4:
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.CompressionLevelOption(lz4Level(level)), lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			return nil, err
		}
		err := writeAll(w, src)
		return out.Bytes(), err
	case Zstd:
		l := zstd.SpeedDefault
		if level != 0 {
			l = zstd.EncoderLevelFromZstd(level)
		}
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return w.EncodeAll(src, nil), nil
	default:
		return nil, errorf(UnsupportedCompression, "codec %d", c)
	}
}

// lz4Level maps Kafka's levels, of which 9 is the default, to the library's,
// where fast is outside the scale.
func lz4Level(level int) lz4.CompressionLevel {
	switch {
	case level <= 0:
		return lz4.Fast
	case level >= 9:
		return lz4.Level9
	default:
		return 1 << (8 + level) // lz4.Level1 … lz4.Level8
	}
}

func writeAll(w io.WriteCloser, src []byte) error {
	if _, err := w.Write(src); err != nil {
		return err
	}
	return w.Close()
}
