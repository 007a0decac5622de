package object

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// moduleHash is the size of SHA-256.
const moduleHash = 32

// ModulePrefix begins the key of every module that transforms records of a cluster. They are
// no part of an incarnation: each life of the cluster names them by their bytes.
func ModulePrefix(prefix, cluster string) string { return ClusterPrefix(prefix, cluster) + "etl/" }

// ModuleKey is where the bytes of a module lie, by their SHA-256 (32 bytes).
func ModuleKey(prefix, cluster, sha256 string) string {
	return ModulePrefix(prefix, cluster) + hex.EncodeToString([]byte(sha256)) + ".wasm"
}

// ParseModuleKey reads what [ModuleKey] writes, and nothing else.
func ParseModuleKey(prefix, cluster, key string) (sha256 string, err error) {
	digits := strings.TrimSuffix(strings.TrimPrefix(key, ModulePrefix(prefix, cluster)), ".wasm")
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != moduleHash || ModuleKey(prefix, cluster, string(raw)) != key {
		return "", fmt.Errorf("key %q is not that of a module", key)
	}
	return string(raw), nil
}
