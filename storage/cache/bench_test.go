package cache

import (
	"fmt"
	"testing"
	"time"
)

// key is about what names a block: an object and the block's number in it.
type key struct{ object, block uint64 }

func blocks(b *testing.B, p Policy, capacity int64) *Cache[key, []byte] {
	b.Helper()
	c, err := New(Options[key, []byte]{Policy: p, Capacity: capacity, TTL: time.Hour,
		Weigh: func(_ key, v []byte) uint32 { return uint32(len(v)) }})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func perPolicyB(b *testing.B, f func(*testing.B, Policy)) {
	b.Helper()
	for _, p := range []Policy{WTinyLFU, LRU} {
		b.Run(fmt.Sprintf("policy=%s", p), func(b *testing.B) { f(b, p) })
	}
}

// block is shared by all keys: a cache of a gigabyte takes no gigabyte here.
func block() []byte { return make([]byte, 256<<10) }

func BenchmarkNew(b *testing.B) {
	perPolicyB(b, func(b *testing.B, p Policy) {
		b.ReportAllocs()
		for b.Loop() {
			blocks(b, p, 256<<20)
		}
	})
}

// BenchmarkFirstPut is New and one Put: what New puts off for the first value is
// paid here.
func BenchmarkFirstPut(b *testing.B) {
	perPolicyB(b, func(b *testing.B, p Policy) {
		v := block()
		b.ReportAllocs()
		for b.Loop() {
			blocks(b, p, 256<<20).Put(key{}, v)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	perPolicyB(b, func(b *testing.B, p Policy) {
		c, v := blocks(b, p, 1<<30), block()
		for i := range uint64(4096) {
			c.Put(key{1, i}, v)
		}
		b.ReportAllocs()
		i := uint64(0)
		for b.Loop() {
			c.Get(key{1, i % 4096})
			i++
		}
	})
}

func BenchmarkGetParallel(b *testing.B) {
	perPolicyB(b, func(b *testing.B, p Policy) {
		c, v := blocks(b, p, 1<<30), block()
		for i := range uint64(4096) {
			c.Put(key{1, i}, v)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := uint64(0); pb.Next(); i++ {
				c.Get(key{1, i % 4096})
			}
		})
	})
}

// BenchmarkPut puts new keys into a full cache, so that each pushes one out.
func BenchmarkPut(b *testing.B) {
	perPolicyB(b, func(b *testing.B, p Policy) {
		c, v := blocks(b, p, 1<<30), block()
		for i := range uint64(4096) {
			c.Put(key{1, i}, v)
		}
		b.ReportAllocs()
		i := uint64(0)
		for b.Loop() {
			c.Put(key{2, i}, v)
			i++
		}
	})
}
