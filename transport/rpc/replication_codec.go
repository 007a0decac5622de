package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// Incarnation is one registration of a broker.
type Incarnation struct {
	Broker int32
	Epoch  int64
}

// PushKind says what an entry of a [PushMessage] asks for.
type PushKind uint8

// Kinds.
const (
	PushOpen     PushKind = 1 + iota // begin a session of a partition; answered with a history
	PushTruncate                     // remove what lies behind Offset
	PushRestart                      // begin anew at Offset, with the state in Data, which goes on unless Last
	PushRecords                      // append the batches in Data; Offset is the high watermark
)

// Push is one entry of a message to a follower. A session is one partition on one
// stream, from an open on; the leader numbers them.
type Push struct {
	Kind    PushKind
	Session uint32
	Offset  storage.Offset
	Last    bool

	// Of an open: what is led, and the offset of the metadata that says so.
	Partition      storage.PartitionID
	LeaderEpoch    storage.Epoch
	MetadataOffset uint64

	// Data is whole batches, or a part of a state. What was received is in one slice.
	Data [][]byte
}

// PushMessage goes from a leader to a follower. Layout, little-endian:
//
//	stamp (8), number of entries (4), entries: kind (1), session (4), then
//	  open       topic id (16), partition (4), leader epoch (4), metadata offset (8)
//	  truncate   offset (8)
//	  restart    offset (8), last (1), bytes (4)
//	  records    high watermark (8), bytes (4)
//	data of the entries, in their order
type PushMessage struct {
	Stamp   int64 // given back by the answer
	Entries []Push
	Release func() // gives the data back; nil: nothing needs it

	given bool       // Release belongs to what was marshaled
	taken mem.Buffer // what was received
}

// Done gives back what was received.
func (m *PushMessage) Done() {
	if m.taken != nil {
		m.taken.Free()
		m.taken = nil
	}
	m.Entries = nil
}

// drop releases what was never marshaled.
func (m *PushMessage) drop() {
	if !m.given && m.Release != nil {
		m.Release()
	}
	m.given = true
}

// ReplyKind says what an entry of a [PushReply] is.
type ReplyKind uint8

// Kinds.
const (
	ReplyHistory ReplyKind = 1 + iota // answers an open
	ReplyConfirm                      // what is on disk ends at Offset
	ReplyRefused                      // the session has ended, for that reason
)

// Reply is one entry of a message to a leader.
type Reply struct {
	Kind    ReplyKind
	Session uint32
	Offset  storage.Offset
	History log.History // Epoch, Leads and Uploaded are not sent
	Reason  string      // at most 255 bytes
}

// PushReply goes from a follower to a leader. Layout, little-endian:
//
//	stamp (8), fullness (2), number of entries (4), entries: kind (1), session (4), then
//	  history    log start, local start, high watermark, synced, end (8 each), number of
//	             epochs (4), epochs: epoch (4), start (8)
//	  confirm    offset (8)
//	  refused    bytes (1), reason
type PushReply struct {
	Stamp    int64  // the newest that was taken, with all before it
	Fullness uint16 // of the WAL, in thousandths of what produce may take
	Entries  []Reply
}

// pushHello is the first message of a stream.
type pushHello struct {
	cluster          string
	leader, follower Incarnation
}

const (
	helloVersion  = 1
	maxClusterID  = 255
	pushHeader    = 12
	replyHeader   = 14
	epochBytes    = 12
	maxReason     = 255
	leastPushSize = 5 // of an entry
)

var errPush = errors.New("malformed message of replication")

// codec encodes messages of replication itself, so that records go from the WAL's memory
// to the socket, and leaves all others to protobuf.
type codec struct {
	encoding.CodecV2
	pool mem.BufferPool // of messages of records, whole
}

// NewCodec returns the codec of a server that takes part in replication.
func NewCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto"), new(memory)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *PushMessage:
		return m.marshal(), nil
	case *PushReply:
		return mem.BufferSlice{mem.SliceBuffer(m.marshal())}, nil
	case *pushHello:
		return mem.BufferSlice{mem.SliceBuffer(m.marshal())}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *PushMessage:
		whole := data.MaterializeToBuffer(c.pool)
		if err := m.unmarshal(whole.ReadOnlyData()); err != nil {
			whole.Free()
			return err
		}
		m.taken = whole
		return nil
	case *PushReply:
		return m.unmarshal(data.Materialize())
	case *pushHello:
		return m.unmarshal(data.Materialize())
	}
	return c.CodecV2.Unmarshal(data, v)
}

