package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ackSize is that of an ack in the state file: partition, offset and number of
// the record, little endian, 4 + 8 + 8 bytes. A cut last one counts as not
// acked: the process that wrote it was killed.
const ackSize = 20

// ledger appends acks to a state file. It is safe for concurrent use.
type ledger struct {
	mu    sync.Mutex // guards all below
	file  *os.File
	out   *bufio.Writer
	count int64
	err   error // the first write that failed
}

// openLedger opens a state file behind its last whole ack, and makes it where
// there is none.
func openLedger(name string) (*ledger, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(size-size%ackSize, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the state file: %w", err), file.Close())
	}
	return &ledger{file: file, out: bufio.NewWriterSize(file, 1<<20)}, nil
}

func (l *ledger) add(partition int32, offset int64, number uint64) {
	var b [ackSize]byte
	binary.LittleEndian.PutUint32(b[:], uint32(partition))
	binary.LittleEndian.PutUint64(b[4:], uint64(offset))
	binary.LittleEndian.PutUint64(b[12:], number)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.out.Write(b[:]); err != nil && l.err == nil {
		l.err = err
	}
	l.count++
}

// acked is how many acks were added.
func (l *ledger) acked() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.err, l.out.Flush(), l.file.Close()); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	return nil
}

// loadAcks reads a state file: for each partition the number at each offset.
func loadAcks(name string) (map[int32]map[int64]uint64, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	defer file.Close()
	acks, err := readAcks(file)
	if err != nil {
		return nil, fmt.Errorf("read the state file %s: %w", name, err)
	}
	return acks, nil
}

func readAcks(r io.Reader) (map[int32]map[int64]uint64, error) {
	acks := map[int32]map[int64]uint64{}
	in := bufio.NewReaderSize(r, 1<<20)
	for n := 0; ; n++ {
		var b [ackSize]byte
		_, err := io.ReadFull(in, b[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return acks, nil
		}
		if err != nil {
			return nil, err
		}
		partition := int32(binary.LittleEndian.Uint32(b[:]))
		offset := int64(binary.LittleEndian.Uint64(b[4:]))
		number := binary.LittleEndian.Uint64(b[12:])
		if partition < 0 || offset < 0 {
			return nil, fmt.Errorf("ack %d is of partition %d, offset %d: this is no state file", n, partition, offset)
		}
		of := acks[partition]
		if of == nil {
			of = map[int64]uint64{}
			acks[partition] = of
		}
		if had, ok := of[offset]; ok && had != number {
			return nil, fmt.Errorf("partition %d, offset %d was acked to record %s and to record %s: an offset was given twice, or two topics share the file",
				partition, offset, show(had), show(number))
		}
		of[offset] = number
	}
}
