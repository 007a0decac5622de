package kafka

import (
	"context"
	"math/bits"
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// memory is what one use of all connections' requests may take: their frames, what
// is decoded of them, or what those keep that wait. Each has its own, so that who
// waits for one holds nothing that others need to give it back.
type memory struct {
	all   budget
	large budget // of what is more than small; taken before all
	small int64
}

func newMemory(total int64) *memory {
	return &memory{all: budget{limit: total}, large: budget{limit: total / 4 * 3}, small: smallFrame}
}

// newPreAuthMemory is for frames of strangers: those that are taken before they are there
// as a whole leave a quarter to the others.
func newPreAuthMemory(total int64) *memory {
	m := newMemory(total)
	m.small = readBuffer
	return m
}

// take waits for n bytes, or for the end of ctx.
func (m *memory) take(ctx context.Context, n int64) error {
	if n <= m.small {
		return m.all.take(ctx, n)
	}
	if err := m.large.take(ctx, n); err != nil {
		return err
	}
	err := m.all.take(ctx, n)
	if err != nil {
		m.large.give(n)
	}
	return err
}

// try takes n bytes if there are as many and nobody waits for them.
func (m *memory) try(n int64) bool {
	if n <= m.small {
		return m.all.try(n)
	}
	if !m.large.try(n) {
		return false
	}
	if !m.all.try(n) {
		m.large.give(n)
		return false
	}
	return true
}

// give returns what take or try gave.
func (m *memory) give(n int64) {
	if n == 0 {
		return
	}
	m.all.give(n)
	if n > m.small {
		m.large.give(n)
	}
}

// budget is bytes that connections share. A request larger than all of it
// passes when it is alone, so that a small budget slows and does not stop.
type budget struct {
	mu    sync.Mutex
	limit int64
	used  int64     // guarded by mu
	wait  []waiting // first come, first served; guarded by mu
}

type waiting struct {
	n     int64
	ready chan struct{}
}

func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.wait) > 0 || !b.fits(n) {
		return false
	}
	b.used += n
	return true
}

func (b *budget) take(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.wait) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := waiting{n, make(chan struct{})}
	b.wait = append(b.wait, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.wait {
		if b.wait[i].ready == w.ready {
			b.wait = append(b.wait[:i], b.wait[i+1:]...)
			b.admit()
			return ctx.Err()
		}
	}
	b.used -= n // it was given in the same moment
	b.admit()
	return ctx.Err()
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	b.admit()
	b.mu.Unlock()
}

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *budget) fits(n int64) bool {
	return guard.Check("kafka.total-budget", b.used == 0 || b.used+n <= b.limit)
}

// admit lets waiters in, in order. b.mu is held.
func (b *budget) admit() {
	for len(b.wait) > 0 && b.fits(b.wait[0].n) {
		b.used += b.wait[0].n
		close(b.wait[0].ready)
		b.wait = b.wait[1:]
	}
}

// Frames are read into buffers that are reused, of powers of two, and of quarters
// between them where they are large: a large buffer that is made anew costs more,
// for pages that the kernel has to clear, than reading into it. Still larger ones
// are made and dropped.
const (
	smallestClass = 9  // 512 B
	wholeClass    = 24 // 16 MiB, the last without quarters
	largestBits   = 27 // 128 MiB
	largestClass  = wholeClass + 4*(largestBits-wholeClass)
)

var classes [largestClass + 1]sync.Pool

// classOf returns the class of buffers of n bytes, or -1, and the memory that
// one takes.
func classOf(n int) (class int, size int64) {
	log := max(smallestClass, bits.Len(uint(n-1)))
	switch {
	case log <= wholeClass:
		return log, 1 << log
	case log > largestBits:
		return -1, int64(n)
	}
	quarter := 1 << (log - 3) // of the power of two below
	quarters := (n-1)/quarter + 1
	return wholeClass + 4*(log-1-wholeClass) + quarters - 4, int64(quarters * quarter)
}

// getBuffer returns a buffer of n bytes, of the class of n and its size.
func getBuffer(n, class int, size int64) *[]byte {
	if class >= 0 {
		if b, ok := classes[class].Get().(*[]byte); ok {
			*b = (*b)[:n]
			return b
		}
	}
	b := make([]byte, n, size)
	return &b
}

func putBuffer(b *[]byte, class int) {
	if class >= 0 {
		classes[class].Put(b)
	}
}
