package hour

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// model is what was told of one partition, and so what must be there. It is guarded
// by the mutex of the world.
type model struct {
	id     storage.PartitionID
	topic  string
	keep   controller.Retention
	acked  map[int64]record
	seen   map[int64]record // by a reader, and never acked
	sent   map[string]record
	end    int64 // behind the last acked or seen
	asked  int64 // what lies before was asked to be deleted
	starts int64 // the log start that was last found right
}

// record is one that was sent; its value follows from its name.
type record struct {
	name string
	at   time.Time
}

func newModel(topic string, id storage.PartitionID, keep controller.Retention) *model {
	return &model{id: id, topic: topic, keep: keep, acked: map[int64]record{}, seen: map[int64]record{}, sent: map[string]record{}}
}

// value is what a record of that name holds.
func value(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // it never fails
	size := int(h.Sum32() % 4000)
	return name + "|" + strings.Repeat(string('a'+rune(h.Sum32()%26)), size)
}

// ack takes note that a batch lies at base.
func (m *model) ack(base int64, batch []record) error {
	for i, r := range batch {
		at := base + int64(i)
		if was, taken := m.acked[at]; taken {
			return fmt.Errorf("%s of %s is acked at %d, where %s was", r.name, m.id, at, was.name)
		}
		if was, taken := m.seen[at]; taken && was.name != r.name {
			return fmt.Errorf("%s of %s is acked at %d, where %s was read", r.name, m.id, at, was.name)
		}
		m.acked[at] = r
		delete(m.seen, at)
		delete(m.sent, r.name)
		m.end = max(m.end, at+1)
	}
	return nil
}

// read takes note of what a reader found.
func (m *model) read(at int64, got string) error {
	name, _, _ := strings.Cut(got, "|")
	if got != value(name) {
		return fmt.Errorf("%s-%d at %d: a value of %d bytes that nobody sent: %.60q", m.topic, m.id.Index, at, len(got), got)
	}
	if r, is := m.acked[at]; is {
		if r.name != name {
			return fmt.Errorf("%s-%d at %d: %s, and %s was acked there", m.topic, m.id.Index, at, name, r.name)
		}
		return nil
	}
	if r, is := m.seen[at]; is {
		if r.name != name {
			return fmt.Errorf("%s-%d at %d: %s, and %s was read there before", m.topic, m.id.Index, at, name, r.name)
		}
		return nil
	}
	r, sent := m.sent[name]
	if !sent {
		return fmt.Errorf("%s-%d at %d: %s, which lies elsewhere, or was never sent there", m.topic, m.id.Index, at, name)
	}
	delete(m.sent, name)
	m.seen[at] = r
	m.end = max(m.end, at+1)
	return nil
}

// startsAt judges a log start: nothing may be gone before its time.
func (m *model) startsAt(start int64, now time.Time) error {
	if start < m.starts {
		return fmt.Errorf("%s-%d starts at %d, and has started at %d", m.topic, m.id.Index, start, m.starts)
	}
	if m.keep.Bytes < 0 {
		for at := max(m.asked, m.starts); at < start; at++ {
			r, is := m.acked[at]
			if !is {
				r, is = m.seen[at]
			}
			if is && (m.keep.Age < 0 || now.Sub(r.at) < m.keep.Age-2*time.Millisecond) {
				return fmt.Errorf("%s-%d starts at %d: %s, at %d, is %v old, and kept for %v; deletion was asked for up to %d",
					m.topic, m.id.Index, start, r.name, at, now.Sub(r.at), m.keep.Age, m.asked)
			}
		}
	} else if start > m.asked {
		const most = 300 // bytes of a record beside its value, with all of its batch
		var left int64
		for _, of := range []map[int64]record{m.acked, m.seen} {
			for at, r := range of {
				if at >= start {
					left += int64(len(value(r.name))) + most
				}
			}
		}
		for _, r := range m.sent { // it may be there
			left += int64(len(value(r.name))) + most
		}
		if left < m.keep.Bytes {
			return fmt.Errorf("%s-%d starts at %d, %d bytes are left, and %d are to be kept", m.topic, m.id.Index, start, left, m.keep.Bytes)
		}
	}
	m.starts = start
	return nil
}
