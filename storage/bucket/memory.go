package bucket

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a bucket that ends with the process, for tests.
type Memory struct {
	mu      sync.Mutex
	objects map[string]memObject
}

type memObject struct {
	data     []byte // never changed
	modified time.Time
}

// NewMemory returns an empty bucket.
func NewMemory() *Memory { return &Memory{objects: map[string]memObject{}} }

// Put implements [Bucket].
func (m *Memory) Put(ctx context.Context, key string, content io.WriterTo) error {
	if err := m.begin(ctx, opPut, key); err != nil {
		return err
	}
	var buf bytes.Buffer
	if _, err := content.WriteTo(&buf); err != nil {
		return &Error{Op: opPut, Key: key, Err: err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = memObject{buf.Bytes(), time.Now()}
	return nil
}

// PutIfAbsent implements [Bucket].
func (m *Memory) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := m.begin(ctx, opPutNew, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.objects[key]; there {
		return &Error{Op: opPutNew, Key: key, Err: ErrExists}
	}
	m.objects[key] = memObject{slices.Clone(data), time.Now()}
	return nil
}

// ReadAt implements [Bucket].
func (m *Memory) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	o, err := m.object(ctx, opRead, key)
	if err != nil {
		return err
	}
	if err := inside(off, len(p), int64(len(o.data))); err != nil {
		return &Error{Op: opRead, Key: key, Err: err}
	}
	copy(p, o.data[off:])
	return nil
}

// ReadParts implements [Bucket].
func (m *Memory) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	return ReadEach(ctx, m, key, parts, off, arrived)
}

// Stat implements [Bucket].
func (m *Memory) Stat(ctx context.Context, key string) (Info, error) {
	o, err := m.object(ctx, opStat, key)
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}, nil
}

// List implements [Bucket].
func (m *Memory) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	m.mu.Lock()
	all := maps.Clone(m.objects)
	m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if err := ctx.Err(); err != nil {
			return &Error{Op: opList, Key: prefix, Err: err}
		}
		if !yield(Info{Key: key, Size: int64(len(all[key].data)), Modified: all[key].modified}) {
			break
		}
	}
	return nil
}

// Delete implements [Bucket].
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := m.begin(ctx, opDelete, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// Close implements [Bucket].
func (m *Memory) Close() error { return nil }

func (m *Memory) begin(ctx context.Context, op, key string) error {
	if err := checked(op, key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return &Error{Op: op, Key: key, Err: err}
	}
	return nil
}

func (m *Memory) object(ctx context.Context, op, key string) (memObject, error) {
	if err := m.begin(ctx, op, key); err != nil {
		return memObject{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, there := m.objects[key]
	if !there {
		return memObject{}, &Error{Op: op, Key: key, Err: ErrNotFound}
	}
	return o, nil
}
