package roles

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"rustmq.dev/rustmq/configs"
)

// walBudget is the configured capacity and reserve, cut to what the disk has.
func (n *Node) walBudget() (capacity, reserve int64, err error) {
	free, _, err := n.dir.Space(".")
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the free space of the data directory: %w", err)
	}
	held, err := n.heldByWAL()
	if err != nil {
		return 0, 0, err
	}
	c := n.config.WAL
	capacity, reserve = cutWAL(c, held, free)
	if err := fitsWAL(c, held, free, capacity); err != nil {
		return 0, 0, fmt.Errorf("make the log in %s: %w", n.root, err)
	}
	if capacity != int64(c.Capacity) {
		n.log.Warn("wal.capacity is more than half of the free disk; it is cut", "wanted_bytes", int64(c.Capacity), "bytes", capacity)
	}
	if reserve != int64(c.Reserve) {
		n.log.Warn("wal.reserve is cut with wal.capacity", "wanted_bytes", int64(c.Reserve), "bytes", reserve)
	}
	return capacity, reserve, nil
}

// cutWAL returns capacity and reserve of a log that holds so many bytes on a disk with
// so many free: never more than half of what is free, what the log holds counted as
// free, or its share would grow with each restart; and never less than it holds. The
// reserve stays below half.
func cutWAL(c configs.WAL, held, free int64) (capacity, reserve int64) {
	capacity, reserve = int64(c.Capacity), int64(c.Reserve)
	segment := int64(c.SegmentSize)
	if limit := (held + free) / 2; capacity > limit {
		capacity = min(capacity, max(limit, held, 8*segment))
		reserve = min(reserve, capacity/2-segment)
	}
	return capacity, reserve
}

// fitsWAL refuses to begin a log that meets the end of the disk before its own. One that
// is there is served, however full the disk is.
func fitsWAL(c configs.WAL, held, free, capacity int64) error {
	if held > 0 || capacity <= free {
		return nil
	}
	return fmt.Errorf("it has eight segments of wal.segment_size, %v, at least, and the disk has %d bytes free: make room, or set wal.segment_size", c.SegmentSize, free)
}

func (n *Node) heldByWAL() (int64, error) {
	var held int64
	names, err := n.dir.List(walDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look into the log: %w", err)
	}
	for _, name := range names {
		if info, err := n.dir.Stat(path.Join(walDir, name)); err == nil {
			held += info.Size
		}
	}
	return held, nil
}
