package metadata

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// TestTreeAgainstMap changes a tree and a map alike: every version of the tree
// stays what it was, is balanced, and differs from the last by what changed.
func TestTreeAgainstMap(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		now := newTree[int, *int](cmp.Compare[int])
		twin := map[int]*int{}
		keys := rapid.IntRange(0, 60)
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			before, twinBefore := now, maps.Clone(twin)
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				key, value := keys.Draw(t, "key"), new(int)
				now = now.put(key, value)
				twin[key] = value
			case 2:
				key := keys.Draw(t, "key")
				now = now.without(key)
				delete(twin, key)
			case 3:
				var entries []entry[int, *int]
				for _, key := range slices.Sorted(maps.Keys(twin)) {
					if rapid.Bool().Draw(t, "replace") {
						entries = append(entries, entry[int, *int]{key, new(int)})
						twin[key] = entries[len(entries)-1].value
					}
				}
				now = now.replace(entries)
			case 4:
				clear(twin)
				for _, key := range rapid.SliceOfNDistinct(keys, 0, 60, rapid.ID[int]).Draw(t, "built") {
					twin[key] = new(int)
				}
				var entries []entry[int, *int]
				for _, key := range slices.Sorted(maps.Keys(twin)) {
					entries = append(entries, entry[int, *int]{key, twin[key]})
				}
				now = now.built(entries)
			}
			checkTree(t, now, twin)
			checkTree(t, before, twinBefore)
			checkDiff(t, before, now, twinBefore, twin)
		}
	})
}

func checkTree(t *rapid.T, tree tree[int, *int], twin map[int]*int) {
	t.Helper()
	if tree.len() != len(twin) {
		t.Fatalf("%d keys, want %d", tree.len(), len(twin))
	}
	got := map[int]*int{}
	last := -1
	for key, value := range tree.all() {
		if key <= last {
			t.Fatalf("key %d behind %d", key, last)
		}
		last = key
		got[key] = value
		if found, ok := tree.get(key); !ok || found != value {
			t.Fatalf("key %d is not found", key)
		}
	}
	if !maps.Equal(got, twin) {
		t.Fatalf("tree %v, want %v", got, twin)
	}
	checkNode(t, tree.root)
}

func checkNode(t *rapid.T, n *node[int, *int]) {
	t.Helper()
	if n == nil {
		return
	}
	if lean := n.left.tall() - n.right.tall(); lean < -1 || lean > 1 || n.height != max(n.left.tall(), n.right.tall())+1 {
		t.Fatalf("key %d: height %d over %d and %d", n.key, n.height, n.left.tall(), n.right.tall())
	}
	checkNode(t, n.left)
	checkNode(t, n.right)
}

func checkDiff(t *rapid.T, before, after tree[int, *int], was, is map[int]*int) {
	t.Helper()
	changes := 0
	for key := range 61 {
		if was[key] != is[key] {
			changes++
		}
	}
	for b, a := range diff(before, after) {
		changes--
		if b == a {
			t.Fatalf("diff yields what is the same")
		}
	}
	if changes != 0 {
		t.Fatalf("diff misses %d changes", changes)
	}
}
