package controller

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// A bucket says which one it is in one line:
//
//	<32 hex digits: the nonce> <8 hex digits: crc32c of those 32>\n
//
// The sum is there because most digits with a flipped bit are digits: without it a
// damaged answer would be another bucket. The first servers wrote none, and no
// damage turns one form into the other.

// maxNonce is far above what a nonce takes.
const maxNonce = 1024

// NonceKey is where the bucket says which one it is.
func NonceKey(prefix, cluster string) string { return object.ClusterPrefix(prefix, cluster) + "nonce" }

// ReadNonce returns what stands at NonceKey; bucket.ErrNotFound if nothing does.
func ReadNonce(ctx context.Context, b bucket.Bucket, prefix, cluster string) (nonce [16]byte, err error) {
	key := NonceKey(prefix, cluster)
	raw, err := bucket.ReadAll(ctx, b, key, maxNonce)
	if err != nil {
		return nonce, fmt.Errorf("read the bucket's nonce: %w", err)
	}
	digits, sum, summed := strings.Cut(strings.TrimSuffix(string(raw), "\n"), " ")
	if summed {
		want, err := strconv.ParseUint(sum, 16, 32)
		if !guard.Check("controller.nonce-crc", err == nil && len(sum) == 8 && uint32(want) == nonceSum(digits)) {
			return nonce, fmt.Errorf("the bucket's nonce at %s is damaged: its checksum does not hold", key)
		}
	}
	if n, err := hex.Decode(nonce[:], []byte(digits[:min(len(digits), 2*len(nonce))])); err != nil || n != len(nonce) || len(digits) != 2*len(nonce) {
		return [16]byte{}, fmt.Errorf("the bucket's nonce at %s is damaged: %d bytes", key, len(raw))
	}
	return nonce, nil
}

// nonceText is what stands at NonceKey.
func nonceText(nonce [16]byte) []byte {
	digits := hex.EncodeToString(nonce[:])
	return fmt.Appendf(nil, "%s %08x\n", digits, nonceSum(digits))
}

func nonceSum(digits string) uint32 {
	return crc32.Checksum([]byte(digits), crc32.MakeTable(crc32.Castagnoli))
}
