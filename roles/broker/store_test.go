package broker

import (
	"testing"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// openStore opens a store on a disk in memory, with small segments.
func openStore(t testing.TB, fs disk.FS) *log.Store {
	return openStoreWith(t, fs, log.Options{WAL: wal.Options{Memory: 16 << 20}})
}

// openStoreWith opens a store with options of which the rest is what tests need.
func openStoreWith(t testing.TB, fs disk.FS, o log.Options) *log.Store {
	t.Helper()
	o.FS, o.Dir, o.Heal, o.WAL.Capacity, o.WAL.SegmentSize = fs, "wal", true, 64<<20, 1<<20
	s, err := log.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
