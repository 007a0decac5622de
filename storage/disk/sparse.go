package disk

import "bytes"

// content is the bytes of a file of a [Mem], in pages. A page of zeros takes no memory, and
// copies share their pages until one of them writes there.
type content struct {
	pages []*page // nil: zeros; behind the size too
	size  int64
	own   *owner // of the pages that no other content has
}

type page struct {
	of    *owner
	bytes [pageSize]byte
}

// owner is who may write to a page. It has a size, so that each is another.
type owner struct{ _ byte }

// copied returns the same bytes, and from then on neither changes the other.
func (c *content) copied() content {
	c.own = nil // its pages are those of both
	return content{pages: append([]*page(nil), c.pages...), size: c.size}
}

// writable returns a page to write to.
func (c *content) writable(i int64) *page {
	if c.own == nil {
		c.own = new(owner)
	}
	p := c.pages[i]
	switch {
	case p == nil:
		p = &page{of: c.own}
	case p.of != c.own:
		p = &page{of: c.own, bytes: p.bytes}
	}
	c.pages[i] = p
	return p
}

// write puts bytes at an offset; the content is at least as long then as they reach.
func (c *content) write(b []byte, off int64) {
	c.reach(off + int64(len(b)))
	for len(b) > 0 {
		at := off % pageSize
		n := min(int64(len(b)), pageSize-at)
		if part := b[:n]; isZero(part) {
			c.zero(off, n)
		} else {
			copy(c.writable(off / pageSize).bytes[at:], part)
		}
		b, off = b[n:], off+n
	}
}

// zero writes n zeros at an offset.
func (c *content) zero(off, n int64) {
	c.reach(off + n)
	for n > 0 {
		i, at := off/pageSize, off%pageSize
		part := min(n, pageSize-at)
		if part == pageSize {
			c.pages[i] = nil
		} else if c.pages[i] != nil {
			clear(c.writable(i).bytes[at : at+part])
		}
		off, n = off+part, n-part
	}
}

// isZero compares bytes with those before them.
func isZero(b []byte) bool { return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// reach makes the content as long as size, if it is not.
func (c *content) reach(size int64) {
	if size > c.size {
		c.resize(size)
	}
}

// resize cuts the content, or fills it up with zeros.
func (c *content) resize(size int64) {
	count := (size + pageSize - 1) / pageSize
	if was := int64(len(c.pages)); count > was {
		c.pages = append(c.pages, make([]*page, count-was)...)
	} else {
		clear(c.pages[count:])
		c.pages = c.pages[:count]
	}
	// What was cut off is not to come back.
	if at := size % pageSize; size < c.size && at > 0 && c.pages[count-1] != nil {
		clear(c.writable(count - 1).bytes[at:])
	}
	c.size = size
}

// read copies what lies at an offset, and returns how much there is.
func (c *content) read(b []byte, off int64) (n int) {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for n < len(b) {
		i, at := off/pageSize, off%pageSize
		part := b[n:min(int64(len(b)), int64(n)+pageSize-at)]
		if p := c.pages[i]; p != nil {
			copy(part, p.bytes[at:])
		} else {
			clear(part)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	return n
}
