package pipeline

import "encoding/binary"

// PartitionOf is the partition of a topic with so many of them that a record goes to: by its
// key as Kafka's producers have it, of one without (nil) as the partition that it comes from,
// so that what is in order there stays so.
func PartitionOf(key []byte, from, partitions int32) int32 {
	if key == nil {
		return from % partitions
	}
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is the hash that Kafka's producers find the partition of a key by: MurmurHash2
// in 32 bits with the seed that they use.
func murmur2(key []byte) uint32 {
	const seed, m = 0x9747b28c, 0x5bd1e995
	h := uint32(seed) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(key[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
