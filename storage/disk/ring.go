package disk

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/guard"
)

// The part of the kernel's io_uring interface that one gather write with a
// flush behind it needs (include/uapi/linux/io_uring.h).
const (
	ringEntries = 4 // two are used: the write and the flush behind it

	ringOffSQ   = 0 // of the two mappings
	ringOffSQEs = 0x10000000

	ringFeatSingleMap = 1 << 0
	ringFeatStable    = 1 << 2 // what a submission points to is copied when it is submitted

	ringOpWritev  = 2
	ringOpFsync   = 3
	ringLink      = 1 << 2 // the next entry starts when this one did all it was asked
	ringDataSync  = 1 << 0
	ringGetEvents = 1 << 0
)

type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

type ringSQE struct {
	op, flags uint8
	_         uint16
	fd        int32
	off, addr uint64
	length    uint32
	opFlags   uint32
	userData  uint64
	_         [3]uint64
}

type ringCQE struct {
	userData uint64
	result   int32
	_        uint32
}

// ring is one io_uring. It belongs to one call at a time, so that it needs no
// lock and no goroutine that hands out results.
type ring struct {
	fd      int
	queues  []byte // both queues' heads and tails, the completions
	entries []byte // the submissions

	sqTail, cqHead, cqTail *uint32
	sqMask, cqMask         uint32
	cqes                   unsafe.Pointer
	vecs                   []unix.Iovec
}

// newRing sets an io_uring up; the error says why the kernel does not give one
// (ENOSYS, EPERM under seccomp or sysctl, ENOMEM under a memlock limit).
func newRing() (*ring, error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)}
	unix.CloseOnExec(r.fd)
	const needed = ringFeatSingleMap | ringFeatStable
	if p.features&needed != needed {
		r.close()
		return nil, fmt.Errorf("io_uring of this kernel lacks features %#x: %w", needed&^p.features, unix.ENOSYS)
	}
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(ringCQE{})))
	var err error
	if r.queues, err = mapRing(r.fd, ringOffSQ, int(size)); err == nil {
		r.entries, err = mapRing(r.fd, ringOffSQEs, int(p.sqEntries)*int(unsafe.Sizeof(ringSQE{})))
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queues[off])) }
	r.sqTail, r.sqMask = at(p.sq.tail), *at(p.sq.mask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cq.head), at(p.cq.tail), *at(p.cq.mask)
	r.cqes = unsafe.Pointer(&r.queues[p.cq.cqes])
	for i := range p.sqEntries { // entry i is always submitted from slot i
		*at(p.sq.array + i*4) = i
	}
	return r, nil
}

func mapRing(fd int, off int64, size int) ([]byte, error) {
	return unix.Mmap(fd, off, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
}

func (r *ring) close() {
	// What is mapped here was mapped here: neither call can fail.
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.queues != nil {
		_ = unix.Munmap(r.queues)
	}
	_ = unix.Close(r.fd)
}

// put adds a submission; it is seen by the kernel with the next enter.
func (r *ring) put(e ringSQE) {
	tail := *r.sqTail
	slot := uintptr(tail&r.sqMask) * unsafe.Sizeof(ringSQE{})
	*(*ringSQE)(unsafe.Pointer(&r.entries[slot])) = e
	atomic.StoreUint32(r.sqTail, tail+1)
}

// enter submits n entries, waits until all are done, and returns their results
// by userData. usable is false when the ring must not be used again.
func (r *ring) enter(n int) (results [2]int32, usable bool, err error) {
	submitted, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n), uintptr(n), ringGetEvents, 0, 0)
	if errno != 0 {
		// Nothing was submitted: an interrupted wait reports what was.
		return results, false, fmt.Errorf("io_uring_enter: %w", errno)
	}
	done := 0
	for {
		for ; *r.cqHead != atomic.LoadUint32(r.cqTail); done++ {
			head := *r.cqHead
			c := (*ringCQE)(unsafe.Add(r.cqes, uintptr(head&r.cqMask)*unsafe.Sizeof(ringCQE{})))
			results[c.userData&1] = c.result
			atomic.StoreUint32(r.cqHead, head+1)
		}
		if done >= int(submitted) {
			break
		}
		// The memory of the write is the kernel's until it says so: there is no
		// leaving before, whatever the wait answers.
		_, _, _ = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 0, submitted-uintptr(done), ringGetEvents, 0, 0)
	}
	if int(submitted) < n {
		return results, false, fmt.Errorf("io_uring_enter took %d of %d entries: %w", submitted, n, unix.EAGAIN)
	}
	return results, true, nil
}

// writeSync writes the buffers at off and flushes the file behind them, in one
// call of the kernel unless it takes only a part of the buffers.
func (r *ring) writeSync(fd int, bufs [][]byte, off int64) (usable bool, err error) {
	if off < 0 {
		return true, unix.EINVAL // -1 would mean the file's position
	}
	for {
		r.vecs = r.vecs[:0]
		want := 0
		rest := 0 // buffers beyond what one write takes
		for i, b := range bufs {
			if len(r.vecs) == maxVecs {
				rest = len(bufs) - i
				break
			}
			if len(b) == 0 {
				continue
			}
			v := unix.Iovec{Base: &b[0]}
			v.SetLen(len(b))
			r.vecs = append(r.vecs, v)
			want += len(b)
		}
		n, write := 1, ringSQE{op: ringOpWritev, fd: int32(fd), off: uint64(off), length: uint32(len(r.vecs))}
		if want > 0 {
			write.addr = uint64(uintptr(unsafe.Pointer(&r.vecs[0])))
		}
		if rest == 0 {
			write.flags = ringLink
		}
		r.put(write)
		if rest == 0 {
			r.put(ringSQE{op: ringOpFsync, fd: int32(fd), opFlags: ringDataSync, userData: 1})
			n = 2
		}
		results, usable, err := r.enter(n)
		runtime.KeepAlive(bufs)
		if err != nil {
			return usable, err
		}
		wrote := results[0]
		switch {
		case wrote == -int32(unix.EINTR):
			continue // nothing was tried yet
		case wrote < 0:
			return true, unix.Errno(-wrote)
		case wrote == 0 && want > 0:
			return true, io.ErrShortWrite
		case int(wrote) == want && rest == 0:
			if !guard.Check("disk.ring-flush", results[1] >= 0) {
				return true, unix.Errno(-results[1])
			}
			return true, nil
		}
		// A short write cancels the flush linked to it: write the rest.
		bufs, off = advance(bufs, int(wrote)), off+int64(wrote)
	}
}

// rings keeps the io_urings of an [OS] that are free, while files are open.
type rings struct {
	mu    sync.Mutex
	files int
	free  []*ring
}

func (s *rings) get() (*ring, error) {
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		r := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return r, nil
	}
	s.mu.Unlock()
	return newRing()
}

func (s *rings) put(r *ring) {
	s.mu.Lock()
	keep := s.files > 0
	if keep {
		s.free = append(s.free, r)
	}
	s.mu.Unlock()
	if !keep {
		r.close()
	}
}

// opened and closed count the files; the last one takes the rings with it.
func (s *rings) opened() {
	s.mu.Lock()
	s.files++
	s.mu.Unlock()
}

func (s *rings) closed() {
	s.mu.Lock()
	s.files--
	var idle []*ring
	if s.files == 0 {
		idle, s.free = s.free, nil
	}
	s.mu.Unlock()
	for _, r := range idle {
		r.close()
	}
}
