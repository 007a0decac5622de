package pipeline

import "testing"

// TestPartitionsOfKeysAreKafkas: what Kafka's own producers put where.
func TestPartitionsOfKeysAreKafkas(t *testing.T) {
	for key, want := range map[string]int32{ // of org.apache.kafka.common.utils.UtilsTest
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
	if PartitionOf(nil, 7, 3) != 1 {
		t.Error("a record without a key leaves its partition's order")
	}
}
