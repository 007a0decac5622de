package wal

// Sum says that the bytes of a payload from one on have a CRC32C, which was
// compared with them.
type Sum struct {
	From int
	CRC  uint32
}
