package etl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// fileSuffix ends the names of modules' bytes.
const fileSuffix = ".wasm"

// shelf is where the bytes of modules lie: the data directory, and the bucket behind it.
type shelf struct {
	fs     disk.FS // nil: nothing is kept in a data directory
	dir    string
	bucket bucket.Bucket
	prefix string
}

func (s *shelf) file(sha256 string) string {
	return path.Join(s.dir, hex.EncodeToString([]byte(sha256))+fileSuffix)
}

// local returns the bytes of a module that this node has kept.
func (s *shelf) local(hash string, size int64) ([]byte, error) {
	if s.fs == nil {
		return nil, fs.ErrNotExist
	}
	if info, err := s.fs.Stat(s.file(hash)); err != nil || info.Size != size {
		return nil, errors.Join(err, fmt.Errorf("%d bytes, not %d", info.Size, size))
	}
	wasm, err := disk.ReadFile(s.fs, s.file(hash))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(wasm); !guard.Check("etl.file-hash", string(sum[:]) == hash) {
		return nil, fmt.Errorf("%s is damaged", s.file(hash))
	}
	return wasm, nil
}

// remote returns those that the bucket has.
func (s *shelf) remote(ctx context.Context, cluster, hash string) ([]byte, error) {
	key := object.ModuleKey(s.prefix, cluster, hash)
	wasm, err := bucket.ReadAll(ctx, s.bucket, key, metadata.MaxModuleBytes)
	if err != nil {
		return nil, fmt.Errorf("fetch the module from the bucket: %w", err)
	}
	if sum := sha256.Sum256(wasm); !guard.Check("etl.object-hash", string(sum[:]) == hash) {
		return nil, fmt.Errorf("%s in the bucket is damaged: its SHA-256 is %x; deploy the module again", key, sum)
	}
	return wasm, nil
}

func (s *shelf) keep(hash string, wasm []byte) error {
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return fmt.Errorf("make %s: %w", s.dir, err)
	}
	return disk.WriteFileAtomic(s.fs, s.file(hash), wasm)
}

// sweep removes the bytes of modules that are not in use.
func (s *shelf) sweep(used func(sha256 string) bool) error {
	if s.fs == nil {
		return nil
	}
	names, err := s.fs.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", s.dir, err)
	}
	for _, name := range names {
		digits, is := strings.CutSuffix(name, fileSuffix)
		hash, err := hex.DecodeString(digits)
		if !is || err != nil || used(string(hash)) {
			continue
		}
		if err := s.fs.Remove(path.Join(s.dir, name)); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}
