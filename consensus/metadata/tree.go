package metadata

import "iter"

// tree is a persistent AVL tree: a change copies the path to it and shares the
// rest, so that every version stays readable for ever. Values are compared
// with == by diff only. The zero tree with an order is empty.
type tree[K any, V comparable] struct {
	order func(a, b K) int
	root  *node[K, V]
}

type node[K any, V comparable] struct {
	key         K
	value       V
	left, right *node[K, V]
	height      int8
	size        int
}

func newTree[K any, V comparable](order func(a, b K) int) tree[K, V] {
	return tree[K, V]{order: order}
}

func (t tree[K, V]) len() int { return t.root.count() }

func (t tree[K, V]) get(key K) (value V, ok bool) {
	for n := t.root; n != nil; {
		switch c := t.order(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return value, false
}

func (t tree[K, V]) put(key K, value V) tree[K, V] {
	t.root = t.insert(t.root, key, value)
	return t
}

func (t tree[K, V]) without(key K) tree[K, V] {
	t.root = t.remove(t.root, key)
	return t
}

// all walks the tree in order of keys.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.walk(yield) }
}

// entry is one key with its value.
type entry[K any, V comparable] struct {
	key   K
	value V
}

// replace sets the values of keys that the tree already holds, given in order.
// It costs the union of their paths, where one put each would copy the upper
// levels again and again.
func (t tree[K, V]) replace(entries []entry[K, V]) tree[K, V] {
	t.root = t.replaceIn(t.root, entries)
	return t
}

// built is the tree of entries, in order, in place of what t holds. It takes a step for each,
// where one put each would copy the way there.
func (t tree[K, V]) built(entries []entry[K, V]) tree[K, V] {
	t.root = build(entries)
	return t
}

func build[K any, V comparable](entries []entry[K, V]) *node[K, V] {
	if len(entries) == 0 {
		return nil
	}
	mid := len(entries) / 2
	n := &node[K, V]{key: entries[mid].key, value: entries[mid].value, left: build(entries[:mid]), right: build(entries[mid+1:])}
	n.measure()
	return n
}

func (t tree[K, V]) replaceIn(n *node[K, V], entries []entry[K, V]) *node[K, V] {
	if len(entries) == 0 {
		return n
	}
	if n == nil {
		panic("metadata: replace of a key that the tree does not hold")
	}
	low := 0
	for high := len(entries); low < high; {
		if mid := (low + high) / 2; t.order(entries[mid].key, n.key) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	changed, rest := *n, entries[low:]
	if len(rest) > 0 && t.order(rest[0].key, n.key) == 0 {
		changed.value, rest = rest[0].value, rest[1:]
	}
	changed.left = t.replaceIn(n.left, entries[:low])
	changed.right = t.replaceIn(n.right, rest)
	return &changed
}

func (t tree[K, V]) insert(n *node[K, V], key K, value V) *node[K, V] {
	if n == nil {
		return &node[K, V]{key: key, value: value, height: 1, size: 1}
	}
	changed := *n
	switch c := t.order(key, n.key); {
	case c < 0:
		changed.left = t.insert(n.left, key, value)
	case c > 0:
		changed.right = t.insert(n.right, key, value)
	default:
		changed.value = value
		return &changed
	}
	return changed.balance()
}

func (t tree[K, V]) remove(n *node[K, V], key K) *node[K, V] {
	if n == nil {
		return nil
	}
	changed := *n
	switch c := t.order(key, n.key); {
	case c < 0:
		if changed.left = t.remove(n.left, key); changed.left == n.left {
			return n
		}
	case c > 0:
		if changed.right = t.remove(n.right, key); changed.right == n.right {
			return n
		}
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	default:
		next := n.right
		for next.left != nil {
			next = next.left
		}
		changed.key, changed.value = next.key, next.value
		changed.right = t.remove(n.right, next.key)
	}
	return changed.balance()
}

func (n *node[K, V]) count() int {
	if n == nil {
		return 0
	}
	return n.size
}

func (n *node[K, V]) tall() int8 {
	if n == nil {
		return 0
	}
	return n.height
}

// balance returns n, a node that nobody else sees yet, with its heights right
// and differing by one at most.
func (n *node[K, V]) balance() *node[K, V] {
	switch lean := n.left.tall() - n.right.tall(); {
	case lean > 1:
		if n.left.left.tall() < n.left.right.tall() {
			left := *n.left
			n.left = left.rotateLeft()
		}
		return n.rotateRight()
	case lean < -1:
		if n.right.right.tall() < n.right.left.tall() {
			right := *n.right
			n.right = right.rotateRight()
		}
		return n.rotateLeft()
	}
	n.measure()
	return n
}

func (n *node[K, V]) measure() {
	n.height = max(n.left.tall(), n.right.tall()) + 1
	n.size = n.left.count() + 1 + n.right.count()
}

// rotateLeft lifts a copy of the right child over n, which it changes.
func (n *node[K, V]) rotateLeft() *node[K, V] {
	top := *n.right
	n.right = top.left
	n.measure()
	top.left = n
	top.measure()
	return &top
}

// rotateRight lifts a copy of the left child over n, which it changes.
func (n *node[K, V]) rotateRight() *node[K, V] {
	top := *n.left
	n.left = top.right
	n.measure()
	top.right = n
	top.measure()
	return &top
}

func (n *node[K, V]) walk(yield func(K, V) bool) bool {
	return n == nil || n.left.walk(yield) && yield(n.key, n.value) && n.right.walk(yield)
}

// diff walks, in order of keys, what differs between two versions of a tree:
// a nil before was added, a nil after removed. Subtrees that both share are
// stepped over, so that it costs about the number of changes times the height.
func diff[K any, V any](before, after tree[K, *V]) iter.Seq2[*V, *V] {
	return func(yield func(before, after *V) bool) {
		order := after.order
		a, b := cursor[K, *V]{}, cursor[K, *V]{}
		a.push(before.root, false)
		b.push(after.root, false)
		for len(a) > 0 || len(b) > 0 {
			switch {
			case len(a) > 0 && len(b) > 0 && a.top() == b.top():
				a.pop()
				b.pop()
			case len(a) > 0 && !a.top().opened && (len(b) == 0 || b.top().opened || a.top().height >= b.top().height):
				a.open()
			case len(b) > 0 && !b.top().opened:
				b.open()
			case len(b) == 0 || len(a) > 0 && order(a.top().key, b.top().key) < 0:
				if !yield(a.pop().value, nil) {
					return
				}
			case len(a) == 0 || order(a.top().key, b.top().key) > 0:
				if !yield(nil, b.pop().value) {
					return
				}
			default:
				if was, is := a.pop().value, b.pop().value; was != is && !yield(was, is) {
					return
				}
			}
		}
	}
}

// cursor is a stack of what is still to be walked: whole subtrees, and nodes
// that were opened and stand for themselves alone.
type cursor[K any, V comparable] []step[K, V]

type step[K any, V comparable] struct {
	*node[K, V]
	opened bool
}

func (c cursor[K, V]) top() step[K, V] { return c[len(c)-1] }

func (c *cursor[K, V]) pop() step[K, V] {
	top := c.top()
	*c = (*c)[:len(*c)-1]
	return top
}

func (c *cursor[K, V]) push(n *node[K, V], opened bool) {
	if n != nil {
		*c = append(*c, step[K, V]{n, opened})
	}
}

func (c *cursor[K, V]) open() {
	n := c.pop().node
	c.push(n.right, false)
	c.push(n, true)
	c.push(n.left, false)
}
