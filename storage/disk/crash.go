package disk

import (
	"math/rand/v2"
	"slices"
)

// What a power cut may do to a [Mem], and what it may not:
//
//   - What was synced is there, unless something written over it later is.
//   - Of each write since, any part may be there, in units of a sector, in
//     whatever order the writes were made; or only the length it gave the file,
//     with zeros.
//   - Changes of names happened or not, each by itself; but as on any file system
//     with a journal a rename is never half done, and what happened to a name
//     happened in order.
//   - Directories stay: MkdirAll is durable when it returns.
const (
	sectorSize = 512 // what a disk writes whole or not at all
	pageSize   = 4096
)

// dirChange is one change of names: one entry, or the two of a rename.
type dirChange []dirEntry

type dirEntry struct {
	dir  *memDir
	name string
	node *memNode // nil: no such name
}

// apply makes a change durable.
func (c dirChange) apply() {
	for _, e := range c {
		if e.node == nil {
			delete(e.dir.synced, e.name)
		} else {
			e.dir.synced[e.name] = e.node
		}
	}
}

// syncDir makes durable what changed in d, and what these changes rest on in
// other directories. m.mu is held.
func (m *Mem) syncDir(d *memDir) {
	needed := map[*memDir]bool{d: true}
	due := make([]bool, len(m.changes))
	for i, c := range slices.Backward(m.changes) {
		due[i] = slices.ContainsFunc(c, func(e dirEntry) bool { return needed[e.dir] })
		if due[i] {
			for _, e := range c {
				needed[e.dir] = true
			}
		}
	}
	var rest []dirChange
	for i, c := range m.changes {
		if due[i] {
			c.apply()
		} else {
			rest = append(rest, c)
		}
	}
	m.changes = rest
}

// Crash cuts the power and returns the disk as it is found afterwards; rng
// decides about what was not synced. The old disk answers EIO from then on.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detached = true
	m.cutChanges(rng)
	after := NewMem(m.opts)
	left := map[*memNode]*memNode{} // a file of two names is still one
	for _, dir := range sortedKeys(m.dirs) {
		d, found := m.dirs[dir], newMemDir()
		for _, name := range sortedKeys(d.synced) {
			n := d.synced[name]
			got := left[n]
			if got == nil {
				got = &memNode{now: n.afterCut(rng), modified: n.modified}
				got.synced = got.now.copied()
				after.used += got.now.size
				left[n] = got
			}
			got.names++
			found.now[name], found.synced[name] = got, got
		}
		after.dirs[dir] = found
	}
	return after
}

// cutChanges makes those changes of names durable that a power cut leaves: some
// first ones, as of one journal, or any, as if each file had its own. m.mu is
// held.
func (m *Mem) cutChanges(rng *rand.Rand) {
	type place struct {
		dir  *memDir
		name string
	}
	lost := map[place]bool{}
	inOrder, upTo := rng.IntN(2) == 0, rng.IntN(len(m.changes)+1)
	for i, c := range m.changes {
		there := inOrder && i < upTo || !inOrder && rng.IntN(2) == 0
		for _, e := range c {
			there = there && !lost[place{e.dir, e.name}]
		}
		if there {
			c.apply()
			continue
		}
		for _, e := range c {
			lost[place{e.dir, e.name}] = true
		}
	}
}

// Clone returns the disk as another process finds it after kill -9: all writes
// are there, and no more synced than they were. The old disk goes on.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem(m.opts)
	after.detached = m.detached
	copies := map[*memNode]*memNode{nil: nil}
	clone := func(n *memNode) *memNode {
		got, ok := copies[n]
		if !ok {
			got = &memNode{now: n.now.copied(), synced: n.synced.copied(), pending: slices.Clone(n.pending), modified: n.modified}
			copies[n] = got
		}
		return got
	}
	dirs := map[*memDir]*memDir{}
	for path, d := range m.dirs {
		found := newMemDir()
		for name, n := range d.now {
			found.now[name] = clone(n)
			found.now[name].names++
			if found.now[name].names == 1 {
				after.used += n.now.size
			}
		}
		for name, n := range d.synced {
			found.synced[name] = clone(n)
		}
		after.dirs[path] = found
		dirs[d] = found
	}
	for _, c := range m.changes {
		copied := slices.Clone(c)
		for i, e := range copied {
			copied[i] = dirEntry{dirs[e.dir], e.name, clone(e.node)}
		}
		after.changes = append(after.changes, copied)
	}
	return after
}

// afterCut is the content that a power cut leaves of a file.
func (n *memNode) afterCut(rng *rand.Rand) content {
	out := n.synced.copied()
	for _, w := range n.pending {
		w.torn(&out, rng)
	}
	return out
}

// torn applies what a power cut leaves of one write.
func (w *memWrite) torn(c *content, rng *rand.Rand) {
	whole := w.length
	switch kind := rng.IntN(6); {
	case kind == 0: // nothing
	case kind == 1 || w.truncate:
		w.apply(c, 0, whole)
	case kind == 2: // its first sectors
		w.apply(c, 0, w.cut(rng.IntN(whole+1), sectorSize))
	case kind == 3: // the length it gave the file
		c.reach(w.off + int64(whole))
	default: // some sectors, or some pages
		unit := sectorSize
		if kind == 4 {
			unit = pageSize
		}
		for from := 0; from < whole; {
			to := min(whole, w.cut(from+unit, unit))
			if rng.IntN(2) == 0 {
				w.apply(c, from, to)
			}
			from = to
		}
	}
}

// cut moves a position in the write back to a multiple of unit in the file.
func (w *memWrite) cut(at, unit int) int {
	return max(0, at-int((w.off+int64(at))%int64(unit)))
}
