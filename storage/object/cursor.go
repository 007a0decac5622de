package object

import "encoding/binary"

// cursor reads the fields of a structure one after another. Once one was cut
// off, all that follow are zero and ok is false. It allocates nothing.
type cursor struct {
	b  []byte
	at int
	ok bool
}

func (c *cursor) fail() { c.ok, c.at = false, len(c.b) }

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.at:])
	if n <= 0 {
		c.fail()
		return 0
	}
	c.at += n
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b[c.at:])
	if n <= 0 {
		c.fail()
		return 0
	}
	c.at += n
	return v
}

func (c *cursor) uint32() uint32 {
	if len(c.b)-c.at < 4 {
		c.fail()
		return 0
	}
	v := binary.LittleEndian.Uint32(c.b[c.at:])
	c.at += 4
	return v
}

// bytes returns what a length and that many bytes say; it aliases the input.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)-c.at) {
		c.fail()
		return nil
	}
	p := c.b[c.at : c.at+int(n) : c.at+int(n)]
	c.at += int(n)
	return p
}

// count returns a number of items, each of which takes at least least bytes: it
// is never more than can follow, so that it may be allocated for.
func (c *cursor) count(least int) int {
	n := c.uvarint()
	if n > uint64((len(c.b)-c.at)/least) {
		c.fail()
		return 0
	}
	return int(n)
}