// loan is data that gRPC holds: the last of its buffers that is freed gives it back. When
// a connection fails, gRPC may forget buffers without freeing them; what it has forgotten
// comes back with the next collection of garbage.
type loan struct {
	buffers atomic.Int32
	slices  [][]byte
	cleanup runtime.Cleanup
	back    func()
}

func newLoan(release func(), slices [][]byte) *loan {
	var gone atomic.Bool
	once := func() {
		if gone.CompareAndSwap(false, true) {
			release()
		}
	}
	l := &loan{slices: slices, back: once}
	l.cleanup = runtime.AddCleanup(l, func(once func()) { once() }, once)
	return l
}

// Get implements mem.BufferPool, for nobody.
func (l *loan) Get(n int) *[]byte { b := make([]byte, n); return &b }

// Put implements mem.BufferPool: a buffer was freed.
func (l *loan) Put(*[]byte) {
	if l.buffers.Add(-1) == 0 {
		l.cleanup.Stop()
		l.back()
	}
}

// marshal lends the data that is worth it, and copies the rest.
func (m *PushMessage) marshal() mem.BufferSlice {
	head, small := pushHeader, 0
	var lent [][]byte
	for i := range m.Entries {
		e := &m.Entries[i]
		head += leastPushSize + 32
		for _, d := range e.Data {
			if mem.IsBelowBufferPoolingThreshold(len(d)) || m.Release == nil {
				small += len(d)
			} else {
				lent = append(lent, d[:len(d):len(d)])
			}
		}
	}
	b := make([]byte, 0, head+small)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Stamp))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Entries)))
	for i := range m.Entries {
		b = m.Entries[i].append(b)
	}
	if len(lent) == 0 {
		for i := range m.Entries {
			for _, d := range m.Entries[i].Data {
				b = append(b, d...)
			}
		}
		m.drop()
		return mem.BufferSlice{mem.SliceBuffer(b)}
	}
	m.given = true
	l := newLoan(m.Release, lent)
	l.buffers.Store(int32(len(lent)))
	out := make(mem.BufferSlice, 0, 2*len(lent)+1)
	from, next := 0, 0 // of b what is in out, and of lent
	for i := range m.Entries {
		for _, d := range m.Entries[i].Data {
			if mem.IsBelowBufferPoolingThreshold(len(d)) {
				b = append(b, d...)
				continue
			}
			if from < len(b) {
				out, from = append(out, mem.SliceBuffer(b[from:len(b):len(b)])), len(b)
			}
			out = append(out, mem.NewBuffer(&l.slices[next], l))
			next++
		}
	}
	if from < len(b) {
		out = append(out, mem.SliceBuffer(b[from:]))
	}
	return out
}

func (e *Push) size() (n int) {
	for _, d := range e.Data {
		n += len(d)
	}
	return n
}

func (e *Push) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, byte(e.Kind)), e.Session)
	switch e.Kind {
	case PushOpen:
		b = append(b, e.Partition.Topic[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Partition.Index))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.LeaderEpoch))
		b = binary.LittleEndian.AppendUint64(b, e.MetadataOffset)
	case PushTruncate:
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
	case PushRestart:
		last := byte(0)
		if e.Last {
			last = 1
		}
		b = append(binary.LittleEndian.AppendUint64(b, uint64(e.Offset)), last)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.size()))
	case PushRecords:
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.size()))
	}
	return b
}

// reader takes fields off the front of a message; one that is too short fails it.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b) {
		r.failed = true
		return make([]byte, min(max(n, 0), 16))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// offset takes one that is not negative.
func (r *reader) offset() storage.Offset {
	o := storage.Offset(r.uint64())
	r.failed = r.failed || o < 0
	return o
}

// count takes a number of things of which each takes so many bytes at least.
func (r *reader) count(least, most int) int {
	n := r.uint32()
	if int64(n)*int64(least) > int64(len(r.b)) || int64(n) > int64(most) {
		r.failed = true
		return 0
	}
	return int(n)
}

func (m *PushMessage) unmarshal(b []byte) error {
	r := &reader{b: b}
	m.Stamp = int64(r.uint64())
	n := r.count(leastPushSize, maxEntries)
	m.Entries = make([]Push, n)
	sizes := make([]uint32, n)
	for i := range m.Entries {
		e := &m.Entries[i]
		e.Kind, e.Session = PushKind(r.byte()), r.uint32()
		switch e.Kind {
		case PushOpen:
			copy(e.Partition.Topic[:], r.take(len(e.Partition.Topic)))
			e.Partition.Index, e.LeaderEpoch, e.MetadataOffset = int32(r.uint32()), storage.Epoch(r.uint32()), r.uint64()
			r.failed = r.failed || e.Partition.Index < 0 || e.LeaderEpoch < 0
		case PushTruncate:
			e.Offset = r.offset()
		case PushRestart:
			e.Offset, e.Last, sizes[i] = r.offset(), r.byte() == 1, r.uint32()
		case PushRecords:
			e.Offset, sizes[i] = r.offset(), r.uint32()
		default:
			return fmt.Errorf("%w: entry of kind %d", errPush, e.Kind)
		}
	}
	for i := range m.Entries {
		if sizes[i] > 0 {
			m.Entries[i].Data = [][]byte{r.take(int(sizes[i]))}
		}
	}
	if !guard.Check("rpc.push-whole", !r.failed && len(r.b) == 0) {
		return fmt.Errorf("%w: %d bytes with %d entries", errPush, len(b), n)
	}
	return nil
}

