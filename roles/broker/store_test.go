package broker

import (
	"testing"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// openStore opens a store on a disk in memory, with small segments.
func openStore(t testing.TB, fs disk.FS) *log.Store {
	t.Helper()
	s, err := log.Open(t.Context(), log.Options{
		FS: fs, Dir: "wal", Heal: true, WAL: wal.Options{Capacity: 64 << 20, SegmentSize: 1 << 20, Memory: 16 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
