package roles

import (
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/bucket"
)

// TestPrefixThatIsTakenBeginsKeys: a server whose every key is refused uploads nothing.
func TestPrefixThatIsTakenBeginsKeys(t *testing.T) {
	for _, prefix := range []string{
		"a", "streams/production", "a b", "ü", "a/..", "..", ".", "a/./b", "a/.b", ".writing", "a\\b", "a\x01", "a\xff", "a//b",
		strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a/", 150) + "a",
	} {
		_, err := configs.Load(configs.Sources{Set: []string{"object_storage.prefix=" + prefix}})
		if key := bucket.CheckKey(prefix + "/cluster/00000001/data/00/0000000000000001"); (err == nil) != (key == nil) {
			t.Errorf("%q: %v, as a key %v", prefix, err, key)
		}
	}
}