func (m *PushReply) marshal() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, replyHeader+16*len(m.Entries)), uint64(m.Stamp))
	b = binary.LittleEndian.AppendUint16(b, m.Fullness)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Entries)))
	for i := range m.Entries {
		e := &m.Entries[i]
		b = binary.LittleEndian.AppendUint32(append(b, byte(e.Kind)), e.Session)
		switch e.Kind {
		case ReplyHistory:
			h := &e.History
			for _, o := range [...]storage.Offset{h.LogStart, h.LocalStart, h.HighWatermark, h.Synced, h.End} {
				b = binary.LittleEndian.AppendUint64(b, uint64(o))
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Epochs)))
			for _, s := range h.Epochs {
				b = binary.LittleEndian.AppendUint32(b, uint32(s.Epoch))
				b = binary.LittleEndian.AppendUint64(b, uint64(s.Start))
			}
		case ReplyConfirm:
			b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
		case ReplyRefused:
			reason := e.Reason[:min(len(e.Reason), maxReason)]
			b = append(append(b, byte(len(reason))), reason...)
		}
	}
	return b
}

func (m *PushReply) unmarshal(b []byte) error {
	r := &reader{b: b}
	m.Stamp, m.Fullness = int64(r.uint64()), r.uint16()
	n := r.count(leastPushSize, maxEntries)
	m.Entries = make([]Reply, n)
	for i := range m.Entries {
		e := &m.Entries[i]
		e.Kind, e.Session = ReplyKind(r.byte()), r.uint32()
		switch e.Kind {
		case ReplyHistory:
			e.History = unmarshalHistory(r)
		case ReplyConfirm:
			e.Offset = r.offset()
		case ReplyRefused:
			e.Reason = string(r.take(int(r.byte())))
		default:
			return fmt.Errorf("%w: answer of kind %d", errPush, e.Kind)
		}
	}
	if !guard.Check("rpc.reply-whole", !r.failed && len(r.b) == 0) {
		return fmt.Errorf("%w: %d bytes with %d answers", errPush, len(b), n)
	}
	return nil
}

func unmarshalHistory(r *reader) (h log.History) {
	h.LogStart, h.LocalStart, h.HighWatermark, h.Synced, h.End = r.offset(), r.offset(), r.offset(), r.offset(), r.offset()
	h.Epoch = storage.NoEpoch
	h.Epochs = make([]log.EpochStart, r.count(epochBytes, maxEntries*16))
	for i := range h.Epochs {
		e := log.EpochStart{Epoch: storage.Epoch(r.uint32()), Start: r.offset()}
		r.failed = r.failed || e.Epoch < 0 || i > 0 && (e.Epoch <= h.Epochs[i-1].Epoch || e.Start < h.Epochs[i-1].Start)
		h.Epochs[i] = e
	}
	r.failed = r.failed || h.LogStart > h.LocalStart || h.LocalStart > h.End || h.Synced > h.End
	return h
}

func (h *pushHello) marshal() []byte {
	b := append([]byte{helloVersion, byte(min(len(h.cluster), maxClusterID))}, h.cluster[:min(len(h.cluster), maxClusterID)]...)
	for _, i := range [...]Incarnation{h.leader, h.follower} {
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Broker))
		b = binary.LittleEndian.AppendUint64(b, uint64(i.Epoch))
	}
	return b
}

func (h *pushHello) unmarshal(b []byte) error {
	r := &reader{b: b}
	if v := r.byte(); v != helloVersion {
		return fmt.Errorf("%w: version %d, this rustmq knows %d", errPush, v, helloVersion)
	}
	h.cluster = string(r.take(int(r.byte())))
	for _, i := range [...]*Incarnation{&h.leader, &h.follower} {
		i.Broker, i.Epoch = int32(r.uint32()), int64(r.uint64())
	}
	if r.failed || len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes of a first message", errPush, len(b))
	}
	return nil
}
