package async

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPartitionsAreThoseOfKafkasClients compares with franz-go's, which does as Java's does.
func TestPartitionsAreThoseOfKafkasClients(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for n := range int32(40) {
		for _, key := range []string{"", "a", "ab", "abc", "abcd", "abcde", "a longer key", "\xff\xfe\xfd"} {
			place := place{partitions: n + 1}
			if got, want := place.of(0, []byte(key), true), theirs.Partition(&kgo.Record{Key: []byte(key)}, int(n+1)); got != int32(want) {
				t.Errorf("key %q goes to %d of %d, and by clients to %d", key, got, n+1, want)
			}
		}
	}
	for _, c := range []struct {
		place place
		key   []byte
		same  bool
		want  int32
	}{
		{place{4, true}, []byte("abc"), true, 3}, // as many, and its own key: where it was
		{place{4, true}, nil, true, 3},           //
		{place{2, false}, nil, true, 1},          // the order stays
		{place{2, false}, nil, false, 1},         //
	} {
		if got := c.place.of(3, c.key, c.same); got != c.want {
			t.Errorf("%+v goes to %d", c, got)
		}
	}
}
