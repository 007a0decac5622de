//go:build seeds

package seeds

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
)

// id names a record: who wrote it, and the how manieth of that writer it is. 0 is none.
type id uint64

func newID(writer, seq uint32) id { return id(writer)<<32 | id(seq) }

func (i id) writer() uint32 { return uint32(i >> 32) }

func (i id) String() string {
	if i == 0 {
		return "nothing"
	}
	return fmt.Sprintf("record %d of writer %d", uint32(i), i.writer())
}

// value is the payload of a record, which nobody else's is.
func (i id) value() []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	b := binary.BigEndian.AppendUint64(nil, uint64(i))
	for range rng.IntN(60) {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b
}

func idOf(value []byte) (id, error) {
	if len(value) < 8 {
		return 0, fmt.Errorf("a value of %d bytes", len(value))
	}
	i := id(binary.BigEndian.Uint64(value))
	if !bytes.Equal(value, i.value()) {
		return 0, fmt.Errorf("%v has %d bytes that are not its value", i, len(value))
	}
	return i, nil
}

type place struct {
	partition int32
	offset    int64
}

// history is what a topic of plain records is known to hold: what was acked, and what was
// read. It only grows.
type history struct {
	topic   string
	problem func(format string, args ...any)
	twice   bool // a record may be there more than once: its producer tries again and is not idempotent

	mu    sync.Mutex
	at    map[int32][]id // by partition and offset
	where map[id]place
	acked int
}

func newHistory(topic string, problem func(string, ...any)) *history {
	return &history{topic: topic, problem: problem, at: map[int32][]id{}, where: map[id]place{}}
}

// ack remembers that the server said where a record is.
func (h *history) ack(i id, partition int32, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked++
	h.put("acked", i, place{partition, offset})
}

// read remembers what a consumer was given.
func (h *history) read(value []byte, partition int32, offset int64) {
	i, err := idOf(value)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.problem("%s-%d, offset %d: %v", h.topic, partition, offset, err)
		return
	}
	h.put("read", i, place{partition, offset})
}

// put is called with mu held.
func (h *history) put(how string, i id, p place) {
	if p.offset < 0 {
		h.problem("%s: %v was %s at offset %d", h.topic, i, how, p.offset)
		return
	}
	if was, ok := h.where[i]; ok && was != p && !h.twice {
		h.problem("%s: %v was %s at %v, and is at %v too", h.topic, i, how, p, was)
		return
	}
	ids := h.at[p.partition]
	for int64(len(ids)) <= p.offset {
		ids = append(ids, 0)
	}
	if was := ids[p.offset]; was != 0 && was != i {
		h.problem("%s: %v was %s at %v, which held %v", h.topic, i, how, p, was)
		return
	}
	ids[p.offset] = i
	h.at[p.partition], h.where[i] = ids, p
}

// known is how many offsets of a partition must be there at least.
func (h *history) known(partition int32) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.at[partition]))
}

// held is what stands at an offset, as far as it is known.
func (h *history) held(partition int32, offset int64) id {
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset >= int64(len(h.at[partition])) {
		return 0
	}
	return h.at[partition][offset]
}

// judge is asked when a partition was read from its start to its end. known is what had to
// be there before that reading began.
func (h *history) judge(partition int32, known, end int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := h.at[partition]
	if end < known {
		h.problem("%s-%d ends at %d, but %d records of it were acked or read: the last is %v", h.topic, partition, end, known, ids[known-1])
	}
	last := map[uint32]id{}
	for offset, i := range ids[:min(end, int64(len(ids)))] {
		if i == 0 {
			h.problem("%s-%d has nothing at offset %d of %d", h.topic, partition, offset, end)
			continue
		}
		if before := last[i.writer()]; before >= i && !h.twice {
			h.problem("%s-%d: %v stands behind %v", h.topic, partition, i, before)
		}
		last[i.writer()] = i
	}
}

func (h *history) counts() (acked, held int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked, len(h.where)
}
