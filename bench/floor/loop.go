package floor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"rustmq.dev/rustmq/storage/disk"
)

const (
	block      = 4096
	headerSize = 8 // length, crc32c
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Completion is told that an append is on disk.
type Completion interface{ Committed(err error) }

// Loop is the bare group-commit loop. When its file is full it begins anew.
type Loop struct {
	file disk.File
	size int64

	mu      sync.Mutex
	ready   sync.Cond // the committer waits on it
	buf     []byte    // what queued up while the device was busy
	waiting []Completion
	closed  bool

	done chan struct{}
}

// Open makes a zero-filled file of so many bytes and starts the loop.
func Open(fs disk.FS, name string, size int64) (*Loop, error) {
	f, err := fs.Create(name)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return nil, errors.Join(fmt.Errorf("fill %s: %w", name, err), f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", name, err), f.Close())
	}
	l := &Loop{file: f, size: size, done: make(chan struct{})}
	l.ready.L = &l.mu
	go l.commit()
	return l, nil
}

// Append copies the payload; c is told once it is on disk.
func (l *Loop) Append(payload []byte, c Completion) error {
	crc := crc32.Checksum(payload, castagnoli)
	l.mu.Lock()
	l.buf = binary.LittleEndian.AppendUint32(l.buf, uint32(len(payload)))
	l.buf = binary.LittleEndian.AppendUint32(l.buf, crc)
	l.buf = append(l.buf, payload...)
	l.waiting = append(l.waiting, c)
	if len(l.waiting) == 1 {
		l.ready.Signal()
	}
	l.mu.Unlock()
	return nil
}

// commit writes and syncs what queued up, whenever the device is free.
func (l *Loop) commit() {
	defer close(l.done)
	var buf []byte
	var waiting []Completion
	at := int64(0)
	for {
		l.mu.Lock()
		for len(l.waiting) == 0 && !l.closed {
			l.ready.Wait()
		}
		buf, l.buf = l.buf, buf[:0]
		waiting, l.waiting = l.waiting, waiting[:0]
		l.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		for len(buf)%block != 0 {
			buf = append(buf, 0)
		}
		if at+int64(len(buf)) > l.size {
			at = 0
		}
		err := l.file.WriteSync([][]byte{buf}, at)
		at += int64(len(buf))
		for _, c := range waiting {
			c.Committed(err)
		}
	}
}

// Close commits what was appended.
func (l *Loop) Close() error {
	l.mu.Lock()
	l.closed = true
	l.ready.Signal()
	l.mu.Unlock()
	<-l.done
	return l.file.Close()
}
