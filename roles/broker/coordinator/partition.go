package coordinator

import "unicode/utf16"

// PartitionOf returns which of a topic's partitions coordinates what has this id:
// Kafka's choice, the absolute value of Java's hash of the id, modulo their number.
func PartitionOf(id string, partitions int32) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(id)) {
		h = 31*h + int32(unit)
	}
	if h < 0 {
		h = -h
	}
	return max(h, 0) % partitions // the least int32 has no absolute value; Kafka takes 0
}
