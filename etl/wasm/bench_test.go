package wasm

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/etl/abi"
)

// records is a batch of n records of size bytes and a header.
func records(n, size int) *abi.Batch {
	b := &abi.Batch{Topic: "orders", Timestamp: 1_700_000_000_000, Records: make([]abi.Record, n)}
	value := make([]byte, size)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	for i := range b.Records {
		b.Records[i] = abi.Record{
			Offset: int64(i), Key: []byte("key-0001"), Value: slices.Clone(value),
			Headers: []abi.Header{{Name: "type", Value: []byte("click")}},
		}
	}
	return b
}

// each is a guest that does body for each record, whose entry is at $r, and drops it if
// that leaves 1 in $c.
func each(body, more string) guest {
	return guest{transform: `
		(local $n i32) (local $i i32) (local $r i32) (local $d i32) (local $c i32) (local $p i32) (local $e i32)
		(local.set $n (i32.load (i32.const 65536)))
		(loop $next (if (i32.lt_u (local.get $i) (local.get $n)) (then
			(local.set $r (i32.add (i32.const 65568) (i32.mul (local.get $i) (i32.const 48))))
			(local.set $d (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 40))))
			(local.set $c (i32.const 0))
			` + body + `
			(i64.store (local.get $d) (i64.extend_i32_u (local.get $c)))
			(local.set $i (i32.add (local.get $i) (i32.const 1)))
			(br $next))))
		(i64.or (i64.const 0x200000000000) (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 40))))`, more: more}
}

// dropTilde drops records with a ~ in their value: it looks at every byte, by the loop
// that a compiler makes of such a line in C or Rust without vectors.
func dropTilde() guest {
	return each(`
		(local.set $p (i32.load offset=24 (local.get $r)))
		(local.set $e (i32.add (local.get $p) (i32.load offset=28 (local.get $r))))
		(if (i32.ne (local.get $p) (local.get $e)) (then (loop $byte
			(local.set $c (i32.or (local.get $c) (i32.eq (i32.load8_u (local.get $p)) (i32.const 126))))
			(local.set $p (i32.add (local.get $p) (i32.const 1)))
			(br_if $byte (i32.ne (local.get $p) (local.get $e))))))`, "")
}

// dropType drops records whose first header is not type=click.
func dropType() guest {
	return each(`
		(local.set $p (i32.load offset=32 (local.get $r)))
		(local.set $c (i32.ne (i32.load (i32.load (local.get $p))) (i32.const 0x65707974)))
		(local.set $c (i32.or (local.get $c) (i32.ne (i32.load (i32.load offset=8 (local.get $p))) (i32.const 0x63696c63))))`, "")
}

// BenchmarkBatch is a batch through a guest that keeps it, and the bare call of
// wasmtime-go with the same bytes copied in, and as many out.
func BenchmarkBatch(b *testing.B) {
	r := newRuntime(b, Options{})
	for _, n := range []int{1, 100} {
		batch := records(n, 1<<10)
		size, err := abi.Size(batch)
		if err != nil {
			b.Fatal(err)
		}
		m := load(b, r, each("", ""), ModuleOptions{Deadline: time.Hour})
		b.Run(fmt.Sprintf("records=%d/call=transform", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := m.Transform(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("records=%d/call=bare", n), func(b *testing.B) {
			i, f := newInstance(m, time.Now().Add(time.Hour))
			if f != nil {
				b.Fatal(f)
			}
			defer i.close()
			if f := i.reserve(size, time.Now().Add(time.Hour)); f != nil {
				b.Fatal(f)
			}
			in, out := make([]byte, size), make([]byte, 40*n)
			abi.Encode(in, i.address, batch)
			i.store.SetEpochDeadline(1 << 40)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(i.memory.UnsafeData(i.store)[i.address:], in)
				result, err := i.transform.Call(i.store, int32(size))
				if err != nil {
					b.Fatal(err)
				}
				copy(out, i.memory.UnsafeData(i.store)[result.(int64)>>32:])
			}
		})
	}
}

// BenchmarkFilter is a filter over every byte of 100 records of 1 KiB, and one over a header.
func BenchmarkFilter(b *testing.B) {
	r := newRuntime(b, Options{})
	batch := records(100, 1<<10)
	perRecord := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/record")
	}
	for _, c := range []struct {
		name  string
		guest guest
		fuel  uint64
	}{{"bytes", dropTilde(), 0}, {"bytes-with-fuel", dropTilde(), 1 << 40}, {"header", dropType(), 0}} {
		m := load(b, r, c.guest, ModuleOptions{Deadline: time.Hour, Fuel: c.fuel})
		b.Run("by="+c.name+"/in=wasm", func(b *testing.B) {
			for b.Loop() {
				if got, err := m.Transform(context.Background(), batch); err != nil || got != nil {
					b.Fatal(got, err)
				}
			}
			perRecord(b)
		})
	}
	b.Run("by=bytes/in=go", func(b *testing.B) {
		drop := make([]bool, len(batch.Records))
		for b.Loop() {
			for i := range batch.Records {
				for _, c := range batch.Records[i].Value {
					if c == '~' {
						drop[i] = true
					}
				}
			}
		}
		perRecord(b)
	})
}

// BenchmarkInstance is a new instance, beside one from the pool.
func BenchmarkInstance(b *testing.B) {
	m := load(b, newRuntime(b, Options{}), decider(), ModuleOptions{})
	b.Run("from=new", func(b *testing.B) {
		for b.Loop() {
			i, f := newInstance(m, time.Now().Add(time.Hour))
			if f != nil {
				b.Fatal(f)
			}
			i.close()
		}
	})
	b.Run("from=pool", func(b *testing.B) {
		for b.Loop() {
			i, f := m.pool.take(context.Background(), time.Now().Add(time.Hour))
			if f != nil {
				b.Fatal(f)
			}
			m.pool.put(i, false)
		}
	})
}

// BenchmarkRunaway is how long after its deadline a guest that loops is stopped, in ticks.
func BenchmarkRunaway(b *testing.B) {
	const deadline = 20 * time.Millisecond
	m := load(b, newRuntime(b, Options{}), decider(), ModuleOptions{Deadline: deadline})
	looping := batch("a=loop")
	var late []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := m.Transform(context.Background(), looping); err == nil {
			b.Fatal("a loop has ended")
		}
		late = append(late, time.Since(began)-deadline)
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2])/float64(tick), "ticks-late")
	b.ReportMetric(float64(late[len(late)*99/100])/float64(tick), "ticks-late-p99")
}
